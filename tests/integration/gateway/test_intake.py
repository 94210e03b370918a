"""Captures from a gateway's packets to rows, on both databases: each once, whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sqlmodel import select

from gateway import intake
from gateway.batch import Batch, Capture
from gateway.errors import StoreError
from gateway.intake import any_packets, count_packed, unpack
from gateway.store import Store
from gateway.store.evidence import load_funnel
from gateway.store.tables import CaptureRow, IntakeRow, PairRow
from gateway.writer import write_batch
from shadow.pairs import ClaimRules, claim_pairs, count_pending

Many = Callable[[int], list[Capture]]


def hand_over(store: Store, captures: list[Capture], number: int = 1) -> None:
    """Write a batch as a gateway does."""
    batch = Batch(number=number, captures=captures)
    for capture in captures:
        for rollout_id, stream in capture.pairs:
            batch.end(rollout_id, stream, "pending")
    with store.write() as session:
        assert write_batch(store, session, batch, replica="g1", started_at=0.0)


@pytest.fixture
def many(make_capture: Callable[..., Capture]) -> Many:
    """Makes captures c0, c1 and so on that a mirror and its noise want."""
    capture = make_capture(pairs=[(1, "mirror"), (1, "noise")])
    return lambda count: [replace(capture, id=f"c{number}") for number in range(count)]


def stored(store: Store) -> list[str]:
    """Return the ids of captures that are rows."""
    with store.read() as session:
        return sorted(session.exec(select(CaptureRow.id)).all())


def test_packets_wait_and_are_counted_until_a_worker_unpacks_them(store: Store, many: Many) -> None:
    """A large batch is several packets; what waits in them counts as pending."""
    hand_over(store, many(600))
    with store.read() as session:
        assert any_packets(session)
        assert count_packed(session) == 1200
        assert len(session.exec(select(IntakeRow)).all()) == 3
    assert stored(store) == []
    assert count_pending(store) == 1200
    assert unpack(store, limit=2) == 2
    assert unpack(store, limit=2) == 1
    assert unpack(store) == 0
    assert len(stored(store)) == 600
    assert count_pending(store) == 1200
    with store.read() as session:
        assert not any_packets(session)
        assert load_funnel(session, 1)["mirror"] == {"eligible": 600, "pending": 600}


def test_claiming_unpacks_first(store: Store, many: Many) -> None:
    """A worker that claims need not know of packets; without a rollout their pairs expire."""
    hand_over(store, many(3))
    heard: list[Any] = []
    rules = ClaimRules("w1")
    assert claim_pairs(store, rules, now=10.0, limit=9, expired=lambda *e: heard.append(e)) == []
    assert len(heard) == 6
    assert stored(store) == ["c0", "c1", "c2"]


def test_two_workers_unpack_each_packet_once(store: Store, many: Many) -> None:
    """Nothing is unpacked twice, and nothing is left."""
    for number in range(8):
        some = [replace(each, id=f"{number}-{each.id}") for each in many(20)]
        hand_over(store, some, number + 1)
    counts: list[int] = []

    def work() -> None:
        while count := unpack(store, limit=1):
            counts.append(count)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert unpack(store) == 0
    assert len(counts) == 8
    assert len(stored(store)) == 160


def test_a_worker_that_dies_leaves_the_packet(
    store: Store, many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and the packet's end are one transaction."""
    hand_over(store, many(5))

    def die(*_: Any, **__: Any) -> None:
        raise StoreError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(intake, "delete", die)
        with pytest.raises(StoreError, match="killed"):
            unpack(store)
    assert stored(store) == []
    assert unpack(store) == 1
    assert len(stored(store)) == 5


def test_a_capture_that_the_store_refuses_is_shed_alone(store: Store, many: Many) -> None:
    """Its neighbours become rows, and the funnel says what is missing."""
    hand_over(store, many(2))
    unpack(store)
    _, known = many(2)
    hand_over(store, [known, replace(known, id="new")], 2)
    assert unpack(store) == 1
    assert stored(store) == ["c0", "c1", "new"]
    with store.read() as session:
        assert len(session.exec(select(PairRow)).all()) == 6
        assert load_funnel(session, 1)["mirror"] == {"eligible": 4, "pending": 3, "shed": 1}


def test_an_unreadable_packet_is_given_up_and_counted(store: Store, many: Many) -> None:
    """It stands in nobody's way, and its pairs are not pending for ever."""
    hand_over(store, many(2))
    with store.write() as session:
        row = session.exec(select(IntakeRow)).one()
        row.data = b"\xc1"
        session.add(row)
    assert unpack(store) == 1
    assert unpack(store) == 0
    assert count_pending(store) == 0
    with store.read() as session:
        assert load_funnel(session, 1)["noise"] == {"eligible": 2, "pending": 0, "shed": 2}


def test_a_newer_gateways_packet_is_read(store: Store, many: Many) -> None:
    """Fields that a later version adds at the end are left out."""
    hand_over(store, many(1))
    with store.write() as session:
        row = session.exec(select(IntakeRow)).one()
        (fields,) = msgspec.msgpack.decode(row.data)
        row.data = msgspec.msgpack.encode([[*fields, "later"]])
        session.add(row)
    unpack(store)
    assert stored(store) == ["c0"]
