"""The judge's part of the evaluator's benchmark: bias by way of asking, and calls in flight."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the evaluator's benchmarks by its name."""
    sys.path.insert(0, str(FOLDER))
    yield lambda name: importlib.import_module(f"evaluator.{name}")
    sys.path.remove(str(FOLDER))


def test_two_orders_and_a_random_one_are_unbiased(
    evaluator: Callable[[str], ModuleType],
) -> None:
    """At 15 points of position bias the win rate is found, unless the order is fixed."""
    rows = evaluator("judge_bias").simulate(pairs=400, runs=60, truths=(0.45, 0.5))
    assert len(rows) == 8
    for row in rows:
        if row.asked == "always the baseline first":
            assert row.bias == pytest.approx(-0.075, abs=5 * row.error)
            assert row.covered < 0.3
        else:
            assert row.bias == pytest.approx(0.0, abs=5 * row.error)
            assert row.covered > 0.85
    calls = {row.asked: row.calls for row in rows}
    assert calls["both orders"] == 2.0
    assert calls["one random order, 20% in both"] == pytest.approx(1.2, abs=0.02)


def test_the_same_seed_gives_the_same_rows(evaluator: Callable[[str], ModuleType]) -> None:
    """A figure in the README can be had again."""
    simulate = evaluator("judge_bias").simulate
    again = {"pairs": 50, "runs": 5, "truths": (0.5,)}
    assert simulate(seed=3, **again) == simulate(seed=3, **again)
    assert simulate(seed=3, **again) != simulate(seed=4, **again)


def test_calls_fly_at_the_same_time(evaluator: Callable[[str], ModuleType]) -> None:
    """More calls than one pool of connections holds are in flight at a time; all are judged."""
    flight = asyncio.run(
        evaluator("judge_flight").fly(pairs=150, in_flight=150, answer_chars=200, reply_after_s=1.0)
    )
    assert (flight.judged, flight.calls) == (150, 300)
    assert flight.most_in_flight > 64
    assert flight.most_in_flight <= 150
