"""Argo Rollouts: at every weight an analysis of a few measurements against a threshold.

A measurement is the success rate of 20 requests of the candidate; more failed measurements than
`failureLimit` abort. Source: https://argo-rollouts.readthedocs.io/en/stable/features/analysis/
(`successCondition: result >= 0.99`, `failureLimit` 0 by default, `count: 5`).
"""

from __future__ import annotations

import numpy as np
from decisions.rules import Fate, Rule, Traffic
from decisions.streams import Requests
from decisions.worlds import Phase

__all__ = ["LENIENT", "STRICT"]

_WEIGHTS = (0.05, 0.10, 0.25, 0.50, 1.0)
_CHECKS = 5
_REQUESTS = 20
_FIXED_THRESHOLDS_LACK = {"judge_win_rate", "latency"}
_TINY = 1e-9


def _argo(live: Requests, threshold: float, failure_limit: int) -> Fate | None:
    metric = live.world.metric
    if metric in _FIXED_THRESHOLDS_LACK:
        return None
    traffic = Traffic(live)
    for weight in _WEIGHTS:
        phase: Phase = "full" if weight == 1.0 else "live"
        failures = 0
        for _ in range(_CHECKS):
            candidate = traffic.arm(round(2 * _REQUESTS / weight) + 400, weight)
            last = int(np.flatnonzero(candidate)[_REQUESTS - 1]) + 1
            candidate = candidate[:last]
            bad = np.count_nonzero(traffic.failed(metric, last, phase)[1] & candidate)
            traffic.pass_by(candidate)
            failures += int(1 - bad / _REQUESTS < threshold - _TINY)
            if failures > failure_limit:
                return traffic.end(rolled_back=True)
    return traffic.end(rolled_back=False)


STRICT = Rule("Argo 99%, limit 0", lambda live: _argo(live, 0.99, 0))
LENIENT = Rule("Argo 95%, limit 3", lambda live: _argo(live, 0.95, 3))
