"""A request on its way through the gateway: what is known of it so far."""

from __future__ import annotations

import os
import time
from urllib.parse import unquote_to_bytes

from gateway.clients import ANYONE
from gateway.http1 import RequestHead
from gateway.wire import Peek

__all__ = ["INFERENCE", "Inbound", "RequestKeys"]

INFERENCE = frozenset({"/chat/completions", "/completions", "/embeddings", "/responses"})
"""Endpoints that must name a model, and whose requests can be paired."""

_PATHS = {b"/v1" + endpoint.encode(): endpoint for endpoint in INFERENCE}
_NOTHING = Peek()


class RequestKeys:
    """Makes keys that no other request of any process has."""

    __slots__ = ("_last", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._last = 10_000_000  # so that keys are equally long, for very long

    def next(self) -> str:
        """Return a new key."""
        self._last += 1
        return f"{self._prefix}{self._last}"


class Inbound:
    """One request. ``key`` is unique to it; ``id`` is what the client sees as ``x-request-id``."""

    __slots__ = (
        "ask_usage",
        "body",
        "caller",
        "created_at",
        "cut",
        "eligible",
        "endpoint",
        "head",
        "id",
        "inference",
        "key",
        "method",
        "partakes",
        "peeked",
        "raw",
        "received",
        "risk",
        "segment",
        "sent",
        "targeting_key",
    )

    def __init__(self, head: RequestHead, key: str) -> None:
        self.head = head
        self.method = head.method
        self.raw = raw = head.fields
        """The headers: names in lower case, of a repeated one the last value."""
        self.key = key
        given = raw.get(b"x-request-id", b"")
        self.id = given if 0 < len(given) <= 128 else key.encode()
        endpoint = _PATHS.get(head.path)
        self.inference = endpoint is not None and head.method == b"POST"
        """Whether this is a request for an answer that could be paired."""
        self.endpoint = _endpoint(head.path) if endpoint is None else endpoint
        """The path after ``/v1``, decoded."""
        self.caller = ANYONE
        self.body = b""
        self.peeked = _NOTHING
        self.ask_usage = False
        self.partakes = False
        """Whether it may take part in any rollout, by what it is rather than by whose it is."""
        self.eligible = False
        self.risk: str | None = None
        self.segment: str | None = None
        self.targeting_key: str | None = None
        self.cut = False
        """The answer was cut on our side: the client left, or we shut down."""
        self.received = self.sent = 0.0
        """When the whole request was here, and when it went out (``time.perf_counter()``)."""
        self.created_at = 0.0
        """When the whole request was here, in Unix seconds."""

    def complete(self, body: bytes) -> None:
        """Take the whole body, and the time."""
        self.body = body
        self.received = self.sent = time.perf_counter()
        self.created_at = time.time()


def _endpoint(path: bytes) -> str:
    return unquote_to_bytes(path[3:]).decode("utf-8", "replace")
