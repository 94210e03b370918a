"""uvicorn's HTTP protocol, with the three things that a proxy needs besides ASGI.

ASGI tells an application that its client has left only when asked, which would cost a task per
request, and has no way to break off an answer. And what is no HTTP is refused in OpenAI's shape.
"""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.inbound import Inbound
from gateway.relay import error_body

__all__ = ["GatewayProtocol"]


class GatewayProtocol(HttpToolsProtocol):
    """One client connection. Each request's scope has its :class:`ClientHandle`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watchers: set[Inbound] = set()

    def on_headers_complete(self) -> None:
        """Add the handle of this request's connection to its scope."""
        super().on_headers_complete()
        scope = cast("dict[str, Any]", self.scope)
        scope["coalmine.connection"] = ClientHandle(self, self.cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the requests under way that their client is gone."""
        super().connection_lost(exc)
        for inbound in tuple(self.watchers):
            inbound.leave()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        body = error_body(msg, type="invalid_request_error", code="invalid_http")
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()


class ClientHandle:
    """A request's way to its client's connection; see :class:`gateway.inbound.ClientConnection`."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: GatewayProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle

    def watch(self, inbound: Inbound) -> None:
        """Call ``inbound.leave()`` when the client goes away."""
        self._protocol.watchers.add(inbound)

    def unwatch(self, inbound: Inbound) -> None:
        """Stop doing so."""
        self._protocol.watchers.discard(inbound)

    def disconnect(self) -> None:
        """Close the connection after what is already written; the answer stays incomplete."""
        self._cycle.disconnected = True  # so that uvicorn does not log an incomplete answer
        self._protocol.transport.close()
