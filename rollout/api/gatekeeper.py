"""The door of the admin API: every request passes here before anything of it is read.

With tokens, a request needs a valid one. Without, the API is the local user's alone, and whatever
a web page in the user's browser could send is refused: a name that only pretends to be this
machine (DNS rebinding), another site's origin, a form post, a proxy in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import CoalmineError
from gateway.store import Store
from rollout.api.auth import LOCAL, Principal, find_principal, is_loopback, tokens_exist
from rollout.api.problems import error_response, problem_response

__all__ = ["MAX_BODY_BYTES", "OPEN_PATHS", "Gatekeeper", "foreign_request"]

MAX_BODY_BYTES = 1024**2
"""Largest body that the admin API accepts: specs are a few kilobytes."""

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""What probes and Prometheus read without a token."""

_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_TYPES = frozenset({"application/json", "application/yaml", "application/x-yaml", "text/yaml"})


def foreign_request(method: str, headers: Headers) -> str | None:
    """Return why a request without a token can't be the local user's, or ``None``.

    ``headers`` are the request's. Only called while no token exists and control is bound to
    loopback.
    """
    host = headers.get("host", "")
    if not is_loopback(_hostname(host)):
        return (
            f"the request was sent to {host[:80] or 'no host'!r}, which is not a name of this "
            "machine's loopback; use 127.0.0.1 or localhost, or create a token"
        )
    if "forwarded" in headers or "x-forwarded-for" in headers or "via" in headers:
        return "the request came through a proxy; create a token before others can reach control"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return f"the request comes from another site, {origin[:80]!r}; that needs a token"
    if method not in _SAFE_METHODS:
        # Following a link from another site is harmless: it reads nothing that the site sees.
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return "the request comes from another site; that needs a token"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        # A form on another site can send only three types; none of them is among ours.
        if kind not in _BODY_TYPES and not (empty and not kind and origin is None):
            return "the body's type must be application/json or application/yaml"
    return None


class Gatekeeper:
    """ASGI middleware that lets in whom it knows, and caps the body."""

    def __init__(
        self, app: ASGIApp, *, store: Store, host: str, clock: Callable[[], float]
    ) -> None:
        self._app = app
        self._store = store
        self._clock = clock
        self._loopback = is_loopback(host)
        self._tokens_seen = False  # once true, always true: tokens are revoked, never deleted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through with its principal, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        if scope["path"] not in OPEN_PATHS:
            verdict = await run_in_threadpool(self._admit, scope["method"], Headers(scope=scope))
            if not isinstance(verdict, Principal):
                await verdict(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = verdict
        await self._app(scope, _Capped(receive, MAX_BODY_BYTES), send)

    def _admit(self, method: str, headers: Headers) -> Principal | JSONResponse:
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return problem_response(400, "content-length is not a number")
        if length > MAX_BODY_BYTES:
            return problem_response(413, f"the body is over {MAX_BODY_BYTES} bytes")
        try:
            return self._identify(method, headers)
        except CoalmineError as error:
            return error_response(error)

    def _identify(self, method: str, headers: Headers) -> Principal | JSONResponse:
        if not self._tokens_seen:
            with self._store.read() as session:
                self._tokens_seen = tokens_exist(session)
        if not self._tokens_seen and self._loopback:
            reason = foreign_request(method, headers)
            return LOCAL if reason is None else problem_response(403, reason)
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            return _unauthorized("send the header `Authorization: Bearer cm_…` with your token")
        principal = find_principal(self._store, secret.strip(), now=self._clock())
        return principal or _unauthorized("the token is unknown or was revoked; ask an admin")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sending


class _Capped:
    """Receives a body up to a number of bytes; more than that ends the request with 413."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit

    async def __call__(self) -> Message:
        message: Any = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large()
        return dict(message)


def _too_large() -> HTTPException:
    return HTTPException(413, f"the body is over {MAX_BODY_BYTES} bytes")


def _unauthorized(detail: str) -> JSONResponse:
    return problem_response(401, detail, headers={"www-authenticate": "Bearer"})


def _hostname(host: str) -> str:
    """Return the host without its port; ``[::1]:8081`` gives ``::1``."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
