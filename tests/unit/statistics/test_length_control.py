"""The length-controlled win rate: what a judge that likes length adds is taken off again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from rollout.statistics.length_control import length_controlled


def simulate(
    rng: np.random.Generator, pairs: int, *, theta: float, phi: float, longer: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw verdicts of a judge that likes length; a fifth of them are ties."""
    baseline = rng.lognormal(5, 0.4, pairs)
    candidate = baseline * rng.lognormal(np.log(longer), 0.3, pairs)
    difference = candidate - baseline
    chance = 1 / (1 + np.exp(-(theta + phi * np.tanh(difference / difference.std()))))
    won = np.where(rng.random(pairs) < chance, 1.0, -1.0)
    # A tie in place of a win as often as in place of a loss of the same chance keeps the mean.
    tied = rng.random(pairs) < 0.2
    scores = np.where(tied, 2 * chance - 1, won)
    return scores, baseline, candidate


def test_a_liking_for_length_is_taken_off() -> None:
    """Equal answers, the candidate's 40% longer, a judge that likes length: 0.5 is found again."""
    rng = np.random.default_rng(11)
    scores, baseline, candidate = simulate(rng, 20_000, theta=0.0, phi=1.5, longer=1.4)
    found = length_controlled(scores, baseline, candidate)
    assert found is not None
    assert found.raw > 0.62
    assert found.win_rate == pytest.approx(0.5, abs=0.02)
    assert found.low < 0.5 < found.high
    assert found.length_effect == pytest.approx(1.5, abs=0.1)
    assert found.mean_difference > 0


def test_a_judge_without_it_is_left_alone() -> None:
    """A real win is not taken away from the longer answer."""
    rng = np.random.default_rng(12)
    found = length_controlled(*simulate(rng, 20_000, theta=0.6, phi=0.0, longer=1.4))
    assert found is not None
    assert found.win_rate == pytest.approx(1 / (1 + np.exp(-0.6)), abs=0.02)
    assert abs(found.length_effect) < 4 * found.length_effect_se


def test_the_bounds_cover() -> None:
    """The 95% bounds hold the truth in about 95% of 400 runs."""
    rng = np.random.default_rng(13)
    truth = 1 / (1 + np.exp(-0.3))
    covered = 0
    for _ in range(400):
        found = length_controlled(*simulate(rng, 400, theta=0.3, phi=1.0, longer=1.2))
        assert found is not None
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.99  # ties at their mean make the bounds a little wide


def test_the_fit_is_the_maximum() -> None:
    """A general optimiser finds the same coefficients."""
    rng = np.random.default_rng(14)
    scores, baseline, candidate = simulate(rng, 500, theta=-0.4, phi=0.8, longer=1.1)
    difference = candidate - baseline
    x = np.tanh(difference / difference.std())

    def loss(beta: np.ndarray) -> float:
        linear = beta[0] + beta[1] * x
        fit = np.logaddexp(0, linear) - (1 + scores) / 2 * linear
        return float(fit.sum() + 0.0005 * (beta @ beta))

    expected = optimize.minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-8}).x
    found = length_controlled(scores, baseline, candidate)
    assert found is not None
    assert found.length_effect == pytest.approx(expected[1], abs=1e-4)
    assert found.win_rate == pytest.approx(1 / (1 + np.exp(-expected[0])), abs=1e-5)


def test_separable_data_stay_finite() -> None:
    """Where the longer answer always wins, the effect is large and everything is a number."""
    difference = np.linspace(-50, 50, 41)
    found = length_controlled(np.sign(difference), np.full(41, 100.0), 100.0 + difference)
    assert found is not None
    assert np.isfinite([found.win_rate, found.low, found.high, found.length_effect]).all()
    assert found.length_effect > 3
    assert found.win_rate == pytest.approx(0.5, abs=0.05)


def test_too_little_is_nothing() -> None:
    """Few pairs, or answers all of one length, give no figure instead of a wrong one."""
    assert length_controlled([1.0] * 29, [1.0] * 29, [2.0] * 29) is None
    assert length_controlled([1.0] * 40, [10.0] * 40, [20.0] * 40) is None
    assert length_controlled([], [], []) is None


def test_arrays_of_different_length_are_refused() -> None:
    """Pairs are never cut to fit."""
    with pytest.raises(ValueError, match="same pairs"):
        length_controlled([1.0] * 40, [1.0] * 41, [2.0] * 41)
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        length_controlled([2.0] * 40, [1.0] * 40, [2.0] * 40)
