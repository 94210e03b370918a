"""What gateways write: captures, pairs, funnel, windows, their own row; on both databases."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import select

from gateway.batch import Batch
from gateway.split import Eligibility, Mirror
from gateway.store import Store
from gateway.store.evidence import load_funnel
from gateway.store.tables import LIVE_FIRST, CaptureRow, EvidenceRow, PairRow, ReplicaRow
from gateway.writer import write_batch

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\n'
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def mirror(rollout_id: int = 1, share: int = 10_000, noise: int = 0) -> Mirror:
    """Build a mirror."""
    return Mirror(
        rollout_id=rollout_id,
        rollout=f"r{rollout_id}",
        candidate="cand",
        percentage_bp=share,
        noise_bp=noise,
        salt=f"m{rollout_id}",
    )


SHADOW = {"candidate": "cand", "salt": "s", "rollout": "r1", "rollout_id": 1}


def test_a_capture_is_the_request_and_the_answer(world: Any, store_url: str) -> None:
    """What users sent and got is kept as it was, without any key, and a pair is made of it."""
    document = {
        "routes": {"bot": {"baseline": "base", "segment": "metadata.kind", "risk": "header:x-risk"}}
    }

    async def scenario() -> None:
        async with world(url=store_url, document=document) as w:
            await w.split(**SHADOW, mirrors=(mirror(noise=10_000), mirror(2)))
            response = await w.chat(
                user="u1",
                metadata={"kind": "billing\0"},
                headers={"authorization": "Bearer sk-secret", "x-risk": "low"},
            )
            await w.funnel(1, "mirror", 1)
            (capture,) = await w.rows(select(CaptureRow))
            assert json.loads(capture.request_body)["model"] == "bot"
            assert capture.response_body == response.text
            assert capture.request_id == response.headers["x-request-id"]
            assert (capture.variant, capture.reason, capture.deployment) == (
                "baseline",
                "split",
                "base",
            )
            assert (capture.endpoint, capture.stream, capture.status) == (
                "/chat/completions",
                False,
                200,
            )
            assert (capture.input_tokens, capture.output_tokens) == (3, 2)
            assert (capture.segment, capture.risk) == ("billing\ufffd", "low")
            assert capture.key_hash
            assert "u1" not in capture.key_hash
            assert capture.total_s >= capture.ttft_s > 0
            assert "sk-secret" not in repr(capture)
            pairs = await w.rows(select(PairRow))
            assert {(p.rollout_id, p.stream, p.state, p.capture_id) for p in pairs} == {
                (1, "mirror", "pending", capture.id),
                (1, "noise", "pending", capture.id),
                (2, "mirror", "pending", capture.id),
            }

    asyncio.run(scenario())


def test_a_streams_capture_is_what_the_upstream_sent(world: Any) -> None:
    """The usage chunk that the client never saw is in the capture."""

    async def stream(received: Any) -> None:
        await received.begin_stream()
        for piece in (DELTA, USAGE, DONE):
            await received.chunk(piece)
        await received.chunk(b"")

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW, mirrors=(mirror(),))
            w.baseline.handler = stream
            assert (await w.chat(stream=True)).content == DELTA + DONE
            await w.funnel(1, "mirror", 1)
            (capture,) = await w.rows(select(CaptureRow))
            assert capture.response_body.encode() == DELTA + USAGE + DONE
            assert capture.stream
            assert capture.output_tokens == 9

    asyncio.run(scenario())


def test_the_funnel_adds_up(world: Any) -> None:
    """Every eligible request ends in exactly one of the funnel's outcomes."""

    async def answer(received: Any) -> None:
        size = received.json.get("size", 0)
        status = received.json.get("status", "200 OK")
        await received.answer(json.dumps({"x": "y" * size}).encode(), status=status)

    async def scenario() -> None:
        async with world(max_capture_bytes=2000) as w:
            await w.split(
                **SHADOW,
                mirrors=(mirror(share=5000, noise=5000), mirror(2)),
                eligible=Eligibility(headers=(("x-in", "yes"),)),
            )
            w.baseline.handler = answer
            inside = {"x-in": "yes"}
            for _ in range(20):
                await w.chat(headers=inside)
            await w.chat(headers=inside, size=3000)
            await w.chat(headers=inside, filler="z" * 3000)
            await w.chat(headers=inside, n=2)
            await w.chat(headers=inside, status="500 Oops")
            await w.chat(headers={**inside, "x-coalmine-shadow": "off"})
            await w.client.post("/embeddings", json={"model": "bot", "input": "x"}, headers=inside)
            await w.client.post("/moderations", json={"model": "bot"}, headers=inside)
            await w.chat()  # not eligible
            whole = await w.funnel(2, "mirror", 27)
            assert whole == {
                "eligible": 27,
                "pending": 21,
                "over_size": 2,
                "unsupported": 3,
                "withheld": 1,
            }
            half = await w.funnel(1, "mirror", 27)
            assert half.pop("eligible") == 27 == sum(half.values())
            assert half["not_sampled"] > 0
            noise = await w.funnel(1, "noise", 27 - half["not_sampled"])
            assert noise.pop("eligible") == sum(noise.values()) == 27 - half["not_sampled"]
            pairs = await w.rows(select(PairRow))
            counts = Counter((p.rollout_id, p.stream) for p in pairs)
            assert counts[2, "mirror"] == 21
            assert counts[1, "mirror"] == half["pending"]
            assert counts[1, "noise"] == noise["pending"]
            assert w.metric("coalmine_capture_buffer_bytes") == 0

    asyncio.run(scenario())


def test_live_samples_and_windows_count_both_arms(world: Any) -> None:
    """While weight is above 0, both arms are sampled alike, and every randomised answer counts."""

    async def scenario() -> None:
        async with world() as w:
            split = await w.split(
                **SHADOW, weight_bp=5000, live_sample_bp=10_000, slo_s=0.0, epoch=3
            )
            served: Counter[str] = Counter()
            for number in range(30):
                response = await w.chat(user=f"u{number}")
                served[response.headers["x-coalmine-variant"]] += 1
                again = await w.chat(user=f"u{number}")
                assert again.headers["x-coalmine-variant"] == response.headers["x-coalmine-variant"]
            assert min(served.values()) > 0
            live = await w.funnel(1, "live", 60)
            assert live == {"eligible": 60, "pending": 60}
            pairs = await w.rows(select(PairRow))
            assert {pair.lease_until for pair in pairs} == {LIVE_FIRST}
            captures = await w.rows(select(CaptureRow))
            assert Counter(c.variant for c in captures) == {k: 2 * n for k, n in served.items()}
            rows = await w.rows(select(EvidenceRow).where(EvidenceRow.kind == "window"))
            totals: Counter[str] = Counter()
            for row in rows:
                assert row.epoch == 3
                assert row.payload["weight_bp"] == 5000
                assert row.payload["split_revision"] == split.revision
                assert row.payload["from_at"] <= row.payload["to_at"]
                for variant, tally in row.payload["arms"].items():
                    totals[variant] += tally["requests"]
                    assert tally["latency"] == tally["requests"]  # all above an objective of 0 s
                    assert tally["error_rate"] == 0
            assert totals == {k: 2 * n for k, n in served.items()}
            assert [row.seq for row in rows] == list(range(1, len(rows) + 1))

    asyncio.run(scenario())


def test_a_fallback_is_mirrored_but_no_live_sample(world: Any) -> None:
    """What the baseline answered in the candidate's place is a baseline answer, not a live one."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW, weight_bp=10_000, live_sample_bp=10_000, mirrors=(mirror(),))
            w.candidate.handler = lambda r: r.answer(b"{}", status="500 Oops")
            assert (await w.chat()).headers["x-coalmine-reason"] == "fallback"
            assert await w.funnel(1, "live", 1) == {"eligible": 1, "unsupported": 1}
            assert await w.funnel(1, "mirror", 1) == {"eligible": 1, "pending": 1}
            (pair,) = await w.rows(select(PairRow))
            assert pair.stream == "mirror"

    asyncio.run(scenario())


def test_a_split_change_is_served_and_acknowledged(world: Any, store_url: str) -> None:
    """Weights change while requests run; after 0 is acknowledged the candidate gets nothing."""

    async def scenario() -> None:
        async with world(url=store_url) as w:
            await w.split(**SHADOW, weight_bp=10_000)
            assert (await w.chat()).headers["x-coalmine-variant"] == "candidate"
            split = await w.split(weight_bp=0)
            assert (await w.chat()).headers["x-coalmine-variant"] == "baseline"
            known: dict[str, Any] = {}
            while known.get("revision") != split.revision:
                for row in await w.rows(select(ReplicaRow)):
                    known = row.revisions.get("bot", {})
                await asyncio.sleep(0.005)
            assert known["last_candidate_at"] <= known["applied_at"]
            assert len(w.candidate.requests) == 1
            assert w.metric("coalmine_split_weight_ratio") == 0

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_forced_variants(world: Any) -> None:
    """Only a client that may force a variant can, and what it does is no evidence."""
    clients = [
        {"name": "app", "key_env": "APP"},
        {"name": "tester", "key_env": "TESTER", "may_force_variant": True},
    ]

    async def scenario() -> None:
        environ = {"APP": "app-key", "TESTER": "tester-key"}
        async with world(environ=environ, document={"clients": clients}) as w:
            tester = {"authorization": "Bearer tester-key"}
            force = {"x-coalmine-force-variant": "candidate"}
            none = await w.chat(headers=tester | force)
            assert (none.status_code, none.json()["error"]["code"]) == (400, "no_candidate")
            await w.split(**SHADOW)
            forced = await w.chat(headers=tester | force)
            assert forced.headers["x-coalmine-variant"] == "candidate"
            assert forced.headers["x-coalmine-reason"] == "forced"
            assert "x-coalmine-force-variant" not in (await w.candidate.next()).headers
            denied = await w.chat(headers={"authorization": "Bearer app-key"} | force)
            assert denied.status_code == 403
            assert denied.json()["error"]["code"] == "force_variant_denied"
            odd = await w.chat(headers=tester | {"x-coalmine-force-variant": "both"})
            assert odd.status_code == 400
            await w.split(weight_bp=10_000)
            back = await w.chat(headers=tester | {"x-coalmine-force-variant": "baseline"})
            assert back.headers["x-coalmine-variant"] == "baseline"

    asyncio.run(scenario())


def test_eligibility_and_state_keep_requests_on_the_baseline(world: Any) -> None:
    """Requests outside the declared risk tiers, stateful or mirrored ones, stay put."""
    document = {"routes": {"bot": {"baseline": "base", "risk": "metadata.risk"}}}

    async def scenario() -> None:
        async with world(document=document) as w:
            await w.split(**SHADOW, weight_bp=10_000, eligible=Eligibility(risk=("low",)))
            for risk, variant in (("low", "candidate"), ("high", "baseline"), (None, "baseline")):
                response = await w.chat(metadata={"risk": risk})
                assert response.headers["x-coalmine-variant"] == variant
            assert response.headers["x-coalmine-reason"] == "ineligible"
            response = await w.client.post(
                "/responses",
                json={"model": "bot", "previous_response_id": "r", "metadata": {"risk": "low"}},
            )
            assert response.headers["x-coalmine-reason"] == "ineligible"
            mirrored = await w.chat(metadata={"risk": "low"}, headers={"x-coalmine-mirror": "1"})
            assert mirrored.headers["x-coalmine-reason"] == "ineligible"

    asyncio.run(scenario())


DOWN = "postgresql+psycopg://nobody@127.0.0.1:1/none"


def test_without_a_store_the_last_split_is_served(world: Any, tmp_path: Any) -> None:
    """A gateway starts from its snapshot while the store is down, and serves as before."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW, weight_bp=10_000, mirrors=(mirror(),))
            snapshot = tmp_path / "splits.json"
            await w.until(lambda: snapshot.exists() and "cand" in snapshot.read_text())
        async with world(url=DOWN) as w:
            await w.until(lambda: w.metric("coalmine_split_weight_ratio") == 1)
            response = await w.chat()
            assert response.headers["x-coalmine-variant"] == "candidate"
            assert store_up(w) == 0

    asyncio.run(scenario())


def test_without_store_and_snapshot_the_settings_are_served(world: Any) -> None:
    """A first start without anything but settings serves every route's baseline."""

    async def scenario() -> None:
        async with world(url=DOWN) as w:
            assert (await w.chat()).headers["x-coalmine-reason"] == "default"

    asyncio.run(scenario())


def test_a_full_buffer_sheds_and_counts(world: Any, tmp_path: Any) -> None:
    """While the store takes nothing, captures beyond the bound are shed, and counted later."""

    async def scenario() -> None:
        async with world(capture_buffer_count=5) as w:
            await w.split(**SHADOW, mirrors=(mirror(),))
            with w.store.write():  # SQLite's write lock: the writer must wait
                for _ in range(40):
                    assert (await w.chat()).status_code == 200
            found = await w.funnel(1, "mirror", 40)
            assert found["eligible"] == 40 == found["shed"] + found["pending"]
            assert 5 <= found["pending"] < 40
            assert len(await w.rows(select(PairRow))) == found["pending"]

    asyncio.run(scenario())


def store_up(w: Any) -> float | None:
    """Read whether the gateway could write."""
    return w.gateway.registry.get_sample_value("coalmine_store_up")  # type: ignore[no-any-return]


def reconciled(found: dict[str, int], total: int) -> None:
    """Check that each of ``total`` eligible requests ended in exactly one outcome."""
    assert found["eligible"] == total == sum(found.values()) - total


def test_a_full_disk_costs_captures_only(world: Any) -> None:
    """With no room in the store, requests are served and shed; with room again, all is counted."""
    pages = [1]  # SQLite rounds up to what is there: not one page more

    async def scenario() -> None:
        async with world(capture_buffer_count=8) as w:
            await w.split(**SHADOW, mirrors=(mirror(noise=5000),))
            engine = w.gateway.gateway.store.engine

            @event.listens_for(engine, "begin")
            def limit(connection: Any) -> None:
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

            while store_up(w) == 1:
                assert (await w.chat(filler="x" * 5000)).status_code == 200
                assert len(w.baseline.requests) < 1000, "the disk never filled up"
            served = len(w.baseline.requests)
            for _ in range(30):
                assert (await w.chat(filler="x" * 5000)).status_code == 200
                assert w.gateway.gateway.buffer.waiting <= 8
            pages[0] = 2**30
            total = served + 30
            found = await w.funnel(1, "mirror", total)
            reconciled(found, total)
            assert found["shed"] >= 22
            assert len(await w.rows(select(CaptureRow))) == found["pending"] >= 8
            noise = await w.funnel(1, "noise", 1)
            reconciled(noise, noise["eligible"])
            assert store_up(w) == 1
            assert w.gateway.gateway.buffer.bytes == 0

    asyncio.run(scenario())


_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold SQLite's write lock in another process."""
    command = [sys.executable, "-c", _LOCK, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"locked\n"
            yield
        finally:
            process.stdin.close()
            process.wait(20)


def test_a_store_locked_for_long_loses_no_count(world: Any) -> None:
    """A lock held past the store's patience delays what is counted, and counts nothing twice."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW, weight_bp=5000, live_sample_bp=5000, mirrors=(mirror(),))
            engine = w.gateway.gateway.store.engine

            @event.listens_for(engine, "checkout")
            def impatient(connection: Any, *_: Any) -> None:
                connection.execute("PRAGMA busy_timeout = 20")

            arms: Counter[str] = Counter()
            with locked(str(w.store.path)):
                for _ in range(20):
                    answer = await w.chat()
                    assert answer.status_code == 200
                    arms[answer.headers["x-coalmine-variant"]] += 1
                await w.until(lambda: store_up(w) == 0)
                for _ in range(20):
                    arms[(await w.chat()).headers["x-coalmine-variant"]] += 1
            live = await w.funnel(1, "live", 40)
            reconciled(live, 40)
            assert live["not_sampled"] > 0
            mirrored = await w.funnel(1, "mirror", arms["baseline"])
            assert mirrored == {"eligible": arms["baseline"], "pending": arms["baseline"]}
            totals: Counter[str] = Counter()
            for row in await w.rows(select(EvidenceRow).where(EvidenceRow.kind == "window")):
                for variant, tally in row.payload["arms"].items():
                    totals[variant] += tally["requests"]
            assert totals == arms

    asyncio.run(scenario())


def test_an_undeclared_candidate_gets_nothing(world: Any) -> None:
    """A split that names a deployment this gateway does not know leaves all with the baseline."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**{**SHADOW, "candidate": "unknown"}, weight_bp=10_000)
            response = await w.chat()
            assert response.headers["x-coalmine-variant"] == "baseline"
            assert w.metric("coalmine_split_weight_ratio") == 0

    asyncio.run(scenario())


def test_a_silent_controller_narrows_to_zero(world: Any) -> None:
    """With a TTL set, weights count as 0 once the controller has given no sign for so long."""

    async def scenario() -> None:
        async with world(controller_ttl=0.3) as w:
            await w.split(**SHADOW, weight_bp=10_000)
            await w.until(lambda: w.metric("coalmine_split_weight_ratio") == 0)
            assert (await w.chat()).headers["x-coalmine-variant"] == "baseline"

    asyncio.run(scenario())


@pytest.mark.parametrize("twice", [False, True])
def test_a_batch_counts_once(store: Store, twice: bool) -> None:
    """A batch whose commit was not acknowledged can be written again and counts once."""
    batch = Batch(number=1, to_at=5.0, revisions={"bot": {"revision": 1}})
    batch.funnel[1, "mirror", "eligible"] = 3
    written = []
    for _ in range(1 + twice):
        with store.write() as session:
            written.append(write_batch(store, session, batch, replica="g1", started_at=1.0))
    assert written == [True, False][: 1 + twice]
    with store.read() as session:
        assert load_funnel(session, 1) == {"mirror": {"eligible": 3}}
        (row,) = session.exec(select(ReplicaRow)).all()
    assert (row.role, row.last_batch, row.revisions) == ("gateway", 1, {"bot": {"revision": 1}})
