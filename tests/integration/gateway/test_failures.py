"""What happens when a deployment fails: the client sees the documented behaviour and no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlmodel import select

from gateway.store.tables import EvidenceRow

ALL = {"candidate": "cand", "weight_bp": 10_000, "salt": "s", "rollout": "r", "rollout_id": 1}
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


async def close_early(received: Any) -> None:
    """Close before any byte of an answer."""
    received.cut()


async def garbage(received: Any) -> None:
    """Answer with something that is no HTTP."""
    await received.send(b"SSH-2.0-OpenSSH\r\n\r\n")


async def huge_head(received: Any) -> None:
    """Answer with headers without end."""
    await received.send(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"a" * 100_000 + b"\r\n\r\n")


async def smuggle(received: Any) -> None:
    """Answer with two contradictory lengths."""
    await received.send(
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    )


async def hang(received: Any) -> None:
    """Never answer."""
    await received.gone.wait()


async def head_then_hang(received: Any) -> None:
    """Send a head, then nothing."""
    await received.begin_stream()
    await received.gone.wait()


async def cut_json(received: Any) -> None:
    """Break off in the middle of a JSON answer."""
    await received.send(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"id":')
    received.cut()


def status(line: str) -> Callable[[Any], Awaitable[None]]:
    """Answer with this status."""
    return lambda received: received.answer(b'{"error":{}}', status=line)


@pytest.mark.parametrize(
    ("fault", "cause", "timeout"),
    [
        (close_early, "closed", 0),
        (garbage, "protocol", 0),
        (huge_head, "protocol", 0),
        (smuggle, "protocol", 0),
        (hang, "timeout", 1),
        (head_then_hang, "timeout", 1),
        (cut_json, "closed", 0),
        (status("500 Oops"), "5xx", 0),
        (status("503 Busy"), "5xx", 0),
        (status("429 Slow Down"), "429", 0),
        (None, "connect", 0),
    ],
)
def test_baseline_serves_what_the_candidate_fails(
    world: Any, fault: Any, cause: str, timeout: int
) -> None:
    """A failure before the first byte is mended by the baseline and charged to the candidate."""

    async def scenario() -> None:
        async with world(first_byte_timeout=1.0) as w:
            await w.split(**ALL)
            if fault is None:
                await w.candidate.stop()
            else:
                w.candidate.handler = fault
            response = await w.chat()
            assert response.status_code == 200
            assert response.json()["choices"][0]["message"]["content"] == "hi"
            assert response.headers["x-coalmine-variant"] == "baseline"
            assert response.headers["x-coalmine-reason"] == "fallback"
            assert response.headers["x-coalmine-rollout"] == "r"
            assert w.baseline.requests[0].json["model"] == "base-model"
            assert w.metric("coalmine_fallbacks_total", cause=cause) == 1
            rows: list[Any] = []

            async def arrived() -> bool:
                rows[:] = await w.rows(select(EvidenceRow).where(EvidenceRow.kind == "window"))
                return bool(rows)

            while not await arrived():
                await asyncio.sleep(0.005)
            arms = rows[0].payload["arms"]
            assert arms["candidate"]["requests"] == 1
            assert arms["candidate"]["error_rate"] == 1
            assert arms["candidate"]["timeout_rate"] == timeout
            assert arms["baseline"]["requests"] == 0
            assert len(rows) == 1

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_client_errors_of_the_candidate_are_the_clients(world: Any) -> None:
    """A 400 is the client's mistake: it is passed on and not charged to anyone."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**ALL)
            w.candidate.handler = status("400 Bad Request")
            response = await w.chat()
            assert response.status_code == 400
            assert response.headers["x-coalmine-variant"] == "candidate"
            assert not w.baseline.requests

    asyncio.run(scenario())


@pytest.mark.parametrize("variant", ["baseline", "candidate"])
def test_a_cut_stream_ends_in_an_error_event(world: Any, variant: str) -> None:
    """After the first byte no other model takes over: whole events, an error event, the end."""

    async def cut(received: Any) -> None:
        await received.begin_stream()
        await received.chunk(DELTA)
        await received.chunk(DELTA[:20])
        received.cut()

    async def scenario() -> None:
        async with world() as w:
            if variant == "candidate":
                await w.split(**ALL)
            w.candidate.handler = w.baseline.handler = cut
            response = await w.chat(stream=True)
            assert response.status_code == 200
            first, second, rest = response.content.split(b"\n\n")
            assert first + b"\n\n" == DELTA
            assert rest == b""
            error = json.loads(second.removeprefix(b"data: "))["error"]
            assert error["code"] == "upstream_closed"
            assert len(w.baseline.requests) + len(w.candidate.requests) == 1

    asyncio.run(scenario())


def test_a_silent_stream_ends_in_a_timeout_event(world: Any) -> None:
    """A deployment that falls silent in mid-stream is given up after the idle timeout."""

    async def silent(received: Any) -> None:
        await received.begin_stream()
        await received.chunk(DELTA)
        await received.gone.wait()

    async def scenario() -> None:
        async with world(idle_timeout=1.0) as w:
            w.baseline.handler = silent
            response = await w.chat(stream=True)
            assert b'"upstream_timeout"' in response.content
            await asyncio.wait_for(w.baseline.requests[0].gone.wait(), 20)

    asyncio.run(scenario())


def test_a_cut_json_answer_of_the_baseline_is_not_completed(world: Any) -> None:
    """An answer that breaks off can't be taken for a whole one: the connection breaks off too."""

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = cut_json
            with pytest.raises(httpx.RemoteProtocolError):
                await w.chat()
            w.baseline.handler = type(w.baseline.requests[0]).answer
            assert (await w.chat()).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "status_code", "code"),
    [
        (None, 502, "upstream_unavailable"),
        (close_early, 502, "upstream_unavailable"),
        (garbage, 502, "upstream_unavailable"),
        (hang, 504, "upstream_timeout"),
    ],
)
def test_a_dead_baseline_is_said_so(world: Any, fault: Any, status_code: int, code: str) -> None:
    """Without a baseline there is a clear error that names the deployment."""

    async def scenario() -> None:
        async with world(first_byte_timeout=1.0) as w:
            if fault is None:
                await w.baseline.stop()
            else:
                w.baseline.handler = fault
            response = await w.chat()
            assert response.status_code == status_code
            error = response.json()["error"]
            assert error["code"] == code
            assert "'base'" in error["message"]

    asyncio.run(scenario())


def test_baselines_own_errors_are_passed_on(world: Any) -> None:
    """A 500 of the baseline is the answer, body and all."""

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = status("500 Oops")
            response = await w.chat()
            assert response.status_code == 500
            assert response.content == b'{"error":{}}'

    asyncio.run(scenario())


def test_breaker_opens_probes_and_closes(world: Any) -> None:
    """Failures open the breaker, which spares the candidate; a good probe closes it again."""

    async def scenario() -> None:
        async with world(breaker_failures=2, breaker_window=4, breaker_cooldown=3) as w:
            await w.split(**ALL)
            w.candidate.handler = status("500 Oops")
            reasons = [(await w.chat()).headers["x-coalmine-reason"] for _ in range(3)]
            assert reasons == ["fallback", "fallback", "breaker"]
            assert w.metric("coalmine_breaker_open") == 1
            assert len(w.candidate.requests) == 2
            w.candidate.handler = type(w.candidate.requests[0]).answer
            response = await w.chat()
            while response.headers["x-coalmine-reason"] == "breaker":
                response = await w.chat()
            assert response.headers["x-coalmine-variant"] == "candidate"
            assert w.metric("coalmine_breaker_open") == 0
            rows: list[Any] = []
            while len(rows) < 2:
                rows = await w.rows(select(EvidenceRow).where(EvidenceRow.kind == "breaker"))
                await asyncio.sleep(0.005)
            assert [row.payload["state"] for row in rows] == ["open", "closed"]
            assert rows[0].payload["failures"] == 2

    asyncio.run(asyncio.wait_for(scenario(), 30))
