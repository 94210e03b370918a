"""How an answer travels: at the model's speed, and with the transport's scripted failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from gateway.errors import RequestError

__all__ = ["ClientGone", "Exchange", "error_document"]

Message = MutableMapping[str, Any]
_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_EVENTS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
)
_SHORTEST_WAIT = 0.001  # seconds; shorter waits are made up for by the next one
_NOT_JSON = b"<html><head><title>Bad Gateway</title></head><body>upstream says no</body></html>"


class ClientGone(Exception):
    """The client closed the connection before the answer was complete."""


def error_document(error: RequestError) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


class Exchange:
    """One request and its answer, over an ASGI server.

    Every method that sends or waits raises :class:`ClientGone` as soon as the client has left.
    ``scale`` is the factor on all delays.
    """

    __slots__ = ("_receive", "_scale", "_send", "_transport")

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        scale: float,
    ) -> None:
        self._receive = receive
        self._send = send
        self._scale = scale
        self._transport: asyncio.Transport | None = scope.get("state", {}).get("transport")

    async def body(self) -> bytes:
        """Return the whole request body."""
        message = await self._receive()
        body: bytes = message.get("body", b"")
        while message["type"] == "http.request" and message.get("more_body", False):
            message = await self._receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise ClientGone
        return body

    async def until_gone(self) -> None:
        """Wait until the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def hang(self) -> None:
        """Never answer."""
        await self.until_gone()
        raise ClientGone

    async def pause(self, seconds: float) -> None:
        """Let simulated ``seconds`` pass."""
        await self._wait(seconds * self._scale)

    async def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.until_gone()
        except TimeoutError:
            return
        raise ClientGone

    async def whole(
        self,
        body: bytes,
        status: int = 200,
        headers: tuple[tuple[bytes, bytes], ...] = (_JSON,),
        kept: int | None = None,
    ) -> None:
        """Send a complete answer; with ``kept``, drop the connection after that many bytes."""
        length = (b"content-length", b"%d" % len(body))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, length]}
        )
        if kept is None:
            await self._send({"type": "http.response.body", "body": body})
            return
        await self._send({"type": "http.response.body", "body": body[:kept], "more_body": True})
        await self._drop()

    async def document(
        self, document: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Send a JSON document."""
        await self.whole(_encode(document), status, (_JSON, *headers))

    async def error(self, error: RequestError) -> None:
        """Send an error in OpenAI's shape."""
        headers = ((b"retry-after", b"1"),) if error.status == 429 else ()
        await self.document(error_document(error), error.status, headers)

    async def stream(
        self,
        events: Iterable[tuple[bytes, int]],
        tokens_per_second: float | None,
        kept: int | None = None,
    ) -> None:
        """Send events at the token rate; with ``kept``, drop the connection after that many."""
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_EVENTS]})
        clock = asyncio.get_running_loop().time
        due = clock()
        each = self._scale / tokens_per_second if tokens_per_second else 0.0
        for number, (payload, tokens) in enumerate(events):
            if kept is not None and number >= kept:
                await self._drop()
                return
            if each and tokens:
                due += each * tokens
                if (wait := due - clock()) >= _SHORTEST_WAIT:
                    await self._wait(wait)
            await self._send({"type": "http.response.body", "body": payload, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def garbage(self, kind: int, *, stream: bool) -> None:
        """Answer with a page instead of JSON, with half a document, or with no HTTP at all."""
        if kind == 0 and self._transport is not None:
            self._transport.write(b"\x00\x16\x03 this is not HTTP\r\n\r\n")
            await self._drop()
        elif stream:
            await self.whole(b'data: {"choices": [{"delta"\n\ndata: ???\n\n', 200, _EVENTS)
        elif kind == 1:
            await self.whole(b'{"id": "chatcmpl-0", "choices": [{"index": 0, "messa')
        else:
            await self.whole(_NOT_JSON, 200, ((b"content-type", b"text/html"),))

    async def _drop(self) -> None:
        """Close the connection without ending the answer."""
        if self._transport is None:
            raise ConnectionResetError("the simulated answer is cut here")
        self._transport.close()
        await self.until_gone()
