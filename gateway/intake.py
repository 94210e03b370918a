"""What gateways hand over to the workers: captures packed together, and their unpacking into rows.

A gateway shares its core with its clients' requests, so that it writes a batch's captures as few
values, in the order in which they came: no index is kept, and no row is built. A worker unpacks
them into captures and pairs, each packet in one transaction that also removes it, so that whatever
dies in between, every capture becomes rows once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy.exc import DataError, IntegrityError
from sqlmodel import Session, col, delete, select

from gateway.batch import Capture
from gateway.rows import Packed, statements
from gateway.store.engine import Store
from gateway.store.evidence import move_funnel
from gateway.store.tables import IntakeRow

__all__ = ["any_packets", "count_packed", "packets", "unpack"]

_log = logging.getLogger("coalmine.worker")

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
    count as shed. Raises :class:`~gateway.errors.StoreError`.
    """
    with store.write() as session:
        rows = session.exec(
            select(IntakeRow)
            .order_by(col(IntakeRow.id))
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        for row in rows:
            lost = _unpack(store, session, row)
            if lost:
                _log.error("%d pairs of a packet can't be stored; they are shed", lost.total())
            for (rollout_id, stream), count in sorted(lost.items()):
                shed = (rollout_id, stream, "shed", count)
                move_funnel(store, session, [(rollout_id, stream, "pending", -count), shed])
        if rows:
            gone = col(IntakeRow.id).in_([row.id for row in rows])
            session.exec(delete(IntakeRow).where(gone))
    return len(rows)


def _unpack(store: Store, session: Session, row: IntakeRow) -> Counter[tuple[int, str]]:
    """Write a packet's rows, and return what could not be written."""
    try:
        captures = _decode(row.data)
    except msgspec.MsgspecError:
        return Counter({(rollout_id, stream): count for rollout_id, stream, count in row.pairs})
    if _insert(store, session, captures):
        return Counter()
    refused = [capture for capture in captures if not _insert(store, session, [capture])]
    return Counter((pair[0], pair[1]) for capture in refused for pair in capture.pairs)


def _insert(store: Store, session: Session, captures: list[Packed]) -> bool:
    try:
        with session.begin_nested():
            connection = session.connection()
            for statement, values in statements(captures, is_sqlite=store.is_sqlite):
                connection.exec_driver_sql(statement, values)
    except (DataError, IntegrityError):
        return False
    return True
