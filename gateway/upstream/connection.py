"""One connection to a deployment, and one exchange on it at a time.

The hot path is driven by callbacks: a task and two futures per request would cost as much as all
the rest of it.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from gateway.errors import (
    ConnectFailed,
    UpstreamClosed,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from gateway.http1 import (
    Body,
    ChunkedBody,
    FixedBody,
    MalformedError,
    ResponseHead,
    RestBody,
    read_response,
)

__all__ = ["Connection", "Link", "Owner", "Receiver", "Request", "refused_by_proxy"]

MAX_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers."""
READ_SIZE = 64 * 1024
"""Bytes read at once at most, and so held for a client that is too slow at that moment."""
_LARGE = 64 * 1024  # bytes of a request body from which joining it to the head costs more
_UNFRAMED = frozenset({204, 304})


def refused_by_proxy(name: str, status: int) -> ConnectFailed:
    """Return the error for a proxy that answered with ``status`` on its own account."""
    hint = "; check proxy_auth_env" if status == 407 else ""
    return ConnectFailed(f"the proxy of deployment {name!r} refused, with status {status}{hint}")


Request = tuple[bytes, bytes, bytes]
"""A request as it goes out: method, the whole head with its empty line, and body."""


class Link(Protocol):
    """A receiver's way back to the source of its answer."""

    def pause(self) -> None:
        """Don't read on from the deployment: the client is slow."""

    def resume(self) -> None:
        """Read on."""

    def cancel(self) -> None:
        """Give the exchange up, closing the upstream connection. Nothing is called afterwards."""


class Receiver(Protocol):
    """Who gets the answer to a request: ``answered``, then ``received``; or at last ``failed``.

    ``link`` is set while the exchange is under way and ``None`` once it has ended either way.
    """

    link: Link | None

    def answered(self, head: ResponseHead, data: bytes, last: bool) -> None:
        """Take the head and what came of the body with it; ``last`` with the whole answer."""

    def received(self, data: bytes, last: bool) -> None:
        """Take the next bytes of the body (none, perhaps, with ``last``)."""

    def failed(self, error: UpstreamError) -> None:
        """Take the news that the answer will not come, or not to its end."""


class Owner(Protocol):
    """The pool that a connection belongs to. ``name`` is the deployment's, for messages.

    ``proxied`` tells that a proxy answers, which is asked for whole URLs.
    """

    name: str
    proxied: bool
    room: memoryview
    """Where bytes are read into; shared, as they are taken out at once."""

    def released(self, connection: Connection) -> None:
        """Take the connection back; it can serve another exchange."""

    def lost(self, connection: Connection) -> None:
        """Forget the connection; it is closed."""

    def again(self, request: Request, receiver: Receiver) -> None:
        """Send a request once more, on a new connection."""


class Connection(asyncio.BufferedProtocol):
    """The transport's side: reads answers, applies back-pressure.

    Time limits are looked after by the pool, which calls :meth:`late` now and then: ``started`` and
    ``last`` are when the exchange began and when it last showed signs of life (loop time, seconds).
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_head",
        "_loop",
        "_owner",
        "_paused",
        "_receiver",
        "_request",
        "_transport",
        "answering",
        "born",
        "idle_since",
        "last",
        "started",
        "uses",
    )

    def __init__(self, owner: Owner) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._request: Request | None = None
        self._head: ResponseHead | None = None
        self._body: Body | None = None
        self._buffer = b""
        self._paused = False
        self.answering = False
        """Whether the body of the answer has begun."""
        self.uses = 0
        self.born = self.idle_since = self.started = self.last = self._loop.time()

    def usable(self, idle: float) -> bool:
        """Whether the connection is open, and for at most ``idle`` seconds between exchanges."""
        transport = self._transport
        return (
            transport is not None
            and self._receiver is None
            and self._loop.time() - self.idle_since <= idle
            and not transport.is_closing()
        )

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._receiver is not None

    def send(self, request: Request, receiver: Receiver) -> None:
        """Write a request; its answer goes to ``receiver``."""
        transport = self._transport
        if transport is None or transport.is_closing():
            if self.uses:
                self._owner.again(request, receiver)
            else:
                receiver.link = None
                receiver.failed(
                    UpstreamClosed(f"deployment {self._owner.name!r} closed the connection at once")
                )
            return
        self._receiver = receiver
        self._request = request
        self._head = self._body = None
        self.answering = False
        self.uses += 1
        self.started = self.last = self._loop.time()
        receiver.link = self
        _, head, body = request
        if len(body) < _LARGE:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    # Link

    def pause(self) -> None:
        """Don't read on."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self.last = self._loop.time()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def cancel(self) -> None:
        """Close at once, dropping what was not sent."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.link = None
        self._request = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    def fail(self, error: UpstreamError) -> None:
        """End the exchange with ``error`` and close."""
        receiver = self._receiver
        self.cancel()
        if receiver is not None:
            receiver.failed(error)

    def late(self, now: float, first_byte: float, idle: float, total: float | None) -> None:
        """Fail the exchange if it has taken longer than these limits (seconds)."""
        if total is not None and now - self.started > total:
            what, limit = "did not end its answer", total
        elif not self.answering:
            if now - self.started <= first_byte:
                return
            what, limit = "did not begin its answer", first_byte
        elif self._paused or now - self.last <= idle:  # paused: the client is slow
            return
        else:
            what, limit = "fell silent", idle
        self.fail(UpstreamTimeout(f"deployment {self._owner.name!r} {what} within {limit:g} s"))

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        """Settle the exchange that was under way, if any."""
        self._transport = None
        receiver, self._receiver = self._receiver, None
        request, self._request = self._request, None
        self._owner.lost(self)
        if receiver is None:
            return
        receiver.link = None
        if self._head is not None and type(self._body) is RestBody and exc is None:
            receiver.received(b"", True)
        elif self._head is None and not self._buffer and self.uses > 1 and request is not None:
            # the usual race: the other side's idle timeout closed a kept connection just now
            self._owner.again(request, receiver)
        else:
            why = "closed the connection before its answer was complete"
            if self._head is None and not self._buffer:
                why = "closed the connection without an answer"
            if isinstance(exc, ssl.SSLError) and exc.reason:
                why += f": {exc.reason}"  # such as that it wants a client's certificate
            receiver.failed(UpstreamClosed(f"deployment {self._owner.name!r} {why}"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Bound what is read at once."""
        return self._owner.room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(self._owner.room[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Hand on what came, in one call however many chunks came together."""
        receiver = self._receiver
        if receiver is None:
            self.cancel()  # an answer to nothing
            return
        self.last = self._loop.time()
        try:
            body = self._body
            if body is None:
                self._begin(data, receiver)
                return
            payload = body.feed(data)
        except MalformedError:
            self.fail(
                UpstreamProtocolError(f"deployment {self._owner.name!r} does not speak HTTP/1.1")
            )
            return
        if body.done:
            self._end(receiver, spoiled=bool(body.rest))
            receiver.received(payload, True)
        elif payload:
            self.answering = True
            receiver.received(payload, False)

    def _begin(self, data: bytes, receiver: Receiver) -> None:
        """Read the head, and what came of the body with it."""
        found = self._read_head(self._buffer + data if self._buffer else data)
        if found is None:
            return
        head, data = found
        self._head = head
        length, request = head.length, self._request
        if head.status in _UNFRAMED or request is None or request[0] == b"HEAD":
            self._end(receiver, spoiled=bool(data))
            receiver.answered(head, b"", True)
            return
        if length is not None:
            if len(data) == length:  # the usual case, without an object
                self._end(receiver, spoiled=False)
                receiver.answered(head, data, True)
                return
            body: Body = FixedBody(length)
        elif head.chunked:
            body = ChunkedBody()
        else:
            body = RestBody()
        self._body = body
        payload = body.feed(data) if data else b""
        if body.done:
            self._end(receiver, spoiled=bool(body.rest))
            receiver.answered(head, payload, True)
        else:
            self.answering = bool(payload)
            receiver.answered(head, payload, False)

    def _read_head(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Return the head and what follows it, past interim heads; ``None`` until it is here."""
        while True:
            end = data.find(b"\r\n\r\n")
            if end > MAX_HEAD or (end < 0 and len(data) > MAX_HEAD):
                what = f"sent headers of more than {MAX_HEAD} bytes"
                self.fail(UpstreamProtocolError(f"deployment {self._owner.name!r} {what}"))
                return None
            if end < 0:
                if not b"HTTP/1.".startswith(data[:7]):
                    raise MalformedError("This is no HTTP/1.1.")
                self._buffer = data
                return None
            head = read_response(data[:end])
            data = data[end + 4 :]
            if head.status >= 200:
                if head.status == 407 and self._owner.proxied:
                    # between the proxy and us: no client could do anything about it
                    self.fail(refused_by_proxy(self._owner.name, 407))
                    return None
                self._buffer = b""
                return head, data
            if head.status == 101:
                raise MalformedError("Nobody asked for another protocol.")
            self.uses = 1  # it has the request: not to be sent again as if it had never come

    def _end(self, receiver: Receiver, *, spoiled: bool) -> None:
        """Give the connection back, or close it where it can't be used again."""
        self._receiver = self._request = None
        receiver.link = None
        transport, head = self._transport, self._head
        if transport is None or transport.is_closing():
            return
        if (
            spoiled
            or head is None
            or not head.keep_alive
            or transport.get_write_buffer_size()  # answered before it had the whole request
        ):
            transport.abort()
            return
        if self._paused:
            self._paused = False
            transport.resume_reading()
        self._owner.released(self)
