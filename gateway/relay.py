"""Writing a request for a deployment, and its answer for the client. No I/O."""

from __future__ import annotations

import time

from gateway.answers import error_body, status_line
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.http1 import ResponseHead
from gateway.inbound import Inbound
from gateway.routes import Arm
from gateway.sse import StreamFilter
from gateway.upstream import Request
from gateway.wire import Answer, multipart_model, read_answer

__all__ = ["SILENT", "Relay", "outgoing", "plain", "whole"]

_USAGE_ENDPOINTS = frozenset({"/chat/completions", "/completions"})
SILENT = frozenset({204, 304})
"""Statuses of answers that have no body."""
_BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})


def _rewritten(inbound: Inbound, arm: Arm) -> bytes:
    """Return the body as this deployment is to get it; untouched unless it names a model."""
    peeked = inbound.peeked
    if peeked.model is not None:
        return arm.rewrite.apply(
            inbound.body, peeked, path=inbound.endpoint, ask_usage=inbound.ask_usage
        )
    found = multipart_model(inbound.body)
    if found is None:
        return inbound.body
    return b"".join((inbound.body[: found[1]], arm.rewrite.name, inbound.body[found[2] :]))


def outgoing(inbound: Inbound, arm: Arm, *, named: bool) -> Request:
    """Return the request as it goes to ``arm``.

    ``named`` tells whether the request names the route, so that its model is rewritten.
    """
    peeked, head, body = inbound.peeked, inbound.head, inbound.body
    encoding = head.fields.get(b"accept-encoding")
    accept = b"" if encoding is None else b"accept-encoding: %b\r\n" % encoding
    if named:
        if peeked.stream is True and inbound.endpoint in _USAGE_ENDPOINTS:
            options = peeked.stream_options
            inbound.ask_usage = options is None or (
                isinstance(options, dict) and not peeked.wants_usage
            )
        body = _rewritten(inbound, arm)
        if inbound.inference:
            # an encoded answer could neither be read for usage nor captured
            accept = b"accept-encoding: identity\r\n"
    authorization = arm.authorization
    if not authorization and arm.passes_key and b"authorization" in head.fields:
        authorization = b"authorization: %b\r\n" % head.fields[b"authorization"]
    upstream = arm.upstream
    length = b""
    if body or head.method not in _BODILESS:
        length = b"content-length: %d\r\n" % len(body)
    query = head.query
    lines = b"%b %b%b%b HTTP/1.1\r\n%b%b%b%b%bx-request-id: %b\r\n\r\n" % (
        head.method,
        upstream.prefix,
        head.path[3:],
        b"" if query is None else b"?" + query,
        upstream.host_lines,
        head.lines,
        accept,
        authorization,
        length,
        inbound.id,
    )
    return head.method, lines, body


def plain(encoding: bytes) -> bool:
    """Say whether a body of this content encoding can be read as it is."""
    return not encoding or encoding == b"identity"


def whole(
    inbound: Inbound, head: ResponseHead, added: bytes, data: bytes, *, keep: bool
) -> tuple[bytes, Answer]:
    """Return an answer that came in one piece, as the client gets it, and what it says of usage.

    ``added`` are more header lines. The usual case; whatever comes in pieces takes :class:`Relay`.
    """
    answer = _NOTHING
    if head.status == 200 and inbound.inference and plain(head.encoding):
        answer = read_answer(data)
    out = b"%b%b%bx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status_line(head.status, head.reason),
        head.lines,
        added,
        inbound.id,
        len(data),
        b"" if keep else b"connection: close\r\n",
        data,
    )
    return out, answer


class Relay:
    """Writes one answer for the client, piece by piece, and notes what was seen of it.

    ``answer`` is what the deployment said of usage, once the answer has ended; ``first_at`` is when
    the first byte of the body came (``time.perf_counter()``). ``keep`` tells whether the client's
    connection can be kept after the answer. ``read_limit`` bounds what is read for usage, in bytes.
    """

    __slots__ = (
        "_chunked",
        "_events",
        "_filter",
        "_head",
        "_inbound",
        "_parts",
        "_read_limit",
        "_silent",
        "_size",
        "answer",
        "first_at",
        "keep",
        "sse",
    )

    def __init__(
        self, inbound: Inbound, head: ResponseHead, *, keep: bool, read_limit: int
    ) -> None:
        self._inbound = inbound
        self._head = head
        self._read_limit = read_limit
        self._size = self._events = 0
        self.first_at: float | None = None
        self.answer = _NOTHING
        self.keep = keep
        readable = plain(head.encoding)
        self.sse = head.content_type.startswith(b"text/event-stream")
        self._filter: StreamFilter | None = None
        self._parts: list[bytes] | None = None
        if readable and self.sse:
            self._filter = StreamFilter(strip_usage=inbound.ask_usage)
        elif readable and inbound.inference and head.status == 200:
            self._parts = []
        self._chunked = False
        self._silent = head.status in SILENT or inbound.method == b"HEAD"

    def begin(self, added: bytes, data: bytes, last: bool) -> bytes:
        """Return the head, and what there is of the body; ``added`` are more header lines."""
        head, inbound = self._head, self._inbound
        old = inbound.head.minor == 0
        if self._silent:
            length = head.length
            framing = b"" if length is None else b"content-length: %d\r\n" % length
        elif self._filter is None and head.length is not None:
            framing = b"content-length: %d\r\n" % head.length
        elif last and self._filter is None:
            framing = b"content-length: %d\r\n" % len(data)
        elif old:
            framing = b""
            self.keep = False  # its end is the connection's
        else:
            framing = b"transfer-encoding: chunked\r\n"
            self._chunked = True
        if not self.keep:
            framing += b"connection: close\r\n"
        elif old:
            framing += b"connection: keep-alive\r\n"
        lines = b"%b%b%bx-request-id: %b\r\n%b\r\n" % (
            status_line(head.status, head.reason),
            head.lines,
            added,
            inbound.id,
            framing,
        )
        return lines + self.feed(data, last) if data or last else lines

    def feed(self, data: bytes, last: bool) -> bytes:
        """Return what the client is to get of the next bytes of the body."""
        if data:
            if self.first_at is None:
                self.first_at = time.perf_counter()
            self._size += len(data)
            if self._filter is not None:
                self._events += data.count(b"\n\n")
                data = self._filter.feed(data)
            elif self._parts is not None:
                if self._size > self._read_limit:
                    self._parts = None
                else:
                    self._parts.append(data)
        if last:
            if self._filter is not None:
                data += self._filter.flush()
            self.settle()
            if self._chunked:
                return _chunk(data) + b"0\r\n\r\n" if data else b"0\r\n\r\n"
        elif self._chunked and data:
            return _chunk(data)
        return data

    @property
    def tokens(self) -> int:
        """About how many tokens have come: one per event of a stream, or per four bytes."""
        return self._events if self.sse else self._size // 4

    def settle(self) -> None:
        """Read the usage from what there was of the answer."""
        if self._filter is not None:
            self.answer = self._filter.answer
        elif self._parts:
            self.answer = read_answer(b"".join(self._parts))
            self._parts = None

    def cut(self, error: UpstreamError) -> bytes | None:
        """Return how an answer that broke off is ended: a stream by an error event.

        ``None`` where nothing but closing the connection can tell the client.
        """
        self.settle()
        if self._filter is None:
            return None
        code = "upstream_timeout" if isinstance(error, UpstreamTimeout) else "upstream_closed"
        body = error_body(f"The answer broke off: {error}.", type="upstream_error", code=code)
        out = self._filter.cut(b"data: %b\n\n" % body)
        return _chunk(out) + b"0\r\n\r\n" if self._chunked else out


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_NOTHING = Answer()
