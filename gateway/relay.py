"""Calling a deployment for a request, and passing its answer on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.headers import RawHeaders, request_lines, response_headers
from gateway.inbound import Inbound
from gateway.observe import Observation
from gateway.routes import Arm
from gateway.sse import StreamFilter
from gateway.upstream import Exchange
from gateway.wire import Answer, multipart_model, read_answer

__all__ = ["Relay", "Send", "call", "error_body"]

Send = Callable[[dict[str, Any]], Awaitable[None]]

_USAGE_ENDPOINTS = frozenset({"/chat/completions", "/completions"})


def error_body(message: str, *, type: str, code: str | None, param: str | None = None) -> bytes:  # noqa: A002 - OpenAI's name for it
    """Return an error in OpenAI's shape."""
    error = {"message": message, "type": type, "param": param, "code": code}
    return msgspec.json.encode({"error": error})


def _rewritten(inbound: Inbound, arm: Arm, *, named: bool) -> bytes:
    """Return the body as this deployment is to get it; untouched unless it names a model."""
    if not named:
        return inbound.body
    if inbound.peeked.model is not None:
        return arm.rewrite.apply(
            inbound.body, inbound.peeked, path=inbound.endpoint, ask_usage=inbound.ask_usage
        )
    found = multipart_model(inbound.body)
    if found is None:
        return inbound.body
    return b"".join((inbound.body[: found[1]], arm.rewrite.name, inbound.body[found[2] :]))


async def call(inbound: Inbound, arm: Arm, *, named: bool) -> Exchange:
    """Send the request to ``arm`` and return the exchange once the answer's head is there.

    ``named`` tells whether the request names the route, so that its model is rewritten. Raises
    :class:`UpstreamError`.
    """
    peeked = inbound.peeked
    if named and peeked.streams and inbound.endpoint in _USAGE_ENDPOINTS:
        options = peeked.stream_options
        inbound.ask_usage = not peeked.wants_usage and (
            options is None or isinstance(options, dict)
        )
    body = _rewritten(inbound, arm, named=named)
    if not inbound.lines:
        # an encoded answer could neither be read for usage nor captured
        dropped = (b"accept-encoding",) if named and inbound.inference else ()
        inbound.lines = request_lines(inbound.headers, dropped=(*dropped, b"authorization"))
        if dropped:
            inbound.lines += b"accept-encoding: identity\r\n"
    authorization = arm.authorization
    if not authorization and arm.passes_key and b"authorization" in inbound.raw:
        authorization = b"authorization: %b\r\n" % inbound.raw[b"authorization"]
    upstream = arm.upstream
    length = b""
    if body or inbound.method not in (b"GET", b"HEAD", b"DELETE", b"OPTIONS"):
        length = b"content-length: %d\r\n" % len(body)
    head = b"".join(
        (
            inbound.method,
            b" ",
            upstream.prefix,
            inbound.raw_path,
            b"?" if inbound.query else b"",
            inbound.query,
            b" HTTP/1.1\r\nhost: ",
            upstream.host_header,
            b"\r\n",
            inbound.lines,
            authorization,
            length,
            b"x-request-id: ",
            inbound.id,
            b"\r\n\r\n",
        )
    )
    inbound.sent = time.perf_counter()
    return await upstream.request(inbound.method, head, body)


class Relay:
    """Passes one answer on to the client, chunk by chunk, and notes what was seen of it.

    Afterwards ``complete`` tells whether the client got the whole answer, ``error`` why not,
    ``first_at`` when the first byte of the body came (``time.perf_counter()``), and ``answer`` what
    the deployment said of usage.
    """

    __slots__ = (
        "_exchange",
        "_filter",
        "_inbound",
        "_observation",
        "_parts",
        "_read_limit",
        "_size",
        "answer",
        "complete",
        "encoding",
        "error",
        "first_at",
        "sse",
        "status",
    )

    def __init__(
        self,
        inbound: Inbound,
        exchange: Exchange,
        observation: Observation | None,
        *,
        read_limit: int,
    ) -> None:
        self._inbound = inbound
        self._exchange = exchange
        self._observation = observation
        self._read_limit = read_limit
        self._size = 0
        self.status = exchange.status
        self.complete = False
        self.error: UpstreamError | None = None
        self.first_at: float | None = None
        self.answer = Answer()
        self.encoding = b""
        content_type = b""
        for name, value in exchange.headers:
            if name == b"content-type":
                content_type = value
            elif name == b"content-encoding":
                self.encoding = value.strip().lower()
        plain = self.encoding in (b"", b"identity")
        self.sse = content_type.startswith(b"text/event-stream")
        self._filter: StreamFilter | None = None
        if self.sse and plain:
            self._filter = StreamFilter(strip_usage=inbound.ask_usage)
        readable = plain and not self.sse and inbound.inference and self.status == 200
        self._parts: list[bytes] | None = [] if readable else None

    async def run(self, send: Send, added: RawHeaders, held: bytes | None) -> None:
        """Send the answer. ``held`` is what was read already, if anything was.

        An answer that breaks off is ended as well as its form allows: a stream with an error event
        and then the end, anything else by closing the connection. Never raises for the upstream.
        """
        exchange, inbound = self._exchange, self._inbound
        headers = response_headers(
            exchange.headers,
            [*added, (b"x-request-id", inbound.id)],
            resized=self._filter is not None,
        )
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        try:
            data = await exchange.read() if held is None else held
            while data:
                last = exchange.complete and not exchange.unread
                out = self._see(data)
                if last:
                    if self._filter is not None:
                        out += self._filter.flush()
                    self.complete = True
                    self._settle()
                    await send({"type": "http.response.body", "body": out, "more_body": False})
                    return
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
                data = await exchange.read()
            tail = b"" if self._filter is None else self._filter.flush()
            self.complete = True
            self._settle()
            await send({"type": "http.response.body", "body": tail, "more_body": False})
        except UpstreamError as error:
            self.error = error
            await self._break_off(send, error)

    def _see(self, data: bytes) -> bytes:
        if self.first_at is None:
            self.first_at = time.perf_counter()
        if self._observation is not None:
            self._observation.tee(data)
        if self._filter is not None:
            return self._filter.feed(data)
        if self._parts is not None:
            self._size += len(data)
            self._parts.append(data)
            if self._size > self._read_limit:
                self._parts = None
        return data

    def _settle(self) -> None:
        if self._filter is not None:
            self.answer = self._filter.answer
        elif self._parts:
            self.answer = read_answer(b"".join(self._parts))

    async def _break_off(self, send: Send, error: UpstreamError) -> None:
        if self._filter is not None:
            self._settle()
            code = "upstream_timeout" if isinstance(error, UpstreamTimeout) else "upstream_closed"
            body = error_body(f"The answer broke off: {error}.", type="upstream_error", code=code)
            out = self._filter.cut(b"data: %b\n\n" % body)
            await send({"type": "http.response.body", "body": out, "more_body": False})
        elif self._inbound.connection is not None:
            self._inbound.connection.disconnect()
