"""Rollouts as immutable records, one a generation; :mod:`rollout.ledger` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.store.tables import RolloutRow, TransitionRow
from rollout.evidence import EvidenceState
from rollout.policy import Status
from rollout.spec import RolloutSpec, load_spec
from rollout.states import Phase
from rollout.steps import Step, plan

__all__ = ["Paused", "Record", "Transition", "transition_from"]


@dataclass(frozen=True, slots=True)
class Paused:
    """Why, when and in which phase a rollout was paused. ``reason`` is a word for programs."""

    reason: str
    message: str
    phase: Phase
    at: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "reason": self.reason,
            "message": self.message,
            "phase": self.phase.value,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class Record:
    """One generation of a rollout.

    ``revision`` grows with every transition and is what operators compare and set; ``epoch`` is
    that of the split's assignment. ``baseline`` and ``baseline_revision`` are what the candidate
    is compared with since the start. ``note`` is what the controller waits for, in a sentence;
    ``waiting`` is the word for it where the evidence would let the rollout go on (see
    :mod:`rollout.waiting`).
    """

    id: int
    name: str
    generation: int
    route: str
    spec: RolloutSpec
    spec_hash: str
    candidate_revision: str
    phase: Phase
    step_index: int
    paused: Paused | None
    revision: int
    evidence: EvidenceState
    epoch: int
    salt: str
    approved: frozenset[int]
    baseline: str | None
    baseline_revision: str | None
    note: str
    step_started_at: float | None
    created_at: float
    updated_at: float
    finished_at: float | None
    leader_token: int
    waiting: str = ""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The plan."""
        return plan(self.spec)

    @property
    def step(self) -> Step:
        """The present step of the plan."""
        return self.steps[self.step_index]

    def status(self) -> Status:
        """Return where the rollout is, as the policy asks for it."""
        steps = self.steps
        return Status(
            phase=self.phase,
            step=steps[self.step_index],
            is_last=self.step_index == len(steps) - 1,
            step_started_at=self.step_started_at or self.created_at,
            approved=self.step_index in self.approved,
        )

    def state(self) -> dict[str, Any]:
        """Return what goes into the row's ``state``."""
        return {
            "evidence": self.evidence.to_json(),
            "epoch": self.epoch,
            "salt": self.salt,
            "approved": sorted(self.approved),
            "baseline": self.baseline,
            "baseline_revision": self.baseline_revision,
            "note": self.note,
            "waiting": self.waiting,
        }

    @classmethod
    def from_row(cls, row: RolloutRow) -> Record:
        """Build the record from its row."""
        state: Mapping[str, Any] = row.state
        spec = load_spec(row.spec)
        paused = row.paused
        return cls(
            id=int(row.id or 0),
            name=row.name,
            generation=row.generation,
            route=row.route,
            spec=spec,
            spec_hash=row.spec_hash,
            candidate_revision=row.candidate_revision,
            phase=Phase(row.phase),
            step_index=row.step,
            paused=Paused(paused["reason"], paused["message"], Phase(paused["phase"]), paused["at"])
            if paused
            else None,
            revision=row.revision,
            evidence=EvidenceState.from_json(state["evidence"]),
            epoch=state["epoch"],
            salt=state["salt"],
            approved=frozenset(state["approved"]),
            baseline=state["baseline"],
            baseline_revision=state["baseline_revision"],
            note=state["note"],
            step_started_at=row.step_started_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
            finished_at=row.finished_at,
            leader_token=row.leader_token,
            waiting=state.get("waiting", ""),
        )


@dataclass(frozen=True, slots=True)
class Transition:
    """One transition as it was written. Weights are basis points."""

    rollout_id: int
    rollout: str
    route: str
    number: int
    at: float
    actor: str
    event: str
    from_phase: str
    to_phase: str
    step: int
    weight_before_bp: int
    weight_after_bp: int
    reason: str
    receipt: Mapping[str, Any]


def transition_from(row: TransitionRow, record: Record) -> Transition:
    """Build a transition from its row."""
    return Transition(
        rollout_id=record.id,
        rollout=record.name,
        route=record.route,
        number=row.number,
        at=row.at,
        actor=row.actor,
        event=row.event,
        from_phase=row.from_phase,
        to_phase=row.to_phase,
        step=row.step,
        weight_before_bp=row.weight_before_bp,
        weight_after_bp=row.weight_after_bp,
        reason=row.reason,
        receipt=row.receipt,
    )
