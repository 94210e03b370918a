"""The connections to one deployment: kept alive, reused, replaced, and watched for time limits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.errors import ConnectFailed, UpstreamError, UpstreamTimeout
from gateway.upstream.connection import READ_SIZE, Connection, Receiver, Request
from gateway.upstream.exchange import Exchange
from gateway.upstream.outbound import Outbound, tls_context
from gateway.upstream.tunnel import dial, dial_proxy, dial_through

__all__ = ["Timeouts", "Upstream"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: to connect, until the answer's body begins, between two pieces of it.

    ``total`` bounds the whole exchange; ``None`` does not. They are looked at now and then, so that
    they cost nothing per request: an exchange fails up to an eighth of its limit (at most a second)
    late.
    """

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 120.0
    total: float | None = None

    @property
    def step(self) -> float:
        """Seconds between two looks."""
        shortest = min(self.first_byte, self.idle, self.total or self.idle)
        return min(1.0, max(0.01, shortest / 8))


class Upstream:
    """A deployment's address and its pool.

    ``base_url`` ends before the endpoint's path, such as ``https://host/v1``. At most
    ``pool_size`` idle connections are kept, each for ``pool_idle`` seconds; connections in use
    are not limited. Names are resolved at each connect, and no connection is used again when it is
    older than ``pool_age`` seconds, so that DNS changes are followed. ``outbound`` is the way
    there: without it, a direct one that trusts the system's certificates. Belongs to the event loop
    it is first used on.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        timeouts: Timeouts | None = None,
        outbound: Outbound | None = None,
        pool_size: int = 1024,
        pool_idle: float = 30.0,
        pool_age: float = 300.0,
    ) -> None:
        parts = urlsplit(base_url)
        self.name = name
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{parts.port}" if parts.port else ""
        authority = host.encode("idna") + port.encode()
        outbound = outbound or Outbound()
        self._proxy = proxy = outbound.proxy
        self._tls = outbound.tls or tls_context(name) if parts.scheme == "https" else None
        self.prefix = parts.path.rstrip("/").encode("ascii")
        """What stands before the endpoint in a request's first line: the path of ``base_url``."""
        self.host_lines = b"host: %b\r\n" % authority
        """Header lines that every request carries, each with its CRLF."""
        self.proxied = proxy is not None and self._tls is None
        """Whether a proxy answers, which is asked for whole URLs."""
        if proxy is not None and self._tls is None:
            self.prefix = b"http://%b%b" % (authority, self.prefix)
            self.host_lines += proxy.lines
        self.timeouts = timeouts or Timeouts()
        self.room = memoryview(bytearray(READ_SIZE))
        self._pool_size = pool_size
        self._pool_idle = pool_idle
        self._pool_age = pool_age
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._dials: set[_Dial] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._retired = False

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are idle and how many are in use."""
        return len(self._idle), len(self._open) - len(self._idle)

    def call(self, request: Request, receiver: Receiver) -> None:
        """Send a request whose answer goes to ``receiver``; sets its ``link``.

        A request that went out on a kept connection which the deployment closed without any answer
        is sent once more on a new connection: the usual race with the other side's idle timeout.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable(self._pool_idle):
                connection.send(request, receiver)
                return
            connection.close()
        self.again(request, receiver)

    async def request(self, method: bytes, head: bytes, body: bytes) -> Exchange:
        """Send a request and return the exchange once its answer's head is there.

        ``head`` is the whole request head with its empty line. Raises
        :class:`~gateway.errors.UpstreamError`. Cancelling closes the connection.
        """
        exchange = Exchange()
        self.call((method, head, body), exchange)
        try:
            await exchange.head()
        except BaseException:
            exchange.cancel()
            raise
        return exchange

    def close(self) -> None:
        """Close all connections, also those in use."""
        self._closed = True
        self._stop_watching()
        for waiting in list(self._dials):
            waiting.cancel()
        for connection in list(self._open):
            connection.cancel()

    def retire(self) -> None:
        """Close idle connections, and those in use when their exchange ends.

        Until then time limits are kept, and a request that was to come here may still come.
        """
        self._retired = True
        while self._idle:
            self._idle.pop().close()

    # Owner

    def again(self, request: Request, receiver: Receiver) -> None:
        """Send a request on a new connection."""
        dial = _Dial(self, request, receiver)
        self._dials.add(dial)
        receiver.link = dial

    def released(self, connection: Connection) -> None:
        """Keep the connection for the next request."""
        connection.idle_since = now = connection.last
        if (
            self._closed
            or self._retired
            or len(self._idle) >= self._pool_size
            or now - connection.born > self._pool_age
        ):
            connection.close()
            return
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget the connection."""
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if not self._open:
            self._stop_watching()

    def done(self, dial: _Dial) -> None:
        """Forget an attempt to connect."""
        self._dials.discard(dial)

    async def connect(self) -> Connection:
        """Open a connection. Raises :class:`~gateway.errors.UpstreamError`."""
        name, limit = self.name, self.timeouts.connect
        try:
            async with asyncio.timeout(limit):
                transport, connection = await self._reach(limit)
        except TimeoutError:
            way = " through its proxy" if self._proxy is not None else ""
            raise UpstreamTimeout(
                f"no connection to deployment {name!r}{way} within {limit:g} s"
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
        if self._watch is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(self.timeouts.step, self._look)
        return connection

    async def _reach(self, limit: float) -> tuple[asyncio.Transport, Connection]:
        """Connect, by way of the proxy if there is one."""
        host, port, tls, proxy = self.host, self.port, self._tls, self._proxy
        if tls is None:
            if proxy is not None:
                return await dial_proxy(self._new, proxy, name=self.name, limit=limit)
            return await dial(self._new, host, port, limit=limit)
        if proxy is not None:
            return await dial_through(
                proxy, self._new, host, port, name=self.name, tls=tls, limit=limit
            )
        return await dial(self._new, host, port, limit=limit, ssl=tls, server_hostname=host)

    def _new(self) -> Connection:
        return Connection(self)

    def _look(self) -> None:
        """Fail late exchanges, and close connections that idled or aged too long."""
        loop = asyncio.get_running_loop()
        now, limits = loop.time(), self.timeouts
        for connection in list(self._open):
            if connection.busy:
                connection.late(now, limits.first_byte, limits.idle, limits.total)
        idle = self._idle
        for connection in list(idle):
            if now - connection.born > self._pool_age or not connection.usable(self._pool_idle):
                idle.remove(connection)
                connection.close()
        self._watch = None
        if self._open and not self._closed:
            self._watch = loop.call_later(limits.step, self._look)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


class _Dial:
    """A request that waits for its connection; see :class:`gateway.upstream.connection.Link`."""

    def __init__(self, upstream: Upstream, request: Request, receiver: Receiver) -> None:
        self._upstream = upstream
        self._request = request
        self._receiver: Receiver | None = receiver
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            connection = await self._upstream.connect()
        except UpstreamError as error:
            self._fail(error)
        except Exception:  # a fault of ours: it goes to the log, and nobody waits in vain
            self._fail(ConnectFailed(f"no connection to deployment {self._upstream.name!r}"))
            raise
        else:
            receiver, self._receiver = self._receiver, None
            if receiver is None:
                connection.close()
            else:
                connection.send(self._request, receiver)
        finally:
            self._upstream.done(self)

    def _fail(self, error: UpstreamError) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.link = None
            receiver.failed(error)

    def pause(self) -> None:
        """Nothing is read yet."""

    def resume(self) -> None:
        """Nothing is read yet."""

    def cancel(self) -> None:
        """Don't connect."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.link = None
            self._task.cancel()
