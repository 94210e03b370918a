"""GrowthBook's safe rollout: one-sided sequential intervals on the guardrails, without a margin.

The candidate gets half of 10, 25, 50, 75 and then 100% of the traffic, the ramp over the first
quarter of the duration. A guardrail fails when the confidence sequence of its difference excludes
"not worse"; whatever has not failed by the end is shipped. The sequence is the asymptotic one of
arXiv 2103.06476 with the tuning parameter 5,000. Source:
https://docs.growthbook.io/statistics/sequential and https://docs.growthbook.io/app/safe-rollouts.
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np
from decisions.rules import HORIZON, Fate, Rule, metrics_of
from decisions.streams import Bools, Floats, Requests

__all__ = ["GROWTHBOOK", "half_width"]

_COVERAGE = (0.10, 0.25, 0.50, 0.75)
_RAMP = 0.25
_ALPHA = 0.05
_TUNING = 5000.0
_LOOK = 100
_LEAST = 100


def _growthbook(live: Requests) -> Fate | None:
    if live.world.metric == "judge_win_rate":
        return None
    total = min(HORIZON, live.shape[-1])
    coverage = np.ones(total)
    edges = np.linspace(0, _RAMP * total, len(_COVERAGE) + 1).astype(int)
    for start, end, share in zip(edges, edges[1:], _COVERAGE, strict=False):
        coverage[start:end] = share
    drawn = live.uniform("arm")[:total]
    candidate = drawn < coverage / 2
    control = (drawn >= coverage / 2) & (drawn < coverage)
    failed = np.zeros(total // _LOOK, dtype=bool)
    for metric in metrics_of(live.world):
        first, second = (each[:total] for each in live.failed(metric, "live"))
        failed |= _worse(first & control, control, second & candidate, candidate)
    rolled_back = bool(failed.any())
    requests = (int(failed.argmax()) + 1) * _LOOK if rolled_back else total
    return Fate(rolled_back, requests, int(np.count_nonzero(candidate[:requests])))


def half_width(variance: Floats, total: Floats, alpha: float) -> Floats:
    """Return the half width of the interval of a difference with this variance of its estimate."""
    rho = sqrt((-2 * log(alpha) + log(-2 * log(alpha) + 1)) / _TUNING)
    spread = total * rho**2 + 1
    growth = 2 * spread / (total**2 * rho**2) * np.log(np.sqrt(spread) / alpha)
    width: Floats = np.sqrt(variance * total * growth)
    return width


def _worse(first: Bools, control: Bools, second: Bools, candidate: Bools) -> Bools:
    counts = [_looks(each) for each in (first, control, second, candidate)]
    arms = np.maximum(counts[1], 1), np.maximum(counts[3], 1)
    rates = counts[0] / arms[0], counts[2] / arms[1]
    variance = sum(rate * (1 - rate) / arm for rate, arm in zip(rates, arms, strict=True))
    width = half_width(np.asarray(variance), arms[0] + arms[1], 2 * _ALPHA)
    found: Bools = (np.minimum(*arms) >= _LEAST) & (width > 0) & (rates[1] - rates[0] > width)
    return found


def _looks(mask: Bools) -> Floats:
    looks = len(mask) // _LOOK
    return np.cumsum(mask[: looks * _LOOK].reshape(looks, _LOOK).sum(axis=1), dtype=np.float64)


GROWTHBOOK = Rule("GrowthBook", _growthbook)
