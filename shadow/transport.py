"""The gateway's own HTTP client under `httpx`: whoever speaks `httpx` calls deployments cheaply.

`httpx`'s own transport looks at every connection of its pool for each request, and costs about
2 ms of CPU a request where many are open; this one costs a tenth of that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from gateway.errors import ConnectFailed, UpstreamError, UpstreamProtocolError, UpstreamTimeout
from gateway.upstream import Exchange, Outbound, Timeouts, Upstream

__all__ = ["UpstreamTransport"]

_NEVER_S = 86_400.0
_OURS = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
_REFUSED = re.compile(r"refused, with status (\d+)")


class UpstreamTransport(httpx.AsyncBaseTransport):
    """Sends `httpx` requests for one deployment, whose paths lie beside or below `base_url`.

    `pool_size` idle connections are kept. The read timeout of a request, where it has one, bounds
    the wait for the answer's head and for each piece of it (seconds). `library` is the module whose
    requests it takes, and whose answers and errors it gives: `httpx`, or one with the same names.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        outbound: Outbound,
        pool_size: int = 64,
        library: Any = httpx,
    ) -> None:
        self._library = library
        limits = Timeouts(connect=_NEVER_S, first_byte=_NEVER_S, idle=_NEVER_S)
        self._upstream = Upstream(
            name, base_url, timeouts=limits, outbound=outbound, pool_size=pool_size
        )
        path = urlsplit(base_url).path.rstrip("/").encode("ascii")
        self._root = self._upstream.prefix.removesuffix(path)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer once the head is there."""
        body = await request.aread()
        read = (request.extensions.get("timeout") or {}).get("read")
        async with _errors(self._library, request, read):
            exchange = await self._upstream.request(
                request.method.encode("ascii"), self._head(request, len(body)), body
            )
        stream = _body_of(self._library)(self._library, exchange, request, read)
        made: httpx.Response = self._library.Response(
            exchange.status, headers=exchange.headers, stream=stream
        )
        return made

    async def aclose(self) -> None:
        """Close all connections."""
        self._upstream.close()

    def _head(self, request: httpx.Request, length: int) -> bytes:
        lines = [
            b"%b: %b\r\n" % (name, value)
            for name, value in request.headers.raw
            if name.lower() not in _OURS
        ]
        target = self._root + request.url.raw_path
        first = b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), target)
        own = b"content-length: %d\r\n" % length
        head = b"".join((first, self._upstream.host_lines, *lines, own))
        if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") != head.count(b"\r\n"):
            raise self._library.LocalProtocolError("a header holds a line end", request=request)
        if head.count(b"\r\n") != len(lines) + 2 + self._upstream.host_lines.count(b"\r\n"):
            raise self._library.LocalProtocolError("a header holds a line end", request=request)
        return head + b"\r\n"


class _Body:
    def __init__(
        self, library: Any, exchange: Exchange, request: httpx.Request, read: float | None
    ) -> None:
        self._library = library
        self._exchange = exchange
        self._request = request
        self._read = read

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            async with _errors(self._library, self._request, self._read):
                data = await self._exchange.read()
            if not data:
                return
            yield data

    async def aclose(self) -> None:
        """Give up what has not been read: its connection is closed."""
        if not self._exchange.complete:
            self._exchange.cancel()


@asynccontextmanager
async def _errors(library: Any, request: httpx.Request, read: float | None) -> AsyncIterator[None]:
    """Raise the library's errors for ours, and its time-out after `read` seconds."""
    limit = asyncio.timeout(read)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise  # somebody else's
        raise library.ReadTimeout("no answer in time", request=request) from None
    except UpstreamError as error:
        raise _translated(library, error, request) from error


def _translated(library: Any, error: UpstreamError, request: httpx.Request) -> Exception:
    refused = _REFUSED.search(error.message)
    kind, message = "ReadError", error.message
    if refused is not None:
        kind, message = "ProxyError", f"{refused[1]} by the proxy"
    elif isinstance(error, UpstreamTimeout):
        kind = "ConnectTimeout"
    elif isinstance(error, ConnectFailed):
        kind = "ConnectError"
    elif isinstance(error, UpstreamProtocolError):
        kind = "RemoteProtocolError"
    made: Exception = getattr(library, kind)(message, request=request)
    return made


@cache
def _body_of(library: Any) -> type[Any]:
    """Return the class of answers' bodies, which the library asks to be one of its own."""
    return type("Body", (_Body, library.AsyncByteStream), {})
