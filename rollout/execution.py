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
from rollout.traffic import effective_baseline, holder, weight_of

__all__ = ["ACTOR", "Executor"]

ACTOR = "controller"
"""The actor of every transition that nobody asked for."""

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

    def obstacle(self, record: Record, decision: Decision) -> str | None:
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
            return f"waiting: rollout {other!r} holds the live traffic of route {record.route!r}"
        trouble = self._health(record.spec.candidate.deployment)
        if trouble is not None:
            return f"waiting: {record.spec.candidate.deployment!r} can't take traffic: {trouble}"
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
                return self._commit(
                    record,
                    lambda split: moves.to_baseline(record, split, reason=reason),
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

    def drain(self, record: Record, *, now: float) -> tuple[Record, Transition] | str:
        """End a rollback once every living gateway serves it; otherwise return who does not."""
        with self._store.read() as session:
            found = self._drained(session, record, now)
        if isinstance(found, list):
            return f"waiting for {', '.join(found)} to report the split of the rollback"
        if found.time_to_zero is None:
            reason = "no gateway called the candidate"
        else:
            reason = f"the last gateway left the candidate {found.time_to_zero:.3f} s after"
        cleared = replace(record, note="")
        return self._commit(
            record,
            lambda split: (cleared, split),
            event=Event.DRAINED,
            reason=reason,
            now=now,
            extra={"drained": found.to_json()},
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
        had_traffic = rollback is not None and (
            rollback.weight_before_bp or rollback.from_phase == Phase.SUCCEEDED.value
        )
        if rollback is None or not had_traffic:
            return Drained(None, {})
        return drained(
            session,
            route=record.route,
            revision=int(rollback.receipt["split_revision"]),
            since=rollback.at,
            now=now,
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
