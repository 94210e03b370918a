"""The log of facts about a rollout: appended by gateways and workers, folded by the controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, insert, select

from gateway.store.engine import Store
from gateway.store.tables import EvidenceHeadRow, EvidenceRow, FunnelRow

__all__ = [
    "EVIDENCE_CHANNEL",
    "Evidence",
    "EvidenceKind",
    "append_evidence",
    "load_evidence",
    "load_funnel",
    "move_funnel",
]

EVIDENCE_CHANNEL = "coalmine_evidence"
"""PostgreSQL channel on which a rollout's id is announced when evidence has arrived."""

EvidenceKind = Literal[
    "pair",
    "noise",
    "live",
    "window",
    "breaker",
    "outcome",
    "query",
    "label",
    "dropped",
    "judge_health",
]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact. ``at`` is when it was observed (Unix seconds), ``epoch`` the split's epoch then."""

    kind: EvidenceKind
    at: float
    payload: Mapping[str, Any]
    segment: str | None = None
    epoch: int = 0


def append_evidence(
    store: Store, session: Session, rollout_id: int, items: Sequence[Evidence]
) -> int:
    """Append ``items`` and return the last sequence number.

    Numbers are without gaps and in the order of commits: the head row's lock is held from here to
    the end of the transaction. A reader that has seen number n will never meet a smaller one
    later. Call it last in a transaction, so that the lock is held briefly.
    """
    head = {"rollout_id": rollout_id, "seq": len(items)}
    connection = session.connection()
    last = int(connection.execute(_advance(store.is_sqlite), head).scalar_one())
    if items:
        first = last - len(items) + 1
        connection.execute(
            insert(EvidenceRow),
            [
                {
                    "rollout_id": rollout_id,
                    "seq": first + index,
                    "kind": item.kind,
                    "at": item.at,
                    "segment": item.segment,
                    "epoch": item.epoch,
                    "payload": dict(item.payload),
                }
                for index, item in enumerate(items)
            ],
        )
        store.notify(session, EVIDENCE_CHANNEL, str(rollout_id))
    return last


@cache  # building a statement costs more than running it, and gateways run it often
def _advance(is_sqlite: bool) -> Any:
    table = EvidenceHeadRow.__table__  # type: ignore[attr-defined]
    statement = (sqlite if is_sqlite else postgresql).insert(table)
    return statement.on_conflict_do_update(
        index_elements=["rollout_id"], set_={"seq": table.c.seq + statement.excluded["seq"]}
    ).returning(table.c.seq)


def load_evidence(
    session: Session, rollout_id: int, *, after: int, limit: int = 1000
) -> list[tuple[int, Evidence]]:
    """Return up to ``limit`` facts with sequence numbers above ``after``, in order."""
    rows = session.exec(
        select(EvidenceRow)
        .where(EvidenceRow.rollout_id == rollout_id, col(EvidenceRow.seq) > after)
        .order_by(col(EvidenceRow.seq))
        .limit(limit)
    ).all()
    return [
        (row.seq, Evidence(row.kind, row.at, row.payload, row.segment, row.epoch))  # type: ignore[arg-type]
        for row in rows
    ]


def move_funnel(
    store: Store, session: Session, changes: Iterable[tuple[int, str, str, int]]
) -> None:
    """Add to the funnel: ``(rollout_id, stream, outcome, change)``, in the caller's transaction.

    Rows are touched in one order everywhere, so that two writers never wait for each other.
    """
    totals: dict[tuple[int, str, str], int] = {}
    for rollout_id, stream, outcome, change in changes:
        key = (rollout_id, stream, outcome)
        totals[key] = totals.get(key, 0) + change
    rows = [
        {"rollout_id": rollout_id, "stream": stream, "outcome": outcome, "count": change}
        for (rollout_id, stream, outcome), change in sorted(totals.items())
        if change
    ]
    if rows:
        session.connection().execute(_add_to_funnel(store.is_sqlite), rows)


@cache
def _add_to_funnel(is_sqlite: bool) -> Any:
    table = FunnelRow.__table__  # type: ignore[attr-defined]
    statement = (sqlite if is_sqlite else postgresql).insert(table)
    return statement.on_conflict_do_update(
        index_elements=["rollout_id", "stream", "outcome"],
        set_={"count": table.c.count + statement.excluded["count"]},
    )


def load_funnel(session: Session, rollout_id: int) -> dict[str, dict[str, int]]:
    """Return the funnel as ``{stream: {outcome: count}}``."""
    funnel: dict[str, dict[str, int]] = {}
    for row in session.exec(select(FunnelRow).where(FunnelRow.rollout_id == rollout_id)).all():
        funnel.setdefault(row.stream, {})[row.outcome] = row.count
    return funnel
