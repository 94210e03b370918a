"""The hot path's entrance: from a client's request to a route and an arm.

Every ``/v1`` path takes the same way: authenticate, cap the body, peek, find the route, choose the
arm, and serve (:mod:`gateway.serving`). A request that names no model (a file, a batch, a GET) goes
to the baseline of the first route, as it is.
"""

from __future__ import annotations

from gateway.answers import error_body, whole
from gateway.capture import CaptureBuffer
from gateway.clients import Clients
from gateway.decide import choose_arm, find_route
from gateway.errors import RequestError
from gateway.http1 import RequestHead
from gateway.inbound import Inbound, RequestKeys
from gateway.metrics import GatewayMetrics
from gateway.routes import RouteTable
from gateway.serving import Client, Serving
from gateway.settings import GatewaySettings
from gateway.split import Assignment

__all__ = ["Proxy"]

_DEFAULT = Assignment("baseline", "default")


class Proxy:
    """What a gateway does with requests.

    ``table``, ``clients`` and ``options`` may be replaced at any time; requests under way keep what
    they started with. ``ready`` says whether ``/readyz`` answers 200; a gateway that drains is not
    ready.
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
        self.clients = clients
        self.options = options
        self.ready = True
        self._buffer = buffer
        self._metrics = metrics
        self._keys = RequestKeys()

    def admit(self, head: RequestHead) -> Inbound:
        """Let a request in by its head, before its body is read.

        Raises :class:`RequestError` for an unknown key and for a body that is too large.
        """
        inbound = Inbound(head, self._keys.next())
        if head.path.startswith(b"/v1/"):
            inbound.caller = self.clients.identify(head.fields.get(b"authorization"))
        length = head.length
        if length is not None and length > self.options.max_body_bytes:
            raise self.too_large()
        return inbound

    def too_large(self) -> RequestError:
        """Return the refusal of a body that is too large."""
        return RequestError(
            f"The body is larger than the {self.options.max_body_bytes} bytes that this gateway "
            "accepts (setting gateway.max_body_bytes).",
            status=413,
            code="request_too_large",
        )

    def own(self, inbound: Inbound) -> bytes | None:
        """Return the answer to what the gateway itself answers, ``None`` for what it passes on.

        Raises :class:`RequestError`.
        """
        path, get = inbound.head.path, inbound.method in (b"GET", b"HEAD")
        head_only = inbound.method == b"HEAD"
        if path.startswith(b"/v1/"):
            if "/." in inbound.endpoint:
                raise RequestError("There is no such path here.", status=404, code="unknown_path")
            if not get or inbound.endpoint.split("/", 2)[1] != "models":
                return None
            name = inbound.endpoint[8:]
            body = self.table.model(name) if name else self.table.models
            lines = b"x-request-id: %b\r\n" % inbound.id
            return whole(200, body, lines, head_only=head_only)
        if path == b"/healthz":
            return whole(200, b'{"status":"ok"}', head_only=head_only)
        if path == b"/readyz":
            state = b'{"status":"ready"}' if self.ready else b'{"status":"draining"}'
            return whole(200 if self.ready else 503, state, head_only=head_only)
        message = "There is no such path here; the API's paths begin with /v1/."
        text = error_body(message, type="invalid_request_error", code="unknown_path")
        return whole(404, text, head_only=head_only)

    def serving(self, client: Client, inbound: Inbound) -> Serving:
        """Choose the arm for a request whose body is complete.

        Raises :class:`RequestError`.
        """
        route, named = find_route(self.table, inbound)
        return Serving(
            client,
            inbound,
            route,
            choose_arm(route, inbound, now=inbound.received) if named else _DEFAULT,
            named=named,
            buffer=self._buffer,
            metrics=self._metrics,
            limit=self.options.max_capture_bytes,
        )
