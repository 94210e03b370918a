"""Carrying decisions out: each in one transaction under the leader's lease.

The rollout, its split, the transition and the receipt are written together, or nothing is, and
only while the lease is held (:meth:`rollout.lease.Lease.guard`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlmodel import Session

from gateway.errors import Conflict
from gateway.settings import Settings
from gateway.split import BASIS_POINTS, Split
from gateway.store.engine import Store
from gateway.store.splits import load_split
from rollout import moves, receipts
from rollout.draining import Drained, drained
from rollout.lease import Lease
from rollout.ledger import commit, last_transition, lock_split, revision_of, save_evidence
from rollout.policy import Decision
from rollout.records import Record, Transition
from rollout.service import HealthProbe
from rollout.states import Event, Phase
from rollout.traffic import claimed_weight, effective_baseline, holder, weight_of
from rollout.waiting import Obstacle

__all__ = ["ACTOR", "Executor"]

ACTOR = "controller"
"""The actor of every transition that nobody asked for."""

_HARD = frozenset({"error_rate", "timeout_rate"})
"""Guardrails whose harm is users without an answer: then all goes back at once, in any mode."""

_Change = Callable[[Split], tuple[Record, Split]]


class Executor:
    """Writes what the controller has decided.

    Every method returns the record as written with its transition, and raises :class:`Conflict`
    when the lease is lost or somebody else has changed the rollout: then nothing was written.
    """

    def __init__(
        self, store: Store, settings: Settings, *, lease: Lease, health: HealthProbe
    ) -> None:
        self._store = store
        self._settings = settings
        self._lease = lease
        self._health = health

    def obstacle(self, record: Record, decision: Decision) -> Obstacle | None:
        """Return why the candidate can't be given the traffic that a decision gives it."""
        if decision.action == "succeed":
            weight_bp = BASIS_POINTS
        elif decision.action == "advance":
            weight_bp = record.steps[record.step_index + 1].weight_bp
        else:
            return None
        with self._store.read() as session:
            split = load_split(session, record.route)
        if split is None or weight_bp <= weight_of(split, record.id):
            return None
        other = holder(split, record.id)
        if other is not None:
            message = f"waiting: rollout {other!r} holds the live traffic of route {record.route!r}"
            return Obstacle("live_traffic_held", message)
        trouble = self._health(record.spec.candidate.deployment)
        if trouble is not None:
            message = f"waiting: {record.spec.candidate.deployment!r} can't take traffic: {trouble}"
            return Obstacle("candidate_unhealthy", message)
        return None

    def carry_out(
        self, record: Record, decision: Decision, *, now: float
    ) -> tuple[Record, Transition]:
        """Write what a decision other than to hold asks for."""
        reason = decision.reason
        match decision.action:
            case "advance":
                return self.enter(
                    record, record.step_index + 1, reason=reason, now=now, decision=decision
                )
            case "pause":
                why = decision.pause_reason or "inconclusive"
                return self.pause(record, why, reason, now=now, decision=decision)
            case "rollback":
                hard = decision.metric in _HARD or record.evidence.breakers
                gradual = record.spec.rollback.mode == "gradual" and not hard
                back = moves.taken_back if gradual else moves.to_baseline
                return self._commit(
                    record,
                    lambda split: back(record, split, reason=reason),
                    event=Event.ROLLBACK,
                    reason=reason,
                    now=now,
                    decision=decision,
                )
            case "succeed":
                return self._succeed(record, decision, now=now)
            case "hold":
                raise ValueError("to hold is nothing to carry out")

    def enter(
        self,
        record: Record,
        index: int,
        *,
        reason: str,
        now: float,
        decision: Decision | None = None,
    ) -> tuple[Record, Transition]:
        """Begin a step of the plan."""
        return self._commit(
            record,
            lambda split: moves.enter_step(record, split, index, now=now, reason=reason),
            event=moves.entering(record, index),
            reason=reason,
            now=now,
            decision=decision,
        )

    def pause(
        self,
        record: Record,
        why: str,
        message: str,
        *,
        now: float,
        decision: Decision | None = None,
    ) -> tuple[Record, Transition]:
        """Pause; traffic stays as it is."""
        paused = moves.paused(record, reason=why, message=message, now=now)
        return self._commit(
            record,
            lambda split: (paused, split),
            event=Event.PAUSE,
            reason=message,
            now=now,
            decision=decision,
        )

    def adopt_weight(self, record: Record, *, now: float) -> tuple[Record, Transition]:
        """Take a weight that was changed in the store by hand for one that an operator set.

        Raises :class:`Conflict` where the weight is what it should be after all.
        """
        known_bp = record.evidence.weight_bp
        with self._store.read() as session:
            found_bp = claimed_weight(load_split(session, record.route), record.id, record.spec)
        reason = (
            f"the weight is {found_bp / 100:g}% instead of {known_bp / 100:g}%: it was changed in "
            "the store by hand; resume returns to the step's weight"
        )

        def change(split: Split) -> tuple[Record, Split]:
            weight_bp = claimed_weight(split, record.id, record.spec)
            if weight_bp != found_bp or weight_bp == known_bp:
                raise Conflict(f"the split of route {record.route!r} was changed; read it again")
            return moves.with_weight(record, split, weight_bp, now=now, reason=reason)

        return self._commit(record, change, event=Event.SET_WEIGHT, reason=reason, now=now)

    def drain(self, record: Record, *, now: float) -> tuple[Record, Transition] | str:
        """End a rollback once every living gateway serves it; otherwise return who does not.

        A gradual rollback goes on first, step by step.
        """
        step = self._take_back(record, now)
        if step is not None:
            return step
        with self._store.read() as session:
            found = self._drained(session, record, now)
        if isinstance(found, list):
            return f"waiting for {', '.join(found)} to report the split of the rollback"
        if found.time_to_zero is None:
            reason = "no gateway called the candidate"
        else:
            reason = (
                f"the last request was given to the candidate {found.time_to_zero:.3f} s after; "
                f"all gateways had applied the split after {found.applied:.3f} s"
            )
        cleared = replace(record, note="")
        return self._commit(
            record,
            lambda split: (cleared, split),
            event=Event.DRAINED,
            reason=reason,
            now=now,
            extra={"drained": found.to_json()},
        )

    def _take_back(self, record: Record, now: float) -> tuple[Record, Transition] | str | None:
        """Take back the next part of what a gradual rollback has left; ``None``: nothing is."""
        with self._store.read() as session:
            left_bp = weight_of(load_split(session, record.route), record.id)
            last = last_transition(session, record, Event.ROLLBACK) if left_bp else None
        if last is None:
            return None
        left, interval = f"{left_bp / 100:g}%", record.spec.rollback.interval
        if now - last.at < interval:
            return f"{left} is left with the candidate; the next part goes within {interval:g} s"
        trouble = self._health(record.baseline) if record.baseline else None
        if trouble is not None:
            return f"waiting: {record.baseline!r} can't take the {left} that is left: {trouble}"
        reason = f"the rollback goes on: {left} was left with the candidate"
        return self._commit(
            record,
            lambda split: moves.taken_back(record, split, reason=reason),
            event=Event.ROLLBACK,
            reason=reason,
            now=now,
        )

    def save(self, record: Record) -> Record:
        """Write what has been folded without a decision."""
        with self._store.write() as session:
            return save_evidence(session, record, token=self._lease.guard(session))

    def _succeed(
        self, record: Record, decision: Decision, *, now: float
    ) -> tuple[Record, Transition]:
        def change(split: Split) -> tuple[Record, Split]:
            return moves.succeeded(
                record,
                split,
                baseline=split.baseline,
                declared=self._settings.routes[record.route].baseline,
                reason=decision.reason,
            )

        return self._commit(
            record,
            change,
            event=Event.SUCCEED,
            reason=decision.reason,
            now=now,
            decision=decision,
        )

    def _drained(self, session: Session, record: Record, now: float) -> Drained | list[str]:
        rollback = last_transition(session, record, Event.ROLLBACK)
        promoted = rollback is not None and rollback.from_phase == Phase.SUCCEEDED.value
        if rollback is None or not (rollback.weight_before_bp or promoted):
            return Drained({})
        return drained(
            session,
            route=record.route,
            revision=int(rollback.receipt["split_revision"]),
            since=rollback.at,
            now=now,
            promoted=promoted,
        )

    def _commit(
        self,
        record: Record,
        change: _Change,
        *,
        event: Event,
        reason: str,
        now: float,
        decision: Decision | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> tuple[Record, Transition]:
        receipt = {**receipts.receipt(record, decision, now=now), **(extra or {})}
        routes = self._settings.routes
        with self._store.write() as session:
            # Locked in this order everywhere: lease, rollout, split.
            token = self._lease.guard(session)
            if revision_of(session, record.id, lock=True) != record.revision:
                raise Conflict(f"rollout {record.name!r} was changed by an operator")
            declared = routes[record.route].baseline if record.route in routes else ""
            before = lock_split(self._store, session, record.route, declared)
            if record.route in routes:
                before = before.evolve(baseline=effective_baseline(before, record.route, routes))
            changed, after = change(before)
            return commit(
                self._store,
                session,
                record,
                changed,
                event=event,
                actor=ACTOR,
                reason=reason,
                now=now,
                receipt=receipt,
                before=before,
                after=after,
                token=token,
            )
