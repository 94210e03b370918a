"""The hot path's entrance: from a client's request to a route and an arm.

A raw ASGI application. Every ``/v1`` path takes the same way: authenticate, cap the body, peek,
find the route, choose the arm, and serve (:mod:`gateway.serving`). A request that names no model (a
file, a batch, a GET) goes to the baseline of the first route, as it is.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.capture import CaptureBuffer
from gateway.clients import Clients
from gateway.decide import choose_arm, find_route
from gateway.errors import RequestError
from gateway.headers import RawHeaders
from gateway.inbound import Inbound, request_keys
from gateway.metrics import GatewayMetrics
from gateway.relay import Send, error_body
from gateway.routes import RouteTable
from gateway.serving import BadGateway, Serving
from gateway.settings import GatewaySettings
from gateway.split import Assignment

__all__ = ["Proxy", "Receive"]

_DEFAULT = Assignment("baseline", "default")
_JSON = (b"content-type", b"application/json")

Receive = Callable[[], Awaitable[dict[str, Any]]]


class _ClientLeftError(Exception):
    """The client went away while its body was read."""


class Proxy:
    """The ASGI application of the data plane.

    ``table`` may be replaced at any time; requests under way keep the one they started with.
    ``ready`` says whether ``/readyz`` answers 200; a gateway that drains is not ready.
    """

    def __init__(
        self,
        table: RouteTable,
        *,
        clients: Clients,
        buffer: CaptureBuffer,
        metrics: GatewayMetrics,
        options: GatewaySettings,
    ) -> None:
        self.table = table
        self.ready = True
        self._clients = clients
        self._buffer = buffer
        self._metrics = metrics
        self._max_body = options.max_body_bytes
        self._max_capture = options.max_capture_bytes
        self._keys = request_keys()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope["path"]
        if not path.startswith("/v1/") or not scope["raw_path"].startswith(b"/v1/"):
            await self._outside(path, send)
            return
        inbound = Inbound(scope, next(self._keys))
        connection = inbound.connection
        if connection is not None:
            connection.watch(inbound)
        try:
            await self._serve(inbound, receive, send)
        except RequestError as error:
            await _refuse(inbound, error, send)
        except _ClientLeftError:
            pass
        except CancelledError:
            if not inbound.gone and connection is not None:
                connection.disconnect()  # shutting down: the drain's deadline has passed
        finally:
            if connection is not None:
                connection.unwatch(inbound)

    async def _serve(self, inbound: Inbound, receive: Receive, send: Send) -> None:
        inbound.caller = self._clients.identify(inbound.raw.get(b"authorization"))
        table = self.table
        if "/." in inbound.endpoint:
            raise RequestError("There is no such path here.", status=404, code="unknown_path")
        if inbound.method == b"GET" and inbound.endpoint.split("/", 2)[1] == "models":
            name = inbound.endpoint[8:]
            body = table.model(name) if name else table.models
            await _answer(send, 200, body, [(b"x-request-id", inbound.id)])
            return
        inbound.body = await self._body(inbound, receive)
        inbound.received = inbound.sent = time.perf_counter()
        inbound.created_at = time.time()
        route, named = find_route(table, inbound)
        serving = Serving(
            inbound,
            route,
            choose_arm(route, inbound, now=inbound.received) if named else _DEFAULT,
            named=named,
            buffer=self._buffer,
            metrics=self._metrics,
            limit=self._max_capture,
        )
        await serving.run(send, read_limit=self._max_capture)

    async def _body(self, inbound: Inbound, receive: Receive) -> bytes:
        limit = self._max_body
        length = inbound.raw.get(b"content-length")
        if length is not None and int(length) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeftError
            body: bytes = message.get("body", b"")
            size += len(body)
            if size > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return b"".join((*parts, body)) if parts else body
            parts.append(body)

    async def _outside(self, path: str, send: Send) -> None:
        if path == "/healthz":
            await _answer(send, 200, b'{"status":"ok"}', [])
        elif path == "/readyz":
            body = b'{"status":"ready"}' if self.ready else b'{"status":"draining"}'
            await _answer(send, 200 if self.ready else 503, body, [])
        else:
            message = "There is no such path here; the API's paths begin with /v1/."
            body = error_body(message, type="invalid_request_error", code="unknown_path")
            await _answer(send, 404, body, [])


def _too_large(limit: int) -> RequestError:
    return RequestError(
        f"The body is larger than the {limit} bytes that this gateway accepts "
        "(setting gateway.max_body_bytes).",
        status=413,
        code="request_too_large",
    )


async def _refuse(inbound: Inbound, error: RequestError, send: Send) -> None:
    body = error_body(error.message, type=error.type, code=error.code, param=error.param)
    headers = [(b"x-request-id", inbound.id)]
    if isinstance(error, BadGateway):
        headers += error.headers
    if b"expect" in inbound.raw:
        headers.append((b"connection", b"close"))  # the body was not asked for: don't wait
    await _answer(send, error.status, body, headers)


async def _answer(send: Send, status: int, body: bytes, headers: RawHeaders) -> None:
    head = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})
