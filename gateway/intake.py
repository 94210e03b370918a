"""What gateways hand over to the workers: captures packed together, and their unpacking into rows.

A gateway shares its core with its clients' requests, so that it writes a batch's captures as few
values, in the order in which they came: no index is kept, and no row is built. A worker unpacks
them into captures and pairs, each packet in one transaction that also removes it, so that whatever
dies in between, every capture becomes rows once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError
from sqlmodel import Session, col, delete, select

from gateway.batch import Capture
from gateway.rows import Packed, statements
from gateway.store.engine import Store
from gateway.store.erasure import overwrite_freed_pages
from gateway.store.evidence import move_funnel
from gateway.store.tables import DeletionRow, IntakeRow

__all__ = ["any_packets", "count_packed", "drop_packed", "packets", "unpack"]

_log = logging.getLogger("coalmine.worker")

Pairs = Counter[tuple[int, str]]
"""How many pairs, by rollout and stream."""

_PACKET = 250
"""Captures packed at a time: packing holds the interpreter, which the event loop waits for."""


_fields = attrgetter(*Packed.__struct_fields__)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Packed]).decode


def packets(captures: Sequence[Capture]) -> Iterator[dict[str, Any]]:
    """Yield the captures as rows of the intake. Raises ``ValueError`` where one can't be packed."""
    for start in range(0, len(captures), _PACKET):
        few = captures[start : start + _PACKET]
        wanted = Counter(pair for capture in few for pair in capture.pairs)
        yield {
            "pairs": [[*pair, count] for pair, count in sorted(wanted.items())],
            "data": _encode([_fields(capture) for capture in few]),
        }


def any_packets(session: Session) -> bool:
    """Say whether anything waits to be unpacked."""
    return session.exec(select(IntakeRow.id).limit(1)).first() is not None


def count_packed(session: Session) -> int:
    """Count the pairs that wait to be unpacked."""
    waiting = session.exec(select(IntakeRow.pairs)).all()
    return sum(count for pairs in waiting for _rollout_id, _stream, count in pairs)


def unpack(store: Store, *, limit: int = 4) -> int:
    """Turn up to ``limit`` packets into captures and pairs, the oldest first; return how many.

    A capture that the store refuses is given up, and so is a packet that can't be read: their pairs
    count as shed. Captures of a user who was deleted since are dropped, as withheld. Raises
    :class:`~gateway.errors.StoreError`.
    """
    with store.write() as session:
        rows = session.exec(
            select(IntakeRow)
            .order_by(col(IntakeRow.id))
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        for row in rows:
            lost, deleted = _unpack(store, session, row)
            for (rollout_id, stream), count in sorted(deleted.items()):
                withheld = (rollout_id, stream, "withheld", count)
                move_funnel(store, session, [(rollout_id, stream, "pending", -count), withheld])
            if lost:
                _log.error("%d pairs of a packet can't be stored; they are shed", lost.total())
            for (rollout_id, stream), count in sorted(lost.items()):
                shed = (rollout_id, stream, "shed", count)
                move_funnel(store, session, [(rollout_id, stream, "pending", -count), shed])
        if rows:
            overwrite_freed_pages(store, session)  # or a deletion would leave what packets held
            gone = col(IntakeRow.id).in_([row.id for row in rows])
            session.exec(delete(IntakeRow).where(gone))
    return len(rows)


def _unpack(store: Store, session: Session, row: IntakeRow) -> tuple[Pairs, Pairs]:
    """Write a packet's rows; return the pairs that could not be written, and those deleted."""
    try:
        packed = _decode(row.data)
    except msgspec.MsgspecError:
        lost = {(rollout_id, stream): count for rollout_id, stream, count in row.pairs}
        return Counter(lost), Counter()
    gone = _deleted(session, packed)
    captures = [capture for capture in packed if capture.id not in gone] if gone else packed
    deleted = _count_pairs(capture for capture in packed if capture.id in gone)
    if _insert(store, session, captures):
        return Counter(), deleted
    refused = [capture for capture in captures if not _insert(store, session, [capture])]
    return _count_pairs(refused), deleted


def _count_pairs(captures: Iterable[Packed]) -> Pairs:
    return Counter((pair[0], pair[1]) for capture in captures for pair in capture.pairs)


def _deleted(session: Session, captures: Sequence[Packed]) -> set[str]:
    """Return the ids of captures of users who were deleted after them."""
    hashes = {capture.key_hash for capture in captures if capture.key_hash is not None}
    if not hashes:
        return set()
    rows = session.exec(select(DeletionRow).where(col(DeletionRow.key_hash).in_(hashes))).all()
    until = {row.key_hash: row.requested_at for row in rows}
    return {
        capture.id
        for capture in captures
        if capture.key_hash in until and capture.created_at <= until[capture.key_hash]
    }


def drop_packed(store: Store, session: Session, key_hash: str, *, before: float) -> int:
    """Take a user's captures up to ``before`` out of the packets; return how many.

    Their pairs count as withheld. On PostgreSQL the intake is locked to the end of the transaction,
    so that nothing is unpacked or handed over meanwhile.
    """
    if not store.is_sqlite:
        session.connection().execute(text("LOCK TABLE intake IN EXCLUSIVE MODE"))
    overwrite_freed_pages(store, session)
    dropped: list[Packed] = []
    for number in session.exec(select(IntakeRow.id).order_by(col(IntakeRow.id))).all():
        row = session.get(IntakeRow, number)
        if row is None:
            continue
        try:
            packed = _decode(row.data)
        except msgspec.MsgspecError:
            continue  # nobody can read it; it is given up when it is unpacked
        mine = [c for c in packed if c.key_hash == key_hash and c.created_at <= before]
        if mine:
            kept = [capture for capture in packed if capture not in mine]
            row.data = _encode([_fields(capture) for capture in kept])
            row.pairs = [[*pair, count] for pair, count in sorted(_count_pairs(kept).items())]
            dropped += mine
        session.flush()
        session.expunge(row)
    for (rollout_id, stream), count in sorted(_count_pairs(dropped).items()):
        withheld = (rollout_id, stream, "withheld", count)
        move_funnel(store, session, [(rollout_id, stream, "pending", -count), withheld])
    return len(dropped)


def _insert(store: Store, session: Session, captures: list[Packed]) -> bool:
    try:
        with session.begin_nested():
            connection = session.connection()
            for statement, values in statements(captures, is_sqlite=store.is_sqlite):
                connection.exec_driver_sql(statement, values)
    except (DataError, IntegrityError):
        return False
    return True
