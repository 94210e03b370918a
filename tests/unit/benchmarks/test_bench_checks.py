"""The benchmark of the checks measures what it says: all checks, on two answers of 1,000 tokens."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from shadow.checks import CHECKS, run_checks
from shadow.checks.output_tokens import measure

_FILE = Path(__file__).parents[2] / "benchmarks" / "evaluator" / "checks_cost.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark's module: a program, not a package."""
    spec = importlib.util.spec_from_file_location("checks_cost", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_answers_are_as_long_as_it_says(bench: ModuleType) -> None:
    """At least a thousand tokens each, all different, and no check is at a loss with them."""
    made = [bench.make_pair(seed) for seed in range(4)]
    texts = {arm.answer.text for pair in made for arm in (pair.baseline, pair.candidate)}
    assert len(texts) == 8
    for pair in made:
        for arm in (pair.baseline, pair.candidate):
            assert 1000 <= measure(arm.answer) < 1100
        assert {each.candidate.outcome for each in run_checks(pair)} <= {
            "pass",
            "fail",
            "not_applicable",
        }


def test_it_measures_every_check(bench: ModuleType) -> None:
    """A figure for all together, and one for each."""
    assert bench.checks_cost_us(pairs=2, rounds=1) > 0
    costs = bench.cost_by_check_us(pairs=2)
    assert costs.keys() == {check.name for check in CHECKS}
    assert all(cost >= 0 for cost in costs.values())
