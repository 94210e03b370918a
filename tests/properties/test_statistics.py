"""Laws that every e-process and every bound obeys, whatever the stream."""

from __future__ import annotations

import json
from itertools import pairwise
from math import exp, inf, isclose

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rollout.statistics import (
    LiveState,
    PairedState,
    QuantileState,
    RateLimitState,
    SampleRatioState,
    combine_mean,
    combine_segments,
)
from rollout.statistics.bets import tilt_share

ROUNDING = 1e-9
Window = tuple[float, int, int, int, int]

kinds = st.sampled_from(["binary", "score", "mean"])
margins = st.floats(0.001, 0.45)
binary_streams = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=60)
streams = st.lists(
    st.one_of(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), st.floats(-1, 1)), max_size=40
)
shares = st.floats(0.001, 0.999)
log_es = st.floats(-1e5, 1e5)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Share, candidate failures, failures, candidate requests and requests that are possible."""
    share = draw(st.sampled_from([0.01, 0.05, 0.25, 0.5, 0.9]))
    candidate, baseline = draw(st.integers(0, 500)), draw(st.integers(0, 500))
    bad, other = draw(st.integers(0, candidate)), draw(st.integers(0, baseline))
    return share, bad, bad + other, candidate, candidate + baseline


def fill(state: LiveState, rows: list[Window]) -> LiveState:
    """Add windows to a state."""
    for share, candidate_failures, failures, candidate_requests, requests in rows:
        state = state.update(
            candidate_failures=candidate_failures,
            failures=failures,
            share=share,
            candidate_requests=candidate_requests,
            requests=requests,
        )
    return state


def one_request(state: LiveState, share: float, *, candidate: bool, failed: bool) -> LiveState:
    """Add a single request."""
    return fill(state, [(share, int(candidate and failed), int(failed), int(candidate), 1)])


@given(kinds, margins, streams, st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)))
def test_harm_gains_nothing_on_average_from_an_equal_candidate(
    kind: str, margin: float, past: list[float], toss: tuple[float, float, float]
) -> None:
    """Whatever happened, the next pair of a candidate as good as the baseline is a fair bet."""
    state = PairedState.start(kind=kind, margin=margin).update_many(past)  # type: ignore[arg-type]
    low, high, weight = toss
    assume(low + high > 1e-6)
    up = weight * low / (low + high)
    down = weight * high / (low + high)
    outcomes = [(up, high), (down, -low), (1 - up - down, 0.0)]
    gain = sum(
        chance * exp(state.update(value).log_e_harm - state.log_e_harm)
        for chance, value in outcomes
    )
    assert gain <= 1 + ROUNDING


@given(kinds, margins, streams, st.floats(0, 1))
def test_proof_gains_nothing_on_average_from_a_candidate_at_the_margin(
    kind: str, margin: float, past: list[float], spread: float
) -> None:
    """Whatever happened, the next pair of a candidate worse by the margin is a fair bet."""
    state = PairedState.start(kind=kind, margin=margin).update_many(past)  # type: ignore[arg-type]
    mean, sign = (2 * margin, -1) if kind == "score" else (margin, 1)
    bad, good = spread * (1 + mean) / 2, spread * (1 - mean) / 2
    outcomes = [(bad, 1.0), (good, -1.0), (1 - spread, mean)]
    assert isclose(sum(chance * value for chance, value in outcomes), mean, abs_tol=1e-12)
    before = state.log_e_non_inferior
    gain = sum(
        chance * exp(state.update(sign * value).log_e_non_inferior - before)
        for chance, value in outcomes
    )
    assert gain <= 1 + ROUNDING


@given(kinds, margins, streams, st.integers(0, 40))
def test_pairs_in_one_batch_or_several_leave_the_same_state(
    kind: str, margin: float, differences: list[float], cut: int
) -> None:
    """How the controller's ticks cut the stream changes no bit of the evidence."""
    start = PairedState.start(kind=kind, margin=margin)  # type: ignore[arg-type]
    one = start.update_many(differences)
    two = start.update_many(differences[:cut]).update_many(differences[cut:])
    each = start
    for difference in differences:
        each = each.update(difference)
    assert one == two == each


@given(margins, binary_streams)
def test_swapped_arms_turn_the_evidence_round(margin: float, differences: list[float]) -> None:
    """Negated differences negate mean and bounds, and a judge's score is a negated difference."""
    state = PairedState.start(kind="binary", margin=margin).update_many(differences)
    swapped = PairedState.start(kind="binary", margin=margin).update_many(
        [-difference for difference in differences]
    )
    low, high = state.bounds(0.05)
    assert swapped.mean == -state.mean
    assert swapped.bounds(0.05) == (pytest.approx(-high, abs=1e-6), pytest.approx(-low, abs=1e-6))
    score = PairedState.start(kind="score", margin=margin / 2).update_many(differences)
    amount = PairedState.start(kind="mean", margin=margin).update_many(
        [-difference for difference in differences]
    )
    assert score.log_e_harm == amount.log_e_harm
    assert score.log_e_non_inferior == swapped.log_e_non_inferior


@given(kinds, margins, streams)
def test_paired_states_survive_json(kind: str, margin: float, differences: list[float]) -> None:
    """A state read back from text is equal and goes on identically."""
    state = PairedState.start(kind=kind, margin=margin).update_many(differences)  # type: ignore[arg-type]
    read = PairedState.from_json(json.loads(json.dumps(state.to_json())))
    assert read == state
    assert read.update(0.3) == state.update(0.3)


@given(kinds, streams)
def test_bounds_hold_the_estimate_and_shrink(kind: str, differences: list[float]) -> None:
    """Bounds contain the estimate, and the same stream repeated narrows them."""
    start = PairedState.start(kind=kind, margin=0.1)  # type: ignore[arg-type]
    sequence = [start.update_many(differences * times) for times in (1, 2, 8)]
    for state in sequence:
        low, high = state.bounds(0.05)
        assert -1 <= low <= state.estimate + 1e-6
        assert state.estimate - 1e-6 <= high <= 1
    for wide, narrow in pairwise(state.bounds(0.05) for state in sequence):
        assert wide[0] <= narrow[0] + 1e-6
        assert narrow[1] <= wide[1] + 1e-6


@given(streams)
def test_a_smaller_alpha_gives_wider_bounds(differences: list[float]) -> None:
    """Bounds that may fail less often contain those that may fail more often."""
    state = PairedState.start(kind="mean", margin=0.1).update_many(differences)
    sure, unsure = state.bounds(0.001), state.bounds(0.2)
    assert sure[0] <= unsure[0] + 1e-6
    assert unsure[1] <= sure[1] + 1e-6


@given(st.lists(windows(), max_size=5), shares, st.floats(0, 1))
def test_live_harm_gains_nothing_on_average_from_equal_rates(
    past: list[Window], share: float, rate: float
) -> None:
    """Whatever happened and whatever the weight, equal failure rates are a fair bet."""
    state = fill(LiveState.start(margin_ratio=2.0, carried_log_e=3.0), past)
    outcomes = [
        (share * rate, one_request(state, share, candidate=True, failed=True)),
        ((1 - share) * rate, one_request(state, share, candidate=False, failed=True)),
        (1 - rate, one_request(state, share, candidate=True, failed=False)),
    ]
    gain = sum(chance * exp(after.log_e_harm - state.log_e_harm) for chance, after in outcomes)
    assert gain <= 1 + ROUNDING


@given(st.lists(windows(), max_size=5), shares, st.floats(0, 1), st.floats(1.01, 10))
def test_live_proof_by_ratio_gains_nothing_on_average_at_the_margin(
    past: list[Window], share: float, rate: float, ratio: float
) -> None:
    """A candidate that fails exactly `margin_ratio` times as often is a fair bet."""
    state = fill(LiveState.start(margin_ratio=ratio), past)
    tilted = tilt_share(share, ratio)
    outcomes = [
        (rate * tilted, one_request(state, share, candidate=True, failed=True)),
        (rate * (1 - tilted), one_request(state, share, candidate=False, failed=True)),
        (1 - rate, state),
    ]
    gain = sum(
        chance * exp(after.log_e_non_inferior - state.log_e_non_inferior)
        for chance, after in outcomes
    )
    assert gain <= 1 + ROUNDING


@given(st.lists(windows(), max_size=5), shares, st.floats(0, 1), st.floats(0.001, 0.5))
def test_live_proof_by_difference_gains_nothing_on_average_at_the_margin(
    past: list[Window], share: float, rate: float, margin: float
) -> None:
    """A candidate whose rate is exactly `margin` higher is a fair bet."""
    baseline = rate * (1 - margin)
    candidate = baseline + margin
    state = fill(LiveState.start(margin=margin), past)
    outcomes = [
        (chance, one_request(state, share, candidate=arm, failed=failed))
        for arm, drawn, bad in ((True, share, candidate), (False, 1 - share, baseline))
        for failed, chance in ((True, drawn * bad), (False, drawn * (1 - bad)))
    ]
    gain = sum(
        chance * exp(after.log_e_non_inferior - state.log_e_non_inferior)
        for chance, after in outcomes
    )
    assert gain <= 1 + ROUNDING


@given(st.lists(windows(), max_size=6))
def test_live_windows_in_any_order_and_merged_are_the_same(rows: list[Window]) -> None:
    """Replicas report in any order; the evidence is a function of the counts."""
    start = LiveState.start(margin_ratio=1.5, margin=0.02)
    shuffled = sorted(rows, key=lambda row: (row[4], row))
    merged: dict[float, list[int]] = {}
    for share, *counts in rows:
        sums = merged.setdefault(share, [0, 0, 0, 0])
        merged[share] = [old + new for old, new in zip(sums, counts, strict=True)]
    whole = [(share, *counts) for share, counts in merged.items()]
    assert fill(start, rows) == fill(start, shuffled) == fill(start, whole)  # type: ignore[arg-type]


@given(st.lists(windows(), max_size=4))
def test_swapped_live_arms_turn_the_bounds_round(rows: list[Window]) -> None:
    """With the arms exchanged differences change their sign and ratios become their inverse."""
    mirrored = [
        (1 - share, failures - bad, failures, requests - candidate, requests)
        for share, bad, failures, candidate, requests in rows
    ]
    state = fill(LiveState.start(margin_ratio=2.0), rows)
    swapped = fill(LiveState.start(margin_ratio=2.0), mirrored)
    low, high = state.bounds(0.05)
    assert swapped.bounds(0.05) == (pytest.approx(-high, abs=1e-6), pytest.approx(-low, abs=1e-6))
    low, high = state.ratio_bounds(0.05)
    other_low, other_high = swapped.ratio_bounds(0.05)
    assert other_low == pytest.approx(1 / high if high < inf else 0.0, rel=1e-6)
    assert other_high == pytest.approx(1 / low if low > 0 else inf, rel=1e-6)


@given(windows())
def test_live_ratio_bounds_hold_the_observed_ratio(row: Window) -> None:
    """The ratio at which the observed failures are most probable is never ruled out."""
    share, bad, failures, _, _ = row
    assume(0 < bad < failures)
    observed = bad / (failures - bad) * (1 - share) / share
    low, high = fill(LiveState.start(margin_ratio=2.0), [row]).ratio_bounds(0.05)
    assert low <= observed * (1 + 1e-6)
    assert observed <= high * (1 + 1e-6)


@given(st.lists(windows(), max_size=4), st.none() | st.floats(-1e6, 1e6))
def test_live_states_survive_json(rows: list[Window], carried: float | None) -> None:
    """A state read back from text is equal and has the same evidence."""
    state = fill(LiveState.start(margin_ratio=1.7, margin=0.01, carried_log_e=carried), rows)
    read = LiveState.from_json(json.loads(json.dumps(state.to_json())))
    assert read == state
    assert read.log_e_harm == state.log_e_harm


@given(st.floats(0.001, 0.99), st.integers(0, 300), st.integers(0, 300))
def test_rate_limit_gains_nothing_on_average_at_the_limit(
    limit: float, failures: int, successes: int
) -> None:
    """Whatever happened, a rate exactly at the limit is a fair bet."""
    state = RateLimitState.start(limit=limit).update(
        requests=failures + successes, failures=failures
    )
    gain = sum(
        chance * exp(state.update(requests=1, failures=failed).log_e_harm - state.log_e_harm)
        for failed, chance in ((1, limit), (0, 1 - limit))
    )
    assert gain <= 1 + ROUNDING
    low, high = state.bounds(0.05)
    assert low <= state.rate + 1e-6 or not state.n
    assert state.rate <= high + 1e-6


@given(
    st.floats(0.001, 0.99),
    st.floats(0.5, 20),
    st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.integers(0, 300)), max_size=8),
)
def test_moving_limit_is_a_fair_bet_wherever_it_has_moved(
    floor: float, ratio: float, facts: list[tuple[bool, int, int]]
) -> None:
    """Given any past, a rate at the limit in force gains nothing on average; JSON loses nothing."""
    state = RateLimitState.start(limit=floor, ratio=ratio)
    for of_baseline, failures, successes in facts:
        counts = {"requests": failures + successes, "failures": failures}
        state = state.update_baseline(**counts) if of_baseline else state.update(**counts)
    limit = state.limit
    assert floor <= limit <= 0.99
    gain = sum(
        chance * exp(state.update(requests=1, failures=failed).log_e_harm - state.log_e_harm)
        for failed, chance in ((1, limit), (0, 1 - limit))
    )
    assert gain <= 1 + ROUNDING
    read = RateLimitState.from_json(json.loads(json.dumps(state.to_json())))
    assert read == state
    assert (read.limit, read.log_e_harm) == (limit, state.log_e_harm)


@given(shares, st.integers(0, 300), st.integers(0, 300))
def test_sample_ratio_gains_nothing_on_average_from_the_declared_share(
    share: float, candidate: int, baseline: int
) -> None:
    """Whatever happened, units split as declared are a fair bet."""
    state = SampleRatioState.start(share=share).update(candidate, candidate + baseline)
    gain = sum(
        chance * exp(state.update(unit, 1).log_e - state.log_e)
        for unit, chance in ((1, share), (0, 1 - share))
    )
    assert gain <= 1 + 1e-7


@given(st.floats(0.01, 0.99), st.lists(st.floats(0, 1e4), min_size=1, max_size=40))
def test_quantile_separates_the_values(quantile: float, values: list[float]) -> None:
    """Enough values lie at or below the threshold, and too few below it by two buckets."""
    state = QuantileState.start(quantile=quantile, min_observations=1)
    for value in values:
        state = state.update(value)
    threshold = state.threshold
    assert threshold is not None
    wanted = quantile * len(values)
    assert sum(value <= threshold * (1 + 1e-9) for value in values) >= wanted
    assert sum(value <= threshold / 1.021 for value in values) < wanted or threshold < 2e-6
    low, high = state.bounds(0.05)
    assert low <= threshold <= high
    assert QuantileState.from_json(json.loads(json.dumps(state.to_json()))) == state


@given(st.lists(log_es, min_size=1, max_size=8), log_es)
def test_combined_e_values_lie_between_their_extremes(logs: list[float], overall: float) -> None:
    """A mean is never above the largest part, and never less than its share of it."""
    assert min(logs) - 1e-6 <= combine_mean(logs) <= max(logs) + 1e-6
    both = combine_segments(overall, logs)
    assert min(overall, combine_mean(logs)) - 1e-6 <= both <= max(overall, *logs) + 1e-6
