"""Clients that do not read: what the gateway holds for them is bounded, and not for ever."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.protocol import ClientConnection
from gateway.upstream.connection import Connection

DEADLINE = 60.0
LIMIT = 200_000
"""Bytes that a stream may cost whose client does not read."""
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 4000 + b'"}}]}\n\n'
BODY = json.dumps({"model": "bot", "messages": [], "stream": True}).encode()
ASK = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def deaf(port: int, request: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, Any]]:
    """Send a request and read nothing; the system has little room for the answer, too."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw)
    transport: Any = writer.transport
    transport.pause_reading()
    transport.write(request)
    try:
        yield reader, transport
    finally:
        transport.abort()


async def find(kind: Any, count: int) -> list[Any]:
    """Wait for that many open connections of a kind in this process, and return them."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while True:
        found = [item for item in gc.get_objects() if type(item) is kind and item._transport]
        if len(found) == count:
            return found
        assert asyncio.get_running_loop().time() < deadline, len(found)
        await asyncio.sleep(0.02)


def unsent(connection: ClientConnection) -> int:
    """Return how much is held for a client."""
    transport = connection._transport
    size = 0 if transport is None else transport.get_write_buffer_size()
    return size + len(connection._buffer)


async def still(measure: Callable[[], Any]) -> Any:
    """Wait until ``measure`` gives the same several times in a row, and return that."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    seen: list[Any] = []
    while len(seen) < 10 or seen[-10:] != [seen[-1]] * 10:
        assert asyncio.get_running_loop().time() < deadline, "it never came to rest"
        await asyncio.sleep(0.02)
        seen.append(measure())
    return seen[-1]


async def flood(received: Any) -> None:
    """Stream until nobody takes it."""
    await received.send(HEAD)
    while not received.gone.is_set():
        await received.chunk(PIECE)


def test_what_is_held_for_stalled_streams_is_bounded(world: Any) -> None:
    """64 clients that read nothing: the deployment is not read on for them, and others are served.

    Once one of them leaves, its answer ends upstream too.
    """

    async def scenario() -> None:
        async with world() as w, AsyncExitStack() as stack:
            w.baseline.handler = flood
            request = ASK % (len(BODY), BODY)
            stalled = [
                await stack.enter_async_context(deaf(w.gateway.port, request)) for _ in range(64)
            ]
            streams = [await w.baseline.next() for _ in stalled]
            clients = await find(ClientConnection, 64)
            upstreams = await find(Connection, 64)
            most = 0

            def measure() -> list[int]:
                nonlocal most
                held = [unsent(c) for c in clients] + [len(c._buffer) for c in upstreams]
                most = max(most, *held)
                return held

            await still(measure)
            assert 0 < most < LIMIT
            assert all(c._paused for c in upstreams)
            w.baseline.handler = type(streams[0]).answer
            assert (await w.chat()).status_code == 200
            for _, transport in stalled:
                transport.abort()
            for stream in streams:
                await asyncio.wait_for(stream.gone.wait(), DEADLINE)

    asyncio.run(scenario())


def test_a_stalled_stream_is_cut(world: Any) -> None:
    """After the write timeout the client is given up, and the deployment is told."""

    async def scenario() -> None:
        async with world(write_timeout=0.3) as w:
            w.baseline.handler = flood
            async with deaf(w.gateway.port, ASK % (len(BODY), BODY)):
                received = await w.baseline.next()
                (connection,) = await find(ClientConnection, 1)
                await asyncio.wait_for(received.gone.wait(), DEADLINE)
                await w.until(lambda: connection._transport is None)

            def open_streams() -> float | None:
                value: float | None = w.gateway.registry.get_sample_value("coalmine_streams_open")
                return value

            await w.until(lambda: open_streams() == 0)
            labels = {"variant": "baseline", "reason": "default", "code": "4xx"}
            assert w.metric("coalmine_requests_total", **labels) == 1

    asyncio.run(scenario())


MODELS = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
ROUTES = {"routes": {f"bot{number}": {"baseline": "base"} for number in range(200)}}


def test_pipelining_without_reading_holds_little(world: Any) -> None:
    """Who asks on and on and reads nothing is not served on; all answers come once it reads."""
    total = 3000  # of about 20 kB each

    async def scenario() -> None:
        async with (
            world(document=ROUTES) as w,
            deaf(w.gateway.port, MODELS * total) as (reader, transport),
        ):
            (connection,) = await find(ClientConnection, 1)
            most = 0

            def measure() -> int:
                nonlocal most
                now = unsent(connection)
                most = max(most, now)
                return now

            assert await still(measure) > 0
            assert most < 600_000  # one read of the socket is up to 256 KiB
            transport.resume_reading()
            for _ in range(total):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
                size = re.search(rb"content-length: (\d+)", head)
                assert size is not None
                body = await asyncio.wait_for(reader.readexactly(int(size[1])), DEADLINE)
                assert body.startswith(b'{"object":"list"')

    asyncio.run(scenario())


def test_a_client_that_never_reads_its_last_answer_is_cut(world: Any) -> None:
    """The write timeout holds for what is left of an answer that has ended, too."""

    async def scenario() -> None:
        async with world(write_timeout=0.3, document=ROUTES) as w:
            last = MODELS.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
            async with deaf(w.gateway.port, MODELS * 3000 + last):
                (connection,) = await find(ClientConnection, 1)
                await w.until(lambda: connection._transport is None)

    asyncio.run(scenario())


# Many, and the memory of a whole process


@asynccontextmanager
async def process(folder: Path, upstream: int) -> AsyncIterator[tuple[psutil.Process, int]]:
    """Run a gateway in a process of its own."""
    config = folder / "coalmine.yaml"
    document = {
        "store": f"sqlite:///{folder / 'coalmine.db'}",
        "data_dir": str(folder),
        "gateway": {"port": 0, "metrics_port": 0, "drain_timeout": 1},
        "deployments": {"base": {"base_url": f"http://127.0.0.1:{upstream}/v1", "model": "m"}},
        "routes": {"bot": {"baseline": "base"}},
    }
    config.write_text(json.dumps(document))
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "rollout.cli", "gateway", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert running.stderr is not None
        found = None
        while found is None:
            said = (await asyncio.wait_for(running.stderr.readline(), DEADLINE)).decode()
            assert said, "the process ended"
            found = re.search(r"serving on \S+ port (\d+)", said)
        yield psutil.Process(running.pid), int(found[1])
    finally:
        running.kill()
        await running.wait()


@pytest.mark.heavy
def test_memory_of_512_stalled_streams(sqlite_url: str, tmp_path: Path) -> None:
    """A gateway process grows by less than 200 kB for each of 512 clients that do not read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    sent = 0
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writers.append(writer)
        writer.transport.set_write_buffer_limits(high=0)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
                await writer.drain()
                sent += len(PIECE)

    async def scenario() -> None:
        upstream = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
        port = upstream.sockets[0].getsockname()[1]
        async with process(tmp_path, port) as (running, gateway), AsyncExitStack() as stack:
            before = running.memory_info().rss
            for _ in range(512):
                await stack.enter_async_context(deaf(gateway, ASK % (len(BODY), BODY)))
            await still(lambda: (len(writers), sent))
            assert len(writers) == 512
            assert sent > 512 * LIMIT  # more than may be held
            assert (running.memory_info().rss - before) / 512 < LIMIT
        upstream.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    try:
        asyncio.run(scenario())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
