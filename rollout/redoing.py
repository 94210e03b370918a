"""Doing a transition again: what it did to the rollout, by the very functions that did it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.split import Split
from rollout import moves
from rollout.ledger import share_of
from rollout.records import Record, Transition
from rollout.states import Event, Phase, next_phase

__all__ = ["action_of", "begun", "done_again", "moment_of"]

_SET_BACK_S = 1.0
_ENDINGS = frozenset({Event.SUCCEED, Event.PROMOTE, Event.ROLLBACK, Event.ABORT, Event.SUPERSEDE})
_ACTIONS = {
    Event.ROLLBACK: "rollback",
    Event.PAUSE: "pause",
    Event.SUCCEED: "succeed",
}


def begun(known: Record, began: Any) -> Record:
    """Return the record with its step begun when the controller says that it began.

    The only thing that changes without a transition: a step that began ahead of the clock counts
    from when that was noticed. So it can only begin earlier, and the replay says so.
    """
    own = known.step_started_at
    if own is None or not isinstance(began, int | float) or began >= own - _SET_BACK_S:
        return known
    return replace(known, step_started_at=float(began))


def moment_of(known: Record, transition: Transition) -> float:
    """Return the instant that was decided for: that of the writing, or of the last fact."""
    moment = transition.receipt.get("moment")
    last = max(known.evidence.clock, known.step_started_at or 0.0)
    possible = (transition.at, min(transition.at, last))
    if moment not in possible:
        raise ValueError(f"the moment in its receipt, {moment!r}, is not one to decide at")
    return float(moment)


def action_of(known: Record, event: Event) -> str:
    """Return the action that leads to an event of the controller."""
    if event in _ACTIONS:
        return _ACTIONS[event]
    following = known.step_index + 1
    if following < len(known.steps) and moves.entering(known, following) is event:
        return "advance"
    return event.value


def done_again(
    known: Record, final: Record, transition: Transition, event: Event
) -> tuple[Record, int]:
    """Return the record after a transition, and the candidate's share then, in basis points."""
    document = transition.receipt.get("split_before")
    before = Split.from_document(document) if document is not None else None
    changed, after = _change(known, final, transition, event, before)
    came_from = known.paused.phase if known.paused else None
    phase = next_phase(known.phase, event, paused_from=came_from)
    changed = replace(
        changed,
        phase=phase,
        paused=changed.paused if phase is Phase.PAUSED else None,
        revision=known.revision + 1,
    )
    return changed, share_of(changed, after)


def _change(
    known: Record,
    final: Record,
    transition: Transition,
    event: Event,
    split: Split | None,
) -> tuple[Record, Split | None]:
    """Do to the record what the controller or the operator did, by the same functions."""
    now = transition.at
    if event is Event.PAUSE:
        why = str(transition.receipt.get("paused"))
        return moves.paused(known, reason=why, message=transition.reason, now=now), split
    if event in {Event.START, Event.RETRY}:
        started = replace(
            known,
            baseline=final.baseline,
            baseline_revision=final.baseline_revision,
            step_started_at=now,
        )
        return started, split
    if split is None:
        raise ValueError("its receipt does not say which split it found")
    if event in _ENDINGS:
        return _ended(known, transition, event, split)
    return _went_on(known, transition, event, split)


def _went_on(
    known: Record, transition: Transition, event: Event, split: Split
) -> tuple[Record, Split]:
    now, reason = transition.at, transition.reason
    if event is Event.DRAINED:
        return known, split
    if event is Event.SET_WEIGHT:
        weight_bp = transition.weight_after_bp
        return moves.with_weight(known, split, weight_bp, now=now, reason=reason)
    if event in {Event.RESUME, Event.APPROVE}:
        approved = event is Event.APPROVE
        return moves.resumed(known, split, approved=approved, now=now, reason=reason)
    if event in {Event.SHADOW, Event.PROGRESS, Event.BAKE}:
        return moves.enter_step(known, split, transition.step, now=now, reason=reason)
    raise ValueError(f"a replay does not know the event {event.value}")


def _ended(
    known: Record, transition: Transition, event: Event, split: Split
) -> tuple[Record, Split]:
    reason, declared = transition.reason, known.baseline or split.baseline
    if event in {Event.SUCCEED, Event.PROMOTE}:
        return moves.succeeded(
            known, split, baseline=split.baseline, declared=declared, reason=reason
        )
    if event is Event.ROLLBACK and known.phase is Phase.SUCCEEDED:
        return moves.back_to_baseline(known, split, declared=declared, reason=reason)
    if event is Event.ROLLBACK and known.spec.rollback.mode == "gradual":
        part = moves.taken_back(known, split, reason=reason)
        if transition.weight_after_bp:  # an operator's is always all of it
            return part
    return moves.to_baseline(known, split, reason=reason)
