"""The numbers behind each verdict, as plain JSON: estimates, bounds, live figures, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollout.claims import report
from rollout.evidence import OVERALL, EvidenceState, MetricEvidence
from rollout.shares import live_states, towards_harm
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import LiveState, combine_mean
from rollout.verdicts import Verdict, verdicts

__all__ = ["measurements", "verdict_json"]


def measurements(
    evidence: EvidenceState, spec: RolloutSpec, *, bounds: bool = True
) -> list[dict[str, Any]]:
    """Return every verdict with its numbers: estimate and bounds on the paired difference.

    ``estimate``, ``low`` and ``high`` are the win rate for the judge, otherwise candidate minus
    baseline (fractions; of what only live requests tell, of those); ``None`` while there is no
    data. ``labels`` is the win rate by people, corrected with the judge's scores, ``reading`` the
    last value that has a limit; ``None`` where there is none. Bounds hold at all times together
    with 95% (the error budget for rollback) and cost about a millisecond each.
    """
    metrics = {each.name: each for each in spec.analysis.metrics}
    alpha = spec.analysis.error_budget.rollback
    found = []
    for each in verdicts(evidence, spec):
        known, metric = evidence.metrics[each.metric], metrics[each.metric]
        segment = each.segment or OVERALL
        document = verdict_json(each)
        document["margin"] = metric.margin
        live = live_states(evidence, spec, metric).get(segment)
        document.update(_estimate(known, segment, live, alpha if bounds else None))
        document["live"] = _live(known, metric, segment, live)
        document["labels"] = None if each.segment else _labels(known, metric, spec)
        document["reading"] = _reading(known, metric)
        document["heaviest_pairs"] = [] if each.segment else [pair_id for _, pair_id in known.worst]
        found.append(document)
    return found


def _estimate(
    known: MetricEvidence, segment: str, live: LiveState | None, alpha: float | None
) -> dict[str, float | None]:
    """Return estimate and bounds; ``alpha`` is ``None`` where bounds are not asked for."""
    found: dict[str, float | None] = {"estimate": None, "low": None, "high": None}
    paired = known.paired.get(segment)
    if paired is not None and paired.n:
        found["estimate"] = paired.estimate
        if alpha is not None:
            found["low"], found["high"] = paired.bounds(alpha)
    elif not known.paired and live is not None and live.n:
        baseline, candidate = live.rates
        found["estimate"] = candidate - baseline
        if alpha is not None:
            found["low"], found["high"] = live.bounds(alpha)
    return found


def _labels(known: MetricEvidence, metric: MetricSpec, spec: RolloutSpec) -> dict[str, Any] | None:
    """Return the win rate by people; ``fixed_low`` and ``fixed_high`` hold at one look only."""
    labels = known.labels
    if labels is None or not (labels.n or metric.min_human_labels):
        return None
    return report(
        labels, required=metric.min_human_labels, alpha=spec.analysis.error_budget.promote
    )


def _reading(known: MetricEvidence, metric: MetricSpec) -> dict[str, Any] | None:
    """Return the last value of a metric that has a limit, and its limits."""
    source = metric.source.prometheus if metric.source is not None else None
    if source is None or not metric.is_threshold:
        return None
    reading = known.reading
    return {
        "value": reading.value if reading else None,
        "read_at": reading.at if reading and reading.at else None,
        "breaches": reading.breaches if reading else 0,
        "breach_limit": metric.consecutive_breach_limit,
        "error": reading.error if reading else None,
        "max": source.max,
        "min": source.min,
    }


def verdict_json(each: Verdict) -> dict[str, Any]:
    """Return a verdict as receipts keep it."""
    return {
        "metric": each.metric,
        "segment": each.segment,
        "role": each.role,
        "verdict": each.verdict,
        "reason": each.reason,
        "pairs": each.n,
        "log_e_harm": each.log_e_harm,
        "log_e_non_inferior": each.log_e_non_inferior,
    }


def _live(
    known: MetricEvidence, metric: MetricSpec, segment: str, live: LiveState | None
) -> Mapping[str, Any] | None:
    if live is None:
        return None
    baseline, candidate = live.rates
    ways = towards_harm(live, metric)
    return {
        "requests": live.n,
        "candidate_requests": live.candidate_requests,
        "failures": live.failures,
        "candidate_failures": live.candidate_failures,
        "baseline_rate": baseline,
        "candidate_rate": candidate,
        "log_e_harm": combine_mean([each.log_e_harm for each in ways]),
        "log_e_non_inferior": min(each.log_e_non_inferior for each in ways),
        "limit": known.limit.limit if known.limit and not segment else None,
        "limit_log_e_harm": known.limit.log_e_harm if known.limit and not segment else None,
    }
