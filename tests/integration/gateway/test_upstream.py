"""The upstream client by itself: IPv6, timeouts, its pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import ConnectFailed, UpstreamTimeout
from gateway.upstream import Timeouts, Upstream

HEAD = b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def server(*, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Answer every request with ``ok``."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, host, 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def get(upstream: Upstream) -> bytes:
    """Fetch one answer."""
    exchange = await upstream.request(b"GET", HEAD, b"")
    body = b""
    while data := await exchange.read():
        body += data
    return body


def test_ipv6() -> None:
    """An IPv6 address is reached, and written in brackets in the host header."""

    async def scenario() -> None:
        async with server(host="::1") as port:
            upstream = Upstream("up", f"http://[::1]:{port}/v1")
            assert upstream.host_lines == b"host: [::1]:%d\r\n" % port
            assert await get(upstream) == b"ok"
            upstream.close()
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_an_unknown_name_is_a_failed_connection() -> None:
    """Names are looked up at each connect; one that is not found is said so."""

    async def scenario() -> None:
        with pytest.raises(ConnectFailed, match="'up'"):
            await get(Upstream("up", "http://nowhere.invalid/v1"))

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_connect_timeout() -> None:
    """A listener that never shakes hands is given up after the connect timeout."""

    async def scenario() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)

        silent = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        timeouts = Timeouts(connect=0.05)
        upstream = Upstream("up", f"https://127.0.0.1:{port}/v1", timeouts=timeouts)
        with pytest.raises(UpstreamTimeout, match=r"within 0\.05 s"):
            await get(upstream)
        silent.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_concurrent_requests_get_connections_of_their_own() -> None:
    """Exchanges never share a connection at the same time; afterwards the pool keeps some."""

    async def scenario() -> None:
        async with server() as port:
            upstream = Upstream("up", f"http://127.0.0.1:{port}/v1", pool_size=3)
            bodies = await asyncio.gather(*(get(upstream) for _ in range(10)))
            assert bodies == [b"ok"] * 10
            while upstream.connections[1]:
                await asyncio.sleep(0.005)
            assert upstream.connections == (3, 0)
            upstream.close()
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_idle_connections_are_not_used_past_their_time() -> None:
    """A connection that was idle for longer than pool_idle is replaced."""

    async def scenario() -> None:
        async with server() as port:
            upstream = Upstream("up", f"http://127.0.0.1:{port}/v1", pool_idle=0.0)
            await get(upstream)
            first = upstream._idle[0]
            loop = asyncio.get_running_loop()
            while loop.time() <= first.idle_since:
                await asyncio.sleep(0)
            await get(upstream)
            assert first not in upstream._idle
            upstream.close()
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 20))
