"""The pure parts of the data plane's benchmark: /proc lines, goals and the report's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def goals(dataplane: Callable[[str], ModuleType]) -> ModuleType:
    """The module with the goals."""
    return dataplane("goals")


def measured(cpu: float = 50.0, chunk: float = 10.0, **others: float) -> dict[str, float]:
    """What one subject showed in one round."""
    return {
        "cpu_us_per_request": cpu,
        "requests_per_second": 1e6 / cpu,
        "cpu_busy": 1.0,
        "cpu_us_per_chunk": chunk,
        "added_p50_us": 300.0,
        "added_p99_us": 900.0,
        "latencies": 2100.0,
        "stalled_kib_per_stream": 100.0,
        **others,
    }


def row(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The report's row of this name."""
    return next(each for each in document["results"] if each["name"] == name)


def test_cpu_time_is_user_and_system_time(dataplane: Callable[[str], ModuleType]) -> None:
    """Fields 14 and 15 are added, also where the program's name holds spaces and brackets."""
    stat = "4242 (my (odd) name) S 77 4242 4242 0 -1 4194304 10 20 30 40 250 150 9 9 20 0 3 0 1"
    proc = dataplane("proc")
    assert proc.cpu_seconds(stat, 100) == pytest.approx(4.0)
    assert proc.parent_of(stat) == 77


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
    """A value above its limit is not met, and neither is too little of what should be large."""
    ours = measured(50, added_p50_us=501.0, stalled_kib_per_stream=200.5)
    document = goals.report([{"ours": ours, "litellm": measured(9_000)}], {})
    assert row(document, "added_p50_us: ours")["met"] is False
    assert row(document, "stalled_kib_per_stream: ours")["met"] is False
    litellm = row(document, "cpu_us_per_request: litellm / ours")
    assert litellm["value"] == pytest.approx(180.0)
    assert litellm["met"] is False


def test_a_goal_without_its_peer_stays_open_and_says_why(goals: ModuleType) -> None:
    """What was not measured is neither met nor missed; left out is not the same as failed."""
    unmeasured = {"envoy": "left out", "nginx": "not on this machine"}
    document = goals.report([{"ours": measured()}], {}, unmeasured=unmeasured)
    envoy = row(document, "cpu_us_per_request: ours / envoy")
    assert envoy["value"] is None
    assert envoy["met"] is None
    assert envoy["note"] == "left out: envoy"
    nginx = row(document, "cpu_us_per_request: ours / nginx")
    assert nginx["note"] == "not on this machine: nginx"
    litellm = row(document, "cpu_us_per_request: litellm / ours")
    assert litellm["note"] == "failed: litellm"


def test_a_peer_that_failed_in_one_round_is_judged_by_the_others(goals: ModuleType) -> None:
    """Only rounds in which both sides were measured count."""
    rounds = [
        {"ours": measured(50, 10), "envoy": measured(50, 10)},
        {"ours": measured(500, 10)},
    ]
    envoy = row(goals.report(rounds, {}), "cpu_us_per_request: ours / envoy")
    assert envoy["value"] == pytest.approx(1.0)
    assert envoy["rounds"] == 1


def test_a_peer_that_failed_in_one_phase_keeps_its_other_figures(goals: ModuleType) -> None:
    """A router without streams is still compared by its requests."""
    nginx = measured(50)
    del nginx["cpu_us_per_chunk"]
    document = goals.report([{"ours": measured(50), "nginx": nginx}], {})
    assert row(document, "cpu_us_per_request: ours / nginx")["value"] == pytest.approx(1.0)
    chunk = row(document, "cpu_us_per_chunk: ours / nginx")
    assert chunk["value"] is None
    assert chunk["note"] == "failed: nginx"


@pytest.mark.parametrize(
    ("ours", "peer", "ratio"),
    [
        (900.0, 600.0, 1.5),
        (60.0, -35.0, 3.0),
        (60.0, 0.0, 3.0),
        (5.0, -3.0, 1.0),
        (-9.0, 40.0, 0.5),
    ],
)
def test_added_latency_has_a_floor(
    goals: ModuleType, ours: float, peer: float, ratio: float
) -> None:
    """A peer that added nothing, or less, makes neither an endless nor a negative ratio."""
    one = {
        "ours": measured(added_p99_us=ours),
        "vllm-router": measured(added_p99_us=peer),
    }
    found = row(goals.report([one], {}), "added_p99_us: ours / vllm-router")
    assert found["value"] == pytest.approx(ratio)


def test_a_p99_of_few_latencies_is_called_rough(goals: ModuleType) -> None:
    """The smallest number of latencies behind a ratio is told where it is too small for a p99."""
    few = {"ours": measured(), "vllm-router": measured(latencies=200.0)}
    enough = {"ours": measured(), "vllm-router": measured()}
    name = "added_p99_us: ours / vllm-router"
    assert row(goals.report([enough, few], {}), name)["note"] == "rough: 200 latencies a round"
    assert "note" not in row(goals.report([enough], {}), name)
    assert "note" not in row(goals.report([few], {}), "cpu_us_per_request: ours / vllm-router")


def test_a_load_that_was_itself_the_limit_is_told(goals: ModuleType) -> None:
    """The direct way is set beside the fastest subject, and who waited for the load is named."""
    rounds = [
        {
            "direct": {"requests_per_second": 60_000.0},
            "ours": measured(50, requests_per_second=20_000.0),
            "nginx": measured(15, requests_per_second=40_000.0, cpu_busy=0.6),
        }
    ]
    found = row(goals.report(rounds, {}), "requests_per_second: direct / fastest")
    assert found["value"] == pytest.approx(1.5)
    assert found["note"] == "the load, not the subject, was the limit of: nginx"
    assert found["met"] is None


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
