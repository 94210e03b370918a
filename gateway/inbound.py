"""A request on its way through the gateway: what is known of it so far."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any, Protocol

from gateway.clients import ANYONE
from gateway.headers import HeaderView, RawHeaders
from gateway.wire import Peek

__all__ = ["INFERENCE", "ClientConnection", "Inbound", "request_keys"]

INFERENCE = frozenset({"/chat/completions", "/completions", "/embeddings", "/responses"})
"""Endpoints that must name a model, and whose requests can be paired."""


def request_keys() -> Iterator[str]:
    """Yield keys that no other request of any process has."""
    prefix = os.urandom(8).hex()
    number = 0
    while True:
        number += 1
        yield f"{prefix}{number:08x}"


class ClientConnection(Protocol):
    """The client's side, as the server's protocol class offers it in the ASGI scope."""

    def watch(self, inbound: Inbound) -> None:
        """Call ``inbound.leave()`` when the client goes away."""

    def unwatch(self, inbound: Inbound) -> None:
        """Stop doing so."""

    def disconnect(self) -> None:
        """Close the connection in the middle of an answer, after what is already written."""


class Inbound:
    """One request. ``key`` is unique to it; ``id`` is what the client sees as ``x-request-id``."""

    __slots__ = (
        "ask_usage",
        "body",
        "caller",
        "connection",
        "content_type",
        "created_at",
        "cut",
        "eligible",
        "endpoint",
        "gone",
        "headers",
        "id",
        "key",
        "lines",
        "method",
        "peeked",
        "query",
        "raw",
        "raw_path",
        "received",
        "risk",
        "segment",
        "sent",
        "targeting_key",
        "task",
    )

    def __init__(self, scope: dict[str, Any], key: str) -> None:
        self.headers: RawHeaders = scope["headers"]
        self.raw = raw = dict(self.headers)
        self.key = key
        given = raw.get(b"x-request-id", b"")
        self.id = given if 0 < len(given) <= 128 else key.encode()
        self.method: bytes = scope["method"].encode("ascii")
        self.endpoint: str = scope["path"][3:]
        self.raw_path: bytes = scope["raw_path"][3:]
        self.query: bytes = scope["query_string"]
        self.content_type = raw.get(b"content-type", b"")
        self.connection: ClientConnection | None = scope.get("coalmine.connection")
        self.caller = ANYONE
        self.body = b""
        self.peeked = _NOTHING
        self.ask_usage = False
        self.eligible = False
        self.risk: str | None = None
        self.segment: str | None = None
        self.targeting_key: str | None = None
        self.lines = b""
        self.gone = False
        """The client has left."""
        self.cut = False
        """The answer was cut on our side: the client left, or we shut down."""
        self.received = self.sent = time.perf_counter()
        """When the whole request was here, and when it went out (``time.perf_counter()``)."""
        self.created_at = 0.0
        self.task = asyncio.current_task()

    @property
    def view(self) -> HeaderView:
        """The headers as text."""
        return HeaderView(self.raw)

    @property
    def inference(self) -> bool:
        """Whether this is a request for an answer that could be paired."""
        return self.endpoint in INFERENCE and self.method == b"POST"

    def leave(self) -> None:
        """Stop whatever is done for the client, upstream too, for it is gone."""
        self.gone = True
        if self.task is not None:
            self.task.cancel()


_NOTHING = Peek()
