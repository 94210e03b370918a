"""What a rollout learns from one request: its counts, and its capture where it is sampled.

Most requests are in no sample: for those there is one object, its draws, and one call of the
buffer. Whatever only a sampled request needs is in a :class:`_Sample` of its own.
"""

from __future__ import annotations

import hashlib

from gateway.batch import LIVE, MIRRORS, REVERSE, Capture
from gateway.capture import CaptureBuffer
from gateway.headers import HeaderView
from gateway.inbound import Inbound
from gateway.routes import RouteState
from gateway.split import Assignment, Mirror, Sampler
from gateway.wire import Answer

__all__ = ["Observation", "hash_key"]

_READABLE = frozenset({b"", b"identity", b"gzip", b"deflate"})
_Pairs = list[tuple[int, str]]
_Samplers = tuple[tuple[Mirror, Sampler, Sampler | None], ...]


class Observation:
    """Follows one request of a known route from its assignment to its end.

    Sampling draws on the request's own key and on salts of their own, never on the arm: a mirror's
    sample is independent of the split. What the baseline serves is mirrored to the candidate and,
    where the split wants both directions, what chance gave to the candidate to the baseline.
    ``limit`` bounds request and answer of a capture in bytes. ``tees`` tells whether the answer's
    bytes are wanted: where it is false, :meth:`tee` need not be called.
    """

    __slots__ = (
        "_assigned",
        "_buffer",
        "_counts",
        "_inbound",
        "_limit",
        "_missed",
        "_route",
        "_sample",
        "served",
        "tees",
    )

    def __init__(
        self,
        route: RouteState,
        inbound: Inbound,
        assigned: Assignment,
        buffer: CaptureBuffer,
        limit: int,
    ) -> None:
        self._route = route
        self._inbound = inbound
        self._assigned = assigned
        self._buffer = buffer
        self._limit = limit
        self._missed = 0
        self._sample: _Sample | None = None
        self.served = assigned
        self.tees = False
        # While the breaker is open the arms are not what chance made them: neither counts.
        self._counts = (
            assigned.randomised and route.scope.window is not None and not route.breaker.open
        )

    def candidate_failed(self, *, timeout: bool) -> None:
        """Charge a failure before the first byte to the candidate, though the baseline serves.

        It is counted at once, for the baseline's answer may take a while.
        """
        if self._counts:
            self._counts = False
            self._buffer.settle(self._route.scope, "candidate", 0, True, timeout, timeout)

    def begin(self, served: Assignment) -> None:
        """Note who serves, and draw the samples."""
        self.served = served
        inbound, route, missed = self._inbound, self._route, 0
        if route.has_own_terms or not inbound.eligible:
            self._begin_apart(served)
            return
        mirrors: _Samplers = ()
        gates: tuple[Sampler, ...] = ()
        if served.variant == "baseline":
            mirrors, gates, missed = route.mirror_samplers, route.mirror_gates, MIRRORS
        elif self._assigned.randomised:
            mirrors, gates, missed = route.reverse_samplers, route.reverse_gates, REVERSE
        for gate in gates:
            if gate.takes(inbound.key):
                self._draw(mirrors)
                return
        if not mirrors:
            missed = 0
        live = route.live_sampler
        if live is not None and self._assigned.randomised:
            missed |= LIVE
            if live.takes(inbound.key):
                self._draw(mirrors)
                return
        self._missed = missed
        if mirrors:
            route.metrics.capture("not_sampled")

    def _begin_apart(self, served: Assignment) -> None:
        """Draw the samples where rollouts differ in whose requests they take."""
        inbound, route = self._inbound, self._route
        if not (route.has_own_terms and inbound.partakes):
            return
        mirrors: _Samplers = ()
        if served.variant == "baseline":
            mirrors = route.mirror_samplers
        elif self._assigned.randomised:
            mirrors = route.reverse_samplers
        own, headers = route.split.eligible, HeaderView(inbound.raw)
        self._draw(
            tuple(
                each for each in mirrors if (each[0].eligible or own).allows(inbound.risk, headers)
            )
        )

    def _draw(self, mirrors: _Samplers) -> None:
        """Draw every sample, for one of them has the request, and keep the request for those."""
        route, inbound = self._route, self._inbound
        key = inbound.key
        wanted: _Pairs = []
        missed: _Pairs = []
        for mirror, sampler, noise in mirrors:
            taken = sampler.takes(key)
            (wanted if taken else missed).append((mirror.rollout_id, "mirror"))
            if taken and noise is not None:
                also = noise.takes(key)
                (wanted if also else missed).append((mirror.rollout_id, "noise"))
        if mirrors and not wanted:
            route.metrics.capture("not_sampled")
        live, rollout_id = route.live_sampler, route.scope.live
        if live is not None and rollout_id is not None and self._assigned.randomised:
            (wanted if live.takes(key) else missed).append((rollout_id, "live"))
        self._buffer.dismiss(missed, "not_sampled")
        outcome = self._refusal()
        if (
            outcome is None
            and self._assigned.variant == "candidate"
            and self.served.variant == "baseline"
        ):  # the answer is not the assigned arm's
            self._buffer.dismiss([pair for pair in wanted if pair[1] == "live"], "unsupported")
            wanted = [pair for pair in wanted if pair[1] != "live"]
        if wanted:
            self._sample = _Sample(self._buffer, self._limit, wanted, outcome)
            self._sample.take(inbound.body)
            self.tees = self._sample.outcome is None

    def _refusal(self) -> str | None:
        inbound = self._inbound
        if (
            not inbound.caller.shadow
            or inbound.raw.get(b"x-coalmine-shadow", b"").strip().lower() == b"off"
        ):
            return "withheld"
        if not inbound.inference or not inbound.peeked.single_choice:
            return "unsupported"
        return None

    def tee(self, data: bytes) -> None:
        """Keep a piece of the answer, as the upstream sent it."""
        if self.tees and self._sample is not None:
            self.tees = self._sample.keep(data)

    def finish(
        self,
        status: int,
        complete: bool,
        timeout: bool,
        total: float,
        first: float | None,
        answer: Answer,
        deployment: str,
        encoding: bytes,
    ) -> None:
        """Count the request, and hand its capture over or count why there is none.

        ``total`` and ``first`` are seconds to the last and the first byte. A request that was cut
        on our side (its client left) is neither an error nor a capture.
        """
        scope, arm = self._route.scope, None
        error = slow = False
        if self._counts and self.served.variant == self._assigned.variant:
            arm = self.served.variant
            error = status >= 500 or status == 429 or not (complete or self._inbound.cut)
            slow = timeout or total > scope.slo_s
        if arm is not None or self._missed:
            self._buffer.settle(scope, arm, self._missed, error, timeout, slow)
        sample = self._sample
        if sample is None:
            return
        if sample.outcome is None and (
            not complete or not 200 <= status < 300 or encoding not in _READABLE
        ):
            sample.drop("unsupported")
        if sample.outcome is None and not self._buffer.add(
            self._capture(sample, status, total, first, answer, deployment, encoding)
        ):
            sample.outcome = "shed"
        if sample.outcome is not None:
            self._buffer.dismiss(sample.pairs, sample.outcome, self._inbound.segment)
        if any(stream == "mirror" for _, stream in sample.pairs):
            self._route.metrics.capture(sample.outcome or "pending")

    def _capture(
        self,
        sample: _Sample,
        status: int,
        total: float,
        first: float | None,
        answer: Answer,
        deployment: str,
        encoding: bytes,
    ) -> Capture:
        inbound, split = self._inbound, self._route.split
        key = inbound.targeting_key
        return Capture(
            id=inbound.key,
            route=self._route.name,
            request_id=inbound.id.decode("latin-1"),
            created_at=inbound.created_at,
            endpoint=inbound.endpoint,
            variant=self.served.variant,
            reason=self.served.reason,
            deployment=deployment,
            stream=inbound.peeked.streams,
            request_body=inbound.body,
            response_body=b"".join(sample.chunks),
            content_encoding=encoding,
            status=status,
            ttft_s=first,
            total_s=total,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            segment=inbound.segment,
            risk=inbound.risk,
            key_hash=None if key is None else hash_key(key),
            split_revision=split.revision,
            epoch=split.epoch,
            weight_bp=split.weight_bp,
            size=sample.reserved,
            pairs=sample.pairs,
        )


class _Sample:
    """A request that some stream wants: its answer so far, and why it is not captured if so."""

    __slots__ = ("_answered", "_buffer", "_limit", "chunks", "outcome", "pairs", "reserved")

    def __init__(
        self, buffer: CaptureBuffer, limit: int, pairs: _Pairs, outcome: str | None
    ) -> None:
        self._buffer = buffer
        self._limit = limit
        self._answered = 0
        self.pairs = pairs
        self.outcome = outcome
        self.chunks: list[bytes] = []
        self.reserved = 0

    def take(self, body: bytes) -> None:
        """Take room for the request's body."""
        if self.outcome is None:
            self._reserve(len(body), len(body))

    def keep(self, data: bytes) -> bool:
        """Keep a piece of the answer; ``False`` where no more is wanted."""
        size = len(data)
        self._answered += size
        if not self._reserve(size, self._answered):
            return False
        self.chunks.append(data)
        return True

    def _reserve(self, size: int, total: int) -> bool:
        if total > self._limit:
            self.drop("over_size")
        elif not self._buffer.reserve(size):
            self.drop("shed")
        else:
            self.reserved += size
            return True
        return False

    def drop(self, outcome: str) -> None:
        """Give the room back; ``outcome`` says why."""
        self.outcome = outcome
        self.chunks = []
        self._buffer.free(self.reserved)
        self.reserved = 0


def hash_key(key: str) -> str:
    """Return the pseudonym of a targeting key: which requests belong together, not whose."""
    return hashlib.blake2b(key.encode(), digest_size=16, person=b"coalmine-key").hexdigest()
