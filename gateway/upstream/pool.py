"""The connections to one deployment: kept alive, reused, replaced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.errors import ConnectFailed, SettingsError, UpstreamClosed, UpstreamTimeout
from gateway.upstream.connection import Connection, Exchange

__all__ = ["Timeouts", "Upstream"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: to connect, until the answer's body begins, between two pieces of it."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 120.0


class Upstream:
    """A deployment's address and its pool.

    ``base_url`` ends before the endpoint's path, such as ``https://host/v1``. At most
    ``pool_size`` idle connections are kept, each for ``pool_idle`` seconds; connections in use
    are not limited. Names are resolved at each connect, so that DNS changes are followed.
    Belongs to the event loop it is first used on.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        timeouts: Timeouts | None = None,
        ca_file: Path | None = None,
        pool_size: int = 1024,
        pool_idle: float = 30.0,
    ) -> None:
        parts = urlsplit(base_url)
        self.name = name
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/").encode("ascii")
        """Path of ``base_url``, put before the endpoint."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{parts.port}" if parts.port else ""
        self.host_header = host.encode("idna") + port.encode()
        self.timeouts = timeouts or Timeouts()
        self._tls = _tls(name, ca_file) if parts.scheme == "https" else None
        self._pool_size = pool_size
        self._pool_idle = pool_idle
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._closed = False

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are idle and how many are in use."""
        return len(self._idle), len(self._open) - len(self._idle)

    async def request(self, method: bytes, head: bytes, body: bytes) -> Exchange:
        """Send a request and return the exchange once its answer's head is there.

        ``head`` is the whole request head with its empty line. A request that went out on a kept
        connection which the deployment closed without any answer is sent once more on a new
        connection: the usual race with the other side's idle timeout. Raises
        :class:`~gateway.errors.UpstreamError`. Cancelling closes the connection.
        """
        connection = self._take()
        fresh = connection is None
        while True:
            if connection is None:
                connection = await self._connect()
            exchange = connection.send(method, head, body)
            try:
                await exchange.head()
            except UpstreamClosed:
                if fresh or exchange.answered:
                    raise
                fresh, connection = True, None
            except BaseException:
                exchange.cancel()
                raise
            else:
                return exchange

    def close(self) -> None:
        """Close all connections, also those in use."""
        self._closed = True
        for connection in list(self._open):
            connection.abort()

    def retire(self) -> None:
        """Close idle connections, and those in use when their exchange ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - self._pool_idle
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        name, limit = self.name, self.timeouts.connect
        try:
            async with asyncio.timeout(limit):
                transport, connection = await loop.create_connection(
                    lambda: Connection(name, self.timeouts, self._release, self._lost),
                    self.host,
                    self.port,
                    ssl=self._tls,
                    server_hostname=self.host if self._tls is not None else None,
                )
        except TimeoutError:
            raise UpstreamTimeout(
                f"no connection to deployment {name!r} within {limit:g} s"
            ) from None
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", None) or error.reason or "TLS failed"
            raise ConnectFailed(f"no TLS connection to deployment {name!r}: {reason}") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConnectFailed(f"no connection to deployment {name!r}: {reason}") from None
        self._open.add(connection)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _release(self, connection: Connection) -> None:
        now = connection.idle_since = asyncio.get_running_loop().time()
        if self._closed or len(self._idle) >= self._pool_size:
            connection.close()
            return
        idle = self._idle
        idle.append(connection)
        while now - idle[0].idle_since > self._pool_idle:
            idle.popleft().close()

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)


def _tls(name: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"can't read certificates from {ca_file}: {error.strerror or error}",
            field=f"deployments.{name}.ca_file",
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context
