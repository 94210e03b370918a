"""Connections: clients that leave, clients that are slow, upstreams that close."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
ALL = {"candidate": "cand", "weight_bp": 10_000, "salt": "s", "rollout": "r", "rollout_id": 1}


async def ask(port: int, **fields: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a chat request on a connection of its own."""
    body = json.dumps({"model": "bot", "messages": [], **fields}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    return reader, writer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("variant", ["baseline", "candidate"])
@pytest.mark.parametrize("begun", [False, True])
def test_leaving_cancels_upstream(world: Any, stream: bool, variant: str, begun: bool) -> None:
    """When the client goes away the deployment is told at once, whatever was answered."""

    async def hold(received: Any) -> None:
        if begun and stream:
            await received.begin_stream()
            await received.chunk(DELTA)
        elif begun:
            await received.send(b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n{")
            await received.send(b" " * 400_000)
        await received.gone.wait()

    async def scenario() -> None:
        async with world() as w:
            if variant == "candidate":
                await w.split(**ALL)
            upstream = getattr(w, variant)
            w.baseline.handler = w.candidate.handler = hold
            reader, writer = await ask(w.gateway.port, stream=stream)
            received = await upstream.next()
            if begun:
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                await asyncio.wait_for(reader.read(1), 20)
            writer.transport.abort()
            await asyncio.wait_for(received.gone.wait(), 20)
            assert len(w.baseline.requests) + len(w.candidate.requests) == 1
            await w.until(lambda: w.gateway.registry.get_sample_value("coalmine_streams_open") == 0)
            # nobody said what it cost, so that is estimated
            labels = {"route": "bot", "variant": variant}
            for kind in ("input", "output") if begun and stream else ("input",):
                tokens = w.metric(
                    "coalmine_estimated_tokens_total", gen_ai_token_type=kind, **labels
                )
                assert tokens > 0

    asyncio.run(scenario())


def test_a_client_that_leaves_is_nobodys_failure(world: Any) -> None:
    """Clients that give up neither open the breaker nor count as errors of the candidate."""

    async def hang(received: Any) -> None:
        await received.gone.wait()

    async def scenario() -> None:
        async with world(breaker_failures=1) as w:
            await w.split(**ALL)
            w.candidate.handler = hang
            _, writer = await ask(w.gateway.port)
            received = await w.candidate.next()
            writer.transport.abort()
            await asyncio.wait_for(received.gone.wait(), 20)
            labels = {"variant": "candidate", "reason": "split", "code": "4xx"}
            await w.until(lambda: w.metric("coalmine_requests_total", **labels) == 1)
            assert w.metric("coalmine_breaker_open") == 0

    asyncio.run(scenario())


def test_connections_are_kept_and_stale_ones_replaced(world: Any) -> None:
    """Requests share a kept connection; one that the upstream closed is replaced unnoticed."""

    async def scenario() -> None:
        async with world() as w:
            for _ in range(3):
                assert (await w.chat()).status_code == 200
            assert w.baseline.connections == 1

            async def close_instead(received: Any) -> None:
                if received.connection == 1:
                    received.cut()
                else:
                    await received.answer()

            w.baseline.handler = close_instead
            assert (await w.chat()).status_code == 200
            assert w.baseline.connections == 2
            assert [r.connection for r in w.baseline.requests] == [1, 1, 1, 1, 2]

    asyncio.run(scenario())


def test_a_new_connection_that_closes_is_not_tried_again(world: Any) -> None:
    """Only the race with an idle timeout is retried; a deployment that closes is reported."""

    async def scenario() -> None:
        async with world() as w:

            async def close(received: Any) -> None:
                received.cut()

            w.baseline.handler = close
            assert (await w.chat()).status_code == 502
            assert len(w.baseline.requests) == 1

    asyncio.run(scenario())


def test_a_slow_reader_stops_the_upstream(world: Any) -> None:
    """What a client does not read is not read from the deployment: memory does not grow."""
    piece = b"data: " + b"x" * 16_000 + b"\n\n"
    total = 4000  # 64 MB

    async def flood(received: Any) -> None:
        await received.begin_stream()
        for _ in range(total):
            await received.chunk(piece)
            received.sent = getattr(received, "sent", 0) + 1
        await received.chunk(b"")

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = flood
            reader, writer = await ask(w.gateway.port, stream=True)
            writer.transport.pause_reading()
            received = await w.baseline.next()
            before = -1
            while before != getattr(received, "sent", 0):  # until the flood stands still
                before = getattr(received, "sent", 0)
                await asyncio.sleep(0.2)
            assert before < total * 3 // 4
            writer.transport.resume_reading()
            body = bytearray()
            while not body.endswith(b"\r\n0\r\n\r\n"):
                body += await asyncio.wait_for(reader.read(1 << 20), 20)
            assert body.count(b"data: ") == total
            writer.close()

    asyncio.run(scenario())


def test_interim_answers_and_trailers_are_left_out(world: Any) -> None:
    """A 103 before the answer and trailers after it do not confuse the client."""

    async def chatty(received: Any) -> None:
        await received.send(
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"
            b"connection: x-hop\r\nx-hop: 1\r\n\r\n"
            b"2\r\n{}\r\n0\r\nx-trailer: 1\r\n\r\n"
        )

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = chatty
            for _ in range(2):
                response = await w.chat()
                assert (response.status_code, response.content) == (200, b"{}")
                assert not {"link", "x-hop", "x-trailer"} & set(response.headers)
            assert w.baseline.connections == 1

    asyncio.run(scenario())


def test_an_answer_without_length_ends_with_its_connection(world: Any) -> None:
    """Old servers end an answer by closing; that is a whole answer, and the connection is gone."""

    async def old(received: Any) -> None:
        await received.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nbye")
        received.writer.close()

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = old
            assert (await w.chat()).content == b"bye"
            assert (await w.chat()).content == b"bye"
            assert w.baseline.connections == 2

    asyncio.run(scenario())


def test_unasked_bytes_spoil_a_connection(world: Any) -> None:
    """A second answer to one request never becomes the answer to the next."""

    async def double(received: Any) -> None:
        one = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
        await received.send(one + b"good" + one + b"evil")

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = double
            for _ in range(3):
                assert (await w.chat()).content == b"good"
            assert w.baseline.connections == 3

    asyncio.run(scenario())


def test_shutdown_drains_open_streams(world: Any) -> None:
    """A stopping gateway lets open answers end, and takes no new connection."""

    async def scenario() -> None:
        async with world() as w:
            release = asyncio.Event()

            async def slow(received: Any) -> None:
                await received.begin_stream()
                await received.chunk(DELTA)
                await release.wait()
                await received.chunk(DELTA)
                await received.chunk(b"")

            w.baseline.handler = slow
            reader, writer = await ask(w.gateway.port, stream=True)
            await asyncio.wait_for(reader.readuntil(DELTA), 20)
            stopping = asyncio.create_task(asyncio.to_thread(w.gateway.stop))
            refused = False
            while not refused:
                try:
                    _, other = await asyncio.open_connection("127.0.0.1", w.gateway.port)
                    other.close()
                    await asyncio.sleep(0.005)
                except OSError:
                    refused = True
            release.set()
            rest = await asyncio.wait_for(reader.read(), 20)
            assert DELTA in rest
            assert rest.endswith(b"0\r\n\r\n")
            writer.close()
            await asyncio.wait_for(stopping, 20)

    asyncio.run(scenario())


def test_a_request_on_a_kept_connection_while_draining_is_its_last(world: Any) -> None:
    """A request that arrives during the drain is served, and the client told not to come again."""

    async def scenario() -> None:
        async with world() as w:
            release = asyncio.Event()

            async def serve(received: Any) -> None:
                if received.json.get("stream"):
                    await release.wait()
                await received.answer()

            w.baseline.handler = serve
            reader, writer = await ask(w.gateway.port)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert b"connection: close" not in head.lower()
            await asyncio.wait_for(reader.readuntil(b"}}"), 20)  # the end of the usage
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
            writer.write(b"expect: 100-continue\r\n")
            body = b'{"model":"bot","messages":[]}'
            writer.write(b"content-length: %d\r\n\r\n" % len(body))
            await asyncio.wait_for(reader.readuntil(b"100 Continue\r\n\r\n"), 20)
            other, other_writer = await ask(w.gateway.port, stream=True)  # keeps the drain going
            await w.baseline.next()
            await w.baseline.next()
            stopping = asyncio.create_task(asyncio.to_thread(w.gateway.stop))
            await w.until(lambda: not w.gateway.gateway.proxy.ready)
            await refuses(w.gateway.port)
            writer.write(body)
            rest = await asyncio.wait_for(reader.read(), 20)  # to the end: it is closed
            assert rest.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close\r\n" in rest.lower()
            release.set()
            assert (await asyncio.wait_for(other.read(), 20)).startswith(b"HTTP/1.1 200 ")
            await asyncio.wait_for(stopping, 20)
            writer.close()
            other_writer.close()

    asyncio.run(scenario())


async def refuses(port: int) -> None:
    """Return once the gateway takes no new connection."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.005)


def test_a_stream_past_the_drain_deadline_is_cut(world: Any) -> None:
    """Shutdown does not wait for ever: the deadline cuts what is left, upstream too."""

    async def scenario() -> None:
        async with world(drain_timeout=0.2) as w:

            async def endless(received: Any) -> None:
                await received.begin_stream()
                await received.chunk(DELTA)
                await received.gone.wait()

            w.baseline.handler = endless
            reader, writer = await ask(w.gateway.port, stream=True)
            received = await w.baseline.next()
            await asyncio.wait_for(reader.readuntil(DELTA), 20)
            await asyncio.wait_for(asyncio.to_thread(w.gateway.stop), 20)
            await asyncio.wait_for(received.gone.wait(), 20)
            assert not (await asyncio.wait_for(reader.read(), 20)).endswith(b"0\r\n\r\n")
            writer.close()

    asyncio.run(scenario())
