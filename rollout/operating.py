"""What the operations on rollouts have in common: one transaction, checked, audited, committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session

from gateway.errors import Conflict, NotFound, TransitionError
from gateway.settings import Settings
from gateway.split import Split
from gateway.store.engine import Store
from gateway.store.splits import load_split
from rollout import moves, receipts
from rollout.audit import Actor, record_audit
from rollout.fitting import fitting_baseline, is_latched
from rollout.ledger import commit, create, find, lock_split
from rollout.reading import RolloutReader
from rollout.records import Record
from rollout.spec import RolloutSpec, spec_hash
from rollout.states import Event, next_phase
from rollout.traffic import effective_baseline, holder, weight_of

__all__ = ["Deed", "HealthProbe", "Operating", "check_can_serve", "check_paused", "latest"]

HealthProbe = Callable[[str], str | None]
"""Asks a deployment, by name, for a sign of life: ``None``, or a sentence on what is wrong."""


@dataclass(frozen=True, slots=True)
class Deed:
    """An operation under way: who does what, when and why, inside one transaction."""

    session: Session
    actor: Actor
    reason: str
    now: float


class Operating(RolloutReader):
    """The base of the operators' service: how an operation is begun, written down and ended."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        health: HealthProbe,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store, settings, clock=clock)
        self._health = health

    @contextmanager
    def _operation(
        self,
        action: str,
        name: str,
        actor: Actor,
        reason: str,
        if_revision: int | None,
        **detail: Any,
    ) -> Iterator[tuple[Deed, Record]]:
        with self._store.write() as session:
            deed = Deed(session, actor, reason, self._clock())
            record = find(session, name, lock=True)
            if if_revision is not None and record.revision != if_revision:
                raise Conflict(
                    f"rollout {name!r} is at revision {record.revision}, not {if_revision}; "
                    "look again and decide again",
                    field="if_revision",
                )
            _audit(deed, action, record, **detail)
            yield deed, record

    def _create(
        self, deed: Deed, spec: RolloutSpec, revision: str, latest: Record | None
    ) -> Record:
        record = create(
            deed.session,
            spec=spec,
            spec_hash=spec_hash(spec),
            candidate_revision=revision,
            generation=latest.generation + 1 if latest else 1,
            now=deed.now,
        )
        _audit(deed, "apply", record, spec_hash=record.spec_hash, candidate_revision=revision)
        return record

    def _start(self, deed: Deed, record: Record, event: Event) -> Record:
        next_phase(record.phase, event)
        baseline = fitting_baseline(deed.session, self._settings, record.spec)
        if event is Event.START and is_latched(deed.session, record):
            raise TransitionError(
                f"this revision of {record.spec.candidate.deployment!r} was rolled back on route "
                f"{record.route!r}; change the candidate, or use retry to start it all the same"
            )
        changed = replace(
            record,
            baseline=baseline,
            baseline_revision=self._settings.deployments[baseline].revision(),
            step_started_at=deed.now,
        )
        return self._commit(deed, record, changed, event)

    def _resume(self, deed: Deed, record: Record, event: Event, trouble: str | None) -> Record:
        split = self._split(deed, record)
        if record.step.weight_bp > weight_of(split, record.id):
            check_can_serve(record, split, trouble)
        changed, after = moves.resumed(
            record,
            split,
            approved=event is Event.APPROVE,
            now=deed.now,
            reason=deed.reason or f"{event.value}d by an operator",
        )
        return self._commit(deed, record, changed, event, splits=(split, after))

    def _compares_with(self, record: Record, baseline: str) -> bool:
        """Say whether a rollout's evidence is, or would be, against this baseline as it is now."""
        revision = self._settings.deployments[baseline].revision()
        return record.baseline is None or (record.baseline, record.baseline_revision) == (
            baseline,
            revision,
        )

    def _supersede(self, deed: Deed, record: Record, baseline: str) -> None:
        split = lock_split(self._store, deed.session, record.route, baseline)
        message = f"generation {record.generation + 1} was applied"
        changed, after = moves.to_baseline(record, split, reason=message)
        deed = replace(deed, reason=message)
        self._commit(deed, record, changed, Event.SUPERSEDE, splits=(split, after))

    def _commit(
        self,
        deed: Deed,
        record: Record,
        changed: Record,
        event: Event,
        *,
        splits: tuple[Split, Split] | None = None,
    ) -> Record:
        if splits is None:
            split = load_split(deed.session, record.route)
            before = after = split
        else:
            before, after = splits
        written, _ = commit(
            self._store,
            deed.session,
            record,
            changed,
            event=event,
            actor=deed.actor.name,
            reason=deed.reason or _DEFAULT_REASON[event],
            now=deed.now,
            receipt=receipts.receipt(record, None, now=deed.now),
            before=before,
            after=after,
        )
        return written

    def _split(self, deed: Deed, record: Record) -> Split:
        """Return the route's split, locked, with the baseline that really serves."""
        routes = self._settings.routes
        if record.route not in routes:
            raise NotFound(f"the settings declare no route called {record.route!r}", field="route")
        split = lock_split(self._store, deed.session, record.route, routes[record.route].baseline)
        return split.evolve(baseline=effective_baseline(split, record.route, routes))

    def _trouble(self, name: str) -> str | None:
        """Ask the candidate for a sign of life, before a transaction that would wait for it."""
        return self._health(self.get(name).spec.candidate.deployment)


def check_can_serve(record: Record, split: Split, trouble: str | None) -> None:
    """Raise :class:`TransitionError` where the candidate can't be given live traffic."""
    other = holder(split, record.id)
    if other is not None:
        raise TransitionError(
            f"rollout {other!r} holds the live traffic of route {record.route!r}; "
            "wait for its end, or abort it"
        )
    if trouble is not None:
        deployment = record.spec.candidate.deployment
        raise TransitionError(f"deployment {deployment!r} can't take traffic: {trouble}")


_DEFAULT_REASON = {
    Event.START: "started by an operator",
    Event.RETRY: "retried by an operator",
    Event.PAUSE: "paused by an operator",
    Event.RESUME: "resumed by an operator",
    Event.APPROVE: "approved by an operator",
    Event.SET_WEIGHT: "weight set by an operator",
    Event.PROMOTE: "promoted by an operator",
    Event.ROLLBACK: "rolled back by an operator",
    Event.ABORT: "aborted by an operator",
    Event.SUPERSEDE: "superseded",
}


def latest(session: Session, name: str) -> Record | None:
    """Return the latest generation called ``name``, locked, or ``None``."""
    try:
        return find(session, name, lock=True)
    except NotFound:
        return None


def _audit(deed: Deed, action: str, record: Record, **detail: Any) -> None:
    record_audit(
        deed.session,
        at=deed.now,
        actor=deed.actor,
        action=action,
        target=record.name,
        detail={"reason": deed.reason, "generation": record.generation, **detail},
    )


def check_paused(record: Record, event: Event) -> None:
    """Raise :class:`TransitionError` unless the rollout is paused."""
    next_phase(record.phase, event, paused_from=record.paused.phase if record.paused else None)
