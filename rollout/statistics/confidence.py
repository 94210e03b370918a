"""Confidence sequences: bounds that hold at all times together, by inverting bets.

Every function takes the threshold on the log e-value of each side: the log of 2/alpha for a pair
of bounds that holds with probability 1 - alpha. Source: arXiv 2010.09686.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf

import numpy as np
from numpy.typing import NDArray

from rollout.statistics.bets import (
    DISPLAY_BETS,
    DISPLAY_RATIOS,
    difference_mixture,
    last_rejected,
    log_mean_exp,
    tilt_mixture,
    tilt_share,
)

_BETS = np.array(DISPLAY_BETS)[:, None]
_INVERSE_RATIOS = tuple(1 / ratio for ratio in DISPLAY_RATIOS)
_EDGE = 1e-9
_LOG_RATIO_EDGE = 14.0


def mean_bounds(counts: Sequence[tuple[float, float]], threshold: float) -> tuple[float, float]:
    """Bounds on a mean, from counts of values in [-1, 1].

    "The mean is at most m" is rejected when the mean over λ of `∏ (1 + λ(x - m)/(1 + m))` reaches
    the threshold. Every factor falls in m, so a bisection finds the lower bound; the upper one is
    its mirror image. Without counts: (-1, 1).
    """
    values = np.array([value for value, _ in counts])
    weights = np.array([count for _, count in counts])
    return (
        _lower_mean_bound(values, weights, threshold),
        -_lower_mean_bound(-values, weights, threshold),
    )


def rate_bounds(hits: int, trials: int, threshold: float) -> tuple[float, float]:
    """Bounds on a probability, from hits among trials, by the bets of `tilt_capital`.

    Without trials: (0, 1).
    """
    low = last_rejected(
        lambda rate: tilt_mixture([(hits, trials, rate)], DISPLAY_RATIOS),
        threshold=threshold, start=0.0, end=1.0,
    )  # fmt: skip
    high = last_rejected(
        lambda rate: tilt_mixture([(hits, trials, rate)], _INVERSE_RATIOS),
        threshold=threshold, start=1.0, end=0.0,
    )  # fmt: skip
    return low, high


def ratio_bounds(
    windows: Sequence[tuple[int, int, float]], threshold: float
) -> tuple[float, float]:
    """Bounds on the candidate's failure rate over the baseline's.

    A window is (candidate failures, failures, share). Under a ratio of rho a failure is the
    candidate's with probability `tilt_share(share, rho)`. A bound beyond e^±14 is 0 or infinite.
    """

    def log_e(log_ratio: float, ratios: Sequence[float]) -> float:
        tilted = [
            (hits, trials, tilt_share(share, exp(log_ratio))) for hits, trials, share in windows
        ]
        return tilt_mixture(tilted, ratios)

    edge = _LOG_RATIO_EDGE
    low = last_rejected(
        lambda value: log_e(value, DISPLAY_RATIOS), threshold=threshold, start=-edge, end=edge
    )
    high = last_rejected(
        lambda value: log_e(value, _INVERSE_RATIOS), threshold=threshold, start=edge, end=-edge
    )
    return exp(low) if low > -edge else 0.0, exp(high) if high < edge else inf


def difference_bounds(
    windows: Sequence[tuple[float, int, int, int]], threshold: float
) -> tuple[float, float]:
    """Bounds on the candidate's failure rate minus the baseline's.

    A window is (share, requests, candidate failures, baseline failures); see `difference_mixture`.
    Without windows at a share between 0 and 1: (-1, 1).
    """
    mirrored = [
        (1 - share, requests, baseline, candidate)
        for share, requests, candidate, baseline in windows
    ]
    return (
        _lower_difference_bound(windows, threshold),
        -_lower_difference_bound(mirrored, threshold),
    )


def _lower_mean_bound(
    values: NDArray[np.float64], weights: NDArray[np.float64], threshold: float
) -> float:
    def log_e(mean: float) -> float:
        capitals = np.log1p(_BETS * (values - mean) / (1 + mean)) @ weights
        return log_mean_exp(capitals.tolist())

    return _unless_edge(last_rejected(log_e, threshold=threshold, start=-1 + _EDGE, end=1.0))


def _lower_difference_bound(
    windows: Sequence[tuple[float, int, int, int]], threshold: float
) -> float:
    def log_e(difference: float) -> float:
        return difference_mixture(windows, difference, DISPLAY_BETS)

    return _unless_edge(last_rejected(log_e, threshold=threshold, start=-1 + _EDGE, end=1.0))


def _unless_edge(bound: float) -> float:
    return bound if bound > -1 + _EDGE else -1.0
