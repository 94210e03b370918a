"""Taking captures out of the store on both databases: all that came of them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlmodel import select

from gateway.batch import Batch, Capture
from gateway.errors import StoreError
from gateway.intake import any_packets, drop_packed, unpack
from gateway.settings_privacy import RetentionSettings
from gateway.store import Store
from gateway.store.erasure import NOT_KEPT, erase_captures, erase_finished_bodies, remove_bodies
from gateway.store.evidence import Evidence, append_evidence, load_evidence, load_funnel
from gateway.store.tables import (
    CaptureRow,
    DeletionRow,
    JudgeCacheRow,
    JudgmentRow,
    OutcomeRow,
    PairRow,
    RolloutRow,
)
from gateway.writer import write_batch
from rollout import retention
from rollout.retention import BATCH, sweep

SECRET = "the-words-of-somebody"
KEEP = RetentionSettings(bodies=100.0, captures=1000.0, judge_cache=500.0)


@pytest.fixture
def fill(store: Store, make_capture: Callable[..., Capture]) -> Callable[..., None]:
    """Stores captures as gateways and workers do: a mirror and a noise pair of rollout 1 each."""
    numbers = iter(range(1, 1000))

    def write(*captures: dict[str, Any], packed: bool = False) -> None:
        made = [
            make_capture(**{
                "request_body": b'{"say": "%b"}' % SECRET.encode(),
                "pairs": [(1, "mirror"), (1, "noise")],
                **each,
            })
            for each in captures
        ]  # fmt: skip
        batch = Batch(number=next(numbers), captures=[replace(each) for each in made])
        for capture in made:
            for rollout_id, stream in capture.pairs:
                batch.end(rollout_id, stream, "pending")
        with store.write() as session:
            assert write_batch(store, session, batch, replica="g1", started_at=0.0)
        while not packed and unpack(store):
            pass

    return write


def finish(store: Store, capture_id: str, key: str) -> None:
    """Write what a worker writes of a capture's pairs, with a verdict kept under ``key``."""
    with store.write() as session:
        for pair in session.exec(select(PairRow).where(PairRow.capture_id == capture_id)).all():
            pair.state, pair.outcome = "done", "compared"
            pair.candidate_response, pair.candidate_error = SECRET, SECRET
            pair.checks = {"format_valid": {"candidate": {"outcome": "fail", "reason": SECRET}}}
            pair.comparison = {"result": "win", "reason": SECRET}
            assert pair.id is not None
            session.add(
                JudgmentRow(
                    pair_id=pair.id, rollout_id=1, order="AB", model="j", created_at=0.0,
                    evidence=SECRET, transcript=SECRET, verdict="A", cache_key=key,
                )
            )  # fmt: skip
        if session.get(JudgeCacheRow, key) is None:
            payload = {"verdict": {"verdict": "A", "evidence": SECRET}}
            session.add(JudgeCacheRow(key=key, payload=payload, created_at=0.0))


def count(store: Store, table: type[Any]) -> int:
    """Count a table's rows."""
    with store.read() as session:
        return len(session.exec(select(table)).all())


def test_a_capture_goes_with_all_that_came_of_it(store: Store, fill: Callable[..., None]) -> None:
    """A kept verdict goes only where nobody else has it, and the funnel stays whole."""
    fill({"id": "a"}, {"id": "b"}, {"id": "c"})
    finish(store, "a", "shared")
    finish(store, "b", "shared")
    finish(store, "a", "own")
    with store.write() as session:
        session.add(
            OutcomeRow(request_id="r", name="n", failure=0, posted_by="x", created_at=0.0,
                       capture_id="a")
        )  # fmt: skip
        append_evidence(store, session, 1, [Evidence("pair", 1.0, {"capture_id": "a"})])
    with store.write() as session:
        erased = erase_captures(store, session, ["a", "c", "unknown"])
    assert erased.to_json() == {
        "captures": 2,
        "pairs": 4,
        "judgments": 4,
        "judge_cache": 1,
        "others": 1,
    }
    with store.read() as session:
        assert session.exec(select(CaptureRow.id)).all() == ["b"]
        assert set(session.exec(select(PairRow.capture_id)).all()) == {"b"}
        assert session.exec(select(JudgeCacheRow.key)).all() == ["shared"]
        funnel = load_funnel(session, 1)
        assert len(load_evidence(session, 1, after=0)) == 1
    # finish() above moved no counts: of what was pending, the pairs of c were withheld
    assert funnel["mirror"] == {"eligible": 3, "pending": 2, "withheld": 1}
    with store.write() as session:
        assert not any(erase_captures(store, session, ["a", "c"]).to_json().values())


def test_a_body_goes_alone(store: Store, fill: Callable[..., None]) -> None:
    """What was found out stays: outcomes, verdicts, scores."""
    fill({"id": "a"}, {"id": "b"})
    finish(store, "a", "k")
    with store.write() as session:
        assert remove_bodies(store, session, ["a"], now=7.0) == 1
    with store.read() as session:
        capture = session.get(CaptureRow, "a")
        pairs = session.exec(select(PairRow).where(PairRow.capture_id == "a")).all()
        judgments = session.exec(select(JudgmentRow)).all()
        kept = session.get(JudgeCacheRow, "k")
        other = session.get(CaptureRow, "b")
    assert capture
    assert kept
    assert other
    assert (capture.request_body, capture.bodies_removed_at) == ("", 7.0)
    assert SECRET not in repr((capture, pairs, judgments, kept))
    assert pairs[0].candidate_error == "error"
    assert pairs[0].checks == {"format_valid": {"candidate": {"outcome": "fail"}}}
    assert pairs[0].comparison == {"result": "win", "reason": ""}
    assert judgments[0].verdict == "A"
    assert kept.payload["verdict"] == {"verdict": "A", "evidence": NOT_KEPT}
    assert SECRET in other.request_body


def test_leftovers_are_found(store: Store, fill: Callable[..., None]) -> None:
    """A capture that is not to be stored is emptied once its pairs are over, however they ended."""
    fill({"id": "done", "store_bodies": False}, {"id": "open", "store_bodies": False}, {"id": "b"})
    finish(store, "done", "k")
    finish(store, "b", "k2")
    assert sweep(store, KEEP, now=50.0) == 1
    assert sweep(store, KEEP, now=50.0) == 0
    with store.read() as session:
        left = {row.id: row.request_body for row in session.exec(select(CaptureRow)).all()}
    assert left["done"] == ""
    assert SECRET in left["open"]
    assert SECRET in left["b"]
    with store.write() as session:
        for pair in session.exec(select(PairRow).where(PairRow.capture_id == "open")).all():
            pair.state, pair.outcome = "done", "expired"
    with store.write() as session:
        assert erase_finished_bodies(store, session, now=60.0, ids=["b", "open"]) == 1


def test_retention_removes_what_is_over(store: Store, fill: Callable[..., None]) -> None:
    """Bodies first, captures later, in batches; what is younger stays."""
    fill(*({"id": f"c{number}", "created_at": float(number)} for number in range(BATCH + 50)))
    finish(store, "c0", "k")
    with store.write() as session:
        session.add(DeletionRow(key_hash="h", requested_at=0.0))
    now = 100.0 + BATCH
    assert sweep(store, KEEP, now=now) == BATCH
    with store.read() as session:
        rows = session.exec(select(CaptureRow)).all()
    assert {row.id for row in rows if row.bodies_removed_at == now} == {
        f"c{number}" for number in range(BATCH)
    }
    assert all((row.request_body == "") == (row.bodies_removed_at is not None) for row in rows)
    assert sweep(store, KEEP, now=now) == 0
    assert sweep(store, KEEP, now=1000.0 + BATCH) == BATCH + 50
    assert (count(store, CaptureRow), count(store, PairRow)) == (50, 100)
    assert (count(store, JudgmentRow), count(store, JudgeCacheRow)) == (0, 0)
    assert count(store, DeletionRow) == 1
    sweep(store, KEEP, now=1e6)
    assert (count(store, CaptureRow), count(store, DeletionRow)) == (0, 0)
    with store.read() as session:
        funnel = load_funnel(session, 1)["mirror"]
    assert funnel["eligible"] == BATCH + 50 == funnel["pending"] + funnel["withheld"]


def test_a_sweep_that_is_killed_goes_on_later(
    store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is a transaction of its own, and none is half done."""
    fill(*({"id": f"c{number}"} for number in range(3)))

    def die(*_: Any) -> None:
        raise StoreError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(retention, "erase_captures", die)
        with pytest.raises(StoreError, match="killed"):
            sweep(store, KEEP, now=5000.0)
    with store.read() as session:
        assert {row.request_body for row in session.exec(select(CaptureRow)).all()} == {""}
    sweep(store, KEEP, now=5000.0)
    assert count(store, CaptureRow) == 0


def test_evidence_goes_only_where_that_is_asked_for(store: Store) -> None:
    """And only of rollouts that ended so long ago."""
    with store.write() as session:
        for number, finished_at in ((1, 10.0), (2, None)):
            session.add(
                RolloutRow(
                    id=number, name=f"r{number}", generation=1, route="bot", spec={}, spec_hash="",
                    candidate_revision="", phase="x", created_at=0, updated_at=0,
                    finished_at=finished_at,
                )
            )  # fmt: skip
            facts = [Evidence("pair", 1.0, {})] * (BATCH + 1)
            append_evidence(store, session, number, facts)
    assert sweep(store, KEEP, now=1e6) == 0
    asked = KEEP.model_copy(update={"evidence": 1000.0})
    assert sweep(store, asked, now=500.0) == 0
    sweep(store, asked, now=5000.0)
    with store.read() as session:
        assert load_evidence(session, 1, after=0) == []
        assert len(load_evidence(session, 2, after=0)) == BATCH + 1


def test_packets_are_searched_too(store: Store, fill: Callable[..., None]) -> None:
    """What no worker has unpacked is taken out, and its neighbours become rows."""
    fill({"id": "a", "key_hash": "u"}, {"id": "b", "key_hash": "v"}, packed=True)
    fill({"id": "late", "key_hash": "u", "created_at": 99.0}, packed=True)
    with store.write() as session:
        assert drop_packed(store, session, "u", before=50.0) == 1
    with store.read() as session:
        assert load_funnel(session, 1)["noise"] == {"eligible": 3, "pending": 2, "withheld": 1}
        assert any_packets(session)
    while unpack(store):
        pass
    with store.read() as session:
        assert sorted(session.exec(select(CaptureRow.id)).all()) == ["b", "late"]


def test_what_arrives_after_a_deletion_is_dropped(store: Store, fill: Callable[..., None]) -> None:
    """A gateway may have held it; requests that the user makes later are theirs to make."""
    with store.write() as session:
        session.add(DeletionRow(key_hash="u", requested_at=50.0))
    fill({"id": "held", "key_hash": "u", "created_at": 49.0},
         {"id": "new", "key_hash": "u", "created_at": 51.0},
         {"id": "other", "created_at": 49.0})  # fmt: skip
    with store.read() as session:
        assert sorted(session.exec(select(CaptureRow.id)).all()) == ["new", "other"]
        assert load_funnel(session, 1)["mirror"] == {"eligible": 3, "pending": 2, "withheld": 1}
