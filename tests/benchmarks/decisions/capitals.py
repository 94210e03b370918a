"""Capital on each rate ratio: numpy twins of the product's `LiveState` and `RateLimitState`."""

from __future__ import annotations

import numpy as np
from decisions.streams import Floats

from rollout.statistics import RateLimitState
from rollout.statistics.bets import RATE_RATIOS

__all__ = ["limit_capitals", "live_capitals", "moving_limits"]

_RATIOS = np.array(RATE_RATIOS)[:, None]
_PRIOR_REQUESTS = 200.0  # the product's: a test shows that it decides so


def moving_limits(floor: float, ratio: float, requests: Floats, failures: Floats) -> Floats:
    """Return the limit at each look, from what the looks before it saw of the baseline."""
    before, failed = (np.concatenate(([0.0], each[:-1])) for each in (requests, failures))
    limits = np.clip(ratio * failed / np.maximum(before, 1.0), floor, RateLimitState.MOST)
    found: Floats = np.where(before >= RateLimitState.LEAST_BASELINE, limits, floor)
    return found


def limit_capitals(failures: Floats, requests: Floats, limit: Floats) -> Floats:
    """Return the log capital on each rate ratio, every look at its own limit: ratios by looks."""
    hits, trials = (np.diff(each, prepend=0.0) for each in (failures, requests))
    grown = hits * np.log(_RATIOS) - trials * np.log1p(limit * (_RATIOS - 1))
    found: Floats = np.cumsum(grown, axis=1)
    return found


def live_capitals(
    hits: Floats, trials: Floats, candidate: Floats, requests: Floats, share: float
) -> Floats:
    """Return the log capital on each rate ratio, at the share that came: ratios by looks."""
    realised = (candidate + _PRIOR_REQUESTS * share) / (requests + _PRIOR_REQUESTS)
    found: Floats = hits * np.log(_RATIOS) - trials * np.log1p(realised * (_RATIOS - 1))
    return found
