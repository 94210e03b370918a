"""Serving one request: the arm it was assigned to, the baseline in its place, and the accounts."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError

from gateway.capture import CaptureBuffer
from gateway.errors import RequestError, UpstreamError, UpstreamTimeout
from gateway.headers import RawHeaders
from gateway.inbound import Inbound
from gateway.metrics import GatewayMetrics
from gateway.observe import Ending, Observation
from gateway.relay import Relay, Send, call
from gateway.routes import Arm, RouteState
from gateway.split import Assignment
from gateway.upstream import Exchange
from gateway.wire import Answer

__all__ = ["BadGateway", "Serving"]

_log = logging.getLogger("coalmine.gateway")
_FALLBACK = Assignment("baseline", "fallback")
_HOLD = 256 * 1024
"""Bytes of a candidate's unstreamed answer held until it is whole, so that a cut can be mended."""
_NO_ANSWER = Answer()


class BadGateway(RequestError):
    """The baseline could not answer. ``headers`` say who was asked."""

    def __init__(self, error: UpstreamError, headers: RawHeaders) -> None:
        late = isinstance(error, UpstreamTimeout)
        what = "did not answer in time" if late else "could not be reached or broke off"
        super().__init__(
            f"The model's deployment {what}: {error}. Try again later.",
            status=504 if late else 502,
            type="upstream_error",
            code="upstream_timeout" if late else "upstream_unavailable",
        )
        self.headers = headers


class Serving:
    """One request from its assignment to the end of its accounts.

    ``named`` tells whether the request names its route; only then is its model rewritten.
    ``limit`` bounds what is read or captured of request and answer, in bytes.
    """

    __slots__ = (
        "_arm",
        "_buffer",
        "_chosen",
        "_exchange",
        "_inbound",
        "_metrics",
        "_named",
        "_observation",
        "_relay",
        "_route",
        "_served",
        "_status",
        "_timed_out",
    )

    def __init__(
        self,
        inbound: Inbound,
        route: RouteState,
        chosen: Assignment,
        *,
        named: bool,
        buffer: CaptureBuffer,
        metrics: GatewayMetrics,
        limit: int,
    ) -> None:
        self._inbound = inbound
        self._route = route
        self._chosen = self._served = chosen
        self._named = named
        self._buffer = buffer
        self._metrics = metrics
        self._arm: Arm = route.baseline
        self._exchange: Exchange | None = None
        self._relay: Relay | None = None
        self._status = 0
        self._timed_out = False
        self._observation = (
            Observation(route, inbound, chosen, buffer, limit) if named and route.observed else None
        )

    async def run(self, send: Send, *, read_limit: int) -> None:
        """Answer the request. Raises :class:`BadGateway` where nobody could, before any byte."""
        route = self._route
        try:
            held = None
            if self._chosen.variant == "candidate" and route.candidate is not None:
                held = await self._try_candidate(route.candidate)
            if self._exchange is None:
                self._exchange = await call(self._inbound, self._arm, named=self._named)
            if self._observation is not None:
                self._observation.begin(self._served)
            self._status = self._exchange.status
            relay = self._relay = Relay(
                self._inbound, self._exchange, self._observation, read_limit=read_limit
            )
            await self._pass_on(relay, send, held)
        except UpstreamError as error:
            self._timed_out = isinstance(error, UpstreamTimeout)
            refusal = BadGateway(error, self._added)
            self._status = refusal.status
            if self._observation is not None:
                self._observation.begin(self._served)
            raise refusal from None
        except CancelledError:
            self._inbound.cut = True
            raise
        finally:
            if self._exchange is not None:
                self._exchange.cancel()
            self._account()

    @property
    def _added(self) -> RawHeaders:
        return self._route.added_headers[self._served.variant, self._served.reason]

    async def _pass_on(self, relay: Relay, send: Send, held: bytes | None) -> None:
        if relay.sse:
            self._metrics.streams_open.inc()
        try:
            await relay.run(send, self._added, held)
        finally:
            if relay.sse:
                self._metrics.streams_open.dec()
        self._timed_out = isinstance(relay.error, UpstreamTimeout)

    async def _try_candidate(self, candidate: Arm) -> bytes | None:
        """Call the candidate until its answer has begun, and return what was read of it.

        Where that fails, no exchange is left and the baseline is to serve. An unstreamed answer is
        held until it is whole or large, so that one that breaks off can still be replaced.
        """
        self._arm = candidate
        self._buffer.candidate_called(self._route.name, self._inbound.created_at)
        timed_out = False
        try:
            exchange = self._exchange = await call(self._inbound, candidate, named=self._named)
            if exchange.status != 429 and exchange.status < 500:
                held = await exchange.read()
                if not self._inbound.peeked.streams:
                    while len(held) < _HOLD and (more := await exchange.read()):
                        held += more
                return held
            cause = "429" if exchange.status == 429 else "5xx"
        except UpstreamError as error:
            cause = error.cause
            timed_out = isinstance(error, UpstreamTimeout)
            _log.info("route %s: the candidate failed: %s", self._route.name, error)
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        self._served, self._arm = _FALLBACK, self._route.baseline
        self._route.metrics.fallback(cause)
        if self._observation is not None:
            self._observation.candidate_failed(timeout=timed_out)
        self._judge_candidate(failed=True)
        return None

    def _judge_candidate(self, *, failed: bool) -> None:
        route = self._route
        breaker, split = route.breaker, route.split
        failures, of = breaker.failures, breaker.of
        change = breaker.record(failed=failed, now=time.perf_counter())
        if change is None:
            return
        if change == "open":
            failures, of = breaker.failures, breaker.of
        route.metrics.breaker_open.set(breaker.open)
        _log.warning("route %s: the breaker on the candidate is %s", route.name, change)
        if split.rollout_id is not None:
            state = {"state": change, "failures": failures, "of": of}
            self._buffer.breaker(split.rollout_id, split.epoch, time.time(), state)

    def _account(self) -> None:
        inbound, relay, served = self._inbound, self._relay, self._served
        metrics = self._route.metrics
        total = time.perf_counter() - inbound.received
        complete = relay is not None and relay.complete
        if inbound.cut and not complete:
            self._status = 499  # the client left, or we are shutting down
        self._metrics.overhead.observe(inbound.sent - inbound.received)
        metrics.request(served.variant, served.reason, self._status)
        first, answer, encoding = None, _NO_ANSWER, b""
        if relay is not None:
            answer, encoding = relay.answer, relay.encoding
            if relay.first_at is not None:
                first = relay.first_at - inbound.received
            if complete and 200 <= self._status < 300:
                metrics.answer(
                    served.variant,
                    total=total,
                    first=first if relay.sse else None,
                    input_tokens=answer.input_tokens,
                    output_tokens=answer.output_tokens,
                )
            if served.variant == "candidate" and (complete or relay.error is not None):
                self._judge_candidate(failed=not complete)
        if self._observation is not None:
            self._observation.finish(
                Ending(
                    status=self._status,
                    complete=complete,
                    timeout=self._timed_out,
                    total=total,
                    first=first,
                    answer=answer,
                    deployment=self._arm.name,
                    encoding=encoding,
                )
            )
