"""What each kind of transition changes in a rollout and in its route's split, as pure functions.

The controller and the operators' service share them; both write the result with
:func:`rollout.records.commit`. Phases are not touched here: they follow from the table.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.split import Split
from rollout.evidence import begin_step
from rollout.records import Paused, Record
from rollout.states import Event, Phase
from rollout.traffic import demoted, lowered, mirrored, promoted, weight_of, weighted, withdrawn

__all__ = [
    "back_to_baseline",
    "enter_step",
    "entering",
    "paused",
    "resumed",
    "succeeded",
    "taken_back",
    "to_baseline",
    "with_weight",
]


def entering(record: Record, index: int) -> Event:
    """Return the event by which a rollout enters a step of its plan."""
    match record.steps[index].phase:
        case Phase.BAKING:
            return Event.BAKE
        case Phase.PROGRESSING:
            return Event.PROGRESS
        case _:
            return Event.SHADOW


def enter_step(
    record: Record, split: Split, index: int, *, now: float, reason: str
) -> tuple[Record, Split]:
    """Return the rollout at the beginning of a step, and the split with the step's weight.

    Users of a new risk tier were not drawn before: with them a new assignment epoch starts, in
    the same salt, so that whoever took part before keeps their arm.
    """
    step = record.steps[index]
    widened = bool(weight_of(split, record.id)) and split.eligible.risk != step.risk
    record = replace(record, step_index=index, step_started_at=now, note="")
    if step.kind == "preflight":
        return record, split
    return _at_weight(record, split, step.weight_bp, new_epoch=widened, reason=reason)


def with_weight(
    record: Record, split: Split, weight_bp: int, *, now: float, reason: str
) -> tuple[Record, Split]:
    """Return the rollout paused at a weight that an operator chose, in a new assignment epoch.

    The salt stays, so that users keep their arm as far as the weight allows it.
    """
    phase = record.paused.phase if record.paused else record.phase
    record = replace(
        record, paused=Paused("manual_weight", reason, phase, now), step_started_at=now, note=""
    )
    return _at_weight(record, split, weight_bp, new_epoch=True, reason=reason)


def paused(record: Record, *, reason: str, message: str, now: float) -> Record:
    """Return the rollout paused; traffic stays as it is."""
    return replace(record, paused=Paused(reason, message, record.phase, now), note="")


def resumed(
    record: Record, split: Split, *, approved: bool, now: float, reason: str
) -> tuple[Record, Split]:
    """Return the rollout back in its step, with the step's weight and a new budget for the step.

    What the judge failed at before is forgiven, for a person has looked; so is the harm for which
    it was paused, which has to be proven anew, and so are pairs that were lost unfairly.
    """
    evidence = record.evidence.evolve(recent="")
    trusted = evidence.trusted
    trusted = None if trusted is None else trusted.evolve(recent="")
    if record.paused is not None and record.paused.reason == "failure":
        evidence = evidence.evolve(log_harm=min(0.0, evidence.log_harm))
        if trusted is not None:
            trusted = trusted.evolve(log_harm=min(0.0, trusted.log_harm))
    if record.paused is not None and record.paused.reason == "sample_ratio":
        evidence = evidence.evolve(subset=None)
    evidence = evidence.evolve(trusted=trusted)
    if approved:
        record = replace(record, approved=record.approved | {record.step_index})
    record = replace(
        record,
        step_started_at=now,
        note="",
        evidence=evidence,
    )
    step = record.step
    if step.kind == "preflight":
        return record, split
    by_hand = record.paused is not None and record.paused.reason == "manual_weight"
    return _at_weight(record, split, step.weight_bp, new_epoch=by_hand, reason=reason)


def taken_back(record: Record, split: Split, *, reason: str) -> tuple[Record, Split]:
    """Return the rollout with its traffic less by one step of a gradual rollback."""
    by_bp = round(record.spec.rollback.step * 100)
    return replace(record, note=""), lowered(split, record.id, by_bp=by_bp, reason=reason)


def to_baseline(record: Record, split: Split, *, reason: str) -> tuple[Record, Split]:
    """Return the rollout without traffic: rolled back, aborted or superseded."""
    return replace(record, note=""), withdrawn(split, record.id, reason=reason)


def succeeded(
    record: Record, split: Split, *, baseline: str, declared: str, reason: str
) -> tuple[Record, Split]:
    """Return the rollout with its candidate as the route's baseline."""
    after = promoted(
        split,
        record.id,
        candidate=record.spec.candidate.deployment,
        baseline=baseline,
        declared=declared,
        reason=reason,
    )
    return replace(record, note=""), after


def back_to_baseline(
    record: Record, split: Split, *, declared: str, reason: str
) -> tuple[Record, Split]:
    """Return the rollout, which had succeeded, with the former baseline back in its place."""
    return replace(record, note=""), demoted(split, declared=declared, reason=reason)


def _at_weight(
    record: Record, split: Split, weight_bp: int, *, new_epoch: bool, reason: str
) -> tuple[Record, Split]:
    held = weight_of(split, record.id)
    live = bool(weight_bp or held)
    epoch = record.epoch
    if live and (new_epoch or split.rollout_id != record.id):
        epoch = max(epoch, split.epoch) + 1
    evidence = begin_step(
        record.evidence, record.spec, record.step, weight_bp=weight_bp, epoch=epoch
    )
    record = replace(record, evidence=evidence, epoch=epoch)
    if not live and split.rollout_id != record.id:
        after = mirrored(split, record.id, record.spec, record.step)
        return record, after.evolve(reason=reason)
    after = weighted(
        split,
        record.id,
        record.spec,
        record.step,
        weight_bp=weight_bp,
        epoch=epoch,
        salt=record.salt,
        reason=reason,
    )
    return record, after
