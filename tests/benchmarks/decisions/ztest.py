"""A z-test made for one look at 10,000 requests, looked at every 100 of them, on three metrics.

Both arms get half; the first of the metrics that is worse at 5% (one-sided, pooled) rolls back.
"""

from __future__ import annotations

import numpy as np
from decisions.rules import Fate, Rule, metrics_of
from decisions.streams import Bools, Floats, Requests
from scipy.stats import norm

__all__ = ["ZTEST"]

_TOTAL = 10_000
_LOOK = 100
_LEAST = 100
_ALPHA = 0.05


def _ztest(live: Requests) -> Fate | None:
    if live.world.metric == "judge_win_rate":
        return None
    candidate = live.uniform("arm")[:_TOTAL] < 0.5
    failed = np.zeros(_TOTAL // _LOOK, dtype=bool)
    for metric in metrics_of(live.world):
        first, second = (each[:_TOTAL] for each in live.failed(metric, "live"))
        failed |= _worse(first & ~candidate, second & candidate, candidate)
    rolled_back = bool(failed.any())
    requests = (int(failed.argmax()) + 1) * _LOOK if rolled_back else _TOTAL
    return Fate(rolled_back, requests, int(np.count_nonzero(candidate[:requests])))


def _worse(baseline: Bools, candidate: Bools, arm: Bools) -> Bools:
    total = np.arange(_LOOK, _TOTAL + 1, _LOOK, dtype=np.float64)
    served = np.maximum(_looks(arm), 1.0)
    others = np.maximum(total - served, 1.0)
    bad, base = _looks(candidate), _looks(baseline)
    pooled = (bad + base) / total
    error = np.sqrt(pooled * (1 - pooled) * (1 / served + 1 / others))
    limit = norm.ppf(1 - _ALPHA) * error
    found: Bools = (
        (np.minimum(served, others) >= _LEAST)
        & (error > 0)
        & (bad / served - base / others > limit)
    )
    return found


def _looks(mask: Bools) -> Floats:
    return np.cumsum(mask.reshape(-1, _LOOK).sum(axis=1), dtype=np.float64)


ZTEST = Rule("peeked z-test", _ztest)
