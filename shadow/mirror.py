"""Sending a captured request to the other arm, gently: production traffic goes first.

The request is sent with the parameters that the client chose, streamed where the client streamed,
so that first bytes are comparable. Tools are never executed. The answer is read whole into memory,
up to a limit.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import httpx
from pydantic import SecretStr

from gateway.errors import RequestError
from gateway.redaction.stage import Redaction
from gateway.redaction.text import Withheld
from gateway.settings import Deployment
from gateway.splice import Rewrite
from gateway.store.tables import CaptureRow
from gateway.upstream import Outbound
from gateway.wire import peek
from shadow.answer import endpoint_of, read_answer
from shadow.lag import LoopLag
from shadow.pair import Arm
from shadow.pressure import Limiter, waiting_requests
from shadow.transport import UpstreamTransport

MIRROR_HEADER = "x-coalmine-mirror"
"""Marks mirrored requests, so that upstreams and gateways can tell them from users' requests."""

_POLL_S = 2.0
_LARGE = 32 * 1024
"""Characters from which on an answer is redacted in a thread."""
_NOT_AUTHORISED = frozenset({401, 403})
_REFUSED_BY_PROXY = "the proxy refused the mirror; check proxy_auth_env"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What came back. `body` is the answer as sent by the upstream.

    `body` is redacted. `unusable` says why the answer is no fact about the model: the mirror itself
    was not allowed, or, with `withheld`, the answer may not be kept.
    """

    arm: Arm
    body: str = ""
    unusable: str | None = None
    withheld: bool = False


class MirrorTarget:
    """One deployment that requests are mirrored to, with a pool and a concurrency of its own."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        api_key: SecretStr | None,
        max_body_bytes: int,
        rng: Random,
        redaction: Redaction | None = None,
        outbound: Outbound = Outbound(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
        lag: LoopLag | None = None,
    ) -> None:
        self._deployment = deployment
        self._lag = lag
        self._rewrite = Rewrite(
            deployment.model,
            system_prompt=deployment.system_prompt,
            parameters=deployment.parameters,
        )
        headers = {"content-type": "application/json", MIRROR_HEADER: "1"}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key.get_secret_value()}"
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None),
            transport=UpstreamTransport("mirror", deployment.base_url, outbound=outbound),
            trust_env=False,
        )
        self._max_body_bytes = max_body_bytes
        self._rng = rng
        self._redaction = redaction
        self._clock = clock
        self._limiter = Limiter()
        self._metrics: str | None = deployment.base_url.removesuffix("/v1") + "/metrics"
        self._polled_at = -_POLL_S
        self._not_before = 0.0

    async def send(
        self, capture: CaptureRow, *, timeout_s: float, max_concurrency: int
    ) -> Mirrored:
        """Mirror one capture. Failures of the deployment are values; never raises for them.

        A busy answer (429) is asked again after the pause that the deployment wants, as long as
        `timeout_s` seconds from the first attempt allow.
        """
        try:
            body = self._write(capture)
        except (RequestError, ValueError) as error:
            return Mirrored(_failed(f"the request can't be rewritten: {error}"), unusable="request")
        await self._look_at_queue()
        async with self._limiter.slot(max_concurrency):
            return await self._patiently(capture, body, timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _write(self, capture: CaptureRow) -> bytes:
        body = capture.request_body.encode("utf-8", "surrogatepass")
        peeked = peek(body)
        endpoint = endpoint_of(capture.endpoint)
        usage = peeked.streams and endpoint != "responses"
        return self._rewrite.apply(body, peeked, path=f"/{endpoint}", ask_usage=usage)

    async def _patiently(self, capture: CaptureRow, body: bytes, timeout_s: float) -> Mirrored:
        deadline = self._clock() + timeout_s
        attempt = 0
        while True:
            await asyncio.sleep(max(0.0, min(self._not_before, deadline) - self._clock()))
            mirrored, retry_after = await self._once(capture, body, timeout_s)
            if mirrored.arm.status != 429:
                return mirrored
            attempt += 1
            self._limiter.narrow()
            wait = retry_after
            if wait is None:
                wait = min(30.0, 0.25 * 2.0**attempt) * self._rng.uniform(0.5, 1.0)
            resume = self._clock() + wait
            if resume >= deadline:
                return mirrored
            self._not_before = max(self._not_before, resume)

    async def _once(
        self, capture: CaptureRow, body: bytes, timeout_s: float
    ) -> tuple[Mirrored, float | None]:
        url = f"{self._deployment.base_url}/{endpoint_of(capture.endpoint)}"
        headers = {"x-request-id": f"{capture.request_id}-mirror"}
        received = bytearray()
        started = self._clock()
        first: float | None = None
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream("POST", url, content=body, headers=headers) as response,
            ):
                async for chunk in response.aiter_bytes():
                    if first is None:
                        first = self._clock() - started
                    received += chunk
                    if len(received) > self._max_body_bytes:
                        too_long = f"the answer is larger than {self._max_body_bytes} bytes"
                        return Mirrored(_failed(too_long, status=response.status_code)), None
        except TimeoutError:
            arm = Arm(
                read_answer(endpoint=capture.endpoint, body="", status=None),
                status=None,
                latency_s=timeout_s,
                ttft_s=first,
                timed_out=True,
            )
            return Mirrored(arm, (await self._redacted(capture, _text(received)))[0]), None
        except httpx.ProxyError as error:
            status_text = str(error)[:3]  # of its answer to CONNECT
            unusable = _REFUSED_BY_PROXY if status_text in {"403", "407"} else None
            return Mirrored(_failed(f"proxy: status {status_text}"), unusable=unusable), None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            arm = _failed(f"connection: {type(error).__name__}")
            return Mirrored(arm, (await self._redacted(capture, _text(received)))[0]), None
        status = response.status_code
        ended = self._clock()
        text, withheld = await self._redacted(capture, _text(received))
        # Timed badly is not timed: the answer counts, its latency does not.
        fair = self._lag is None or not self._lag.disturbed(started, ended)
        arm = Arm(
            read_answer(endpoint=capture.endpoint, body=text, status=status),
            status=status,
            latency_s=ended - started if fair else None,
            ttft_s=first if fair else None,
        )
        unusable = None
        if status in _NOT_AUTHORISED:
            unusable = f"the mirror is not authorised (status {status}); set api_key_env"
        elif status == 407:
            unusable = _REFUSED_BY_PROXY
        if withheld is not None and status < 400:
            return Mirrored(arm, "", f"the answer is withheld ({withheld})", withheld=True), None
        return Mirrored(arm, text, unusable), _seconds(response.headers.get("retry-after"))

    async def _redacted(self, capture: CaptureRow, text: str) -> tuple[str, str | None]:
        """Return an answer redacted as its capture is, or none of it, and why.

        What can't be read is a failed answer whatever it says; only what is certain is kept of it.
        """
        if self._redaction is None or not text:
            return text, None
        arguments = (self._redaction, capture.route, capture.request_body, text)
        if len(text) < _LARGE:
            return _redact(*arguments)
        return await asyncio.to_thread(_redact, *arguments)

    async def _look_at_queue(self) -> None:
        """Narrow the limiter while the engine's queue grows, where the engine tells (vLLM)."""
        if self._metrics is None or self._clock() - self._polled_at < _POLL_S:
            return
        self._polled_at = self._clock()
        try:
            response = await self._http.get(self._metrics, timeout=1.0)
        except (httpx.HTTPError, OSError):
            return
        if response.status_code >= 500:
            return
        waiting = waiting_requests(response.text) if response.status_code == 200 else None
        if waiting is None:
            self._metrics = None
        else:
            self._limiter.observe(waiting)


def _redact(redaction: Redaction, route: str, request: str, text: str) -> tuple[str, str | None]:
    try:
        return redaction.mirrored(route, request, text), None
    except Withheld as refusal:
        if refusal.reason == "unreadable":
            return redaction.plain(route, text), None
        return "", refusal.reason


def _failed(error: str, *, status: int | None = None) -> Arm:
    answer = read_answer(endpoint="", body="", status=None)
    return Arm(type(answer)(error=error), status=status)


def _text(received: bytearray) -> str:
    # NUL can't be kept by PostgreSQL, and stands in no JSON text anyway.
    return received.decode("utf-8", "replace").replace("\x00", "\ufffd")


def _seconds(header: str | None) -> float | None:
    try:
        return min(max(float(header or ""), 0.0), 300.0)
    except ValueError:
        return None
