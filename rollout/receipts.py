"""What a decision rested on: receipts that transitions keep, and the explanation of the present.

Everything here is plain JSON made of the evidence, so that a receipt can be recomputed from it.
"""

from __future__ import annotations

from math import ceil, isfinite, log
from typing import Any

from msgspec.structs import asdict

from rollout.assessment import Assessment, assess, combined_harm, samples_needed
from rollout.evidence import EvidenceState
from rollout.measuring import measurements, verdict_json
from rollout.policy import Decision, decide
from rollout.records import Record, Transition
from rollout.spec import RolloutSpec
from rollout.states import ACTIVE, allowed_events
from rollout.verdicts import labels_needed, verdicts

__all__ = ["describe", "explain", "receipt", "transition_json"]


def receipt(record: Record, decision: Decision | None, *, now: float) -> dict[str, Any]:
    """Return the receipt of a transition: what was known, what the rules were, what was decided.

    ``decision`` is ``None`` where no evidence decided: where an operator did, for example. A
    receipt holds all that :mod:`rollout.replay` needs to decide again from the stored facts.
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
        "moment": decision.moment if decision else None,
        "step_started_at": record.step_started_at,
        "approved": sorted(record.approved),
        "evidence_clock": evidence.clock,
        "action": decision.action if decision else None,
        "error_budget": record.spec.analysis.error_budget.model_dump(mode="json"),
        "log_e_harm": decision.log_e_harm if decision else None,
        "heaviest_metric": decision.metric if decision else None,
        "counts": _counts(evidence),
        "judge_health": asdict(evidence.judge_health) if evidence.judge_health else None,
        "verdicts": [verdict_json(each) for each in verdicts(evidence, record.spec)],
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
        "waiting": record.waiting or None,
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
    health = evidence.judge_health
    if health is not None and health.quarantined:
        needs.append("the judge to pass its control pairs again: `coalmine judge health`")
    assessments = assess(evidence, spec)
    needs += [
        _to_prove(each, spec)
        for each in assessments
        if each.weight and each.applies and not each.proven(spec)
    ]
    log_e, heaviest = combined_harm(evidence, assessments)
    if log_e > 0:
        needs.append(
            f"to roll back: e-value 10^{log_e / log(10):.1f} of "
            f"{1 / spec.analysis.error_budget.rollback:g}, mostly {heaviest.metric.name}"
        )
    return needs


def _to_prove(each: Assessment, spec: RolloutSpec) -> str:
    name = each.metric.name
    if not each.n:
        return f"{name}: any data"
    if each.metric.min_human_labels:
        labels = labels_needed(each, spec)
        return (
            f"{name}: {labels} human labels"
            if labels
            else f"{name}: human labels that point to a proof"
        )
    if each.metric.is_live_only and each.served < samples_needed(each.metric, spec):
        requests = samples_needed(each.metric, spec) - each.served
        return f"{name}: {requests} more of the candidate's requests counted"
    needed = log(1 / spec.analysis.error_budget.promote)
    missing = needed - each.log_e_non_inferior
    if missing <= 0:
        return f"{name}: {'the missing verdicts' if each.incomplete(spec) else 'live proof'}"
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
