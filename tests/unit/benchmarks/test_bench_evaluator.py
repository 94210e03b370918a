"""The evaluator's benchmark: rows with goals, the report, and the status that it ends with."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the benchmarks by its name."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


@pytest.fixture
def figures(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The module that makes rows."""
    return benchmark("evaluator.figures")


@pytest.fixture
def row(benchmark: Callable[[str], ModuleType]) -> Any:
    """The type of a row."""
    return benchmark("evaluator.rows").Row


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        ("< 1", 0.99, True),
        ("< 1", 1.0, False),
        ("<= 1", 1.0, True),
        (">= 0.94", 0.94, True),
        (">= 0.94", 0.9399, False),
        ("> 0", 0.0, False),
        ("< 1", float("nan"), False),
        ("", 7.0, None),
    ],
)
def test_a_goal_is_a_comparison(row: Any, goal: str, value: float, met: bool | None) -> None:
    """What is not a number meets no goal; without one there is nothing to meet."""
    assert row("x", value, "ms", goal).met is met
    assert row("x", value, "ms", goal).to_json()["met"] is met


def test_a_goal_that_cannot_be_read_is_refused(row: Any) -> None:
    """A typing error must not become a goal that is always met."""
    with pytest.raises(ValueError, match="write for example '< 1'"):
        row("x", 1.0, "ms", "under 1")


def test_costs_of_checks_are_milliseconds(figures: ModuleType) -> None:
    """The median round has the goal; the dearest checks stand below it."""
    costs = {"a": 10.0, "b": 400.0, "c": 30.0, "d": 20.0}
    total, *dearest = figures.checks_rows([800.0, 900.0, 1100.0], costs)
    assert (total.value, total.goal, total.met, total.rounds) == (0.9, "< 1", True, 3)
    assert total.spread == pytest.approx(1 / 3)
    assert [each.name for each in dearest] == ["of these: b", "of these: c", "of these: d"]
    assert dearest[0].value == 0.4


def test_position_bias_is_shown_where_it_is_worst(figures: ModuleType) -> None:
    """Of each way of asking the truth at which the win rate is moved furthest, in points."""
    rows = [
        SimpleNamespace(asked=way, truth=truth, bias=bias, calls=2.0, error=0.001)
        for way, truth, bias in (
            ("both orders", 0.45, 0.001),
            ("both orders", 0.55, -0.004),
            ("always the baseline first", 0.5, -0.075),
        )
    ]
    both, first = figures.bias_rows(rows)
    assert (both.value, both.met) == (pytest.approx(0.4), True)
    assert (first.value, first.met) == (pytest.approx(7.5), None)


def test_coverage_has_a_goal_at_every_number_of_labels(figures: ModuleType) -> None:
    """The judge alone is beside it, without a goal: it is what is to be seen."""
    shares = {"60": 0.944, "120": 0.939, "240": 0.95, "looks": 0.96, "judge": 0.0}
    rows = figures.coverage_rows(shares, runs=16_000, goal=0.94)
    assert [(each.value, each.met) for each in rows] == [
        (0.944, True),
        (0.939, False),
        (0.95, True),
        (0.0, None),
    ]


def test_a_flight_is_judged_by_its_memory(figures: ModuleType) -> None:
    """Bytes a call become KiB; every pair must have been judged."""
    flight = {
        "pairs": 100,
        "calls": 200,
        "most_in_flight": 95,
        "calls_per_second": 50.0,
        "bytes_a_call": 30 * 1024.0,
        "judged": 99,
    }
    rows = {each.name: each for each in figures.flight_rows(flight, wanted=90)}
    assert rows["judge calls in flight at most"].met is True
    assert rows["memory of a judge call in flight"].value == 30.0
    assert rows["pairs judged of those asked"].met is False


def test_the_upstream_answers_with_a_thousand_tokens(
    benchmark: Callable[[str], ModuleType],
) -> None:
    """What the worker is measured on is as long as it says, and reads as a whole answer."""
    from shadow.answer import read_answer
    from shadow.checks.output_tokens import count_tokens

    upstream = benchmark("evaluator.upstream")
    body = upstream.completion(upstream.answer_text()).decode()
    answer = read_answer(endpoint="/chat/completions", body=body, status=200)
    assert answer.error is None
    assert 900 <= count_tokens(answer.choices[0].text) <= 1100


@pytest.mark.parametrize(("value", "status"), [(0.5, 0), (1.5, 1)])
def test_the_program_writes_its_report_and_ends_as_the_goals_say(
    benchmark: Callable[[str], ModuleType],
    row: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    value: float,
    status: int,
) -> None:
    """The document has the form of all benchmarks; a missed goal is named and is status 1."""
    program = benchmark("bench_evaluator")
    seen: list[bool] = []

    def part(quick: bool, cores: tuple[int, int]) -> list[Any]:
        seen.append(quick)
        return [row("cost", value, "ms", "< 1", 3, 0.1, "of something"), row("other", 2.0, "")]

    out = tmp_path / "reports" / "evaluator.json"
    ended = program.main(["--quick", "--out", str(out)], {"part": part})
    assert (ended, seen) == (status, [True])
    document = json.loads(out.read_text())
    assert document["environment"]["quick"] is True
    assert document["environment"]["seconds"] >= 0
    cost, other = document["results"]
    assert (cost["name"], cost["value"], cost["goal"], cost["met"]) == (
        "cost",
        value,
        "< 1",
        not status,
    )
    assert (other["goal"], other["met"]) == (None, None)
    assert f"missed goals: {'cost' if status else 'none'}" in capsys.readouterr().out
