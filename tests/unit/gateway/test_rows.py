"""Captures as the store's rows: complete, decoded, and of the tables' own columns."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.batch import Capture
from gateway.rows import Packed, decoded, statements
from gateway.store.tables import LIVE_FIRST, CaptureRow, PairRow


@pytest.fixture
def capture(make_capture: Callable[..., Capture]) -> Packed:
    """A capture that a mirror and the live sample want, as a packet holds it."""
    made = make_capture(
        output_tokens=7, segment="billing", epoch=2, weight_bp=3, pairs=[(1, "mirror"), (1, "live")]
    )
    return msgspec.convert(made, Packed, from_attributes=True)


def rows(captures: list[Packed], table: str, *, is_sqlite: bool) -> list[dict[str, Any]]:
    """Read the statements back: the rows of ``table`` by column."""
    found = []
    for sql, executions in statements(captures, is_sqlite=is_sqlite):
        if not sql.startswith(f"INSERT INTO {table} ("):
            continue
        columns = sql[sql.index("(") + 1 : sql.index(")")].split(", ")
        for values in executions:
            assert sql.count("?" if is_sqlite else "%s") == len(values)
            assert len(values) % len(columns) == 0
            found += [
                dict(zip(columns, values[start : start + len(columns)], strict=True))
                for start in range(0, len(values), len(columns))
            ]
    return found


@pytest.mark.parametrize("is_sqlite", [True, False])
@pytest.mark.parametrize("count", [0, 1, 25, 26, 120])
def test_every_capture_becomes_a_row(capture: Packed, count: int, is_sqlite: bool) -> None:
    """Whatever the size of the batch, no capture and no pair is left out or doubled."""
    captures = [msgspec.structs.replace(capture, id=str(number)) for number in range(count)]
    written = rows(captures, "capture", is_sqlite=is_sqlite)
    assert [row["id"] for row in written] == [each.id for each in captures]
    pairs = rows(captures, "pair", is_sqlite=is_sqlite)
    assert [(row["capture_id"], row["stream"]) for row in pairs] == [
        (each.id, stream) for each in captures for stream in ("mirror", "live")
    ]


def test_rows_fit_the_tables(capture: Packed) -> None:
    """A column that is added to a table and must have a value is not forgotten here."""
    (row,) = rows([capture], "capture", is_sqlite=True)
    later = {"bodies_removed_at"}
    assert set(row) == set(CaptureRow.model_fields) - later
    assert CaptureRow(**row).output_tokens == 7
    mirror, live = rows([capture], "pair", is_sqlite=True)
    needed = {name for name, field in PairRow.model_fields.items() if field.is_required()}
    assert needed <= set(mirror) <= set(PairRow.model_fields)
    assert (mirror["lease_until"], live["lease_until"]) == (0.0, LIVE_FIRST)
    assert (mirror["state"], mirror["segment"]) == ("pending", "billing")


@pytest.mark.parametrize(
    ("body", "encoding", "text"),
    [
        ("né".encode(), b"", "né"),
        (b"a\xff\0b", b"", "a\ufffd\ufffdb"),
        (gzip.compress(b"answer", mtime=0), b"gzip", "answer"),
        (zlib.compress(b"answer"), b"deflate", "answer"),
        (b"no gzip", b"gzip", "no gzip"),
        (b"as it is", b"identity", "as it is"),
    ],
)
def test_bodies_are_text(capture: Packed, body: bytes, encoding: bytes, text: str) -> None:
    """Compressed answers are undone, and what no text can hold is replaced."""
    changed = msgspec.structs.replace(capture, response_body=body, content_encoding=encoding)
    (row,) = rows([changed], "capture", is_sqlite=True)
    assert row["response_body"] == text


def test_a_small_body_does_not_unpack_without_end() -> None:
    """What a few bytes unpack to is cut, so that an answer can't fill the memory."""
    assert len(decoded(gzip.compress(b"a" * 100_000), b"gzip", 1000)) == 1000
