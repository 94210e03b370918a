"""Kayenta: series of the metrics of canary and an equally large baseline, compared by ranks.

At each of three weights 60 points of a minute each are judged: a metric is *High* when the lower
end of the 98% confidence interval of the shift (Mann-Whitney) exceeds 10% of the Hodges-Lehmann
estimate. The score is the share of the three metrics that pass; below the marginal threshold of 75
the canary fails. Sources: `MannWhitneyClassifier.scala` (tolerance 0.10, confidence 0.98) and
`NetflixACAJudge` of https://github.com/spinnaker/kayenta; thresholds as in Spinnaker's guide.
"""

from __future__ import annotations

import numpy as np
from decisions.rules import Fate, Rule, Traffic, metrics_of
from decisions.streams import Bools, Floats, Requests
from scipy.stats import mannwhitneyu

__all__ = ["KAYENTA", "high"]

_WEIGHTS = (0.05, 0.25, 0.50)
_POINTS = 60
_POINT_S = 60
_TOLERANCE = 0.10
_CONFIDENCE = 0.98
_MARGINAL = 75.0


def _kayenta(live: Requests) -> Fate | None:
    if live.world.metric == "judge_win_rate":
        return None
    metrics = metrics_of(live.world)
    traffic = Traffic(live)
    point = _POINT_S * live.world.rate
    for weight in _WEIGHTS:
        count = _POINTS * point
        drawn = live.uniform("arm")[traffic.at : traffic.at + count]
        candidate = drawn < weight
        baseline = (drawn >= weight) & (drawn < 2 * weight)
        passed = 0
        for metric in metrics:
            first, second = traffic.failed(metric, count)
            control, canary = _rates(first, baseline), _rates(second, candidate)
            passed += not high(canary, control)
        traffic.pass_by(candidate)
        if 100 * passed / len(metrics) < _MARGINAL:
            return traffic.end(rolled_back=True)
    return traffic.end(rolled_back=False)


def high(canary: Floats, control: Floats) -> bool:
    """Say whether the canary's points are classified as *High*."""
    if np.ptp(np.concatenate([canary, control])) == 0:
        return False
    shift = float(np.median(canary[:, None] - control[None, :]))
    test = mannwhitneyu(
        canary - _TOLERANCE * abs(shift), control, alternative="greater", method="asymptotic"
    )
    return bool(test.pvalue < (1 - _CONFIDENCE) / 2)


def _rates(failed: Bools, arm: Bools) -> Floats:
    requests = arm.reshape(_POINTS, -1).sum(axis=1)
    failures = (failed & arm).reshape(_POINTS, -1).sum(axis=1)
    rates: Floats = failures / np.maximum(requests, 1)
    return rates


KAYENTA = Rule("Kayenta", _kayenta)
