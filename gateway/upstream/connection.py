"""One connection to a deployment, and one exchange on it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from gateway.errors import UpstreamClosed, UpstreamError, UpstreamProtocolError, UpstreamTimeout

__all__ = ["Connection", "Exchange"]

HIGH_WATER = 64 * 1024
"""Bytes of an answer held for a slow client; beyond, the upstream is not read."""

MAX_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers."""

_UNFRAMED = frozenset({204, 304})


class Clocks(Protocol):
    """What a connection needs to know of time limits, in seconds."""

    @property
    def first_byte(self) -> float:
        """Until the body of the answer begins."""

    @property
    def idle(self) -> float:
        """Between two pieces of the answer."""


class Exchange:
    """One request on its way and the answer as it comes in.

    Await :meth:`head`, then :meth:`read` until it returns ``b""``. Both raise
    :class:`~gateway.errors.UpstreamError`. :meth:`cancel` may be called at any time and closes the
    upstream connection at once unless the answer is complete.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_error",
        "_size",
        "_waiter",
        "answered",
        "complete",
        "headers",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.answered = False
        """Whether any byte of an answer has arrived."""
        self.complete = False
        """Whether the whole answer has arrived (it may not have been read yet)."""
        self._connection: Connection | None = connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self) -> bytes:
        """Return the bytes that have arrived, waiting for at least one; ``b""`` at the end."""
        while not self._chunks:
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._size = 0
        if self._connection is not None:
            self._connection.drained()
        return data

    def cancel(self) -> None:
        """Give the exchange up: an unfinished answer's connection is closed at once."""
        connection, self._connection = self._connection, None
        if connection is not None and not self.complete:
            connection.abort()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # Called by the connection.

    def add(self, data: bytes) -> bool:
        """Take a piece of the body; ``True`` asks the connection to stop reading."""
        self._chunks.append(data)
        self._size += len(data)
        return self._size > HIGH_WATER

    @property
    def unread(self) -> bool:
        """Whether pieces wait to be read, so that silence is not the upstream's fault."""
        return bool(self._chunks)

    def fail(self, error: UpstreamError) -> None:
        """End the exchange with ``error``; what has arrived can still be read."""
        self._connection = None
        if not self.complete and self._error is None:
            self._error = error
        self.wake()

    def finish(self) -> None:
        """Mark the answer as complete."""
        self.complete = True
        self._connection = None
        self.wake()

    def wake(self) -> None:
        """Resume whoever waits in :meth:`head` or :meth:`read`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """The transport's side: parses answers, applies back-pressure and time limits.

    ``release`` is called with the connection when it can serve another exchange, ``lost`` when it
    is gone. ``name`` is the deployment's, for error messages.
    """

    __slots__ = (
        "_clocks",
        "_exchange",
        "_framed",
        "_got_body",
        "_head_done",
        "_head_size",
        "_headers",
        "_keep_alive",
        "_last",
        "_loop",
        "_lost",
        "_message_done",
        "_method",
        "_parser",
        "_paused",
        "_release",
        "_started",
        "_status",
        "_surplus",
        "_timer",
        "_transport",
        "idle_since",
        "name",
        "uses",
    )

    def __init__(
        self,
        name: str,
        clocks: Clocks,
        release: Callable[[Connection], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self.name = name
        self.uses = 0
        self.idle_since = 0.0
        self._clocks = clocks
        self._release = release
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._surplus = False
        self._begin(b"GET")

    def _begin(self, method: bytes) -> None:
        self._method = method
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._head_done = False
        self._framed = False
        self._got_body = False
        self._keep_alive = False
        self._message_done = False

    @property
    def usable(self) -> bool:
        """Whether the connection is open and between exchanges."""
        transport = self._transport
        return self._exchange is None and transport is not None and not transport.is_closing()

    def send(self, method: bytes, head: bytes, body: bytes) -> Exchange:
        """Write a request (``head`` ends in an empty line) and return its exchange."""
        transport = self._transport
        exchange = Exchange(self)
        if transport is None or transport.is_closing():
            exchange.fail(UpstreamClosed(f"deployment {self.name!r} closed the connection"))
            return exchange
        self._begin(method)
        self._exchange = exchange
        self.uses += 1
        self._started = self._last = self._loop.time()
        first_look = min(self._clocks.first_byte, self._clocks.idle)
        self._timer = self._loop.call_later(first_look, self._check_time)
        if len(body) < HIGH_WATER:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return exchange

    def drained(self) -> None:
        """Read on after back-pressure."""
        if self._paused:
            self._paused = False
            self._last = self._loop.time()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, dropping what was not sent."""
        self._stop_timer()
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        """Settle the exchange that was under way, if any."""
        self._stop_timer()
        self._transport = None
        exchange, self._exchange = self._exchange, None
        self._lost(self)
        if exchange is None:
            return
        if self._head_done and not self._framed and exc is None:
            exchange.finish()  # an answer without a length ends where the connection does
            return
        why = "closed the connection before its answer was complete"
        if not exchange.answered:
            why = "closed the connection without an answer"
        exchange.fail(UpstreamClosed(f"deployment {self.name!r} {why}"))

    def data_received(self, data: bytes) -> None:
        """Parse; then wake the reader once, however many chunks came together."""
        exchange = self._exchange
        if exchange is None:
            self.abort()  # an answer to nothing
            return
        exchange.answered = True
        self._last = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._message_done:
                self._fail(
                    UpstreamProtocolError(f"deployment {self.name!r} does not speak HTTP/1.1")
                )
                return
            self._surplus = True
        if self._message_done:
            self._end(exchange)
            return
        if not self._head_done:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._garbage(f"sent headers of more than {MAX_HEAD} bytes")
            return
        exchange.wake()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Notice an answer that follows a complete one unasked."""
        if self._message_done:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers are dropped."""
        if self._head_done or self._message_done:
            return
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            raise ValueError("head too large")
        name = name.lower()
        if name == b"content-length" or (
            name == b"transfer-encoding" and b"chunked" in value.lower()
        ):
            self._framed = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Publish status and headers, unless they are interim (1xx)."""
        if self._message_done:
            return
        status = self._parser.get_status_code()
        self._status = status
        if status < 200:
            return
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()
        exchange = self._exchange
        if exchange is not None:
            exchange.headers = self._headers
            exchange.status = status
        if status in _UNFRAMED or self._method == b"HEAD":
            self._framed = True
            self._message_done = True
            self._surplus = self._surplus or self._method == b"HEAD"

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        exchange = self._exchange
        if exchange is None or self._message_done:
            return
        self._got_body = True
        if exchange.add(data) and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Note the end of the answer; an interim one only makes room for the final one."""
        if self._status < 200:
            self._headers = []
            self._framed = False
        else:
            self._message_done = True

    def _end(self, exchange: Exchange) -> None:
        self._stop_timer()
        self._exchange = None
        transport = self._transport
        if (
            transport is not None
            and not transport.is_closing()
            and not self._surplus
            and self._keep_alive
            and transport.get_write_buffer_size() == 0
        ):
            if self._paused:
                self._paused = False
                transport.resume_reading()
            exchange.finish()
            self._release(self)
        else:
            exchange.finish()
            if transport is not None:
                transport.abort()

    def _garbage(self, what: str) -> None:
        self._fail(UpstreamProtocolError(f"deployment {self.name!r} {what}"))

    def _fail(self, error: UpstreamError) -> None:
        exchange = self._exchange
        self.abort()
        if exchange is not None:
            exchange.fail(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_time(self) -> None:
        """Fail the exchange if it is late; otherwise look again when it could be.

        One timer per exchange, moved lazily, instead of one per piece.
        """
        exchange = self._exchange
        if exchange is None:
            return
        now = self._loop.time()
        if not self._got_body:
            due, limit = self._started + self._clocks.first_byte, self._clocks.first_byte
        elif self._paused or exchange.unread:
            due = now + self._clocks.idle  # the client is slow, not the upstream
            limit = self._clocks.idle
        else:
            due, limit = self._last + self._clocks.idle, self._clocks.idle
        if now >= due - 0.001:
            what = "did not begin its answer" if not self._got_body else "fell silent"
            self._fail(UpstreamTimeout(f"deployment {self.name!r} {what} within {limit:g} s"))
        else:
            self._timer = self._loop.call_later(due - now, self._check_time)
