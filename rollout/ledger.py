"""Reading and writing rollouts and their transitions in the store.

Every change of phase, step or weight goes through :func:`commit`: the rollout's row, the route's
split and the transition with its receipt change in one transaction, or nothing does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, func, select, update

from gateway.errors import Conflict, NotFound
from gateway.split import BASIS_POINTS, Split
from gateway.store.engine import Store
from gateway.store.splits import load_split, save_split
from gateway.store.tables import RolloutRow, SplitRow, TransitionRow
from rollout.evidence import start_evidence
from rollout.records import Record, Transition, transition_from
from rollout.spec import RolloutSpec
from rollout.states import FINISHED, Event, Phase, next_phase
from rollout.traffic import weight_of

__all__ = [
    "ROLLOUT_CHANNEL",
    "commit",
    "create",
    "find",
    "find_all",
    "find_id",
    "last_transition",
    "lock_split",
    "revision_of",
    "running_ids",
    "save_evidence",
    "share_of",
    "transitions",
]

ROLLOUT_CHANNEL = "coalmine_rollout"
"""PostgreSQL channel on which a changed rollout's id is announced."""


def create(
    session: Session,
    *,
    spec: RolloutSpec,
    spec_hash: str,
    candidate_revision: str,
    generation: int,
    now: float,
) -> Record:
    """Write a new generation, pending, and return its record.

    Raises :class:`Conflict` where somebody else has written it meanwhile.
    """
    row = RolloutRow(
        name=spec.name,
        generation=generation,
        route=spec.route,
        spec=spec.to_document(),
        spec_hash=spec_hash,
        candidate_revision=candidate_revision,
        phase=Phase.PENDING.value,
        state={
            "evidence": start_evidence(spec).to_json(),
            "epoch": 0,
            "salt": f"{spec.name}:{generation}",
            "approved": [],
            "baseline": None,
            "baseline_revision": None,
            "note": "",
        },
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(
            f"rollout {spec.name!r} was applied by someone else meanwhile; read it again"
        ) from None
    return Record.from_row(row)


def find(
    session: Session, name: str, *, generation: int | None = None, lock: bool = False
) -> Record:
    """Return the latest generation called ``name``, or the one asked for.

    ``lock`` keeps others from changing it until the transaction ends. Raises :class:`NotFound`.
    """
    query = select(RolloutRow).where(RolloutRow.name == name)
    if generation is not None:
        query = query.where(RolloutRow.generation == generation)
    query = query.order_by(col(RolloutRow.generation).desc()).limit(1)
    row = session.exec(query.with_for_update() if lock else query).first()
    if row is None:
        which = "" if generation is None else f" with generation {generation}"
        raise NotFound(f"there is no rollout called {name!r}{which}; apply one first", field="name")
    return Record.from_row(row)


def find_all(session: Session, *, every_generation: bool = False) -> list[Record]:
    """Return the latest generation of each rollout, or every one, newest first."""
    query = select(RolloutRow).order_by(
        col(RolloutRow.created_at).desc(), col(RolloutRow.id).desc()
    )
    if not every_generation:
        latest = select(func.max(RolloutRow.id)).group_by(col(RolloutRow.name))
        query = query.where(col(RolloutRow.id).in_(latest))
    return [Record.from_row(row) for row in session.exec(query).all()]


def find_id(session: Session, rollout_id: int) -> Record:
    """Return a rollout by its id. Raises :class:`NotFound`."""
    row = session.get(RolloutRow, rollout_id)
    if row is None:
        raise NotFound(f"there is no rollout with the id {rollout_id}")
    return Record.from_row(row)


def revision_of(session: Session, rollout_id: int, *, lock: bool = False) -> int:
    """Return a rollout's revision.

    ``lock`` keeps others from changing it until the transaction ends. Raises :class:`NotFound`.
    """
    query = select(RolloutRow.revision).where(RolloutRow.id == rollout_id)
    found = session.exec(query.with_for_update() if lock else query).first()
    if found is None:
        raise NotFound(f"there is no rollout with the id {rollout_id}")
    return found


def running_ids(session: Session) -> list[int]:
    """Return the ids of the rollouts that the controller has to look at."""
    done = [phase.value for phase in (*FINISHED, Phase.PENDING)]
    query = select(RolloutRow.id).where(col(RolloutRow.phase).not_in(done))
    return [int(each or 0) for each in session.exec(query.order_by(col(RolloutRow.id))).all()]


def lock_split(store: Store, session: Session, route: str, baseline: str) -> Split:
    """Return the route's split, locked; a new one at revision 0 where there is none."""
    if not store.is_sqlite:
        session.exec(select(SplitRow.route).where(SplitRow.route == route).with_for_update()).all()
    return load_split(session, route) or Split(route=route, revision=0, baseline=baseline)


def commit(
    store: Store,
    session: Session,
    record: Record,
    changed: Record,
    *,
    event: Event,
    actor: str,
    reason: str,
    now: float,
    receipt: Mapping[str, Any],
    before: Split | None,
    after: Split | None,
    token: int | None = None,
) -> tuple[Record, Transition]:
    """Write a transition: the rollout, its split if it changed, and the receipt.

    ``record`` is as it was read, ``changed`` as it shall be; its phase is worked out here from the
    table. ``token`` is the leader's fencing token, ``None`` for an operator. Raises
    :class:`TransitionError` for an illegal event and :class:`Conflict` when somebody else was
    first; either way nothing is written.
    """
    came_from = record.paused.phase if record.paused else None
    phase = next_phase(record.phase, event, paused_from=came_from)
    written = replace(
        changed,
        phase=phase,
        paused=changed.paused if phase is Phase.PAUSED else None,
        waiting="",
        revision=record.revision + 1,
        updated_at=now,
        finished_at=now if phase in FINISHED and record.finished_at is None else record.finished_at,
        leader_token=record.leader_token if token is None else token,
    )
    _write(session, record, written, token)
    weights = share_of(record, before), share_of(written, after)
    receipt = {
        **receipt,
        "split_revision": before.revision if before else None,
        # What a transition does to the evidence depends on it too, so a replay needs it.
        "split_before": before.to_document() if before else None,
        "paused": written.paused.reason if written.paused else None,
    }
    if after is not None and after != before:
        receipt["split_revision"] = save_split(store, session, after, now=now).revision
    number = _count(session, record.id) + 1
    row = TransitionRow(
        rollout_id=record.id,
        number=number,
        at=now,
        actor=actor,
        event=event.value,
        from_phase=record.phase.value,
        to_phase=phase.value,
        step=written.step_index,
        weight_before_bp=weights[0],
        weight_after_bp=weights[1],
        reason=reason,
        receipt=receipt,
    )
    session.add(row)
    session.flush()
    store.notify(session, ROLLOUT_CHANNEL, str(record.id))
    return written, transition_from(row, record)


def save_evidence(session: Session, record: Record, *, token: int) -> Record:
    """Write what has been folded since, where nothing but the evidence and the note has changed.

    The revision stays: it is for operators, who do not care how much evidence there is. Raises
    :class:`Conflict` when somebody else was first.
    """
    written = replace(record, leader_token=token)
    _write(session, record, written, token)
    return written


def transitions(
    session: Session, record: Record, *, after: int = 0, limit: int = 1000
) -> list[Transition]:
    """Return a rollout's transitions with numbers above ``after``, oldest first."""
    rows = session.exec(
        select(TransitionRow)
        .where(TransitionRow.rollout_id == record.id, col(TransitionRow.number) > after)
        .order_by(col(TransitionRow.number))
        .limit(limit)
    ).all()
    return [transition_from(row, record) for row in rows]


def last_transition(session: Session, record: Record, event: Event) -> Transition | None:
    """Return a rollout's latest transition on an event, or ``None``."""
    row = session.exec(
        select(TransitionRow)
        .where(TransitionRow.rollout_id == record.id, TransitionRow.event == event.value)
        .order_by(col(TransitionRow.number).desc())
        .limit(1)
    ).first()
    return None if row is None else transition_from(row, record)


def share_of(record: Record, split: Split | None) -> int:
    """Return the share of users that the rollout's candidate serves, in basis points.

    That is its weight, and everybody once it has been promoted and is the baseline itself.
    """
    if (
        record.phase is Phase.SUCCEEDED
        and split is not None
        and split.baseline == record.spec.candidate.deployment
    ):
        return BASIS_POINTS
    return weight_of(split, record.id)


def _write(session: Session, record: Record, written: Record, token: int | None) -> None:
    statement = update(RolloutRow).where(
        col(RolloutRow.id) == record.id, col(RolloutRow.revision) == record.revision
    )
    if token is not None:
        statement = statement.where(
            col(RolloutRow.leader_token) <= token,
            col(RolloutRow.last_seq) <= written.evidence.last_seq,
        )
    result = session.exec(
        statement.values(
            phase=written.phase.value,
            step=written.step_index,
            paused=written.paused.to_json() if written.paused else None,
            revision=written.revision,
            state=written.state(),
            last_seq=written.evidence.last_seq,
            step_started_at=written.step_started_at,
            updated_at=written.updated_at,
            finished_at=written.finished_at,
            leader_token=written.leader_token,
        ).execution_options(synchronize_session=False)
    )
    if result.rowcount != 1:
        raise Conflict(f"rollout {record.name!r} was changed by someone else; read it again")


def _count(session: Session, rollout_id: int) -> int:
    query = select(func.max(TransitionRow.number)).where(TransitionRow.rollout_id == rollout_id)
    return int(session.exec(query).one() or 0)
