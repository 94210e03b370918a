"""Serving one request: the arm it was assigned to, the baseline in its place, and the accounts.

A state machine driven by callbacks, from the deployment's side (:class:`gateway.upstream.Receiver`)
and from the client's (:meth:`Serving.client_left`, :meth:`~Serving.pause`). Its states: *trying*
the candidate, whose answer is held so that the baseline can still take its place; *waiting* for an
answer that nothing can replace; *relaying* it from its head on; *over*.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

from gateway.answers import error_answer
from gateway.capture import CaptureBuffer
from gateway.errors import RequestError, UpstreamError, UpstreamTimeout
from gateway.http1 import RequestHead, ResponseHead
from gateway.inbound import Inbound
from gateway.metrics import GatewayMetrics
from gateway.observe import Observation
from gateway.relay import SILENT, Relay, outgoing, whole
from gateway.routes import Arm, RouteState
from gateway.split import Assignment
from gateway.upstream import Link
from gateway.wire import Answer

__all__ = ["BadGateway", "Client", "Serving"]

_log = logging.getLogger("coalmine.gateway")
_FALLBACK = Assignment("baseline", "fallback")
_HOLD = 256 * 1024
"""Bytes of a candidate's unstreamed answer held until it is whole, so that a cut can be mended."""
_NO_ANSWER = Answer()
_LEFT = 499


class BadGateway(RequestError):
    """The baseline could not answer."""

    def __init__(self, error: UpstreamError) -> None:
        late = isinstance(error, UpstreamTimeout)
        what = "did not answer in time" if late else "could not be reached or broke off"
        super().__init__(
            f"The model's deployment {what}: {error}. Try again later.",
            status=504 if late else 502,
            type="upstream_error",
            code="upstream_timeout" if late else "upstream_unavailable",
        )


class Client(Protocol):
    """The client's connection, as a request sees it."""

    slow: bool
    """Whether the client has much to read still."""

    def keep_after(self, head: RequestHead) -> bool:
        """Say whether the connection is kept after the answer to ``head``."""

    def write(self, data: bytes) -> None:
        """Send."""

    def finish(self, keep: bool) -> None:
        """Take the next request, or close after what is already written."""


class Serving:
    """One request from its assignment to the end of its accounts.

    ``named`` tells whether the request names its route; only then is its model rewritten.
    ``limit`` bounds what is read or captured of request and answer, in bytes.
    """

    __slots__ = (
        "_arm",
        "_buffer",
        "_chosen",
        "_client",
        "_encoding",
        "_error",
        "_first_at",
        "_held",
        "_held_head",
        "_inbound",
        "_limit",
        "_metrics",
        "_named",
        "_observation",
        "_relay",
        "_route",
        "_seen",
        "_served",
        "_status",
        "_trying",
        "link",
    )

    def __init__(
        self,
        client: Client,
        inbound: Inbound,
        route: RouteState,
        chosen: Assignment,
        *,
        named: bool,
        buffer: CaptureBuffer,
        metrics: GatewayMetrics,
        limit: int,
    ) -> None:
        self._client = client
        self._inbound = inbound
        self._route = route
        self._chosen = self._served = chosen
        self._named = named
        self._buffer = buffer
        self._metrics = metrics
        self._limit = limit
        self._arm = route.baseline
        self._trying = False
        self._held = b""
        self._held_head: ResponseHead | None = None
        self._relay: Relay | None = None
        self._status = self._seen = 0
        self._encoding = b""
        self._first_at: float | None = None
        self._error: UpstreamError | None = None
        self.link: Link | None = None
        self._observation = (
            Observation(route, inbound, chosen, buffer, limit) if named and route.observed else None
        )

    def start(self) -> None:
        """Send the request to the arm that it was assigned to."""
        route = self._route
        arm = route.baseline
        if self._chosen.variant == "candidate" and route.candidate is not None:
            arm = route.candidate
            self._trying = True
            self._buffer.candidate_called(route.name, self._inbound.created_at)
        self._call(arm)

    def _call(self, arm: Arm) -> None:
        self._arm = arm
        request = outgoing(self._inbound, arm, named=self._named)
        self._inbound.sent = time.perf_counter()
        arm.upstream.call(request, self)

    # From the deployment

    def answered(self, head: ResponseHead, data: bytes, last: bool) -> None:
        """Take the head, and what came of the body with it."""
        if self._trying:
            if head.status == 429 or head.status >= 500:
                if self.link is not None:
                    self.link.cancel()
                self._fall_back("429" if head.status == 429 else "5xx")
                return
            self._held_head = head
            self._hold(data, last)
            return
        self._commit(head, data, last)

    def received(self, data: bytes, last: bool) -> None:
        """Take the next bytes of the body."""
        if self._trying:
            self._hold(data, last)
            return
        relay, observation = self._relay, self._observation
        if relay is None:
            return
        if observation is not None and observation.tees and data:
            observation.tee(data)
        out = relay.feed(data, last)
        if out:
            self._client.write(out)
        if last:
            self._end(relay, complete=True, keep=relay.keep)

    def failed(self, error: UpstreamError) -> None:
        """Take the news that the answer will not come, or not to its end."""
        if self._trying:
            _log.info("route %s: the candidate failed: %s", self._route.name, error)
            self._fall_back(error.cause, timeout=isinstance(error, UpstreamTimeout))
            return
        self._error = error
        relay, client = self._relay, self._client
        if relay is None:
            refusal = BadGateway(error)
            self._status = refusal.status
            if self._observation is not None:
                self._observation.begin(self._served)
            keep = client.keep_after(self._inbound.head)
            added = self._route.response_lines[self._served.variant, self._served.reason]
            lines = added + b"x-request-id: %b\r\n" % self._inbound.id
            if not keep:
                lines += b"connection: close\r\n"
            head_only = self._inbound.method == b"HEAD"
            client.write(error_answer(refusal, lines, head_only=head_only))
            self._account(False, _NO_ANSWER, None, False)
            client.finish(keep)
            return
        ending = relay.cut(error)
        if ending is not None:
            client.write(ending)
        self._end(relay, complete=False, keep=ending is not None and relay.keep)

    # From the client

    def pause(self) -> None:
        """Read no more for a client that has much to read still."""
        if self.link is not None:
            self.link.pause()

    def resume(self) -> None:
        """Read on, as the client has caught up."""
        if self.link is not None:
            self.link.resume()

    def client_left(self) -> None:
        """Stop whatever is done for the client, upstream too, for it is gone or has to go."""
        self._inbound.cut = True
        if self.link is not None:
            self.link.cancel()
        self._status = _LEFT
        relay = self._relay
        if relay is None:
            self._account(False, _NO_ANSWER, None, False)
            return
        relay.settle()
        if relay.sse:
            self._metrics.streams_open.dec()
        self._account(False, relay.answer, relay.first_at, relay.sse)

    # Inside

    def _hold(self, data: bytes, last: bool) -> None:
        """Keep the candidate's answer back until nothing can replace it any more.

        For a stream that is its first byte, for a whole answer its end or :data:`_HOLD` bytes.
        """
        if data and self._first_at is None:
            self._first_at = time.perf_counter()
        held = self._held = self._held + data if self._held else data
        if not last and (not held or (not self._inbound.peeked.streams and len(held) < _HOLD)):
            return
        head = self._held_head
        if head is not None:
            self._trying = False
            self._held = b""
            self._commit(head, held, last)

    def _commit(self, head: ResponseHead, data: bytes, last: bool) -> None:
        """Let the answer go out; from here on there is no other."""
        observation = self._observation
        if observation is not None:
            observation.begin(self._served)
            if observation.tees and data:
                observation.tee(data)
        client, inbound = self._client, self._inbound
        self._status = status = head.status
        self._encoding = head.encoding
        keep = client.keep_after(inbound.head)
        added = self._route.response_lines[self._served.variant, self._served.reason]
        if (
            last
            and inbound.head.minor
            and status not in SILENT
            and inbound.method != b"HEAD"
            and not head.content_type.startswith(b"text/event-stream")
        ):
            out, answer = whole(inbound, head, added, data, keep=keep)
            client.write(out)
            self._seen = len(data) // 4
            self._account(True, answer, self._first_at or time.perf_counter(), False)
            client.finish(keep)
            return
        relay = self._relay = Relay(inbound, head, keep=keep, read_limit=self._limit)
        relay.first_at = self._first_at
        if relay.sse:
            self._metrics.streams_open.inc()
        client.write(relay.begin(added, data, last))
        if last:
            self._end(relay, complete=True, keep=relay.keep)
        elif client.slow:
            self.pause()

    def _fall_back(self, cause: str, *, timeout: bool = False) -> None:
        """Let the baseline serve in the candidate's place, and charge the failure to it."""
        route = self._route
        self._trying = False
        self._held = b""
        self._first_at = None
        self._served = _FALLBACK
        route.metrics.fallback(cause)
        if self._observation is not None:
            self._observation.candidate_failed(timeout=timeout)
        self._judge_candidate(failed=True)
        self._call(route.baseline)

    def _end(self, relay: Relay, *, complete: bool, keep: bool) -> None:
        if relay.sse:
            self._metrics.streams_open.dec()
        self._account(complete, relay.answer, relay.first_at, relay.sse)
        self._client.finish(keep)

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

    def _account(self, complete: bool, answer: Answer, first_at: float | None, sse: bool) -> None:
        inbound, served, status, error = self._inbound, self._served, self._status, self._error
        received = inbound.received
        total = time.perf_counter() - received
        first = None if first_at is None else first_at - received
        if served.variant == "candidate" and (complete or (error is not None and not inbound.cut)):
            self._judge_candidate(failed=not complete)
        overhead = inbound.sent - received
        finished = self._route.metrics.finished
        variant, reason = served.variant, served.reason
        if complete and 200 <= status < 300:
            finished(
                variant,
                reason,
                status,
                overhead,
                total,
                first if sse else None,
                answer.input_tokens,
                answer.output_tokens,
            )
        else:
            read, written = answer.input_tokens, answer.output_tokens  # as far as it was said
            finished(variant, reason, status, overhead, None, None, read, written)
        if answer.input_tokens is None and inbound.inference and (status < 300 or inbound.cut):
            relay = self._relay
            seen = self._seen if relay is None else relay.tokens
            self._route.metrics.estimate(variant, len(inbound.body) // 4, seen)
        if self._observation is not None:
            late = error is not None and isinstance(error, UpstreamTimeout)
            self._observation.finish(
                status, complete, late, total, first, answer, self._arm.name, self._encoding
            )
