"""What people said about pairs, in the store: verdicts kept, and labels made evidence.

An item's label becomes one fact, in the transaction in which the last verdict that it waited for is
written; evidence does not change, so what is said or corrected later is kept, and counts for
agreement and exports only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from gateway.errors import Forbidden, NotFound
from gateway.store.engine import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.tables import ReviewItemRow, ReviewLeaseRow, ReviewRow, RolloutRow
from rollout.labelling import label_of, settled
from rollout.states import FINISHED

__all__ = [
    "DONE",
    "OPEN",
    "WITHDRAWN",
    "Posted",
    "Reviewer",
    "Said",
    "current_reviews",
    "post_review",
]

OPEN, DONE, WITHDRAWN = "open", "done", "withdrawn"

_ENDED = frozenset(phase.value for phase in FINISHED)


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who reviews: the token's name, its role, and whether it is an expert's."""

    name: str
    role: str
    expert: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody said about an item. ``seconds``, where given, is how long they took."""

    verdict: str
    categories: tuple[str, ...] = ()
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a verdict.

    ``known``: the same was said before. ``corrected``: it replaces what the reviewer said before.
    ``counted``: it is among those that settle the item, or will; not so once it is settled.
    """

    item_id: int
    state: str
    known: bool = False
    corrected: bool = False
    counted: bool = True


def post_review(
    store: Store, item_id: int, said: Said, reviewer: Reviewer, *, now: float, via: str = "api"
) -> Posted:
    """Keep a verdict, and make its item's label evidence where that is settled now.

    The same verdict twice is one; another supersedes the first, which stays. Raises
    :class:`NotFound` for an item that is not there, :class:`Forbidden` where only experts may
    review it, ``ValueError`` for an unknown verdict, :class:`StoreError`.
    """
    with store.write() as session:
        item = session.exec(
            select(ReviewItemRow).where(ReviewItemRow.id == item_id).with_for_update()
        ).first()
        if item is None:
            raise NotFound(f"there is no review item {item_id}", field="item")
        if item.expert_only and not reviewer.expert:
            raise Forbidden(
                f"item {item_id} is for experts; {reviewer.name!r} has no expert's token"
            )
        label = label_of(said.verdict, item.left_arm)
        before = session.exec(
            select(ReviewRow).where(
                ReviewRow.item_id == item_id,
                ReviewRow.reviewer == reviewer.name,
                col(ReviewRow.superseded).is_(False),
            )
        ).first()
        lease = session.get(ReviewLeaseRow, (item_id, reviewer.name))
        if before is not None and _same(before, said):
            return Posted(item_id, item.state, known=True)
        if before is not None:
            before.superseded = True
            session.flush()
        session.add(_row(item, said, label, reviewer, lease, now=now, via=via))
        if lease is not None:
            session.delete(lease)
        session.flush()
        was_open = item.state == OPEN
        if was_open:
            _settle(store, session, item, now)
        return Posted(item_id, item.state, corrected=before is not None, counted=was_open)


def _settle(store: Store, session: Session, item: ReviewItemRow, now: float) -> None:
    phase = session.exec(select(RolloutRow.phase).where(RolloutRow.id == item.rollout_id)).first()
    if phase in _ENDED:
        item.state, item.settled_at = WITHDRAWN, now
        session.flush()
        return
    labels = session.exec(
        select(ReviewRow.label)
        .where(ReviewRow.item_id == item.id, col(ReviewRow.superseded).is_(False))
        .order_by(col(ReviewRow.id))
    ).all()
    came = settled(labels, item.wanted)
    if came is None:
        return
    item.state, item.label, item.settled_at = DONE, came.label, now
    session.flush()
    if came.label is None:
        return
    payload = {
        "item_id": item.id,
        "pair_id": item.pair_id,
        "label": came.label,
        "judge": item.score,
        "probability": item.probability,
        "source": item.source,
        "reviewers": came.labels,
    }
    fact = Evidence("label", now, payload, item.segment)
    append_evidence(store, session, item.rollout_id, [fact])


def _same(before: ReviewRow, said: Said) -> bool:
    return (before.verdict, tuple(before.categories), before.note) == (
        said.verdict,
        said.categories,
        said.note,
    )


def _row(
    item: ReviewItemRow,
    said: Said,
    label: float | None,
    reviewer: Reviewer,
    lease: ReviewLeaseRow | None,
    *,
    now: float,
    via: str,
) -> ReviewRow:
    seconds = said.seconds
    if seconds is None and lease is not None:
        seconds = max(0.0, now - lease.since)
    return ReviewRow(
        item_id=int(item.id or 0),
        rollout_id=item.rollout_id,
        pair_id=item.pair_id,
        reviewer=reviewer.name,
        role=reviewer.role,
        expert=reviewer.expert,
        verdict=said.verdict,
        label=label,
        categories=list(said.categories),
        note=said.note,
        via=via,
        seconds=seconds,
        created_at=now,
    )


def current_reviews(session: Session, rollout_id: int) -> Sequence[tuple[ReviewRow, ReviewItemRow]]:
    """Return what holds of what was said about a rollout's items, oldest first."""
    query = (
        select(ReviewRow, ReviewItemRow)
        .where(
            ReviewRow.rollout_id == rollout_id,
            col(ReviewRow.superseded).is_(False),
            ReviewRow.item_id == ReviewItemRow.id,
        )
        .order_by(col(ReviewRow.id))
    )
    return session.exec(query).all()
