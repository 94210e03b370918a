"""Captures as they are packed and as rows of the store, several to a statement; pure.

On SQLite one execution takes many rows. PostgreSQL's driver sends many executions at once, and is
slow with many parameters in one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

import msgspec

from gateway.store.tables import LIVE_FIRST, CaptureRow, PairRow

__all__ = ["Packed", "decoded", "statements"]


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """A capture in a packet, with the fields of :class:`~gateway.batch.Capture`.

    New fields go to the end, with a default: a packet may have been written by another version.
    """

    id: str
    route: str
    request_id: str
    created_at: float
    endpoint: str
    variant: str
    reason: str
    deployment: str
    stream: bool
    request_body: bytes
    response_body: bytes
    content_encoding: bytes
    status: int
    ttft_s: float | None
    total_s: float
    input_tokens: int | None
    output_tokens: int | None
    segment: str | None
    risk: str | None
    key_hash: str | None
    split_revision: int
    epoch: int
    weight_bp: int
    pairs: list[tuple[int, str]]
    store_bodies: bool = True


Row = tuple[Any, ...]
Statement = tuple[str, list[Row]]
"""SQL, and the parameters of each of its executions."""

_ROWS = 25
"""Rows at a time; an old SQLite takes no more than 999 parameters in one execution."""
_COLUMNS: dict[str, tuple[str, ...]] = {
    str(CaptureRow.__tablename__): (
        "id",
        "route",
        "request_id",
        "created_at",
        "endpoint",
        "variant",
        "reason",
        "deployment",
        "stream",
        "request_body",
        "response_body",
        "status",
        "ttft_s",
        "total_s",
        "input_tokens",
        "output_tokens",
        "segment",
        "risk",
        "key_hash",
        "split_revision",
        "epoch",
        "weight_bp",
        "truncated",
        "store_bodies",
    ),
    str(PairRow.__tablename__): (
        "rollout_id",
        "capture_id",
        "stream",
        "state",
        "attempts",
        "lease_until",
        "created_at",
        "segment",
    ),
}


def statements(captures: Sequence[Packed], *, is_sqlite: bool) -> Iterator[Statement]:
    """Yield the statements that insert captures and their pairs.

    Bodies are decoded only as their statement is asked for, so that few are held twice.
    """
    for start in range(0, len(captures), _ROWS):
        yield _insert(
            "capture", [_capture(each) for each in captures[start : start + _ROWS]], is_sqlite
        )
    pairs = [_pair(capture, *pair) for capture in captures for pair in capture.pairs]
    for start in range(0, len(pairs), _ROWS):
        yield _insert("pair", pairs[start : start + _ROWS], is_sqlite)


def _insert(table: str, rows: list[Row], is_sqlite: bool) -> Statement:
    if is_sqlite:
        return _sql(table, len(rows), "?"), [tuple(chain.from_iterable(rows))]
    return _sql(table, 1, "%s"), rows


@cache
def _sql(table: str, rows: int, placeholder: str) -> str:
    columns = _COLUMNS[table]
    row = f"({', '.join([placeholder] * len(columns))})"
    # names and placeholders only: every value is a parameter
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"  # noqa: S608


def _pair(capture: Packed, rollout_id: int, stream: str) -> Row:
    return (
        rollout_id,
        capture.id,
        stream,
        "pending",
        0,
        LIVE_FIRST if stream == "live" else 0.0,
        capture.created_at,
        capture.segment,
    )


def _capture(capture: Packed) -> Row:
    body = capture.response_body
    if capture.content_encoding:
        body = decoded(body, capture.content_encoding, 8 * max(len(body), 64 * 1024))
    return (
        capture.id,
        capture.route,
        capture.request_id,
        capture.created_at,
        capture.endpoint,
        capture.variant,
        capture.reason,
        capture.deployment,
        capture.stream,
        _text(capture.request_body),
        _text(body),
        capture.status,
        capture.ttft_s,
        capture.total_s,
        capture.input_tokens,
        capture.output_tokens,
        capture.segment,
        capture.risk,
        capture.key_hash,
        capture.split_revision,
        capture.epoch,
        capture.weight_bp,
        False,
        capture.store_bodies,
    )


def decoded(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo gzip or deflate, up to ``limit`` bytes; anything else stays as it is."""
    if encoding not in (b"gzip", b"deflate"):
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, limit)
    except zlib.error:
        return body


def _text(body: bytes) -> str:
    # PostgreSQL's text holds no NUL; neither does any JSON
    return body.decode("utf-8", "replace").replace("\0", "\ufffd")
