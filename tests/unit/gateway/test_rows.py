"""Captures as the store's rows: complete, decoded, and of the tables' own columns."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import msgspec
import pytest

from gateway.rows import Packed, decoded, statements
from gateway.store.tables import LIVE_FIRST, CaptureRow, PairRow

CAPTURE = Packed(
    id="c",
    route="bot",
    request_id="r",
    created_at=3.5,
    endpoint="/chat/completions",
    variant="baseline",
    reason="split",
    deployment="base",
    stream=True,
    request_body=b"{}",
    response_body=b"{}",
    content_encoding=b"",
    status=200,
    ttft_s=None,
    total_s=0.1,
    input_tokens=None,
    output_tokens=7,
    segment="billing",
    risk=None,
    key_hash=None,
    split_revision=1,
    epoch=2,
    weight_bp=3,
    pairs=[(1, "mirror"), (1, "live")],
)


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
def test_every_capture_becomes_a_row(count: int, is_sqlite: bool) -> None:
    """Whatever the size of the batch, no capture and no pair is left out or doubled."""
    captures = [msgspec.structs.replace(CAPTURE, id=str(number)) for number in range(count)]
    written = rows(captures, "capture", is_sqlite=is_sqlite)
    assert [row["id"] for row in written] == [capture.id for capture in captures]
    pairs = rows(captures, "pair", is_sqlite=is_sqlite)
    assert [(row["capture_id"], row["stream"]) for row in pairs] == [
        (capture.id, stream) for capture in captures for stream in ("mirror", "live")
    ]


def test_rows_fit_the_tables() -> None:
    """A column that is added to a table and must have a value is not forgotten here."""
    (row,) = rows([CAPTURE], "capture", is_sqlite=True)
    assert set(row) == set(CaptureRow.model_fields)
    assert CaptureRow(**row).output_tokens == 7
    mirror, live = rows([CAPTURE], "pair", is_sqlite=True)
    needed = {name for name, field in PairRow.model_fields.items() if field.is_required()}
    assert needed <= set(mirror) <= set(PairRow.model_fields)
    assert (mirror["lease_until"], live["lease_until"]) == (0.0, LIVE_FIRST)
    assert (mirror["state"], mirror["segment"]) == ("pending", "billing")


@pytest.mark.parametrize(
    ("body", "encoding", "text"),
    [
        ("né".encode(), b"", "né"),
        (b"a\xff\0b", b"", "a\ufffd\ufffdb"),
        (gzip.compress(b"answer"), b"gzip", "answer"),
        (zlib.compress(b"answer"), b"deflate", "answer"),
        (b"no gzip", b"gzip", "no gzip"),
        (b"as it is", b"identity", "as it is"),
    ],
)
def test_bodies_are_text(body: bytes, encoding: bytes, text: str) -> None:
    """Compressed answers are undone, and what no text can hold is replaced."""
    capture = msgspec.structs.replace(CAPTURE, response_body=body, content_encoding=encoding)
    (row,) = rows([capture], "capture", is_sqlite=True)
    assert row["response_body"] == text


def test_a_small_body_does_not_unpack_without_end() -> None:
    """What a few bytes unpack to is cut, so that an answer can't fill the memory."""
    assert len(decoded(gzip.compress(b"a" * 100_000), b"gzip", 1000)) == 1000
