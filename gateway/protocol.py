"""The client's side: one connection, its requests one after the other.

What is read here is read strictly (:mod:`gateway.http1`); what is no HTTP/1.1 is refused in
OpenAI's shape and the connection closed. A client that ends its side of the connection has left:
what is done for it is cancelled, as nobody can tell a client that is gone from one that listens.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol, cast

from gateway.answers import CONTINUE, error_answer
from gateway.errors import RequestError
from gateway.http1 import Body, ChunkedBody, FixedBody, MalformedError, RequestHead, read_request
from gateway.inbound import Inbound
from gateway.proxy import Proxy
from gateway.serving import Serving

__all__ = ["ClientConnection", "Host"]

_EMPTY_LINES = re.compile(rb"(?:\r\n)++")
WRITE_HIGH = 32 * 1024
"""Bytes written and not yet sent beyond which a client counts as slow."""
_LINGER = 2.0
"""Seconds that a refused client gets to stop sending, so that it can read why."""


class Host(Protocol):
    """Who owns the connections."""

    proxy: Proxy
    draining: bool

    def opened(self, connection: ClientConnection) -> None:
        """Remember the connection."""

    def closed(self, connection: ClientConnection) -> None:
        """Forget the connection."""


class ClientConnection(asyncio.Protocol):
    """One client connection; see :class:`gateway.serving.Client` for what a request sees of it.

    ``since`` is when it began to wait for what it waits for: a request, the rest of one, or a
    client that reads (loop time in seconds).
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_host",
        "_inbound",
        "_linger",
        "_loop",
        "_parts",
        "_paused",
        "_proxy",
        "_room",
        "_serving",
        "_transport",
        "since",
        "slow",
        "unsent",
    )

    def __init__(self, host: Host) -> None:
        self._host = host
        self._proxy = host.proxy
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._inbound: Inbound | None = None
        self._body: Body | None = None
        self._parts: list[bytes] = []
        self._room = 0
        self._serving: Serving | None = None
        self._paused = False
        self._linger: asyncio.TimerHandle | None = None
        self.slow = False
        """Whether the client has much to read still."""
        self.unsent = 0
        """Bytes not yet sent when that was last looked at."""
        self.since = self._loop.time()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop what is done for the client."""
        self._transport = None
        if self._linger is not None:
            self._linger.cancel()
        self._host.closed(self)
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.client_left()

    def pause_writing(self) -> None:
        """Stop reading from the deployment until the client has caught up."""
        self.slow = True
        self.since = self._loop.time()
        if self._serving is not None:
            self._serving.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self.slow = False
        if self._serving is not None:
            self._serving.resume()
        else:
            self._next()

    def data_received(self, data: bytes) -> None:
        """Read a request, or keep what comes before its turn."""
        if self._linger is not None:
            return
        if self._serving is not None:
            self._keep(data)
        elif self._body is not None:
            self._read_body(data)
        elif self.slow:  # who does not read its answers gets no more of them
            self._keep(data)
        elif self._buffer:
            self._buffer += data
            self._read_head(bytes(self._buffer))
        else:
            self._read_head(data)

    # Reading

    def _keep(self, data: bytes) -> None:
        """Keep a pipelined request until its turn; a client that sends on and on is not read."""
        self._buffer += data
        if len(self._buffer) > self._proxy.options.max_header_bytes and not self._paused:
            self._paused = True
            if self._transport is not None:
                self._transport.pause_reading()

    def _read_head(self, data: bytes) -> None:
        if data[:2] == b"\r\n":  # RFC 9112, 2.2: left over from the request before
            data = _EMPTY_LINES.sub(b"", data, count=1)
        end = data.find(b"\r\n\r\n")
        limit = self._proxy.options.max_header_bytes
        if end > limit or (end < 0 and len(data) > limit):
            message = f"The header is larger than {limit} bytes (setting gateway.max_header_bytes)."
            self._refuse(RequestError(message, status=431, code="header_too_large"))
            return
        if end < 0:
            self._wait(data)
            return
        self._buffer.clear()
        try:
            head = read_request(data[:end])
        except MalformedError as wrong:
            self._refuse(RequestError(str(wrong), status=wrong.status, code="invalid_http"))
            return
        try:
            inbound = self._proxy.admit(head)
        except RequestError as refusal:
            self._refuse(refusal, head)
            return
        rest = data[end + 4 :]
        length = head.length
        if head.chunked:
            self._expect(inbound, ChunkedBody(), rest)
        elif length is None or length <= len(rest):
            if length is None:
                length = 0
            if len(rest) > length:
                self._keep(rest[length:])
                rest = rest[:length]
            self._serve(inbound, rest)
        else:
            self._expect(inbound, FixedBody(length), rest)

    def _wait(self, data: bytes) -> None:
        """Wait for the rest of a head, unless this can't become one."""
        if not self._buffer:
            self.since = self._loop.time()
        self._buffer[:] = data
        if b"\n\n" in data or b"\n\r\n" in data or data[:1] < b"!" <= data[1:2] or data[:1] > b"~":
            self._refuse(RequestError("This is no HTTP/1.1.", code="invalid_http"))

    def _expect(self, inbound: Inbound, body: Body, rest: bytes) -> None:
        self.since = self._loop.time()
        self._inbound, self._body = inbound, body
        self._room = self._proxy.options.max_body_bytes  # whatever the settings become
        if rest:
            self._read_body(rest)
        elif inbound.head.expects:
            self.write(CONTINUE)

    def _read_body(self, data: bytes) -> None:
        body, inbound = self._body, self._inbound
        if body is None or inbound is None:
            return
        try:
            payload = body.feed(data)
        except MalformedError as error:
            self._refuse(RequestError(str(error), code="invalid_http"), inbound.head)
            return
        self._room -= len(payload)
        if self._room < 0:
            self._refuse(self._proxy.too_large(), inbound.head)
            return
        if payload:
            self._parts.append(payload)
        if body.done:
            whole = b"".join(self._parts)
            self._forget()
            if body.rest:
                self._keep(body.rest)
            self._serve(inbound, whole)

    def _forget(self) -> None:
        self._inbound = self._body = None
        self._parts = []

    def _next(self) -> None:
        """Read the request that came before its turn, once the client reads."""
        transport = self._transport
        if self._serving is not None or self.slow or transport is None or transport.is_closing():
            return
        if self._paused:
            self._paused = False
            transport.resume_reading()
        if self._body is None and self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._read_head(data)

    # Answering

    def _serve(self, inbound: Inbound, body: bytes) -> None:
        inbound.complete(body)
        proxy = self._proxy
        try:
            answer = None if inbound.inference else proxy.own(inbound)
            if answer is None:
                # set before it starts: an answer may come at once
                serving = self._serving = proxy.serving(self, inbound)
                serving.start()
                return
        except RequestError as error:
            self._serving = None
            lines = b"x-request-id: %b\r\n" % inbound.id
            keep = self.keep_after(inbound.head)
            if not keep:
                lines += b"connection: close\r\n"
            answer = error_answer(error, lines, head_only=inbound.method == b"HEAD")
        self.write(answer)
        self.finish(self.keep_after(inbound.head))

    def _refuse(self, error: RequestError, head: RequestHead | None = None) -> None:
        """Answer what can't be read to its end, and close.

        Closing at once would reset the connection while the client still sends, and take the answer
        away with it; so what it sends is read and dropped for a while.
        """
        self._forget()
        self._buffer.clear()
        head_only = head is not None and head.method == b"HEAD"
        self.write(error_answer(error, b"connection: close\r\n", head_only=head_only))
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if transport.can_write_eof():
                transport.write_eof()
            self._linger = self._loop.call_later(_LINGER, transport.close)

    def keep_after(self, head: RequestHead) -> bool:
        """Say whether the connection is kept after the answer to ``head``."""
        return head.keep_alive and not self._host.draining

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(data)

    def finish(self, keep: bool) -> None:
        """Take the next request, or close after what is already written."""
        self._serving = None
        transport = self._transport
        if transport is None:
            return
        if not keep:
            transport.close()
            return
        self.since = self._loop.time()
        if self._buffer:
            self._loop.call_soon(self._next)

    # For the host

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here."""
        return self._serving is None and self._body is None and not self._buffer

    def close(self) -> None:
        """Close after what is already written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def late(self, now: float, *, keep_alive: float, request: float, write: float) -> None:
        """Close the connection if its client took longer than these limits (seconds).

        ``keep_alive`` bounds the time between two requests, ``request`` the time until the whole of
        one is here, ``write`` the time in which a client that has much to read reads nothing.
        """
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if unsent or self._serving is not None:  # also what is left of an answer that has ended
            if not unsent or unsent != self.unsent:
                self.unsent = unsent
                self.since = now
            elif now - self.since > write:
                transport.abort()
        elif self._linger is not None:
            return
        elif self._body is not None or self._buffer:
            if now - self.since > request:
                message = f"The request was not complete within {request:g} s."
                head = None if self._inbound is None else self._inbound.head
                self._refuse(RequestError(message, status=408, code="request_timeout"), head)
        elif now - self.since > keep_alive:
            transport.close()
