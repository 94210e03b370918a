"""Flagger: every minute one check of the candidate's success rate; so many failed ones roll back.

`interval: 1m`, `threshold: 5`, `stepWeight: 10`, `maxWeight: 50`, `request-success-rate` of at
least 99%, as in https://docs.flagger.app/usage/how-it-works. A check that passes raises the weight,
a failed one counts and keeps it, and a metric without a value is a failed check.
"""

from __future__ import annotations

import numpy as np
from decisions.rules import Fate, Rule, Traffic
from decisions.streams import Requests

__all__ = ["FLAGGER"]

_INTERVAL_S = 60
_THRESHOLD = 5
_WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5)
_SUCCESS = 0.99
_FIXED_THRESHOLDS_LACK = {"judge_win_rate", "latency"}
_TINY = 1e-9


def _flagger(live: Requests) -> Fate | None:
    metric = live.world.metric
    if metric in _FIXED_THRESHOLDS_LACK:
        return None
    traffic = Traffic(live)
    step = failures = 0
    while step < len(_WEIGHTS):
        candidate = traffic.arm(_INTERVAL_S * live.world.rate, _WEIGHTS[step])
        served = np.count_nonzero(candidate)
        bad = np.count_nonzero(traffic.failed(metric, len(candidate))[1] & candidate)
        traffic.pass_by(candidate)
        if served and 1 - bad / served >= _SUCCESS - _TINY:
            step += 1
            continue
        failures += 1
        if failures >= _THRESHOLD:
            return traffic.end(rolled_back=True)
    return traffic.end(rolled_back=False)


FLAGGER = Rule("Flagger", _flagger)
