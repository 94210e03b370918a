"""The writer's thread on both databases: backlogs, and captures that no store can hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Gauge
from sqlmodel import func, select

from gateway.batch import Capture, Scope
from gateway.capture import CaptureBuffer
from gateway.intake import unpack
from gateway.split import Split
from gateway.store import Store
from gateway.store.evidence import load_funnel
from gateway.store.tables import CaptureRow, EvidenceRow, PairRow, ReplicaRow
from gateway.writer import BatchWriter


@pytest.fixture
def capture(make_capture: Callable[..., Capture]) -> Capture:
    """A capture that a mirror and the live sample want."""
    return make_capture(
        request_body=b'{"model":"bot"}',
        response_body=b'{"choices":[]}',
        output_tokens=70_000,
        risk="low",
        epoch=2,
        weight_bp=3,
        pairs=[(1, "mirror"), (1, "live")],
    )


@pytest.fixture
def buffer() -> CaptureBuffer:
    """An empty buffer."""
    return CaptureBuffer(max_bytes=10_000_000, max_count=10_000, now=0)


@pytest.fixture
def writer(store: Store, buffer: CaptureBuffer) -> BatchWriter:
    """A writer of the buffer, not started."""
    gauge = Gauge("store_up", "Up.", registry=CollectorRegistry())
    return BatchWriter(store, buffer, replica="g1", interval=0.01, store_up=gauge, redaction=None)


def add(buffer: CaptureBuffer, *captures: Capture) -> None:
    """Put captures in as the hot path does."""
    for capture in captures:
        assert buffer.reserve(capture.size)
        assert buffer.add(capture)


def unpack_all(store: Store) -> None:
    """Do what a worker does with what the gateway handed over."""
    while unpack(store):
        pass


def until(condition: Callable[[], bool]) -> None:
    """Wait for the writer's thread."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing was written in time"
        time.sleep(0.005)


def test_a_backlog_is_written_in_parts_and_in_full(
    store: Store, buffer: CaptureBuffer, writer: BatchWriter, capture: Capture
) -> None:
    """What piled up while the store was down is written in several transactions, each counted."""
    total = 5203
    add(buffer, *(replace(capture, id=f"c{number}") for number in range(total)))
    writer.start()
    assert writer.stop(20)
    unpack_all(store)
    with store.read() as session:
        assert session.exec(select(func.count()).select_from(CaptureRow)).one() == total
        assert session.exec(select(func.count()).select_from(PairRow)).one() == 2 * total
        expected = {"eligible": total, "pending": total}
        assert load_funnel(session, 1) == {"mirror": expected, "live": expected}
        row = session.exec(select(ReplicaRow)).one()
        written = session.exec(select(CaptureRow).where(CaptureRow.id == "c7")).one()
    assert row.last_batch >= 3
    assert row.stopped_at is not None
    assert (buffer.bytes, buffer.waiting) == (0, 0)
    assert written.model_dump() == {
        "id": "c7",
        "route": "bot",
        "request_id": "r",
        "created_at": 3.5,
        "endpoint": "/chat/completions",
        "variant": "baseline",
        "reason": "split",
        "deployment": "base",
        "stream": False,
        "request_body": '{"model":"bot"}',
        "response_body": '{"choices":[]}',
        "status": 200,
        "ttft_s": None,
        "total_s": 0.25,
        "input_tokens": None,
        "output_tokens": 70_000,
        "segment": None,
        "risk": "low",
        "key_hash": None,
        "split_revision": 1,
        "epoch": 2,
        "weight_bp": 3,
        "truncated": False,
        "store_bodies": True,
        "bodies_removed_at": None,
    }


def test_a_capture_that_no_store_holds_is_shed(
    store: Store, buffer: CaptureBuffer, writer: BatchWriter, capture: Capture
) -> None:
    """It costs its batch's captures, not the counts, and the writer goes on."""
    split = Split("bot", 1, "base", candidate="cand", weight_bp=100, rollout_id=1)
    buffer.settle(Scope(split), "baseline", 0)
    add(buffer, replace(capture, id="bad", endpoint="/lone\ud800"))
    writer.start()
    until(lambda: buffer.bytes == 0)
    add(buffer, replace(capture, id="good"))
    assert writer.stop(20)
    unpack_all(store)
    with store.read() as session:
        (written,) = session.exec(select(CaptureRow)).all()
        funnel = load_funnel(session, 1)
        facts = {fact.kind: fact.payload for fact in session.exec(select(EvidenceRow)).all()}
    assert written.id == "good"
    assert funnel["mirror"] == {"eligible": 2, "shed": 1, "pending": 1}
    assert facts["window"]["arms"]["baseline"]["requests"] == 1
    assert [sum(lost.values()) for lost in facts["dropped"]["segments"].values()] == [1]
