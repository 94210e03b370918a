"""The queue of blind reviews: an item before one reviewer at a time, or as many as are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, and_, col, delete, func, select, update

from gateway.store.engine import Store
from gateway.store.tables import (
    CaptureRow,
    PairRow,
    ReviewItemRow,
    ReviewLeaseRow,
    ReviewRow,
)
from rollout.reviews import OPEN, WITHDRAWN, Reviewer

__all__ = ["Handed", "hand_out", "release_item", "withdraw_items"]


@dataclass(frozen=True, slots=True)
class Handed:
    """An item with what has to be shown of it. ``until`` is when the lease ends (Unix seconds)."""

    item: ReviewItemRow
    pair: PairRow
    capture: CaptureRow
    until: float


def hand_out(
    store: Store, rollout_id: int, reviewer: Reviewer, *, lease_s: float, now: float
) -> Handed | None:
    """Lease the next item to a reviewer, or return the one that they have; ``None``: none is left.

    An item goes to no more people at a time than are still wanted. Raises :class:`StoreError`.
    """
    tried: list[int] = []
    with store.write() as session:
        item = _held(session, rollout_id, reviewer, now)
        while item is None:
            item = _next(session, rollout_id, reviewer, tried, now)
            if item is None:
                return None
            tried.append(int(item.id or 0))
            # Seen anew under the item's lock: another may have been given it in between.
            if _taken(session, item, reviewer, now) >= item.wanted:
                item = None
        until = now + lease_s
        lease = session.get(ReviewLeaseRow, (item.id, reviewer.name))
        if lease is None:
            lease = ReviewLeaseRow(
                item_id=int(item.id or 0), reviewer=reviewer.name, since=now, until=until
            )
        elif lease.until <= now:
            lease.since = now
        lease.until = until
        session.add(lease)
        pair, capture = _material(session, item)
        session.flush()
        return Handed(item, pair, capture, until)


def release_item(store: Store, item_id: int, reviewer: Reviewer) -> None:
    """Give an item back that a reviewer has not said anything about. Raises :class:`StoreError`."""
    with store.write() as session:
        session.exec(
            delete(ReviewLeaseRow).where(
                col(ReviewLeaseRow.item_id) == item_id,
                col(ReviewLeaseRow.reviewer) == reviewer.name,
            )
        )


def withdraw_items(store: Store, rollout_id: int, *, now: float) -> int:
    """Close what is still open of a rollout that is over; return how many items that were."""
    with store.write() as session:
        return int(
            session.exec(
                update(ReviewItemRow)
                .where(
                    col(ReviewItemRow.rollout_id) == rollout_id, col(ReviewItemRow.state) == OPEN
                )
                .values(state=WITHDRAWN, settled_at=now)
            ).rowcount
        )


def _held(
    session: Session, rollout_id: int, reviewer: Reviewer, now: float
) -> ReviewItemRow | None:
    """Return the item that a reviewer has a lease on, if it is still to be reviewed."""
    mine = and_(
        col(ReviewLeaseRow.item_id) == col(ReviewItemRow.id),
        col(ReviewLeaseRow.reviewer) == reviewer.name,
        col(ReviewLeaseRow.until) > now,
    )
    return session.exec(
        select(ReviewItemRow)
        .join(ReviewLeaseRow, mine)
        .where(*_reviewable(rollout_id, reviewer))
        .order_by(col(ReviewItemRow.position))
        .limit(1)
    ).first()


def _next(
    session: Session, rollout_id: int, reviewer: Reviewer, tried: Iterable[int], now: float
) -> ReviewItemRow | None:
    said = (
        select(func.count())
        .select_from(ReviewRow)
        .where(*_labels_of(col(ReviewItemRow.id)))
        .correlate(ReviewItemRow)
        .scalar_subquery()
    )
    leased = (
        select(func.count())
        .select_from(ReviewLeaseRow)
        .where(*_leases_of(col(ReviewItemRow.id), reviewer, now))
        .correlate(ReviewItemRow)
        .scalar_subquery()
    )
    return session.exec(
        select(ReviewItemRow)
        .where(
            *_reviewable(rollout_id, reviewer),
            col(ReviewItemRow.id).not_in(list(tried)),
            said + leased < col(ReviewItemRow.wanted),
        )
        .order_by(col(ReviewItemRow.position), col(ReviewItemRow.id))
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()


def _reviewable(rollout_id: int, reviewer: Reviewer) -> list[Any]:
    mine = (
        select(ReviewRow.id)
        .where(
            col(ReviewRow.item_id) == col(ReviewItemRow.id),
            ReviewRow.reviewer == reviewer.name,
        )
        .correlate(ReviewItemRow)
        .exists()
    )
    clauses: list[Any] = [
        ReviewItemRow.rollout_id == rollout_id,
        ReviewItemRow.state == OPEN,
        col(ReviewItemRow.settle_at).is_(None),
        ~mine,
    ]
    if not reviewer.expert:
        clauses.append(col(ReviewItemRow.expert_only).is_(False))
    return clauses


def _taken(session: Session, item: ReviewItemRow, reviewer: Reviewer, now: float) -> int:
    """Return how many of an item's places are taken: labels, and leases of others."""
    labels = select(func.count()).select_from(ReviewRow).where(*_labels_of(item.id))
    leases = select(func.count()).select_from(ReviewLeaseRow)
    leases = leases.where(*_leases_of(item.id, reviewer, now))
    return int(session.exec(labels).one()) + int(session.exec(leases).one())


def _labels_of(item_id: Any) -> tuple[Any, ...]:
    return (
        col(ReviewRow.item_id) == item_id,
        col(ReviewRow.superseded).is_(False),
        col(ReviewRow.label).is_not(None),
    )


def _leases_of(item_id: Any, reviewer: Reviewer, now: float) -> tuple[Any, ...]:
    return (
        col(ReviewLeaseRow.item_id) == item_id,
        col(ReviewLeaseRow.until) > now,
        col(ReviewLeaseRow.reviewer) != reviewer.name,
    )


def _material(session: Session, item: ReviewItemRow) -> tuple[PairRow, CaptureRow]:
    return session.exec(
        select(PairRow, CaptureRow).where(
            PairRow.id == item.pair_id, PairRow.capture_id == CaptureRow.id
        )
    ).one()
