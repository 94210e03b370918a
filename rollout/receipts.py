"""What a decision rested on: receipts that transitions keep, and the explanation of the present.

Everything here is plain JSON made of the evidence, so that a receipt can be recomputed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isfinite, log
from typing import Any

from rollout.assessment import Assessment, Verdict, assess, combined_harm, verdicts
from rollout.evidence import OVERALL, EvidenceState, MetricEvidence, realised
from rollout.policy import Decision, decide
from rollout.records import Record, Transition
from rollout.spec import RolloutSpec
from rollout.states import ACTIVE, allowed_events

__all__ = ["describe", "explain", "measurements", "receipt", "transition_json"]


def receipt(record: Record, decision: Decision | None, *, now: float) -> dict[str, Any]:
    """Return the receipt of a transition: what was known, what the rules were, what was decided.

    ``decision`` is ``None`` where an operator decided.
    """
    evidence = record.evidence
    return {
        "spec_hash": record.spec_hash,
        "candidate_revision": record.candidate_revision,
        "baseline": record.baseline,
        "baseline_revision": record.baseline_revision,
        "generation": record.generation,
        "last_seq": evidence.last_seq,
        "decided_at": now,
        "evidence_clock": evidence.clock,
        "action": decision.action if decision else None,
        "error_budget": record.spec.analysis.error_budget.model_dump(mode="json"),
        "log_e_harm": decision.log_e_harm if decision else None,
        "heaviest_metric": decision.metric if decision else None,
        "counts": _counts(evidence),
        "verdicts": [_verdict(each) for each in verdicts(evidence, record.spec)],
        "heaviest_pairs": {
            name: [pair_id for _, pair_id in metric.worst]
            for name, metric in evidence.metrics.items()
            if metric.worst
        },
    }


def describe(record: Record, *, weight_bp: int = 0) -> dict[str, Any]:
    """Return a rollout as the API and the CLI show it in lists. ``weight`` is in percent."""
    steps = record.steps
    return {
        "id": record.id,
        "name": record.name,
        "generation": record.generation,
        "route": record.route,
        "candidate": record.spec.candidate.deployment,
        "baseline": record.baseline,
        "phase": record.phase.value,
        "step": record.step_index,
        "steps": [{"label": step.label, "weight": step.weight_bp / 100} for step in steps],
        "weight": weight_bp / 100,
        "paused": record.paused.to_json() if record.paused else None,
        "note": record.note,
        "revision": record.revision,
        "spec_hash": record.spec_hash,
        "candidate_revision": record.candidate_revision,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "step_started_at": record.step_started_at,
        "finished_at": record.finished_at,
    }


def transition_json(transition: Transition) -> dict[str, Any]:
    """Return a transition as the API and the CLI show it. Weights are percent."""
    return {
        "number": transition.number,
        "at": transition.at,
        "actor": transition.actor,
        "event": transition.event,
        "from_phase": transition.from_phase,
        "to_phase": transition.to_phase,
        "step": transition.step,
        "weight_before": transition.weight_before_bp / 100,
        "weight_after": transition.weight_after_bp / 100,
        "reason": transition.reason,
        "receipt": dict(transition.receipt),
    }


def explain(record: Record, *, now: float, weight_bp: int = 0) -> dict[str, Any]:
    """Return why a rollout is where it is, every guardrail's numbers, and what is needed next."""
    decision = decide(record.evidence, record.spec, record.status(), now)
    needs = _needs(record)
    reason = record.note or decision.reason
    if record.paused is not None:
        reason = f"paused ({record.paused.reason}): {record.paused.message}"
    return {
        **describe(record, weight_bp=weight_bp),
        "decision": decision.action,
        "reason": reason,
        "possible": list(allowed_events(record.phase)),
        "log_e_harm": decision.log_e_harm,
        "log_e_needed": log(1 / record.spec.analysis.error_budget.rollback),
        "counts": _counts(record.evidence),
        "metrics": measurements(record.evidence, record.spec),
        "needs": needs,
    }


def measurements(
    evidence: EvidenceState, spec: RolloutSpec, *, bounds: bool = True
) -> list[dict[str, Any]]:
    """Return every verdict with its numbers: estimate and bounds on the paired difference.

    ``estimate``, ``low`` and ``high`` are the win rate for the judge, otherwise candidate minus
    baseline (fractions); ``None`` while there is no pair. Bounds hold at all times together with
    95% (the error budget for rollback) and cost about a millisecond each.
    """
    margins: dict[str, float] = {each.name: each.margin for each in spec.analysis.metrics}
    alpha = spec.analysis.error_budget.rollback
    found = []
    for each in verdicts(evidence, spec):
        known = evidence.metrics[each.metric]
        segment = each.segment or OVERALL
        paired = known.paired.get(segment)
        document = _verdict(each)
        document["margin"] = margins[each.metric]
        document["estimate"] = paired.estimate if paired is not None and paired.n else None
        document["low"] = document["high"] = None
        if bounds and paired is not None and paired.n:
            document["low"], document["high"] = paired.bounds(alpha)
        document["live"] = _live(known, segment)
        document["heaviest_pairs"] = [] if each.segment else [pair_id for _, pair_id in known.worst]
        found.append(document)
    return found


def _needs(record: Record) -> list[str]:
    """Return, in sentences, what would have to come for the rollout to go on."""
    if record.phase not in ACTIVE:
        return []
    spec, evidence, step = record.spec, record.evidence, record.step
    needs = []
    if record.paused is not None:
        needs.append("a person: resume, approve, promote, set a weight, roll back or abort")
    if evidence.step_pairs < step.min_pairs:
        needs.append(f"{step.min_pairs - evidence.step_pairs} more pairs in this step")
    if evidence.step_candidate < step.min_samples:
        missing = step.min_samples - evidence.step_candidate
        needs.append(f"{missing} more requests served by the candidate")
    assessments = assess(evidence, spec)
    needs += [
        _to_prove(each, spec)
        for each in assessments
        if each.weight and each.applies and not each.proven(spec)
    ]
    log_e, heaviest = combined_harm(assessments)
    if log_e > 0:
        needs.append(
            f"to roll back: e-value 10^{log_e / log(10):.1f} of "
            f"{1 / spec.analysis.error_budget.rollback:g}, mostly {heaviest.metric.name}"
        )
    return needs


def _to_prove(each: Assessment, spec: RolloutSpec) -> str:
    name = each.metric.name
    if each.metric.min_human_labels:
        return f"{name}: {each.metric.min_human_labels} human labels"
    if not each.n:
        return f"{name}: any data"
    needed = log(1 / spec.analysis.error_budget.promote)
    missing = needed - each.log_e_non_inferior
    if missing <= 0:
        return f"{name}: live proof"
    rate = each.log_e_non_inferior / each.n
    if rate <= 0:
        return f"{name}: the evidence does not point to a proof"
    more = missing / rate
    return f"{name}: about {ceil(more)} more pairs at the present rate" if isfinite(more) else name


def _counts(evidence: EvidenceState) -> dict[str, Any]:
    ratio = evidence.sample_ratio
    return {
        "pairs": evidence.pairs,
        "noise_pairs": evidence.noise_pairs,
        "step_pairs": evidence.step_pairs,
        "step_baseline": evidence.step_baseline,
        "step_candidate": evidence.step_candidate,
        "step_checked": evidence.step_checked,
        "unreadable": evidence.unreadable,
        "last_seq": evidence.last_seq,
        "recent_judge_errors": evidence.recent.count("e"),
        "recent_judgments": len(evidence.recent),
        "recent_inconsistent": evidence.recent.count("i"),
        "candidate_share": ratio.observed if ratio is not None and ratio.n else None,
        "expected_share": ratio.expected if ratio is not None and ratio.n else None,
        "open_breakers": dict(evidence.breakers),
    }


def _verdict(each: Verdict) -> dict[str, Any]:
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


def _live(known: MetricEvidence, segment: str) -> Mapping[str, Any] | None:
    state = known.live.get(segment)
    if state is None:
        return None
    live = realised(state)
    baseline, candidate = live.rates
    return {
        "requests": live.n,
        "candidate_requests": live.candidate_requests,
        "failures": live.failures,
        "candidate_failures": live.candidate_failures,
        "baseline_rate": baseline,
        "candidate_rate": candidate,
        "log_e_harm": live.log_e_harm,
        "log_e_non_inferior": live.log_e_non_inferior,
        "limit": known.limit.limit if known.limit and not segment else None,
        "limit_log_e_harm": known.limit.log_e_harm if known.limit and not segment else None,
    }
