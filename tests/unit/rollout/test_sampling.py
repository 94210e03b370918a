"""How much is mirrored: what the step needs, whatever the traffic, the budget and the backlog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rollout.sampling import (
    FLOOR,
    LIVE_PAIRS,
    Budget,
    Meter,
    live_bp,
    needed_pace,
    wanted_bp,
)
from rollout.spec import load_spec
from rollout.steps import Step, plan

SPEC = load_spec(
    {
        "name": "v2",
        "route": "bot",
        "candidate": {"deployment": "new"},
        "steps": [
            {"mirror": {"min_pairs": 1000}},
            {"set_weight": 10},
            {"pause": {"approval": True}},
            {"set_weight": 100},
            {"bake": {}},
        ],
    }
)
MIRROR, LIVE, PAUSE, BAKE = plan(SPEC)[:2] + plan(SPEC)[2:3] + plan(SPEC)[-1:]
HOUR = 3600.0


def pace(step: Step = MIRROR, **changes: Any) -> float:
    """Work out the pace of a step that has just begun, or as changed."""
    values: dict[str, Any] = {
        "pairs": 0,
        "pending": 0,
        "finishing": None,
        "elapsed": 0.0,
        "target": HOUR,
        "affordable": None,
        "left_today": 12 * HOUR,
        **changes,
    }
    return needed_pace(step, **values)


def gathered(rates: list[tuple[float, float]], *, most_bp: float = 2000.0) -> list[float]:
    """Run a mirror over traffic of ``(seconds, requests a second)``; return the pairs of each."""
    meter, share, now, requests, pairs = Meter().read(0, 0.0), 100.0, 0.0, 0.0, 0.0
    found, changed_at = [], -10.0
    for seconds, rate in rates:
        before, end = pairs, now + seconds
        while now < end:
            now += 2
            requests += 2 * rate
            pairs += 2 * rate * share / 10_000
            meter = meter.read(round(requests), now)
            if now < changed_at + 10:
                continue
            wanted = pace(pairs=round(pairs), elapsed=now)
            present = share
            share = wanted_bp(wanted, traffic=meter.high, most_bp=most_bp, present_bp=present)
            changed_at = now if share != present else changed_at
        found.append(pairs - before)
    return found


def test_a_hundred_times_the_traffic_gives_as_many_pairs() -> None:
    """The same step over 1, 100 and 10,000 times the traffic gathers its pairs in its time."""
    for rate in (2.0, 200.0, 20_000.0):
        (pairs,) = gathered([(HOUR, rate)])
        assert 800 <= pairs <= 1100, (rate, pairs)


def test_a_surge_in_the_middle_is_sampled_less_at_once() -> None:
    """Traffic that grows a hundredfold costs one reading at the old share, not a minute."""
    calm, surge, after = gathered([(600, 50), (600, 5000), (600, 50)])
    assert 120 <= calm <= 220
    assert surge <= 220 + 10 * 5000 * 1.25 * (1000 / HOUR) / 50
    assert sum((calm, surge, after)) < 1000


def test_sparse_traffic_is_sampled_as_much_as_allowed() -> None:
    """Where even the whole percentage gives too few pairs it is the percentage, and not more."""
    assert wanted_bp(1.0, traffic=0.5, most_bp=2000, present_bp=100) == 2000
    assert wanted_bp(1.0, traffic=0.5, most_bp=2000, present_bp=5000) == 2000


def test_without_traffic_the_share_stays() -> None:
    """No requests say nothing about the traffic to come, and neither does an unread counter."""
    assert wanted_bp(1.0, traffic=0.0, most_bp=2000, present_bp=70) == 70
    assert wanted_bp(1.0, traffic=None, most_bp=2000, present_bp=70) == 70


@pytest.mark.parametrize(
    ("present", "expected"), [(100, 100), (81, 81), (124, 124), (79, 100), (126, 100)]
)
def test_small_departures_change_nothing(present: float, expected: float) -> None:
    """Only a share that is off by more than a quarter is written again."""
    assert wanted_bp(1.0, traffic=100.0, most_bp=2000, present_bp=present) == expected


def test_a_lower_percentage_holds_at_once() -> None:
    """The upper bound knows no tolerance."""
    assert wanted_bp(1.0, traffic=100.0, most_bp=90, present_bp=100) == 90


def test_a_mirror_step_is_spread_over_its_time() -> None:
    """Over the target, or over the step's least duration where that is longer."""
    assert pace() == pytest.approx(1000 / HOUR)
    assert pace(elapsed=HOUR / 2, pairs=500) == pytest.approx(1000 / HOUR)
    day = load_spec(
        {
            **SPEC.to_document(),
            "steps": [{"mirror": {"min_pairs": 2000, "min_duration": "24h"}}, {"set_weight": 100}],
        }
    )
    assert pace(plan(day)[0]) == pytest.approx(2000 / 86400)


def test_who_is_behind_catches_up_and_who_is_ahead_slows_down() -> None:
    """What is missing is spread over the time left; at the end over a tenth of the whole."""
    behind, even, ahead = (pace(elapsed=HOUR / 2, pairs=n) for n in (100, 500, 900))
    assert behind > even > ahead
    assert pace(elapsed=3 * HOUR, pairs=900) == pytest.approx(100 / (HOUR / 10))


def test_open_proofs_go_on_at_the_steps_pace() -> None:
    """With its pairs complete a step that is not decided gathers on as before."""
    assert pace(elapsed=HOUR, pairs=1000) == pytest.approx(1000 / HOUR)


def test_pairs_on_their_way_count() -> None:
    """What is captured and not yet evaluated is not asked for again."""
    assert pace(pairs=600, pending=40) == pytest.approx(360 / HOUR)


def test_live_steps_keep_a_floor() -> None:
    """A live step asks for its pairs early; then, in a pause and in a bake, one a minute."""
    assert pace(LIVE) == pytest.approx(LIVE_PAIRS / 60)
    assert pace(replace(LIVE, min_duration=900)) == pytest.approx(LIVE_PAIRS / 900)
    assert pace(LIVE, pairs=LIVE_PAIRS) == FLOOR
    assert pace(PAUSE) == pace(BAKE) == FLOOR


def test_a_budget_that_is_too_small_is_spread_over_the_day() -> None:
    """It pays for some evidence until midnight rather than for all of it until noon."""
    assert pace(affordable=5000) == pace()
    assert pace(affordable=864, left_today=12 * HOUR) == pytest.approx(864 / (12 * HOUR))
    assert pace(affordable=0) == FLOOR


def test_a_budget_counts_pairs_in_both_orders_and_the_noise_probe() -> None:
    """A pair costs two calls, and its share of pairs that are judged once more."""
    assert Budget().pairs(0) is None
    assert Budget(calls=200).pairs(0) == 100
    assert Budget(calls=210).pairs(0.05) == pytest.approx(100)
    assert Budget(microusd=1_000_000).pairs(0) is None
    assert Budget(microusd=1_000_000, microusd_per_call=10_000).pairs(0) == 50
    assert Budget(calls=20, microusd=1_000_000, microusd_per_call=10_000).pairs(0) == 10
    assert Budget(calls=-4, microusd=-1).pairs(0) == 0


def test_a_backlog_lowers_the_pace() -> None:
    """Pairs that wait for over a minute: half of what the workers manage, and never nothing."""
    assert pace(pending=55, finishing=1.0) == pytest.approx(945 / HOUR)
    assert pace(pending=70, finishing=0.2) == pytest.approx(0.1)
    assert pace(pending=70, finishing=0.0) == FLOOR
    assert pace(pending=40, finishing=0.0) == pytest.approx(960 / HOUR)


@pytest.mark.parametrize(
    ("pending", "finishing", "present", "expected"),
    [
        (10, 100.0, 10_000, 10_000),
        (10, 100.0, 600, 1200),
        (3000, 100.0, 600, 600),
        (7000, 100.0, 10_000, 500),
        (7000, 100.0, 400, 400),
        (7000, 0.0, 400, 1),
        (40, 0.0, 400, 400),
        (5, None, 400, 400),
    ],
)
def test_live_answers_are_checked_as_far_as_workers_manage(
    pending: int, finishing: float | None, present: int, expected: int
) -> None:
    """A backlog cuts the live sample to half of what is managed; then it doubles until whole."""
    found = live_bp(
        pending=pending, finishing=finishing, traffic=1000.0, most_bp=10_000, present_bp=present
    )
    assert found == expected


def test_the_meter_sees_a_surge_at_once_and_forgets_it_slowly() -> None:
    """What is sampled errs on the cheap side while the traffic changes."""
    meter = Meter()
    assert meter.read(5, 0.0).high is None
    counts = [0, 100, 200, 10_200, 10_300, 10_400]
    readings = []
    for number, count in enumerate(counts):
        meter = meter.read(count, 10.0 * number)
        readings.append(meter.high or 0.0)
    assert readings[1:4] == [pytest.approx(10), pytest.approx(10), 1000]
    assert readings[3] > readings[4] > readings[5] > 100


def test_a_few_requests_are_no_surge() -> None:
    """Two requests in the same second are chance; the mean over a minute is what counts."""
    meter = Meter().read(0, 0.0)
    for second in range(1, 60):
        meter = meter.read(0, float(second))
    assert meter.read(2, 60.0).high == pytest.approx(2 / 38, rel=0.1)


def test_a_clock_that_is_set_back_starts_the_meter_anew() -> None:
    """A negative interval is no rate."""
    meter = Meter().read(0, 100.0).read(50, 110.0)
    assert meter.read(60, 50.0).high is None
    assert meter.read(60, 110.0) == meter
