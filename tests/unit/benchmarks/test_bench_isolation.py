"""The pure part of the isolation benchmark: trouble beside no trouble."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def ratios(dataplane: Callable[[str], ModuleType]) -> ModuleType:
    """The module with the ratios."""
    return dataplane("ratios")


def sides(without: float, with_: float) -> dict[str, dict[str, float]]:
    """One round of a case; its p99 is ten times the p50 on both sides."""
    return {
        side: {"latency_p50_us": value, "latency_p99_us": 10 * value, "captures": 7.0}
        for side, value in (("without", without), ("with", with_))
    }


def row(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The report's row of this name."""
    return next(each for each in document["results"] if each["name"] == name)


def test_the_ratio_is_that_of_the_medians(ratios: ModuleType) -> None:
    """One odd round, on either side, decides nothing; the spread shows it."""
    rounds = [sides(100, 104), sides(100, 900), sides(10, 104), sides(101, 103), sides(99, 105)]
    document = ratios.isolation_report({"judge dead": rounds}, {"cpus": 2})
    found = row(document, "latency_p50_us: judge dead / without")
    assert found["value"] == pytest.approx(1.04)
    assert found["met"] is True
    assert found["rounds"] == 5
    assert found["spread"] > 1.0


def test_a_quantile_that_grows_is_a_missed_goal(ratios: ModuleType) -> None:
    """More than five percent are a miss, for the p50 and the p99 alike."""
    document = ratios.isolation_report({"store locked": [sides(100, 106)]}, {})
    for metric in ("latency_p50_us", "latency_p99_us"):
        found = row(document, f"{metric}: store locked / without")
        assert found["goal"] == "<= 1.05"
        assert found["met"] is False


def test_without_beside_without_is_noise_and_no_goal(ratios: ModuleType) -> None:
    """What two equal measurements differ by tells how far the others can be trusted."""
    document = ratios.isolation_report({ratios.AGAIN: [sides(100, 130)]}, {})
    found = row(document, "latency_p50_us: without again / without")
    assert found["value"] == pytest.approx(1.3)
    assert found["goal"] is None
    assert found["met"] is None
    assert "noise" in found["note"]


def test_the_report_holds_both_sides_of_each_case(ratios: ModuleType) -> None:
    """The ratios can be computed again from what was measured, and it is JSON."""
    document = ratios.isolation_report({"disk full": [sides(100, 102), sides(102, 104)]}, {"a": 1})
    document = json.loads(json.dumps(document))
    assert row(document, "disk full: without: latency_p50_us")["value"] == pytest.approx(101)
    assert row(document, "disk full: with: latency_p99_us")["value"] == pytest.approx(1030)
    assert row(document, "disk full: with: captures")["unit"] == "count"
    for each in document["results"]:
        assert {"name", "value", "unit", "goal", "met"} <= each.keys()


def test_each_trouble_must_have_happened(dataplane: Callable[[str], ModuleType]) -> None:
    """A measurement in which the shadow was well proves nothing and is refused."""
    isolation = dataplane("isolation")
    well = isolation.Seen(sent=1000, captures=990, pairs={"compared": 900, "pending": 90})
    for case in isolation.CASES:
        assert not case.happened(well), case.name
    hung = isolation.Seen(sent=1000, captures=990, pairs={"claimed": 16, "pending": 974})
    assert {case.name for case in isolation.CASES if case.happened(hung)} == {
        "candidate hung",
        "judge dead",
    }
