"""Evidence from live arms against values worked out by hand."""

from __future__ import annotations

import json
import random
from math import exp, inf, log

import pytest

from rollout.statistics import LiveState

RATIOS = dict(zip((1.25, 1.5, 2, 3, 5, 10, 20, 50), (1, 2, 4, 5, 4, 2, 1, 1), strict=True))


def window(state: LiveState, share: float, candidate: int, failures: int) -> LiveState:
    """Add 1,000 requests at a share with the given failures."""
    return state.update(
        candidate_failures=candidate,
        failures=failures,
        share=share,
        candidate_requests=round(1000 * share),
        requests=1000,
    )


def test_product_form_on_counts() -> None:
    """The capital of a window is (1 + λ(1 - π))^c (1 - λπ)^(k - c) for every rate ratio."""
    state = window(LiveState.start(margin_ratio=1.5), 0.05, 3, 10)
    capital = 0.0
    for ratio, weight in RATIOS.items():
        bet = (ratio - 1) / (1 + 0.05 * (ratio - 1))
        capital += weight / 20 * (1 + bet * 0.95) ** 3 * (1 - bet * 0.05) ** 7
    assert state.log_e_harm == pytest.approx(log(capital), rel=1e-12)


def test_shares_multiply_inside_each_bet() -> None:
    """Windows at two shares continue one and the same bet instead of starting another."""
    state = window(window(LiveState.start(margin_ratio=1.5), 0.05, 1, 4), 0.5, 3, 4)
    capital = sum(
        weight / 20 * ratio**4 / (1 + 0.05 * (ratio - 1)) ** 4 / (1 + 0.5 * (ratio - 1)) ** 4
        for ratio, weight in RATIOS.items()
    )
    assert state.log_e_harm == pytest.approx(log(capital), rel=1e-12)


def test_margin_tilts_the_share() -> None:
    """Non-inferiority by a ratio is a likelihood ratio against the tilted share."""
    state = window(LiveState.start(margin_ratio=2), 0.25, 2, 12)
    tilted = 0.25 * 2 / (0.25 * 2 + 0.75)
    capital = 0.0
    for power, weight in ((0.5, 0.15), (1, 0.6), (1.5, 0.15), (2, 0.1)):
        ratio = 2**-power
        truth = tilted * ratio / (tilted * ratio + 1 - tilted)
        capital += weight * (truth / tilted) ** 2 * ((1 - truth) / (1 - tilted)) ** 10
    assert state.log_e_non_inferior == pytest.approx(log(capital), rel=1e-12)


def test_absolute_margin_uses_all_requests() -> None:
    """Non-inferiority by a difference follows the weighted failures of both arms."""
    state = window(LiveState.start(margin=0.01), 0.2, 1, 4)
    capital = 0.0
    for step in range(10):
        bet = (0.05 + 0.1 * step) / (1 / 0.2 - 0.01)
        capital += (
            (1 + bet * 0.01) ** 996
            * (1 + bet * (0.01 - 1 / 0.2))
            * (1 + bet * (0.01 + 1 / 0.8)) ** 3
            / 10
        )
    assert state.log_e_non_inferior == pytest.approx(log(capital), rel=1e-9)


def test_absolute_margin_proves_a_candidate_without_failures() -> None:
    """Where nothing fails a ratio says nothing, but 500 clean requests prove one point."""
    ratio, absolute = LiveState.start(margin_ratio=2.0), LiveState.start(margin=0.01)
    for _ in range(10):
        ratio, absolute = window(ratio, 0.05, 0, 0), window(absolute, 0.05, 0, 0)
    assert ratio.log_e_non_inferior == 0.0
    assert absolute.log_e_non_inferior > log(20)


def test_both_margins_are_averaged() -> None:
    """With both margins the e-value is the mean of the two."""
    starts = ({"margin_ratio": 2.0}, {"margin": 0.01}, {"margin_ratio": 2.0, "margin": 0.01})
    ratio, absolute, both = (
        exp(window(LiveState.start(**margins), 0.25, 2, 12).log_e_non_inferior)
        for margins in starts
    )
    assert both == pytest.approx((ratio + absolute) / 2)


def test_carried_capital_starts_at_one_half_and_half_the_shadow() -> None:
    """A good shadow costs at most log 2, a bad one counts half."""
    assert LiveState.start(margin_ratio=2, carried_log_e=-900.0).log_e_harm == pytest.approx(
        log(0.5)
    )
    assert LiveState.start(margin_ratio=2, carried_log_e=log(10)).log_e_harm == pytest.approx(
        log(5.5)
    )
    assert LiveState.start(margin_ratio=2, carried_log_e=5000).log_e_harm == pytest.approx(
        5000 + log(0.5)
    )
    assert LiveState.start(margin_ratio=2, carried_log_e=50).log_e_non_inferior == 0.0


def test_a_broken_candidate_at_one_percent_is_found_within_three_failures() -> None:
    """Three failures in a row, all of a candidate that has 1% of the traffic, suffice."""
    state = LiveState.start(margin_ratio=2)
    assert exp(window(state, 0.01, 2, 2).log_e_harm) > 20


@pytest.mark.parametrize(("share", "candidate"), [(0.0, 0), (1.0, 40)])
def test_an_arm_without_traffic_compares_nothing(share: float, candidate: int) -> None:
    """At a share of 0 or 1 the failures of the only arm leave all evidence as it was."""
    before = window(LiveState.start(margin_ratio=2, margin=0.01), 0.5, 5, 10)
    after = window(before, share, candidate, 40)
    assert after.log_e_harm == pytest.approx(before.log_e_harm, abs=1e-9)
    assert after.log_e_non_inferior == pytest.approx(before.log_e_non_inferior, abs=1e-9)
    assert (after.n, after.failures) == (2000, 50)


def test_counts_and_rates() -> None:
    """Rates are those of each arm over all shares."""
    state = window(window(LiveState.start(margin_ratio=2), 0.1, 1, 10), 0.3, 7, 10)
    assert (state.n, state.candidate_requests) == (2000, 400)
    assert (state.failures, state.candidate_failures) == (20, 8)
    assert state.rates == (12 / 1600, 8 / 400)
    assert LiveState.start(margin_ratio=2).rates == (0.0, 0.0)


def test_bounds_hold_the_estimates_and_are_trivial_without_failures() -> None:
    """Bounds contain the observed difference and ratio, and open up where nothing is known."""
    empty = LiveState.start(margin_ratio=2)
    assert empty.bounds(0.05) == (-1.0, 1.0)
    assert empty.ratio_bounds(0.05) == (0.0, inf)
    state = empty
    for _ in range(40):
        state = window(state, 0.25, 8, 16)
    low, high = state.bounds(0.05)
    assert -0.01 < low < 32 / 1000 - 8 / 750 < high < 0.06
    low, high = state.ratio_bounds(0.05)
    assert 1.5 < low < 3.0 < high < 6


def test_looked_at_after_every_request_false_alarms_stay_below_alpha() -> None:
    """Of 200 A/A streams of 300 requests that fail often, fewer than alpha alarm or prove."""
    rng = random.Random(3)
    alarms = proofs = 0
    for _ in range(200):
        same = LiveState.start(margin_ratio=1.5)
        worse = LiveState.start(margin_ratio=1.5, margin=0.1)
        top_same = top_worse = 0.0
        for _ in range(300):
            arm = rng.random() < 0.25
            failed = {0.2: rng.random() < 0.2, 0.3: rng.random() < 0.3}
            rows = [(same, failed[0.2]), (worse, failed[0.3] if arm else failed[0.2])]
            same, worse = (
                state.update(
                    candidate_failures=int(arm and bad),
                    failures=int(bad),
                    share=0.25,
                    candidate_requests=int(arm),
                    requests=1,
                )
                for state, bad in rows
            )
            top_same = max(top_same, same.log_e_harm)
            top_worse = max(top_worse, worse.log_e_non_inferior)
        alarms += top_same >= log(10)
        proofs += top_worse >= log(10)
    assert alarms <= 20
    assert proofs <= 20


def test_json_is_plain() -> None:
    """A state survives the text form of JSON with equality."""
    state = LiveState.start(margin_ratio=2, margin=0.01, carried_log_e=1.5)
    state = window(window(state, 0.05, 1, 4), 0.5, 3, 4)
    assert LiveState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_arguments_outside_their_domain_are_named() -> None:
    """Every argument that cannot be used is refused by its name."""
    for arguments in ({"margin_ratio": 1.0}, {"margin_ratio": inf}, {"margin_ratio": float("nan")}):
        with pytest.raises(ValueError, match="margin_ratio"):
            LiveState.start(**arguments)
    with pytest.raises(ValueError, match="margin_ratio or margin"):
        LiveState.start()
    with pytest.raises(ValueError, match="margin must lie"):
        LiveState.start(margin=1.0)
    with pytest.raises(ValueError, match="carried_log_e"):
        LiveState.start(margin_ratio=2, carried_log_e=inf)
    with pytest.raises(ValueError, match="share"):
        window(LiveState.start(margin_ratio=2), 1.5, 0, 0)


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((5, 4, 10, 100, 0.1), "baseline: -1 failures of 90"),
        ((11, 12, 10, 100, 0.1), "candidate: 11 failures of 10"),
        ((0, 0, 11, 10, 0.1), "baseline: 0 failures of -1"),
        ((1, 1, 1, 10, 0.0), "candidate: 1 requests are impossible"),
        ((0, 0, 9, 10, 1.0), "baseline: 1 requests are impossible"),
    ],
)
def test_impossible_counts_are_refused(
    counts: tuple[int, int, int, int, float], sentence: str
) -> None:
    """Counts that no traffic can produce raise a sentence that names arm and numbers."""
    candidate_failures, failures, candidate_requests, requests, share = counts
    with pytest.raises(ValueError, match=sentence):
        LiveState.start(margin_ratio=2).update(
            candidate_failures=candidate_failures,
            failures=failures,
            share=share,
            candidate_requests=candidate_requests,
            requests=requests,
        )
