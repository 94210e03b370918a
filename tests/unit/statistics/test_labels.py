"""Evidence from people's labels against values worked out by hand, by numpy and by scipy."""

from __future__ import annotations

import json
import random
from itertools import product
from math import exp, log, sqrt

import numpy as np
import pytest
from scipy import stats

from rollout.statistics import LabelState
from rollout.statistics.corrected import t_quantile

Pair = tuple[float, float, float]

SCORES = {0.25: (0.5, 0.2), 0.75: (0.5, 0.6)}
"""Probability of a judge's score, and that of drawing a pair that has it."""


def stream(count: int, *, seed: int, truth: float = 0.5, bias: float = 0.1) -> list[Pair]:
    """Drawn pairs as (label, judge's score, probability); leans are drawn more often."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < count:
        label = rng.choices((0.0, 0.5, 1.0), (0.85 - truth, 0.3, truth - 0.15))[0]
        seen = label if rng.random() < 0.7 else rng.choice((0.0, 0.5, 1.0))
        score = min(1.0, seen + 0.25) if rng.random() < 4 * bias else seen
        probability = 0.6 if score in (0.25, 0.75) else 0.2
        if rng.random() < probability:
            pairs.append((label, score, probability))
    return pairs


def labelled(state: LabelState, pairs: list[Pair]) -> LabelState:
    """Add labels."""
    for label, score, probability in pairs:
        state = state.labelled(label, score, probability)
    return state


def test_three_labels_by_hand() -> None:
    """The first label only sets the scale; the bets on the next two are those of the formula."""
    state = LabelState.start(margin=0.05, min_probability=0.5)
    state = labelled(state, [(1.0, 1.0, 0.5), (0.5, 1.0, 1.0), (0.0, 0.0, 0.5)])
    null, capital = 0.45, 0.0
    for factor, share in ((0.5, 0.1), (1.0, 0.7), (2.0, 0.2)):
        own, weights, noise, residuals = 1.0, 2.0, 4.0, 0.55**2
        for count, (label, weight) in enumerate(((0.5, 1.0), (0.0, 2.0)), 1):
            spread = noise / count * (residuals + 0.25) / (count + 1)
            effect = factor * 0.05 * weights / count
            stake = (sqrt(spread**2 + 4 * spread * effect**2) - spread) / (2 * effect * spread)
            own *= 1 + min(stake, 0.9 * 0.5 / null) * weight * (label - null)
            weights, noise = weights + weight, noise + weight**2
            residuals += (label - null) ** 2
        capital += share * own
    assert state.log_e_non_inferior == pytest.approx(log(capital), rel=1e-9)


@pytest.mark.parametrize("assisted", [False, True])
def test_the_gate_is_a_fair_game_at_the_null(assisted: bool) -> None:
    """Over all that may happen to three more pairs, the expected e-value stays as it was.

    The judge is biased, its score decides how often a pair is drawn, and the win rate is exactly
    the one of the null hypothesis.
    """
    start = LabelState.start(margin=0.05, min_probability=0.2, assisted=assisted)
    start = labelled(start, stream(14, seed=1))
    outcomes: list[tuple[float, float, float | None, float]] = []
    for score, (share, probability) in SCORES.items():
        truth = 0.25 if score < 0.5 else 0.65
        for label, chance in ((0.0, 0.9 - truth), (0.5, 0.2), (1.0, truth - 0.1)):
            outcomes.append((share * probability * chance, score, label, probability))
        outcomes.append((share * (1 - probability), score, None, probability))
    assert sum(chance for chance, *_ in outcomes) == pytest.approx(1)
    expected = 0.0
    for pairs in product(outcomes, repeat=3):
        state, chance = start, 1.0
        for chance_of_this, score, verdict, probability in pairs:
            chance *= chance_of_this
            if verdict is None:
                state = state.judged(score, probability)
            else:
                state = state.labelled(verdict, score, probability)
        expected += chance * exp(state.log_e_non_inferior)
    assert expected == pytest.approx(exp(start.log_e_non_inferior), rel=1e-9)


def test_unlabelled_pairs_leave_the_gate_alone_unless_assisted() -> None:
    """Judged pairs move the estimate only; the assisted gate also bets on the judge."""
    state = labelled(LabelState.start(margin=0.05), stream(80, seed=2))
    more = state
    for _ in range(50):
        more = more.judged(1.0).judged(None)
    assert more.log_e_non_inferior == state.log_e_non_inferior
    assert more.bounds(0.05) == state.bounds(0.05)
    assert (more.n, more.judged_n) == (80, 100)
    assert more.estimate != state.estimate
    assisted = labelled(LabelState.start(margin=0.05, assisted=True), stream(80, seed=2))
    assert assisted.judged_n == 80
    assert assisted.judged(1.0, 0.5).log_e_non_inferior > assisted.log_e_non_inferior


def test_interval_is_the_formula_for_equal_probabilities() -> None:
    """Estimate and bounds equal PPI++ worked out with numpy, Student's t from scipy."""
    pairs = stream(90, seed=3)
    everything = pairs + stream(400, seed=4)
    state = LabelState.start(margin=0.05)
    for _, score, _ in everything:
        state = state.judged(score)
    state = labelled(state, [(label, score, 0.3) for label, score, _ in pairs])
    y, f = np.array([pair[:2] for pair in pairs]).T
    judged = np.array([pair[1] for pair in everything])
    n, big = len(y), len(judged)
    trust = np.clip(np.cov(y, f)[0, 1] / ((1 + n / big) * judged.var(ddof=1)), 0, 1)
    assert 0.3 < trust < 1
    mean = trust * judged.mean() + (y - trust * f).mean()
    error2 = trust**2 * judged.var(ddof=1) / big + ((y - trust * f).std() * n / (n - 2)) ** 2 / n
    error2 += 2 * trust * max(0.0, np.cov(y - trust * f, f)[0, 1]) / big
    reach = stats.t.ppf(0.975, n - 1) * np.sqrt(error2)
    assert state.estimate == pytest.approx(mean, rel=1e-9)
    assert state.fixed_bounds(0.05) == pytest.approx((mean - reach, mean + reach), rel=1e-5)


def test_probabilities_weigh_the_labels() -> None:
    """What was drawn ten times as often counts a tenth, as in the numpy form of the formula."""
    pairs = stream(90, seed=5)
    state = labelled(LabelState.start(margin=0.05), pairs)
    y, _, probability = np.array(pairs).T
    weight = 1 / probability
    mean = (weight * y).sum() / weight.sum()
    error2 = (weight**2 * (y - mean) ** 2).sum() / weight.sum() ** 2 * 90 / 89
    reach = stats.t.ppf(0.95, 89) * np.sqrt(error2)
    assert state.estimate == pytest.approx(mean, rel=1e-9)
    assert state.fixed_bounds(0.1) == pytest.approx((mean - reach, mean + reach), rel=1e-5)


def test_a_useless_judge_is_not_trusted() -> None:
    """A judge that is always of the same or the opposite opinion leaves the mean of the labels."""
    pairs = stream(90, seed=6)
    mean = sum(label for label, *_ in pairs) / 90
    for constant, sign in ((0.75, 0.0), (1.0, -1.0)):
        state = LabelState.start(margin=0.05)
        for label, *_ in pairs:
            score = constant + sign * label
            state = state.judged(score).labelled(label, score, 1.0)
        for _ in range(200):
            state = state.judged(1.0 if sign else constant)
        assert state.estimate == pytest.approx(mean)


def test_a_judge_that_is_wrong_is_corrected() -> None:
    """A judge who always answers the candidate does not make it a winner."""
    state = LabelState.start(margin=0.05)
    for _ in range(2000):
        state = state.judged(1.0)
    state = labelled(state, [(label, 1.0, 0.05) for label in (0.0, 1.0, 0.5) * 40])
    low, high = state.fixed_bounds(0.05)
    assert low < 0.5 < high < 0.58
    assert state.log_e_non_inferior < log(20)


def test_labels_that_agree_are_not_certainty() -> None:
    """Sixty wins in a row bound the win rate as the exact binomial bound does."""
    state = labelled(LabelState.start(margin=0.05), [(1.0, 1.0, 0.5)] * 60)
    low, high = state.fixed_bounds(0.1)
    assert low == pytest.approx(stats.beta.ppf(0.05, 60, 1), rel=1e-9)
    assert high == 1.0
    ties = labelled(LabelState.start(margin=0.05), [(0.5, 0.5, 0.5)] * 60).fixed_bounds(0.1)
    assert ties == pytest.approx((0.5 * low, 1 - 0.5 * low))


def test_looks_are_at_sixty_labels_and_their_doubles() -> None:
    """A look uses half of what is left of alpha, and stands until the next one."""
    pairs = stream(130, seed=7, truth=0.6)
    state = LabelState.start(margin=0.05)
    bounds = []
    for pair in pairs:
        state = labelled(state.judged(pair[1]), [pair])
        bounds.append(state.looks_bound(0.1))
        if state.n == 60:
            assert bounds[-1] == state.fixed_bounds(0.1)[0]
        if state.n == 120:
            assert bounds[-1] == state.fixed_bounds(0.05)[0]
    assert bounds[:59] == [None] * 59
    assert len(set(bounds[59:119])) == len(set(bounds[119:])) == 1
    assert bounds[59] != bounds[119]


def test_sequence_holds_the_win_rate_and_narrows() -> None:
    """Bounds are trivial without labels, hold the truth, and follow a mirrored stream."""
    state = LabelState.start(margin=0.05, min_probability=0.2)
    assert state.bounds(0.05) == (0.0, 1.0)
    assert state.fixed_bounds(0.05) == (0.0, 1.0)
    pairs = stream(2000, seed=8, truth=0.6)
    early = labelled(state, pairs[:200]).bounds(0.05)
    low, high = labelled(state, pairs).bounds(0.05)
    assert early[0] < low < 0.6 < high < early[1]
    assert high - low < 0.2
    mirrored = labelled(state, [(1 - label, 1 - score, chance) for label, score, chance in pairs])
    assert mirrored.bounds(0.05) == pytest.approx((1 - high, 1 - low), abs=0.01)


def test_unanimous_labels_keep_the_bounds_in_order() -> None:
    """Only wins bring the lower bound near 1 and leave the upper one at 1."""
    state = labelled(LabelState.start(margin=0.05, min_probability=1.0), [(1.0, 1.0, 1.0)] * 500)
    low, high = state.bounds(0.05)
    assert 0.9 < low < high == 1.0


def test_gate_opens_for_an_equal_candidate_and_not_at_the_margin() -> None:
    """A win rate of one half proves 0.45 within 900 labels, one of 0.45 does not within 3,000."""
    start = LabelState.start(margin=0.05, min_probability=0.2)
    assert labelled(start, stream(900, seed=9)).log_e_non_inferior > log(20)
    assert labelled(start, stream(3000, seed=9, truth=0.45)).log_e_non_inferior < log(20)


def test_needed_labels() -> None:
    """The labels still needed fall to 0 as the gate opens, and there is no number without hope."""
    start = LabelState.start(margin=0.05, min_probability=0.2)
    assert start.needed(0.05) is None
    pairs = stream(2000, seed=10, truth=0.55)
    state = labelled(start, pairs[:100])
    needed = state.needed(0.05)
    assert needed is not None
    opened = 100
    while state.log_e_non_inferior < log(20):
        state = labelled(state, [pairs[opened]])
        opened += 1
    assert state.needed(0.05) == 0
    assert 0.4 < (100 + needed) / opened < 2.5
    assert labelled(start, [(0.0, 0.0, 1.0)] * 80).needed(0.05) is None


@pytest.mark.parametrize("assisted", [False, True])
def test_json_is_plain(assisted: bool) -> None:
    """A state survives the text form of JSON with equality, also after a look."""
    state = LabelState.start(margin=0.05, min_probability=0.1, assisted=assisted)
    for known in (state, labelled(state, stream(70, seed=11)).judged(0.75, 0.3).judged(None, 1.0)):
        assert LabelState.from_json(json.loads(json.dumps(known.to_json()))) == known


@pytest.mark.parametrize(
    ("degrees", "tolerance"), [(2, 0.02), (8, 1e-3), (29, 1e-5), (59, 1e-6), (959, 1e-8)]
)
def test_t_quantile(degrees: int, tolerance: float) -> None:
    """The expansion agrees with scipy within what its docstring says."""
    for probability in (0.05, 0.9, 0.95, 0.975, 0.999)[: 4 if degrees == 2 else 5]:
        expected = stats.t.ppf(probability, degrees)
        assert t_quantile(probability, degrees) == pytest.approx(expected, rel=tolerance)


def test_arguments_outside_their_domain_are_named() -> None:
    """Margins, labels, scores and probabilities that cannot be used are refused by name."""
    state = LabelState.start(margin=0.05, min_probability=0.1, assisted=True)
    for margin in (0.0, 0.5, float("nan")):
        with pytest.raises(ValueError, match="margin"):
            LabelState.start(margin=margin)
    for probability in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="min_probability"):
            LabelState.start(margin=0.05, min_probability=probability)
        with pytest.raises(ValueError, match="probability must lie in"):
            state.labelled(1, 1.0, probability)
    with pytest.raises(ValueError, match="probability must be given"):
        state.judged(1.0)
    with pytest.raises(ValueError, match=r"probability must lie in \[0.1, 1\]"):
        state.judged(1.0, 0.09)
    for label in (0.25, 2, float("nan")):
        with pytest.raises(ValueError, match="label"):
            state.labelled(label, 1.0, 0.5)
    for score in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="score"):
            state.labelled(1, score, 0.5)
        with pytest.raises(ValueError, match="score"):
            state.judged(score, 0.5)
    for alpha in (0.0, 1.0):
        for bound in (state.bounds, state.fixed_bounds, state.looks_bound, state.needed):
            with pytest.raises(ValueError, match="alpha"):
                bound(alpha)
