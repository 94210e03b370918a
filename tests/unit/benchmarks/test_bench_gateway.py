"""The pure parts of the data plane's benchmark: /proc lines, goals and the report's form."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "dataplane"


@pytest.fixture(scope="module")
def goals() -> ModuleType:
    """The module, loaded by its path: benchmarks are programs, not a package."""
    spec = importlib.util.spec_from_file_location("bench_dataplane_goals", FOLDER / "goals.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def measured(cpu: float, chunk: float, p50: float = 300.0, p99: float = 900.0) -> dict[str, float]:
    """What one subject showed in one round."""
    return {
        "cpu_us_per_request": cpu,
        "cpu_us_per_chunk": chunk,
        "added_p50_us": p50,
        "added_p99_us": p99,
    }


def row(document: dict[str, list[dict[str, object]]], name: str) -> dict[str, object]:
    """The report's row of this name."""
    return next(each for each in document["results"] if each["name"] == name)


def test_cpu_time_is_user_and_system_time(goals: ModuleType) -> None:
    """Fields 14 and 15 are added, also where the program's name holds spaces and brackets."""
    stat = "4242 (my (odd) name) S 77 4242 4242 0 -1 4194304 10 20 30 40 250 150 9 9 20 0 3 0 1"
    assert goals.cpu_seconds(stat, 100) == pytest.approx(4.0)
    assert goals.parent_of(stat) == 77


def test_a_goal_is_judged_by_the_median_of_the_rounds_ratios(goals: ModuleType) -> None:
    """Each round gives one ratio, so one slow or odd round decides nothing."""
    rounds = [
        {"ours": measured(14, 10), "nginx": measured(10, 10)},
        {"ours": measured(28, 20), "nginx": measured(20, 20)},
        {"ours": measured(90, 30), "nginx": measured(10, 10)},
    ]
    document = goals.report(rounds, {})
    request = row(document, "cpu_us_per_request: ours / nginx")
    assert request["value"] == pytest.approx(1.4)
    assert request["rounds"] == 3
    assert request["spread"] == pytest.approx((9.0 - 1.4) / 1.4, abs=1e-3)
    assert request["met"] is True
    chunk = row(document, "cpu_us_per_chunk: ours / nginx")
    assert chunk["value"] == pytest.approx(1.0)
    assert chunk["met"] is True


def test_a_missed_goal_is_told(goals: ModuleType) -> None:
    """A ratio above its limit is not met, and neither is too little of what should be large."""
    rounds = [{"ours": measured(50, 10, p50=501.0), "litellm": measured(9_000, 600)}]
    document = goals.report(rounds, {})
    assert row(document, "added_p50_us: ours")["met"] is False
    litellm = row(document, "cpu_us_per_request: litellm / ours")
    assert litellm["value"] == pytest.approx(180.0)
    assert litellm["met"] is False


def test_a_peer_that_is_missing_leaves_its_goals_open(goals: ModuleType) -> None:
    """What was not measured is neither met nor missed, and the row says which peer is missing."""
    document = goals.report([{"ours": measured(50, 10)}], {})
    envoy = row(document, "cpu_us_per_request: ours / envoy")
    assert envoy["value"] is None
    assert envoy["met"] is None
    assert envoy["note"] == "not measured: envoy missing"


def test_a_peer_that_failed_in_one_round_is_judged_by_the_others(goals: ModuleType) -> None:
    """Only rounds in which both sides were measured count."""
    rounds = [
        {"ours": measured(50, 10), "envoy": measured(50, 10)},
        {"ours": measured(500, 10)},
    ]
    envoy = row(goals.report(rounds, {}), "cpu_us_per_request: ours / envoy")
    assert envoy["value"] == pytest.approx(1.0)
    assert envoy["rounds"] == 1


def test_the_report_is_json_with_the_agreed_fields(goals: ModuleType) -> None:
    """Every row has name, value, unit, goal and met; measurements have no goal."""
    rounds = [{"direct": {"requests_per_second": 90_000.0}, "ours": measured(20, 10)}]
    document = json.loads(json.dumps(goals.report(rounds, {"cpus": 2})))
    assert document["environment"] == {"cpus": 2}
    for each in document["results"]:
        assert {"name", "value", "unit", "goal", "met"} <= each.keys()
    rate = row(document, "direct: requests_per_second")
    assert rate["value"] == pytest.approx(90_000.0)
    assert rate["unit"] == "1/s"
    assert rate["goal"] is None
    assert rate["met"] is None
