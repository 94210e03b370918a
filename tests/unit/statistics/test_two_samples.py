"""Intervals of two independent samples, against published figures and by simulation."""

from __future__ import annotations

from math import log
from random import Random

import pytest

from rollout.statistics.two_samples import (
    LogMoments,
    newcombe_bounds,
    ratio_change_bounds,
    wilson_bounds,
)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval(hits: int, trials: int, low: float, high: float) -> None:
    """The score intervals of Newcombe (1998), Statistics in Medicine 17, 857, table I."""
    assert wilson_bounds(hits, trials, 0.05) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((0, 29), (5, 56), -0.0381, 0.1926),
        ((0, 20), (10, 10), 0.6791, 1.0),
    ],
)
def test_newcombes_interval(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Method 10 of Newcombe (1998), Statistics in Medicine 17, 873; the second minus the first."""
    hits, trials = (first[0], second[0]), (first[1], second[1])
    assert newcombe_bounds(hits, trials, 0.05) == pytest.approx((low, high), abs=6e-4)
    turned = newcombe_bounds(hits[::-1], trials[::-1], 0.05)
    assert turned == pytest.approx((-high, -low), abs=6e-4)


def test_without_trials_nothing_is_known() -> None:
    """An arm without answers leaves every difference possible."""
    assert wilson_bounds(0, 0, 0.05) == (0, 1)
    assert newcombe_bounds((0, 3), (0, 10), 0.05) == (-1, 1)
    assert ratio_change_bounds(LogMoments(), LogMoments().added(3.0), 0.05) is None
    with pytest.raises(ValueError, match="alpha"):
        wilson_bounds(1, 2, 1.5)


def test_a_ratio_is_covered() -> None:
    """In 95% of runs or so the interval holds the true change of the geometric mean, a half."""
    rng, covered = Random(7), 0
    for _ in range(600):
        arms = [LogMoments(), LogMoments()]
        for arm, middle in enumerate((log(100), log(150))):
            for _ in range(40):
                arms[arm] = arms[arm].added(rng.lognormvariate(middle, 0.6))
        bounds = ratio_change_bounds(*arms, 0.05)
        assert bounds is not None
        covered += bounds[0] <= 0.5 <= bounds[2]
    assert 0.92 <= covered / 600 <= 0.98
