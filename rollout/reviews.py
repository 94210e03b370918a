"""What people said about pairs, in the store: verdicts kept, and labels made evidence.

An item that has the verdicts it waits for can be corrected for a while; then the leading control
settles it, and its label becomes one fact, in the transaction that closes it. Evidence does not
change, so what is said or corrected later is kept, and counts for agreement and exports only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    "settle_items",
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
    ``counted``: it is among those that settle the item; not so once it is settled. ``settle_at``
    (Unix seconds) is when that is; ``None`` while more people are wanted.
    """

    item_id: int
    state: str
    settle_at: float | None
    known: bool = False
    corrected: bool = False
    counted: bool = True


def post_review(
    store: Store,
    item_id: int,
    said: Said,
    reviewer: Reviewer,
    *,
    now: float,
    correction_s: Callable[[str], float],
    via: str = "api",
) -> Posted:
    """Keep a verdict; where it is the last that its item waits for, set when that is settled.

    The same verdict twice is one; another supersedes the first, which stays. ``correction_s`` says
    for a route how many seconds an item can be corrected. Raises :class:`NotFound` for an item that
    is not there, :class:`Forbidden` where only experts may review it, ``ValueError`` for an unknown
    verdict, :class:`StoreError`.
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
            return Posted(item_id, item.state, item.settle_at, known=True)
        if before is not None:
            before.superseded = True
            session.flush()
        session.add(_row(item, said, label, reviewer, lease, now=now, via=via))
        if lease is not None:
            session.delete(lease)
        session.flush()
        counted = item.state == OPEN
        if counted:
            complete = settled(_labels(session, item), item.wanted) is not None
            item.settle_at = now + correction_s(item.route) if complete else None
        corrected = before is not None
        return Posted(item_id, item.state, item.settle_at, corrected=corrected, counted=counted)


def settle_items(store: Store, *, now: float, limit: int = 500) -> int:
    """Settle up to ``limit`` items that can't be corrected any more; return how many it settled.

    Their labels become evidence; those of rollouts that are over do not. Any number of processes
    may do this at once. Raises :class:`StoreError`, and then nothing was changed.
    """
    due = (col(ReviewItemRow.state) == OPEN, col(ReviewItemRow.settle_at) <= now)
    with store.read() as session:  # SQLite's one write lock is not taken for nothing
        if session.exec(select(ReviewItemRow.id).where(*due).limit(1)).first() is None:
            return 0
    with store.write() as session:
        items = session.exec(
            select(ReviewItemRow)
            .where(*due)
            .order_by(col(ReviewItemRow.settle_at), col(ReviewItemRow.id))
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        rollouts = {item.rollout_id for item in items}
        query = select(RolloutRow.id, RolloutRow.phase)
        phases = dict(session.exec(query.where(col(RolloutRow.id).in_(rollouts))).all())
        facts: dict[int, list[Evidence]] = {}
        for item in items:
            item.settled_at = now
            if phases.get(item.rollout_id) in _ENDED:
                item.state = WITHDRAWN
                continue
            fact = _fact(session, item, now)
            if fact is not None:
                facts.setdefault(item.rollout_id, []).append(fact)
        session.flush()
        for rollout_id in sorted(facts):
            append_evidence(store, session, rollout_id, facts[rollout_id])
    return len(items)


def _fact(session: Session, item: ReviewItemRow, now: float) -> Evidence | None:
    """Close an item and return its label as evidence; ``None`` where everybody skipped it."""
    came = settled(_labels(session, item), item.wanted)
    item.state, item.label = DONE, None if came is None else came.label
    if came is None or came.label is None:
        return None
    payload = {
        "item_id": item.id,
        "pair_id": item.pair_id,
        "label": came.label,
        "judge": item.score,
        "probability": item.probability,
        "source": item.source,
        "reviewers": came.labels,
    }
    return Evidence("label", now, payload, item.segment)


def _labels(session: Session, item: ReviewItemRow) -> Sequence[float | None]:
    """Return the labels of the verdicts that hold, a skip as ``None``, in their order."""
    return session.exec(
        select(ReviewRow.label)
        .where(ReviewRow.item_id == item.id, col(ReviewRow.superseded).is_(False))
        .order_by(col(ReviewRow.id))
    ).all()


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
