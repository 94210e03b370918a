"""Rate limit, sample ratio and running quantile against values worked out by hand."""

from __future__ import annotations

import json
import random
from math import inf, lgamma, log

import pytest

from rollout.statistics import QuantileState, RateLimitState, SampleRatioState


def test_rate_limit_is_a_mixture_of_likelihood_ratios() -> None:
    """Five failures in 100 requests against a limit of 2% have the capital of the formula."""
    state = RateLimitState.start(limit=0.02).update(requests=100, failures=5)
    ratios, weights = (1.25, 1.5, 2, 3, 5, 10, 20, 50), (1, 2, 4, 5, 4, 2, 1, 1)
    capital = sum(
        weight / 20 * ratio**5 / (1 + 0.02 * (ratio - 1)) ** 100
        for ratio, weight in zip(ratios, weights, strict=True)
    )
    assert state.log_e_harm == pytest.approx(log(capital), rel=1e-12)
    assert (state.n, state.rate) == (100, 0.05)


def test_rate_limit_catches_a_failure_that_starts_at_full_weight() -> None:
    """A candidate at five times the limit is found within 100 requests, one at half is not."""
    state = RateLimitState.start(limit=0.02)
    assert state.update(requests=100, failures=10).log_e_harm > log(20)
    assert state.update(requests=10_000, failures=100).log_e_harm < 0


def test_limit_from_an_earlier_rate() -> None:
    """The limit is twice the earlier rate, positive without failures and below one."""
    assert RateLimitState.limit_from(requests=9999, failures=99) == pytest.approx(0.0199)
    assert RateLimitState.limit_from(requests=999, failures=0) == pytest.approx(0.001)
    assert RateLimitState.limit_from(requests=0, failures=0) == 0.99
    assert RateLimitState.limit_from(requests=10, failures=10, ratio=3) == 0.99


def test_limit_moves_with_the_baseline_and_every_request_keeps_its_own() -> None:
    """Twice the baseline's rate counts from 500 requests on, and only for what comes later."""
    state = RateLimitState.start(limit=0.02, ratio=2.0).update(requests=100, failures=5)
    state = state.update_baseline(requests=499, failures=15)
    assert state.limit == 0.02
    state = state.update_baseline(requests=1, failures=0)
    assert state.limit == pytest.approx(0.06)
    state = state.update(requests=50, failures=3)
    ratios, weights = (1.25, 1.5, 2, 3, 5, 10, 20, 50), (1, 2, 4, 5, 4, 2, 1, 1)
    capital = sum(
        weight / 20 * ratio**8 / (1 + 0.02 * (ratio - 1)) ** 100 / (1 + 0.06 * (ratio - 1)) ** 50
        for ratio, weight in zip(ratios, weights, strict=True)
    )
    assert state.log_e_harm == pytest.approx(log(capital), rel=1e-12)
    assert (state.n, state.failures) == (150, 8)


def test_limit_never_falls_below_where_it_began_and_stays_below_one() -> None:
    """A baseline without failures leaves the earlier limit, one that is down leaves 99%."""
    start = RateLimitState.start(limit=0.02, ratio=2.0)
    assert start.update_baseline(requests=5000, failures=0).limit == 0.02
    assert start.update_baseline(requests=5000, failures=4000).limit == 0.99
    assert start.update_baseline(requests=5000, failures=1000).limit == 0.4
    fixed = RateLimitState.start(limit=0.02).update_baseline(requests=5000, failures=1000)
    assert fixed.limit == 0.02


def test_drift_of_both_arms_is_not_held_against_the_candidate() -> None:
    """Where both arms' rates rise a fixed limit alarms; one that moves finds the worse only."""
    state = worse = RateLimitState.start(limit=0.02, ratio=2.0)
    fixed = RateLimitState.start(limit=0.02)
    for hour in range(24):
        rate = 10 + 30 * hour // 23  # of 1,000
        state = state.update(requests=1000, failures=rate)
        fixed = fixed.update(requests=1000, failures=rate)
        worse = worse.update(requests=1000, failures=4 * rate)
        state = state.update_baseline(requests=300, failures=rate * 300 // 1000)
        worse = worse.update_baseline(requests=300, failures=rate * 300 // 1000)
    assert fixed.log_e_harm > log(20)
    assert state.log_e_harm < 0
    assert worse.log_e_harm > log(1000)


def test_rate_limit_of_an_older_version_still_loads() -> None:
    """Counts at one limit become the capital that they are, and that limit stays."""
    read = RateLimitState.from_json({"limit": 0.02, "requests": 100, "failures": 5})
    assert read == RateLimitState.start(limit=0.02).update(requests=100, failures=5)
    assert read.update_baseline(requests=1000, failures=500).limit == 0.02
    document = {**read.to_json(), "capitals": [0.0]}
    with pytest.raises(ValueError, match="capitals must hold 8 values, not 1"):
        RateLimitState.from_json(document)


def test_rate_bounds_hold_the_rate() -> None:
    """Bounds on the rate contain it, start trivial, and narrow."""
    state = RateLimitState.start(limit=0.02)
    assert state.bounds(0.05) == (0.0, 1.0)
    wide = state.update(requests=100, failures=5).bounds(0.05)
    low, high = state.update(requests=10_000, failures=500).bounds(0.05)
    assert wide[0] < low < 0.05 < high < wide[1]
    assert high - low < 0.02
    assert state.update(requests=1000, failures=0).bounds(0.05)[0] == 0.0


def test_sample_ratio_is_a_beta_bayes_factor() -> None:
    """The e-value is the ratio of the beta-binomial to the declared binomial probability."""
    state = SampleRatioState.start(share=0.25).update(9, 20)

    def beta(first: float, second: float) -> float:
        return lgamma(first) + lgamma(second) - lgamma(first + second)

    expected = beta(25 + 9, 75 + 11) - beta(25, 75) - 9 * log(0.25) - 11 * log(0.75)
    assert state.log_e == pytest.approx(expected, rel=1e-12)
    assert (state.n, state.observed, state.expected) == (20, 0.45, 0.25)


def test_sample_ratio_finds_a_mismatch_in_both_directions() -> None:
    """A realised 4% or 6% of 20,000 units instead of 5% is a mismatch, 5.1% is none."""
    start = SampleRatioState.start(share=0.05)
    assert start.update(800, 20_000).log_e > log(1000)
    assert start.update(1200, 20_000).log_e > log(1000)
    assert start.update(1020, 20_000).log_e < 0


def test_sample_ratio_over_changing_shares() -> None:
    """Each share is tested on its own units, and a new share becomes the default."""
    state = SampleRatioState.start(share=0.05).update(5, 100).update(25, 100, 0.25).update(25, 100)
    assert state.share == 0.25
    assert state.counts == ((0.05, 5, 100), (0.25, 50, 200))
    assert state.expected == pytest.approx(55 / 300)
    parts = SampleRatioState.start(share=0.25).update(50, 200).log_e
    assert state.log_e == pytest.approx(
        parts + SampleRatioState.start(share=0.05).update(5, 100).log_e
    )


def test_quantile_is_right_within_a_bucket() -> None:
    """The threshold lies within 2% above the sample quantile."""
    rng = random.Random(5)
    values = [rng.lognormvariate(0, 0.5) for _ in range(2000)]
    state = QuantileState.start(quantile=0.95)
    for value in values:
        state = state.update(value)
    exact = sorted(values)[1899]
    assert state.threshold is not None
    assert exact <= state.threshold <= exact * 1.0201
    low, high = state.bounds(0.05)
    assert low < 2.276 < high
    assert high / low < 1.35


def test_quantile_knows_the_past_only() -> None:
    """There is no threshold before the minimum, and asking does not count as observing."""
    state = QuantileState.start(quantile=0.5, min_observations=3)
    for value in (1.0, 2.0):
        assert state.exceeds(99.0) is None
        state = state.update(value)
    assert state.threshold is None
    state = state.update(4.0)
    assert state.exceeds(2.1) is True
    assert state.exceeds(1.9) is False
    assert state.n == 3


def test_quantile_takes_zero_and_is_unbounded_without_values() -> None:
    """A latency of 0 is counted, and an empty state bounds nothing."""
    assert QuantileState.start(quantile=0.5).bounds(0.05) == (0.0, inf)
    state = QuantileState.start(quantile=0.5, min_observations=1).update(0.0)
    assert state.exceeds(0.001) is True


@pytest.mark.parametrize(
    "state",
    [
        RateLimitState.start(limit=0.03).update(requests=10, failures=1),
        RateLimitState.start(limit=0.03, ratio=2.0)
        .update(requests=10, failures=1)
        .update_baseline(requests=777, failures=19)
        .update(requests=31, failures=3),
        SampleRatioState.start(share=0.05).update(5, 100).update(25, 100, 0.25),
        QuantileState.start(quantile=0.95).update(0.3).update(12.5),
    ],
    ids=lambda state: type(state).__name__,
)
def test_json_is_plain(state: RateLimitState | SampleRatioState | QuantileState) -> None:
    """A state survives the text form of JSON with equality."""
    assert type(state).from_json(json.loads(json.dumps(state.to_json()))) == state


def test_arguments_outside_their_domain_are_named() -> None:
    """Limits, shares, quantiles and values that cannot be used are refused by name."""
    for limit in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="limit"):
            RateLimitState.start(limit=limit)
    with pytest.raises(ValueError, match="ratio"):
        RateLimitState.start(limit=0.1, ratio=0.0)
    with pytest.raises(ValueError, match="2 failures of 1 requests are impossible"):
        RateLimitState.start(limit=0.1).update_baseline(requests=1, failures=2)
    with pytest.raises(ValueError, match="ratio"):
        RateLimitState.limit_from(requests=10, failures=1, ratio=0.0)
    with pytest.raises(ValueError, match="3 failures of 2 requests are impossible"):
        RateLimitState.start(limit=0.1).update(requests=2, failures=3)
    with pytest.raises(ValueError, match="share"):
        SampleRatioState.start(share=1.01)
    with pytest.raises(ValueError, match="3 candidate units of 2 are impossible"):
        SampleRatioState.start(share=0.5).update(3, 2)
    with pytest.raises(ValueError, match="impossible at a share of 0"):
        SampleRatioState.start(share=0.0).update(1, 2)
    with pytest.raises(ValueError, match="impossible at a share of 1"):
        SampleRatioState.start(share=0.5).update(1, 2, 1.0)
    with pytest.raises(ValueError, match="quantile"):
        QuantileState.start(quantile=1.0)
    with pytest.raises(ValueError, match="min_observations"):
        QuantileState.start(quantile=0.5, min_observations=0)
    for value in (-1.0, inf, float("nan")):
        with pytest.raises(ValueError, match="value"):
            QuantileState.start(quantile=0.5).update(value)
