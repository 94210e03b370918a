"""Taking captures, or only their bodies, out of the store, with everything that came of them.

Evidence stays: it holds numbers and pseudonyms, no text, and receipts are replayed from it. The
funnel stays whole too: a pair that is deleted before it was finished counts as ``withheld``.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Table, text
from sqlmodel import Session, SQLModel, and_, col, delete, exists, select, update

from gateway.store.engine import Store
from gateway.store.evidence import move_funnel
from gateway.store.tables import CaptureRow, DatasetItemRow, JudgeCacheRow, JudgmentRow, PairRow

__all__ = [
    "NOT_KEPT",
    "Erased",
    "bare_checks",
    "bare_comparison",
    "dependents",
    "empty_verdicts",
    "erase_captures",
    "erase_finished_bodies",
    "error_kind",
    "forget_verdicts",
    "overwrite_freed_pages",
    "remove_bodies",
    "shorten_log",
]

_NAMED = {"pair_id": "pair", "capture_id": "capture"}
"""Columns by which a table names what its rows are about."""

_NOTES = (("review", "note", "pair_id"),)
"""Texts of people about a pair: table, column, and the column that names the pair."""


def dependents() -> list[tuple[Table, str]]:
    """Return the tables whose rows end with a capture or a pair, and the columns that name these.

    That is every table with a column called ``capture_id`` or ``pair_id``, those first that others
    refer to last; but pairs, and what the database deletes itself (``ON DELETE CASCADE``).
    """
    return [
        (table, name)
        for table in reversed(SQLModel.metadata.sorted_tables)
        for name in _NAMED
        if name in table.columns
        and not any(key.ondelete == "CASCADE" for key in table.columns[name].foreign_keys)
    ]


_PATIENCE_MS = 200
"""While it waits for readers, a checkpoint keeps gateways from writing."""
_ERROR = re.compile(
    r"status \d{3}(?=:)|connection: \w+\Z|proxy: status \d{3}\Z|no response\Z"
    r"|the response (?:body is not a JSON object|has no choices|failed)\Z"
    r"|the stream (?:ended before the answer did|has an event that is not JSON)\Z"
    r"|the answer is larger than \d+ bytes\Z"
)
"""Errors that quote nothing, or their beginning that does not."""
_PENDING, _WITHHELD, _DONE = "pending", "withheld", "done"


@dataclass(slots=True)
class Erased:
    """How much was deleted. ``others`` are rows of tables that other parts of the system keep."""

    captures: int = 0
    pairs: int = 0
    judgments: int = 0
    judge_cache: int = 0
    others: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def add(self, more: Erased) -> None:
        """Add what else was deleted."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(more, each.name))


def overwrite_freed_pages(store: Store, session: Session) -> None:
    """Have SQLite write zeros over what is deleted from here on; PostgreSQL's vacuum reuses it.

    It holds for this connection from now on.
    """
    if store.is_sqlite:
        session.connection().execute(text("PRAGMA secure_delete = ON"))


def shorten_log(store: Store) -> None:
    """Have SQLite move its log into the database, so that the log holds nothing deleted either.

    Left for later where somebody reads; PostgreSQL's log is kept as its administrator says.
    """
    if not store.is_sqlite:
        return
    connection = store.engine.raw_connection()
    try:
        with suppress(sqlite3.Error):
            cursor = connection.cursor()
            before = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
            cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute(f"PRAGMA busy_timeout = {int(before)}")
    finally:
        connection.close()


def erase_captures(store: Store, session: Session, ids: Collection[str]) -> Erased:
    """Delete captures with their pairs and all that came of these, in the caller's transaction."""
    erased = Erased()
    if not ids:
        return erased
    overwrite_freed_pages(store, session)
    pairs = session.exec(
        select(PairRow.id, PairRow.rollout_id, PairRow.stream, PairRow.state)
        .where(col(PairRow.capture_id).in_(ids))
        .order_by(col(PairRow.id))
        .with_for_update()
    ).all()
    unfinished = Counter((rollout, stream) for _, rollout, stream, state in pairs if state != _DONE)
    pair_ids = [pair_id for pair_id, *_ in pairs]
    keys = set(
        session.exec(
            select(JudgmentRow.cache_key).where(
                col(JudgmentRow.pair_id).in_(pair_ids), col(JudgmentRow.cache_key).is_not(None)
            )
        ).all()
    )
    for table, name in dependents():
        column = table.columns[name]
        found: Any = pair_ids if _NAMED[name] == "pair" else ids
        count = session.connection().execute(table.delete().where(column.in_(found))).rowcount
        if table.name == JudgmentRow.__tablename__:
            erased.judgments += count
        else:
            erased.others += count
    erased.judge_cache = forget_verdicts(session, [key for key in keys if key is not None])
    session.exec(delete(PairRow).where(col(PairRow.id).in_(pair_ids)))
    erased.captures = session.exec(delete(CaptureRow).where(col(CaptureRow.id).in_(ids))).rowcount
    erased.pairs = len(pair_ids)
    _withhold(store, session, unfinished)
    return erased


def forget_verdicts(session: Session, keys: Sequence[str]) -> int:
    """Delete kept verdicts that no judgment uses any more; return how many."""
    if not keys:
        return 0
    used = exists().where(col(JudgmentRow.cache_key) == col(JudgeCacheRow.key))
    return int(
        session.exec(delete(JudgeCacheRow).where(col(JudgeCacheRow.key).in_(keys), ~used)).rowcount
    )


def _withhold(store: Store, session: Session, pairs: Counter[tuple[int, str]]) -> None:
    for (rollout_id, stream), count in sorted(pairs.items()):
        moved = (rollout_id, stream, _WITHHELD, count)
        move_funnel(store, session, [(rollout_id, stream, _PENDING, -count), moved])


def erase_finished_bodies(
    store: Store, session: Session, *, now: float, ids: Collection[str] | None = None,
    limit: int = 500,
) -> int:  # fmt: skip
    """Empty captures that are not to be stored once all their pairs are finished.

    Looks at the captures of ``ids``, or at up to ``limit`` of all. Returns how many were emptied.
    """
    unfinished = exists().where(
        and_(col(PairRow.capture_id) == col(CaptureRow.id), col(PairRow.state) != _DONE)
    )
    query = select(CaptureRow.id).where(
        col(CaptureRow.bodies_removed_at).is_(None), col(CaptureRow.store_bodies).is_(False),
        ~unfinished,
    ).limit(limit)  # fmt: skip
    if ids is not None:
        query = query.where(col(CaptureRow.id).in_(ids))
    return remove_bodies(store, session, session.exec(query).all(), now=now)


def remove_bodies(store: Store, session: Session, ids: Collection[str], *, now: float) -> int:
    """Empty captures: no text is left, in pairs, judgments, kept verdicts and exports neither."""
    if not ids:
        return 0
    overwrite_freed_pages(store, session)
    session.exec(
        update(CaptureRow)
        .where(col(CaptureRow.id).in_(ids))
        .values(request_body="", response_body="", bodies_removed_at=now)
    )
    pairs = session.exec(select(PairRow).where(col(PairRow.capture_id).in_(ids))).all()
    pair_ids = [row.id for row in pairs]
    for row in pairs:
        row.candidate_response = None
        row.candidate_error = error_kind(row.candidate_error)
        row.checks, row.comparison = bare_checks(row.checks), bare_comparison(row.comparison)
    session.flush()
    mine = col(JudgmentRow.pair_id).in_(pair_ids)
    keys = session.exec(select(JudgmentRow.cache_key).where(mine)).all()
    session.exec(update(JudgmentRow).where(mine).values(evidence=None, transcript=None))
    session.exec(delete(DatasetItemRow).where(col(DatasetItemRow.capture_id).in_(ids)))
    for table_name, note, name in _NOTES:
        table = SQLModel.metadata.tables.get(table_name)
        if table is not None:
            about = table.columns[name].in_(pair_ids)
            session.connection().execute(table.update().where(about).values({note: ""}))
    empty_verdicts(session, [key for key in keys if key is not None])
    return len(ids)


def empty_verdicts(session: Session, keys: Collection[str]) -> None:
    """Take the judge's words out of kept verdicts; the verdicts stay."""
    rows = session.exec(select(JudgeCacheRow).where(col(JudgeCacheRow.key).in_(keys))).all()
    for row in rows:
        verdict = row.payload.get("verdict")
        if isinstance(verdict, dict) and "evidence" in verdict:
            row.payload = {**row.payload, "verdict": {**verdict, "evidence": NOT_KEPT}}
    session.flush()


NOT_KEPT = "(not kept)"
"""Stands in place of a judge's words."""


def error_kind(error: str | None) -> str | None:
    """Return an error without what it quotes."""
    if error is None:
        return None
    known = _ERROR.match(error)
    return known[0] if known else "error"


def bare_checks(checks: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return checks without the reasons, which may quote an answer."""
    if checks is None:
        return None
    return {
        name: {
            arm: {key: value for key, value in finding.items() if key != "reason"}
            for arm, finding in arms.items()
        }
        for name, arms in checks.items()
    }


def bare_comparison(comparison: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a comparison without its reason, which may quote an answer."""
    return None if comparison is None else {**comparison, "reason": ""}
