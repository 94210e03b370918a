"""Connecting: to one of the addresses of a name, and through an HTTP proxy.

The usual way with proxies: a tunnel (CONNECT) with TLS inside for https, whole URLs for http.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.errors import ConnectFailed
from gateway.http1 import MalformedError, read_response
from gateway.upstream.connection import Connection, refused_by_proxy
from gateway.upstream.outbound import Proxy

__all__ = ["dial", "dial_proxy", "dial_through"]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

_MAX_HEAD = 16 * 1024
"""Bytes of the proxy's answer to CONNECT."""


async def dial(
    factory: Callable[[], _P], host: str, port: int, *, limit: float, **options: Any
) -> tuple[asyncio.Transport, _P]:
    """Connect to one of the addresses that ``host`` has now, trying them in the resolver's order.

    An address that stays silent gets its share of ``limit`` (seconds) only, so that the others have
    theirs. ``options`` are ``loop.create_connection``'s. Raises ``OSError``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit
    addresses = await _addresses(host, port)
    for left in range(len(addresses), 1, -1):
        address = addresses[-left]
        try:
            async with asyncio.timeout((deadline - loop.time()) / left):
                return await loop.create_connection(factory, *address, **options)
        except ssl.SSLError:  # an OSError too, but that server is there: the others are no better
            raise
        except OSError:
            continue
    async with asyncio.timeout_at(deadline):
        return await loop.create_connection(factory, *addresses[-1], **options)


async def dial_through(
    proxy: Proxy,
    factory: Callable[[], Connection],
    host: str,
    port: int,
    *,
    name: str,
    tls: ssl.SSLContext,
    limit: float,
) -> tuple[asyncio.Transport, Connection]:
    """Connect to ``host`` over TLS in a tunnel; ``name`` is the deployment's, for messages.

    Raises :class:`ConnectFailed` where it is the proxy's fault, and ``OSError``.
    """
    raw, answer = await dial_proxy(lambda: _Answer(name), proxy, name=name, limit=limit)
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        authority = target.encode("idna")
        raw.write(
            b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (authority, authority, proxy.lines)
        )
        await answer.agreed()
        connection = factory()
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(raw, connection, tls, server_hostname=host)
    except BaseException:
        raw.abort()
        raise
    if transport is None:  # lost just now
        raise ConnectFailed(f"the proxy of deployment {name!r} closed the connection")
    connection.connection_made(transport)
    return transport, connection


async def dial_proxy(
    factory: Callable[[], _P], proxy: Proxy, *, name: str, limit: float
) -> tuple[asyncio.Transport, _P]:
    """Connect to the proxy of the deployment called ``name``. Raises :class:`ConnectFailed`."""
    host, port = proxy.address
    try:
        return await dial(factory, host, port, limit=limit)
    except TimeoutError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConnectFailed(
            f"no connection to the proxy of deployment {name!r}: {reason}"
        ) from None


async def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # an address may come once for each protocol
        return list(dict.fromkeys((str(each[4][0]), int(each[4][1])) for each in found))
    return [(host, port)]


class _Answer(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._data = b""
        self._closed = False
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def agreed(self) -> None:
        """Wait for the tunnel. Raises :class:`ConnectFailed` where the proxy does not open it."""
        status = await self._status
        if not 200 <= status < 300:
            raise refused_by_proxy(self._name, status)
        if self._closed:
            raise ConnectFailed(f"the proxy of deployment {self._name!r} closed the connection")

    def data_received(self, data: bytes) -> None:
        """Look for the end of the head."""
        if self._status.done():
            return
        self._data += data
        try:
            status = self._read()
        except MalformedError:
            self._fail("does not speak HTTP/1.1")
            return
        if status is not None:
            self._status.set_result(status)

    def _read(self) -> int | None:
        while True:
            end = self._data.find(b"\r\n\r\n")
            if max(end, len(self._data) if end < 0 else 0) > _MAX_HEAD:
                raise MalformedError("The head is too long.")
            if end < 0:
                if not b"HTTP/1.".startswith(self._data[:7]):
                    raise MalformedError("This is no HTTP/1.1.")
                return None
            head = read_response(self._data[:end])
            self._data = self._data[end + 4 :]
            if 200 <= head.status < 300 and self._data:
                # TLS begins with our words: whoever speaks first is no tunnel to a server
                raise MalformedError("Something follows the head.")
            if head.status >= 200:
                return head.status

    def eof_received(self) -> None:
        """Take the end for a refusal."""
        self._closed = True
        self._fail("closed the connection without an answer")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Take the end for a refusal."""
        self._closed = True
        self._fail("closed the connection without an answer")

    def _fail(self, what: str) -> None:
        if not self._status.done():
            self._status.set_exception(
                ConnectFailed(f"the proxy of deployment {self._name!r} {what}")
            )
