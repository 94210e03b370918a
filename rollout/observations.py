"""Reading one fact: what its payload says about one metric, or that it says nothing.

Payloads are what gateways and workers appended. Whatever is not as agreed raises ``ValueError``,
``KeyError`` or ``TypeError``; the fold counts such a fact as missing data.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from msgspec.structs import replace

from rollout.evidence import RECENT, MetricEvidence, Reading
from rollout.spec import MetricSpec
from rollout.spec_metrics import RELATIVE_METRICS

__all__ = [
    "count_of",
    "counted_in_windows",
    "difference_of",
    "failures_of",
    "judged",
    "live_failure",
    "may_be_labelled",
    "ranked_worst",
    "verdict_of",
    "with_latency",
    "with_live_latency",
    "with_reading",
]

WINDOW_METRICS = frozenset({"error_rate", "timeout_rate"})
"""Metrics that gateways count on every request. Latency joins them where the spec has an SLO."""

_WORST = 5
_BITS = (0, 1)
_NOT_BINARY = frozenset({"judge_win_rate", *RELATIVE_METRICS})
_VALUES = {"latency": "latency", "ttft": "ttft", "inter_token_latency": "inter_token"}
_NO_VERDICT = {"error": "e", "budget_exhausted": "b"}
_JUDGED = {"win", "lean_win", "tie", "lean_loss", "loss"}


def counted_in_windows(metric: MetricSpec) -> bool:
    """Say whether gateways count the metric on every request, rather than workers on some."""
    return metric.name in WINDOW_METRICS or (metric.name == "latency" and metric.slo is not None)


def failures_of(
    metric: MetricSpec, known: MetricEvidence, payload: Mapping[str, Any]
) -> tuple[int, int] | None:
    """Return whether baseline and candidate failed (0 or 1), or ``None`` where it doesn't apply."""
    name = metric.name
    if name in _NOT_BINARY:
        return None
    both = payload["failures"].get(name)
    if both is None:
        return _above_limit(metric, known, payload) if name in _VALUES else None
    baseline, candidate = both[0], both[1]
    if baseline is None or candidate is None:
        return None
    if baseline not in _BITS or candidate not in _BITS:
        raise ValueError(f"{both!r} is not 0 or 1 for each arm")
    if metric.direction == "decrease":
        return 1 - int(baseline), 1 - int(candidate)
    return int(baseline), int(candidate)


def _above_limit(
    metric: MetricSpec, known: MetricEvidence, payload: Mapping[str, Any]
) -> tuple[int, int] | None:
    values = payload["values"].get(_VALUES[metric.name])
    limit = _latency_limit(metric, known)
    if values is None or limit is None or None in values:
        return None
    return int(values[0] > limit), int(values[1] > limit)


def difference_of(
    metric: MetricSpec, arms: tuple[int, int] | None, payload: Mapping[str, Any]
) -> float | None:
    """Return what one pair says, as the metric's statistics take it, or ``None`` for nothing."""
    if metric.name == "judge_win_rate":
        score = payload["score"]
        return None if score is None else float(score)
    if metric.name in RELATIVE_METRICS:
        amounts = payload["values"].get(metric.name)
        if amounts is None or None in amounts or amounts[0] + amounts[1] <= 0:
            return None
        return float((amounts[1] - amounts[0]) / (amounts[1] + amounts[0]))
    return None if arms is None else float(arms[1] - arms[0])


def verdict_of(payload: Mapping[str, Any]) -> tuple[float | None, int] | None:
    """Return a pair's score, None where its verdict is missing, and which answer was longer.

    The second is 1 where the candidate's was, -1 where the baseline's was, else 0. None where no
    verdict was to be had: there were not two answers, the budget was used up, or the judge is
    quarantined, which is no word on this pair.
    """
    tokens = payload["values"].get("output_tokens") or [None, None]
    known = None not in tokens
    longer = (tokens[1] > tokens[0]) - (tokens[1] < tokens[0]) if known else 0
    if payload["score"] is not None:
        return float(payload["score"]), longer
    judge = payload["judge"]
    missing = judge == "error" or (judge == "unjudgeable" and known)
    return (None, longer) if missing else None


def live_failure(
    metric: MetricSpec, known: MetricEvidence, payload: Mapping[str, Any]
) -> int | None:
    """Return whether one live answer failed (0 or 1), or ``None`` where it doesn't apply.

    Where a decrease is harm this still is the failure: its evidence changes the arms about.
    """
    if metric.name in _NOT_BINARY or metric.source is not None:
        return None
    failed = payload["failures"].get(metric.name)
    if failed is None:
        if metric.name not in _VALUES:
            return None
        value = payload["values"].get(_VALUES[metric.name])
        limit = _latency_limit(metric, known)
        return None if value is None or limit is None else int(value > limit)
    return _bit(failed)


def _latency_limit(metric: MetricSpec, known: MetricEvidence) -> float | None:
    if metric.slo is not None:
        return metric.slo
    return None if known.threshold is None else known.threshold.threshold


def may_be_labelled(payload: Mapping[str, Any]) -> bool:
    """Say whether people could have been asked about a pair, so that it stands beside their labels.

    Where people are asked, a worker writes with which probability; a pair that could not be drawn
    says nothing of those that could. Facts of rollouts without reviews do not have the field.
    """
    return payload.get("review_probability", 1.0) is not None


def with_latency(
    known: MetricEvidence, metric: MetricSpec, payload: Mapping[str, Any]
) -> MetricEvidence:
    """Let the baseline's latency move the running quantile, after it has been compared with it."""
    if known.threshold is None:
        return known
    values = payload["values"].get(_VALUES[metric.name])
    if values is None or values[0] is None:
        return known
    return known.evolve(threshold=known.threshold.update(float(values[0])))


def with_live_latency(
    known: MetricEvidence, metric: MetricSpec, payload: Mapping[str, Any]
) -> MetricEvidence:
    """Let the latency of a live answer of the baseline move the running quantile."""
    if known.threshold is None:
        return known
    value = payload["values"].get(_VALUES[metric.name])
    if value is None:
        return known
    return known.evolve(threshold=known.threshold.update(float(value)))


def ranked_worst(
    worst: tuple[tuple[float, int], ...], metric: MetricSpec, difference: float, pair_id: int
) -> tuple[tuple[float, int], ...]:
    """Return the pairs that spoke most against the candidate, with this one among them or not."""
    badness = -difference if metric.name == "judge_win_rate" else difference
    if metric.direction == "both":
        badness = abs(difference)
    if badness <= 0 or (len(worst) == _WORST and badness < worst[-1][0]):
        return worst
    ranked = sorted((*worst, (badness, int(pair_id))), key=lambda each: (-each[0], -each[1]))
    return tuple(ranked[:_WORST])


def judged(recent: str, judge: str) -> str:
    """Return the judge's last answers with one more. Raises ``ValueError`` for an unknown word."""
    if judge == "inconsistent":
        letter = "i"
    elif judge in _NO_VERDICT:
        letter = _NO_VERDICT[judge]
    elif judge in _JUDGED:
        letter = "v"
    elif judge in {"not_needed", "unjudgeable", "quarantined"}:
        return recent
    else:
        raise ValueError(f"no verdict is called {judge!r}")
    return (recent + letter)[-RECENT:]


def with_reading(known: MetricEvidence, payload: Mapping[str, Any], *, at: float) -> MetricEvidence:
    """Return what is known after one more reading of a value with a limit, or a failed one."""
    before = known.reading or Reading()
    error, value = payload.get("error"), payload.get("value")
    if error is not None or value is None or not isfinite(value):
        reading = replace(before, error=str(error or "Prometheus gave no value"))
        return known.evolve(reading=reading)
    breaches = before.breaches + 1 if _bit(payload["breached"]) else 0
    return known.evolve(reading=Reading(value=float(value), at=at, breaches=breaches))


def count_of(arm: Mapping[str, Any], name: str) -> int:
    """Return a count of an arm, 0 where it is missing."""
    value = arm.get(name, 0)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is not a count")
    return value


def _bit(value: Any) -> int:
    if value not in _BITS:
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return int(value)
