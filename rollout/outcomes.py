"""Business outcomes in the store: posted once each, counted, and in the end forgotten.

An outcome is known by its request and its name. The same answer twice counts once. Another answer
replaces the first until that became evidence, which never changes: then it is refused.
:mod:`rollout.joining` makes evidence of outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, and_, col, delete, func, or_, select, tuple_

from gateway.store.engine import Store
from gateway.store.tables import OutcomeRow

__all__ = [
    "IGNORED",
    "JOINED",
    "PENDING",
    "UNMATCHED",
    "Outcome",
    "OutcomeCount",
    "Received",
    "count_outcomes",
    "forget_outcomes",
    "post_outcomes",
]

PENDING, JOINED, IGNORED, UNMATCHED = "pending", "joined", "ignored", "unmatched"

_ROWS = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request, and what the application said of the request itself.

    ``failure`` is 0 or 1; ``value`` is kept and not used. ``request_at`` is Unix seconds;
    ``variant``, ``reason`` and ``rollout`` are what the response's headers said.
    """

    request_id: str
    name: str
    failure: int
    value: float | None = None
    request_at: float | None = None
    variant: str | None = None
    reason: str | None = None
    rollout: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.request_id, self.name


@dataclass(frozen=True, slots=True)
class Received:
    """What became of posted outcomes: how many were new, known, replaced; and those refused."""

    new: int
    known: int
    replaced: int
    refused: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How many outcomes of a kind there are, and how many of them are failures."""

    name: str
    variant: str | None
    state: str
    detail: str | None
    count: int
    failures: int


def post_outcomes(store: Store, outcomes: Sequence[Outcome], *, by: str, now: float) -> Received:
    """Keep outcomes until they are joined, all in one transaction. ``by`` is the token's name.

    Of several with one key the last counts. Raises :class:`StoreError`, and then none was kept.
    """
    last = {each.key: each for each in outcomes}
    # In one order everywhere, so that two who post the same never wait for each other.
    ordered = [last[key] for key in sorted(last)]
    new, known, replaced = 0, len(outcomes) - len(ordered), 0
    refused: list[Outcome] = []
    with store.write() as session:
        for start in range(0, len(ordered), _ROWS):
            some = ordered[start : start + _ROWS]
            added = _insert(store, session, some, by, now)
            new += len(added)
            rest = {each.key: each for each in some if each.key not in added}
            for row in _locked(session, list(rest)):
                each = rest[row.request_id, row.name]
                if row.state == JOINED and row.failure != each.failure:
                    refused.append(each)
                elif row.state != JOINED and _replaced(row, each, by, now):
                    replaced += 1
                else:
                    known += 1
    return Received(new, known, replaced, tuple(refused))


def count_outcomes(
    session: Session, *, rollout_id: int | None = None, rollout: str | None = None
) -> list[OutcomeCount]:
    """Count outcomes by name, variant, state and why: all, or those of one rollout.

    ``rollout`` finds those that belong to no rollout but were posted with its name.
    """
    kind: Any = (OutcomeRow.name, OutcomeRow.variant, OutcomeRow.state, OutcomeRow.detail)
    counted: Any = (func.count(), func.sum(OutcomeRow.failure))
    query = select(*kind, *counted).group_by(*kind)
    if rollout_id is not None:
        named = and_(col(OutcomeRow.rollout_id).is_(None), col(OutcomeRow.rollout) == rollout)
        query = query.where(or_(col(OutcomeRow.rollout_id) == rollout_id, named))
    rows: Sequence[Any] = session.exec(query).all()
    counts = [OutcomeCount(*row) for row in rows]
    return sorted(counts, key=lambda e: (e.name, e.variant or "", e.state, e.detail or ""))


def forget_outcomes(store: Store, *, before: float, limit: int = 1000) -> int:
    """Remove up to ``limit`` outcomes posted before an instant (Unix seconds); return how many.

    Raises :class:`StoreError`.
    """
    old = select(OutcomeRow.id).where(OutcomeRow.created_at < before)
    with store.read() as session:
        ids = session.exec(old.order_by(col(OutcomeRow.created_at)).limit(limit)).all()
    if not ids:
        return 0
    with store.write() as session:
        return int(session.exec(delete(OutcomeRow).where(col(OutcomeRow.id).in_(ids))).rowcount)


def _insert(
    store: Store, session: Session, outcomes: Sequence[Outcome], by: str, now: float
) -> set[tuple[str, str]]:
    """Insert those that are not there yet, and return their keys."""
    common = {"posted_by": by, "created_at": now, "state": PENDING, "check_at": now}
    rows = [{**asdict(each), **common} for each in outcomes]
    found = session.connection().execute(_insertion(store.is_sqlite), rows)
    return {(request_id, name) for request_id, name in found}


@cache
def _insertion(is_sqlite: bool) -> Any:
    table = OutcomeRow.__table__  # type: ignore[attr-defined]
    statement = (sqlite if is_sqlite else postgresql).insert(table)
    return statement.on_conflict_do_nothing(index_elements=["request_id", "name"]).returning(
        table.c.request_id, table.c.name
    )


def _locked(session: Session, keys: list[tuple[str, str]]) -> Sequence[OutcomeRow]:
    if not keys:
        return []
    return session.exec(
        select(OutcomeRow)
        .where(tuple_(col(OutcomeRow.request_id), col(OutcomeRow.name)).in_(keys))
        .order_by(col(OutcomeRow.request_id), col(OutcomeRow.name))
        .with_for_update()
    ).all()


def _replaced(row: OutcomeRow, outcome: Outcome, by: str, now: float) -> bool:
    """Put another answer into a row that is no evidence; ``False`` where it is the same answer."""
    changes = {
        name: value
        for name, value in asdict(outcome).items()
        if value is not None and value != getattr(row, name)
    }
    if not changes:
        return False
    for name, value in changes.items():
        setattr(row, name, value)
    row.posted_by, row.state, row.detail = by, PENDING, None
    row.check_at, row.settled_at = now, None
    row.rollout_id, row.capture_id, row.weight_bp = None, None, None
    return True
