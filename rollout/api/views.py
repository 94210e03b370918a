"""From a rollout's record to the documents that the API shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import log, log10
from typing import Any

from gateway.split import Split
from rollout import receipts
from rollout.api.models import (
    EvidenceReport,
    Progress,
    RolloutStatus,
    RolloutSummary,
    SegmentShareInfo,
    SubsetReport,
    TransitionInfo,
)
from rollout.claims import report
from rollout.ledger import share_of
from rollout.records import Record, Transition
from rollout.states import ACTIVE, FINISHED, Phase, allowed_events

__all__ = [
    "evidence_of",
    "funnel_reconciles",
    "label_report",
    "operations",
    "status_of",
    "subset_of",
    "summary_of",
    "transition_info",
]

_OPERATIONS = {
    "start": "start",
    "pause": "pause",
    "resume": "resume",
    "approve": "approve",
    "set_weight": "weight",
    "promote": "promote",
    "rollback": "rollback",
    "abort": "abort",
    "retry": "retry",
}
_LN10 = log(10)
_APPROVABLE = frozenset({"approval", "preflight"})


def summary_of(record: Record, *, split: Split | None, last_reason: str | None) -> RolloutSummary:
    """Return a rollout and where it is. ``last_reason`` is that of its last transition."""
    return RolloutSummary.model_validate(_place(record, split, last_reason))


def status_of(
    record: Record,
    *,
    split: Split | None,
    last_reason: str | None,
    funnel: Mapping[str, Mapping[str, int]],
    time_to_zero: float | None,
    now: float,
) -> RolloutStatus:
    """Return a rollout with everything that decides about it, at ``now`` (Unix seconds).

    ``time_to_zero`` is in seconds, of the last rollback, where one is complete.
    """
    explained = receipts.explain(record, now=now)
    return RolloutStatus.model_validate(
        {
            **_place(record, split, last_reason),
            **_figures(record, explained),
            "next": _next(record, explained["decision"]),
            # Who decides about a pause, and how, is what `next` says.
            "needs": [each for each in explained["needs"] if not each.startswith("a person")],
            "possible": operations(record),
            "decision": explained["decision"],
            "plan": _plan(record),
            "progress": _progress(record, now),
            "metrics": [
                _metric(record, each) for each in explained["metrics"] if not each["segment"]
            ],
            "funnel": funnel,
            "time_to_zero": time_to_zero,
            "spec": record.spec.to_document(),
        }
    )


def evidence_of(record: Record, *, recorded: int, now: float) -> EvidenceReport:
    """Return all figures. ``recorded`` is the last sequence number that was given out."""
    explained = receipts.explain(record, now=now)
    return EvidenceReport.model_validate(
        {
            "name": record.name,
            "generation": record.generation,
            **_figures(record, explained),
            "metrics": [_metric(record, each) for each in explained["metrics"]],
            "last_pair_at": record.evidence.last_pair_at or None,
            "last_live_at": record.evidence.last_live_at or None,
            "recorded": recorded,
        }
    )


def label_report(record: Record) -> dict[str, Any] | None:
    """Return what people's labels say, as far as they are folded; ``None`` where none could."""
    metric = record.spec.metric("judge_win_rate")
    known = record.evidence.metrics.get("judge_win_rate")
    if metric is None or known is None or known.labels is None:
        return None
    alpha = record.spec.analysis.error_budget.promote
    found = report(known.labels, required=metric.min_human_labels, alpha=alpha)
    return {**found, "log10_e_non_inferior": found["log_e_non_inferior"] / _LN10}


def transition_info(transition: Transition) -> TransitionInfo:
    """Return one transition with its receipt."""
    document = receipts.transition_json(transition)
    return TransitionInfo.model_validate({**document, "step": transition.step + 1})


def operations(record: Record) -> list[str]:
    """Return the operations that a person can ask for now."""
    names = [_OPERATIONS[each] for each in allowed_events(record.phase) if each in _OPERATIONS]
    if record.phase is Phase.PAUSED:
        waits = record.paused is not None and record.paused.reason in _APPROVABLE
        names.remove("resume" if waits else "approve")
    return names


def funnel_reconciles(funnel: Mapping[str, Mapping[str, int]]) -> bool:
    """Say whether every stream's outcomes add up to what was eligible."""
    return all(
        2 * outcomes.get("eligible", 0) == sum(outcomes.values()) for outcomes in funnel.values()
    )


def subset_of(record: Record) -> SubsetReport | None:
    """Return whether the compared pairs are a fair sample of those drawn."""
    subset = record.evidence.subset
    if subset is None:
        return None
    return SubsetReport(
        compared=subset.compared,
        dropped=subset.dropped,
        log10_e_unfair=subset.log_e / _LN10,
        segments=[SegmentShareInfo(**asdict(each)) for each in subset.shares],
    )


def _place(record: Record, split: Split | None, last_reason: str | None) -> dict[str, Any]:
    described = receipts.describe(record, weight_bp=share_of(record, split))
    return {
        **described,
        "why": _why(record, last_reason),
        "step": record.step_index + 1,
        "steps": len(record.steps),
    }


def _figures(record: Record, explained: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "log10_e_harm": explained["log_e_harm"] / _LN10,
        "rollback_at": explained["log_e_needed"] / _LN10,
        "promote_at": -log10(record.spec.analysis.error_budget.promote),
        "counts": explained["counts"],
    }


def _metric(record: Record, measured: Mapping[str, Any]) -> dict[str, Any]:
    metric = record.spec.metric(measured["metric"])
    live = measured["live"]
    if live is not None:
        over = live["limit_log_e_harm"]
        live = {
            **live,
            "log10_e_harm": live["log_e_harm"] / _LN10,
            "log10_e_non_inferior": live["log_e_non_inferior"] / _LN10,
            "log10_e_over_limit": None if over is None else over / _LN10,
        }
    labels = measured["labels"]
    if labels is not None:
        labels = {**labels, "log10_e_non_inferior": labels["log_e_non_inferior"] / _LN10}
    return {
        **measured,
        "labels": labels,
        "name": measured["metric"],
        "critical": metric is not None and metric.critical,
        "n": measured["pairs"],
        "scale": "win_rate" if measured["metric"] == "judge_win_rate" else "difference",
        "log10_e_harm": measured["log_e_harm"] / _LN10,
        "log10_e_non_inferior": measured["log_e_non_inferior"] / _LN10,
        "live": live,
    }


def _plan(record: Record) -> list[dict[str, Any]]:
    over = record.phase is Phase.SUCCEEDED
    return [
        {
            "number": step.index + 1,
            "kind": step.kind,
            "label": step.label,
            "weight": step.weight_bp / 100,
            "state": "done"
            if over or step.index < record.step_index
            else "current"
            if step.index == record.step_index and record.phase in ACTIVE
            else "ahead",
        }
        for step in record.steps
    ]


def _why(record: Record, last_reason: str | None) -> str:
    if record.paused is not None:
        return record.paused.message
    if record.phase is Phase.PENDING:
        return "it waits to be started"
    if record.phase in ACTIVE and record.note:
        return record.note
    return last_reason or record.note


def _next(record: Record, decision: str) -> str:
    match record.phase:
        case Phase.PENDING:
            return "start it"
        case Phase.ROLLING_BACK:
            return "rolled back, once no gateway sends the candidate anything any more"
        case Phase.SUCCEEDED:
            return f"nothing more; rollback returns to {record.baseline or 'the former baseline'}"
        case Phase.PAUSED:
            return f"a person decides: {', '.join(operations(record))}"
    if record.phase in FINISHED:
        again = "; retry starts a new generation" if "retry" in operations(record) else ""
        return f"nothing by itself{again}"
    steps = record.steps
    following = "the candidate becomes the baseline"
    if record.step_index + 1 < len(steps):
        step = steps[record.step_index + 1]
        following = f"step {step.index + 1} of {len(steps)}: {step.label}"
    return f"{'now' if decision in {'advance', 'succeed'} else 'then'} {following}"


def _progress(record: Record, now: float) -> dict[str, Any] | None:
    if record.phase not in ACTIVE or record.step_started_at is None:
        return None
    step, evidence = record.step, record.evidence
    until = record.paused.at if record.paused else now
    return Progress(
        elapsed=max(0.0, until - record.step_started_at),
        min_duration=step.min_duration,
        max_duration=step.max_duration,
        pairs=evidence.step_pairs,
        min_pairs=step.min_pairs,
        max_pairs=step.max_pairs,
        baseline_requests=evidence.step_baseline,
        candidate_requests=evidence.step_candidate,
        min_samples=step.min_samples,
    ).model_dump()
