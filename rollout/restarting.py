"""Starting again against another baseline: what was proven was proven against the former one.

One transaction under the leader's lease ends the old generation and starts the next one, with the
same spec, no evidence, and an A/A stream, funnel and budget of its own. Both receipts say from
which baseline to which, so that each generation can be replayed by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session

from gateway.errors import Conflict, SpecError
from gateway.settings import Settings
from gateway.split import Split
from gateway.store.engine import Store
from gateway.store.splits import load_split
from rollout import moves, receipts
from rollout.fitting import fitting_baseline, is_latched
from rollout.lease import Lease
from rollout.ledger import commit, create, lock_split, revision_of
from rollout.records import Record, Transition
from rollout.states import Event, Phase
from rollout.traffic import effective_baseline

__all__ = ["Restarter", "restarts"]

_KEPT = frozenset({"candidate_changed", "failure", "limit", "manual", "manual_weight"})
"""Reasons of pauses that a person has to end, whatever the baseline."""

_Written = tuple[Record, Transition]


def restarts(record: Record, split: Split | None, settings: Settings, why: str) -> bool:
    """Say whether a rollout whose arms have changed ends here by itself, to start again or not.

    ``why`` is the word of :func:`rollout.fitting.changed_arms`. One that holds the live traffic
    never does: a person looks first.
    """
    if why != "baseline_changed" or record.route not in settings.routes:
        return False
    if record.spec.on_baseline_change == "pause":
        return False
    if split is not None and split.rollout_id == record.id:
        return False
    return record.paused is None or record.paused.reason not in _KEPT


@dataclass(frozen=True, slots=True)
class Restarter:
    """Writes restarts for the controller that holds ``lease``; ``actor`` is its name in them."""

    store: Store
    settings: Settings
    lease: Lease
    actor: str

    def restart(self, record: Record, *, now: float) -> tuple[_Written, _Written | None]:
        """Supersede a rollout and start its next generation, where the spec wants one.

        There is none where the candidate is the baseline by now, or was rolled back meanwhile under
        another name. Raises :class:`Conflict` when the lease is lost or the rollout was changed:
        then nothing was written.
        """
        with self.store.write() as session:
            # Locked in this order everywhere: lease, rollout, split.
            token = self.lease.guard(session)
            if revision_of(session, record.id, lock=True) != record.revision:
                raise Conflict(f"rollout {record.name!r} was changed by an operator")
            before = lock_split(self.store, session, record.route, "")
            if before.rollout_id == record.id:
                raise Conflict(f"rollout {record.name!r} holds live traffic by now")
            baseline, refused = self._baseline(session, record)
            wanted = record.spec.on_baseline_change == "restart" and refused is None
            revision = self.settings.deployments[baseline].revision()
            change = {
                "from_baseline": record.baseline,
                "from_baseline_revision": record.baseline_revision,
                "to_baseline": baseline,
                "to_baseline_revision": revision,
                "from_generation": record.generation,
                "to_generation": record.generation + 1 if wanted else None,
            }
            reason = _ended(record, baseline, wanted=wanted, refused=refused)
            write = self._writer(session, now=now, token=token, restart=change)
            changed, after = moves.to_baseline(record, before, reason=reason)
            old = write(record, changed, Event.SUPERSEDE, reason, before, after)
            if not wanted:
                return old, None
            following = create(
                session,
                spec=record.spec,
                spec_hash=record.spec_hash,
                candidate_revision=record.candidate_revision,
                generation=record.generation + 1,
                now=now,
            )
            started = replace(
                following,
                baseline=baseline,
                baseline_revision=revision,
                step_started_at=now,
            )
            split = load_split(session, record.route)
            reason = f"started again against {baseline!r}: {_FRESH}"
            return old, write(following, started, Event.START, reason, split, split)

    def _baseline(self, session: Session, record: Record) -> tuple[str, str | None]:
        """Return what serves as baseline now, and why the rollout can't start again, if so."""
        try:
            baseline = fitting_baseline(session, self.settings, record.spec)
        except SpecError as error:
            return _serving(session, self.settings, record), error.message
        pending = replace(record, phase=Phase.PENDING)
        if is_latched(session, pending):
            candidate = record.spec.candidate.deployment
            return baseline, f"this revision of {candidate!r} was rolled back meanwhile"
        return baseline, None

    def _writer(
        self, session: Session, *, now: float, token: int, restart: dict[str, Any]
    ) -> Callable[[Record, Record, Event, str, Split | None, Split | None], _Written]:
        def write(
            record: Record,
            changed: Record,
            event: Event,
            reason: str,
            before: Split | None,
            after: Split | None,
        ) -> _Written:
            return commit(
                self.store,
                session,
                record,
                changed,
                event=event,
                actor=self.actor,
                reason=reason,
                now=now,
                receipt={**receipts.receipt(record, None, now=now), "restart": restart},
                before=before,
                after=after,
                token=token,
            )

        return write


_FRESH = "evidence against another baseline does not count"


def _serving(session: Session, settings: Settings, record: Record) -> str:
    return effective_baseline(load_split(session, record.route), record.route, settings.routes)


def _ended(record: Record, baseline: str, *, wanted: bool, refused: str | None) -> str:
    changed = f"the baseline is {baseline!r} now; the evidence is against {record.baseline!r}"
    if baseline == record.baseline:
        changed = f"the baseline {baseline!r} was changed; the evidence is against what it was"
    if wanted:
        return f"{changed}: generation {record.generation + 1} starts again"
    if refused is not None:
        return f"{changed}: it does not start again, for {refused}"
    return f"{changed}: the spec says on_baseline_change: supersede"
