"""An HTTP proxy on loopback, and certificates, for whoever calls deployments."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

_GONE = (ConnectionError, asyncio.IncompleteReadError)


@dataclass(slots=True)
class LoopbackProxy:
    """Forwards to loopback whatever the name, by CONNECT and by whole URLs.

    `seen` are the heads that it got. While `refusal` is set it is sent instead, and the connection
    closed.
    """

    url: str = ""
    refusal: bytes | None = None
    seen: list[str] = field(default_factory=list)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._open.add(writer)
        with contextlib.suppress(*_GONE):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.seen.append(head)
                if self.refusal is not None:
                    writer.write(self.refusal)
                    break
                method, target, _ = head.split(" ", 2)
                if method == "CONNECT":
                    await self._tunnel(target, reader, writer)
                    break
                await self._forward(head, target, reader, writer)
        writer.close()

    async def _tunnel(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        port = int(target.rpartition(":")[2])
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", port)
        self._open.add(inner)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, inner), _pump(inner_reader, writer))

    async def _forward(
        self, head: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        parts = urlsplit(target)
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", parts.port)
        self._open.add(inner)
        lines = head.split("\r\n")
        kept = [line for line in lines if not line.lower().startswith("proxy-")]
        text = "\r\n".join(kept).replace(target, parts.path, 1)
        inner.write(text.encode() + await reader.readexactly(_length(lines)))
        answer = await inner_reader.readuntil(b"\r\n\r\n")
        body = await inner_reader.readexactly(_length(answer.decode().split("\r\n")))
        writer.write(answer + body)
        inner.close()

    def close(self) -> None:
        """Drop every connection."""
        for writer in self._open:
            writer.transport.abort()


def _length(lines: list[str]) -> int:
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(*_GONE):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def _proxying(refusal: bytes | None = None) -> AsyncIterator[LoopbackProxy]:
    proxy = LoopbackProxy(refusal=refusal)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listening.close()
        proxy.close()
        await asyncio.sleep(0)


@pytest.fixture
def proxying() -> Callable[..., Any]:
    """Run an HTTP proxy on loopback, inside `async with`; it takes what it is to refuse with."""
    return _proxying


@pytest.fixture
def certificates() -> Path:
    """Where `ca.pem` is, `server.pem` (for localhost, by that CA), and `client.pem` with keys."""
    return Path(__file__).parent / "gateway" / "tls"
