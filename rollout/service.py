"""What operators can do to a rollout, for the admin API and the CLI.

Each operation is one transaction: the event is checked against the table, the rollout, its split,
the transition and the audit log change together, or nothing does. ``if_revision`` refuses the
operation with :class:`Conflict` when the rollout has had a transition since the caller looked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import SpecError, TransitionError
from rollout import moves
from rollout.audit import Actor
from rollout.fitting import fitting_baseline, warnings_about
from rollout.operating import Deed, HealthProbe, Operating, check_can_serve, check_paused, latest
from rollout.records import Record
from rollout.spec import load_spec, spec_hash
from rollout.states import FINISHED, TRANSITIONS, Event, Phase, next_phase
from rollout.traffic import weight_of

__all__ = ["Actor", "Applied", "HealthProbe", "RolloutService"]

_NEEDS_APPROVAL = frozenset({"approval", "preflight"})


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of an apply. ``created`` is false where the same spec was already there."""

    record: Record
    created: bool
    warnings: tuple[str, ...] = ()


class RolloutService(Operating):
    """Operations on rollouts, and everything to read. Safe to share between threads.

    Every operation raises :class:`NotFound`, :class:`TransitionError` (not possible in the present
    phase) or :class:`Conflict`, and :class:`StoreError` where the store fails.
    """

    def apply(
        self,
        source: str | Mapping[str, Any],
        *,
        actor: Actor,
        reason: str = "",
        start: bool = False,
    ) -> Applied:
        """Read a spec and create the next generation of its rollout, which waits to be started.

        An unfinished generation of the same name is superseded, and loses its traffic; other
        rollouts on the route go on beside it. Applying again what is already there (same spec, same
        candidate revision, compared with the present baseline) changes nothing. Raises
        :class:`SpecError` for a spec that is wrong or does not fit the settings.
        """
        spec = load_spec(source)
        with self._store.write() as session:
            deed = Deed(session, actor, reason, self._clock())
            baseline = fitting_baseline(session, self._settings, spec)
            revision = self._settings.deployments[spec.candidate.deployment].revision()
            known = latest(session, spec.name)
            created = not (
                known is not None
                and known.phase not in {*FINISHED, Phase.ROLLING_BACK}
                and (known.spec_hash, known.candidate_revision) == (spec_hash(spec), revision)
                and self._compares_with(known, baseline)
            )
            if known is not None and not created:
                record = known
            else:
                if known is not None and (known.phase, Event.SUPERSEDE) in TRANSITIONS:
                    self._supersede(deed, known, baseline)
                record = self._create(deed, spec, revision, known)
            if start and record.phase is Phase.PENDING:
                record = self._start(deed, record, Event.START)
        return Applied(record, created, warnings_about(self._settings, spec))

    def start(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """Start a pending rollout.

        Refused for a candidate revision that was rolled back on this route: see :meth:`retry`.
        """
        with self._operation("start", name, actor, reason, if_revision) as (deed, record):
            return self._start(deed, record, Event.START)

    def retry(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """Start again with fresh evidence what was rolled back or aborted, as a new generation.

        A pending generation whose candidate revision was rolled back before is started itself.
        """
        with self._operation("retry", name, actor, reason, if_revision) as (deed, record):
            next_phase(record.phase, Event.RETRY)
            if record.phase is Phase.PENDING:
                return self._start(deed, record, Event.RETRY)
            fitting_baseline(deed.session, self._settings, record.spec)
            deployment = self._settings.deployments[record.spec.candidate.deployment]
            following = self._create(deed, record.spec, deployment.revision(), record)
            return self._start(deed, following, Event.RETRY)

    def pause(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """Pause the automation; traffic stays as it is, and proven harm still rolls back."""
        with self._operation("pause", name, actor, reason, if_revision) as (deed, record):
            next_phase(record.phase, Event.PAUSE)
            message = reason or "paused by an operator"
            changed = moves.paused(record, reason="manual", message=message, now=deed.now)
            return self._commit(deed, record, changed, Event.PAUSE)

    def resume(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """Go on in the step where it was paused, with the step's weight and a new budget.

        A pause that waits for an approval is ended by :meth:`approve` only.
        """
        trouble = self._trouble(name)
        with self._operation("resume", name, actor, reason, if_revision) as (deed, record):
            check_paused(record, Event.RESUME)
            if record.paused is not None and record.paused.reason in _NEEDS_APPROVAL:
                raise TransitionError(
                    f"resume is not enough: step {record.step_index + 1} waits for an approval; "
                    "use approve"
                )
            return self._resume(deed, record, Event.RESUME, trouble)

    def approve(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """Approve the step that waits for it."""
        trouble = self._trouble(name)
        with self._operation("approve", name, actor, reason, if_revision) as (deed, record):
            check_paused(record, Event.APPROVE)
            if record.paused is None or record.paused.reason not in _NEEDS_APPROVAL:
                why = record.paused.reason if record.paused else "nothing"
                raise TransitionError(
                    f"there is nothing to approve: the rollout is paused for {why}; use resume"
                )
            return self._resume(deed, record, Event.APPROVE, trouble)

    def set_weight(
        self,
        name: str,
        weight: float,
        *,
        actor: Actor,
        reason: str = "",
        if_revision: int | None = None,
    ) -> Record:
        """Set the candidate's weight (percent) by hand: pauses the automation, new epoch.

        Raising it is refused while the candidate does not answer or another rollout holds the
        route's live traffic. Raises :class:`SpecError` for a weight outside 0 to 100.
        """
        if not 0 <= weight <= 100:
            raise SpecError(f"is {weight:g}; a weight lies between 0 and 100", field="weight")
        weight_bp = round(weight * 100)
        trouble = self._trouble(name) if weight_bp else None
        with self._operation("set_weight", name, actor, reason, if_revision, weight=weight) as (
            deed,
            record,
        ):
            next_phase(record.phase, Event.SET_WEIGHT)
            split = self._split(deed, record)
            if weight_bp > weight_of(split, record.id):
                check_can_serve(record, split, trouble)
            message = reason or f"the weight was set to {weight:g}% by hand"
            changed, after = moves.with_weight(
                record, split, weight_bp, now=deed.now, reason=message
            )
            return self._commit(deed, record, changed, Event.SET_WEIGHT, splits=(split, after))

    def promote(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """Make the candidate the route's baseline now, on the operator's responsibility."""
        trouble = self._trouble(name)
        with self._operation("promote", name, actor, reason, if_revision) as (deed, record):
            next_phase(record.phase, Event.PROMOTE)
            split = self._split(deed, record)
            check_can_serve(record, split, trouble)
            changed, after = moves.succeeded(
                record,
                split,
                baseline=split.baseline,
                declared=self._settings.routes[record.route].baseline,
                reason=reason or "promoted by an operator",
            )
            return self._commit(deed, record, changed, Event.PROMOTE, splits=(split, after))

    def rollback(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """Take all traffic off the candidate; after a promotion, return to the former baseline."""
        with self._operation("rollback", name, actor, reason, if_revision) as (deed, record):
            next_phase(record.phase, Event.ROLLBACK)
            split = self._split(deed, record)
            message = reason or "rolled back by an operator"
            if record.phase is not Phase.SUCCEEDED:
                changed, after = moves.to_baseline(record, split, reason=message)
            elif split.baseline == record.spec.candidate.deployment:
                declared = self._settings.routes[record.route].baseline
                changed, after = moves.back_to_baseline(
                    record, split, declared=declared, reason=message
                )
            else:
                raise TransitionError(
                    f"route {record.route!r} is served by {split.baseline!r} by now; "
                    f"there is nothing of {record.name!r} to roll back"
                )
            return self._commit(deed, record, changed, Event.ROLLBACK, splits=(split, after))

    def abort(
        self, name: str, *, actor: Actor, reason: str = "", if_revision: int | None = None
    ) -> Record:
        """End the rollout and take its traffic away. Always wins over the automation."""
        with self._operation("abort", name, actor, reason, if_revision) as (deed, record):
            next_phase(record.phase, Event.ABORT)
            split = self._split(deed, record)
            message = reason or "aborted by an operator"
            changed, after = moves.to_baseline(record, split, reason=message)
            return self._commit(deed, record, changed, Event.ABORT, splits=(split, after))
