"""The evidence beside independent sources: scipy, brute force, a package of a paper's authors."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import exp, log, prod

import numpy as np
import pytest
from scipy import integrate, special, stats

from rollout.statistics import LiveState, PairedState, RateLimitState, SampleRatioState
from rollout.statistics.bets import tilt_capital, tilt_share
from rollout.statistics.weighted import WeightedSequence

STREAM = [1, 0, -1, 0, 0, 1, 1, 0, -1, 1, 0, 0, 1, 1, 1, 0, -1, 1, 1, 1]
RATIO_LOG_E = 3.6997595965386787
"""Log of B(120, 80) / B(50, 50) · 2^100, from factorials in exact fractions."""

SAVVI_ODDS = 11.054126973014402
"""`Multinomial(0.05, [0.25, 0.75])` of savvi 0.3.1 (by arXiv 2011.03567's authors) at 40 and 60."""

FOUR_FAILURES = 6.127575
"""Sum of weight · (1 + λ)^4 over the fixed stakes, in exact fractions."""

STAKES = {
    Fraction(3, 10): Fraction(3, 20),
    Fraction(1, 2): Fraction(2, 5),
    Fraction(4, 5): Fraction(7, 20),
}


def fixed_capital(state: PairedState) -> float:
    """Capital on fixed stakes alone: that on harm, less what is on the design bets."""
    return exp(state.log_e_harm) - float(np.dot((0.03, 0.03, 0.04), np.exp(state.harm_bets)))


def test_fixed_stakes_in_exact_fractions() -> None:
    """Their capital equals the product form, worked out without rounding."""
    state = PairedState.start(kind="binary", margin=0.01).update_many(STREAM)
    exact = sum(
        weight * prod((1 + bet * z for z in STREAM), start=Fraction(1))
        for bet, weight in STAKES.items()
    )
    assert fixed_capital(state) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("process", ["harm", "non_inferior"])
def test_paired_evidence_is_a_fair_game(process: str) -> None:
    """Over all streams of six pairs at the border of the null, the e-values average to 1."""
    chances = {"harm": (0.2, 0.6, 0.2), "non_inferior": (0.15, 0.6, 0.25)}[process]
    expected = 0.0
    for stream in product((-1, 0, 1), repeat=6):
        state = PairedState.start(kind="binary", margin=0.1).update_many(stream)
        log_e = state.log_e_harm if process == "harm" else state.log_e_non_inferior
        expected += prod(chances[value + 1] for value in stream) * exp(log_e)
    assert expected == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_live_evidence_is_a_fair_game(share: float) -> None:
    """The binomial mean of the harm e-value is 1 at equal rates, of proof at the margin's."""
    harm = proof = 0.0
    for hits in range(41):
        state = LiveState.start(margin_ratio=1.5).update(
            candidate_failures=hits, failures=40, share=share, candidate_requests=50, requests=100
        )
        harm += stats.binom.pmf(hits, 40, share) * exp(state.log_e_harm)
        tilted = tilt_share(share, 1.5)
        proof += stats.binom.pmf(hits, 40, tilted) * exp(state.log_e_non_inferior)
    assert harm == pytest.approx(1.0, rel=1e-9)
    assert proof == pytest.approx(1.0, rel=1e-9)


def test_a_bet_on_a_ratio_is_the_ratio_of_binomial_probabilities() -> None:
    """The capital of a rate ratio is the likelihood ratio that scipy's binomial gives."""
    for hits, ratio in ((0, 2.0), (7, 3.0), (30, 0.5)):
        expected = stats.binom.logpmf(hits, 30, tilt_share(0.1, ratio))
        expected -= stats.binom.logpmf(hits, 30, 0.1)
        assert tilt_capital(hits, 30, 0.1, ratio) == pytest.approx(expected, rel=1e-9)


def test_rate_limit_never_beats_the_exact_binomial_tail() -> None:
    """Where the e-value reaches 1/alpha the exact test has long rejected, at any level."""
    for failures in range(5, 40, 5):
        log_e = RateLimitState.start(limit=0.02).update(requests=200, failures=failures).log_e_harm
        assert stats.binom.logsf(failures - 1, 200, 0.02) <= min(0.0, -log_e) + 1e-9
    total = sum(
        stats.binom.pmf(failures, 200, 0.02)
        * exp(RateLimitState.start(limit=0.02).update(requests=200, failures=failures).log_e_harm)
        for failures in range(201)
    )
    assert total == pytest.approx(1.0, rel=1e-9)


def test_sample_ratio_by_scipy() -> None:
    """The Bayes factor equals scipy's beta functions, and the integral over the prior."""
    state = SampleRatioState.start(share=0.3).update(45, 120)
    by_beta = special.betaln(30 + 45, 70 + 75) - special.betaln(30, 70)
    by_beta -= 45 * log(0.3) + 75 * log(0.7)
    assert state.log_e == pytest.approx(by_beta, rel=1e-9)

    def likelihood_ratio(share: float) -> float:
        return float(
            stats.beta.pdf(share, 30, 70) * (share / 0.3) ** 45 * ((1 - share) / 0.7) ** 75
        )

    integral, _ = integrate.quad(likelihood_ratio, 0, 1, epsabs=0, epsrel=1e-10)
    assert exp(state.log_e) == pytest.approx(integral, rel=1e-8)


def test_bounds_are_wider_than_the_exact_interval_and_hold_it() -> None:
    """A sequence that holds at all times contains Clopper and Pearson's interval for one look."""
    low, high = RateLimitState.start(limit=0.02).update(requests=1000, failures=50).bounds(0.05)
    assert low < stats.beta.ppf(0.025, 50, 951)
    assert high > stats.beta.ppf(0.975, 51, 950)


def test_weighted_bounds_are_rejected_by_the_exact_bets() -> None:
    """At each bound of the closed form the product of bets has reached the threshold."""
    rng = np.random.default_rng(1)
    gains, weights = rng.choice((0.0, 0.5, 1.0), 300), rng.choice((1.0, 2.0, 4.0), 300)
    sums = WeightedSequence()
    for gain, weight in zip(gains.tolist(), weights.tolist(), strict=True):
        sums = sums.update(weight * gain, weight, stake=0.3, scale=0.25)
    low, high = sums.bounds(log(40))
    assert 0.3 < low < gains.mean() < high < 0.7
    for bound, side in ((low, 1), (high, -1)):
        capital = np.log1p(side * 0.3 * 0.25 * weights * (gains - bound)).sum()
        assert log(40) <= capital < log(40) + 0.5


def test_reference_constants() -> None:
    """E-values of fixed streams, worked out once in exact fractions, stay what they are."""
    ratio = SampleRatioState.start(share=0.5).update(70, 100)
    assert ratio.log_e == pytest.approx(RATIO_LOG_E, rel=1e-9)
    wins = PairedState.start(kind="binary", margin=0.01).update_many([1] * 4)
    assert fixed_capital(wins) == pytest.approx(FOUR_FAILURES, rel=1e-12)


def test_sample_ratio_beside_savvi() -> None:
    """The odds that `savvi` 0.3.1's sequential multinomial test gives for the same counts."""
    state = SampleRatioState.start(share=0.25).update(40, 100)
    assert exp(state.log_e) == pytest.approx(SAVVI_ODDS, rel=1e-10)
