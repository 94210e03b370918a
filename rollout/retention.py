"""Removing what is older than the settings say, a little at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlmodel import Session, and_, col, delete, or_, select

from gateway.settings_privacy import RetentionSettings
from gateway.store.engine import Store
from gateway.store.erasure import erase_captures, erase_finished_bodies, remove_bodies, shorten_log
from gateway.store.tables import (
    CaptureRow,
    DeletionRow,
    EvidenceRow,
    JudgeCacheRow,
    RolloutRow,
)

__all__ = ["BATCH", "sweep"]

BATCH = 200
"""Rows of one kind that one transaction removes."""

_ROUNDS = 50
_DAY = 86400.0


def sweep(store: Store, retention: RetentionSettings, *, now: float) -> int:
    """Remove what is over; return how much. ``now`` is Unix seconds.

    Bodies that are not to be stored go first: those of pairs that expired, and those that a crash
    left behind. Each step is a transaction of at most :data:`BATCH` rows, and what is left after
    fifty of them waits for the next sweep. A store without anything to remove is only read.
    Raises :class:`~gateway.errors.StoreError`.
    """
    steps: tuple[Callable[[Store, Session], int], ...] = (
        lambda store, session: erase_finished_bodies(store, session, now=now, limit=BATCH),
        lambda store, session: remove_bodies(
            store, session, _old_bodies(session, now - retention.bodies), now=now
        ),
        lambda store, session: erase_captures(
            store, session, _old_captures(session, now - retention.captures)
        ).captures,
        lambda _, session: _forget(session, JudgeCacheRow.key, JudgeCacheRow.created_at,
                                   now - retention.judge_cache),
        lambda _, session: _forget(session, DeletionRow.key_hash, DeletionRow.requested_at,
                                   now - retention.captures - _DAY),
        lambda _, session: _old_evidence(session, retention.evidence, now),
    )  # fmt: skip
    if not _anything(store, retention, now):
        return 0
    removed = rounds = 0
    for step in steps:
        count = BATCH
        while count >= BATCH and rounds < _ROUNDS:
            rounds += 1
            with store.write() as session:
                count = step(store, session)
            removed += count
    if removed:
        shorten_log(store)
    return removed


def _anything(store: Store, retention: RetentionSettings, now: float) -> bool:
    """Look without SQLite's write lock."""
    there = CaptureRow.id
    bodies = col(CaptureRow.bodies_removed_at).is_(None)
    old = or_(
        and_(bodies, col(CaptureRow.store_bodies).is_(False)),
        and_(bodies, col(CaptureRow.created_at) < now - retention.bodies),
        col(CaptureRow.created_at) < now - retention.captures,
    )
    cached = col(JudgeCacheRow.created_at) < now - retention.judge_cache
    deleted = col(DeletionRow.requested_at) < now - retention.captures - _DAY
    with store.read() as session:
        return (
            session.exec(select(there).where(old).limit(1)).first() is not None
            or session.exec(select(JudgeCacheRow.key).where(cached).limit(1)).first() is not None
            or session.exec(select(DeletionRow.key_hash).where(deleted).limit(1)).first()
            is not None
            or bool(_ended(session, retention.evidence, now))
        )


def _old_bodies(session: Session, before: float) -> Sequence[str]:
    return session.exec(
        select(CaptureRow.id)
        .where(
            col(CaptureRow.bodies_removed_at).is_(None),
            col(CaptureRow.store_bodies).in_((True, False)),
            col(CaptureRow.created_at) < before,
        )
        .limit(BATCH)
    ).all()


def _old_captures(session: Session, before: float) -> Sequence[str]:
    return session.exec(
        select(CaptureRow.id)
        .where(col(CaptureRow.created_at) < before)
        .order_by(col(CaptureRow.created_at))
        .limit(BATCH)
    ).all()


def _forget(session: Session, key: Any, at: Any, before: float) -> int:
    keys = session.exec(select(key).where(col(at) < before).limit(BATCH)).all()
    session.exec(delete(key.class_).where(col(key).in_(keys)))
    return len(keys)


def _ended(session: Session, keep_s: float | None, now: float) -> Sequence[int | None]:
    """Return rollouts that ended so long ago that their evidence goes, and still have some."""
    if keep_s is None:
        return ()
    some = select(EvidenceRow.seq).where(EvidenceRow.rollout_id == RolloutRow.id).exists()
    return session.exec(
        select(RolloutRow.id).where(col(RolloutRow.finished_at) < now - keep_s, some)
    ).all()


def _old_evidence(session: Session, keep_s: float | None, now: float) -> int:
    for rollout_id in _ended(session, keep_s, now):
        numbers = session.exec(
            select(EvidenceRow.seq)
            .where(EvidenceRow.rollout_id == rollout_id)
            .order_by(col(EvidenceRow.seq))
            .limit(BATCH)
        ).all()
        mine = col(EvidenceRow.rollout_id) == rollout_id
        session.exec(delete(EvidenceRow).where(mine, col(EvidenceRow.seq).in_(numbers)))
        return BATCH  # there may be more, of this rollout or of the next
    return 0
