"""What a rollout learns from one request: its counts, and its capture where it is sampled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gateway.capture import Capture, CaptureBuffer, WindowKey
from gateway.inbound import Inbound
from gateway.routes import RouteState
from gateway.split import Assignment, Mirror, sampled
from gateway.wire import Answer

__all__ = ["Ending", "Observation", "hash_key"]

_READABLE = (b"", b"identity", b"gzip", b"deflate")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. ``total`` and ``first`` are seconds to the last and the first byte."""

    status: int
    complete: bool
    timeout: bool
    total: float
    first: float | None
    answer: Answer
    deployment: str
    encoding: bytes


class Observation:
    """Follows one request of a known route from its assignment to its end.

    Sampling draws on the request's own key and on salts of their own, never on the arm: a mirror's
    sample is independent of the split. ``limit`` bounds request and answer of a capture in bytes.
    """

    __slots__ = (
        "_assigned",
        "_buffer",
        "_chunks",
        "_inbound",
        "_limit",
        "_outcome",
        "_reserved",
        "_route",
        "_size",
        "_wanted",
        "_window",
        "served",
    )

    def __init__(
        self,
        route: RouteState,
        inbound: Inbound,
        assigned: Assignment,
        buffer: CaptureBuffer,
        limit: int,
    ) -> None:
        split = route.split
        self._route = route
        self._inbound = inbound
        self._assigned = assigned
        self._buffer = buffer
        self._limit = limit
        self._wanted: list[tuple[int, str]] = []
        self._chunks: list[bytes] = []
        self._size = self._reserved = 0
        self._outcome: str | None = None
        self.served = assigned
        # While the breaker is open the arms are not what chance made them: neither counts.
        self._window = None
        if (
            assigned.randomised
            and split.weight_bp
            and split.rollout_id is not None
            and not route.breaker.open
        ):
            self._window = WindowKey(split.rollout_id, split.revision, split.weight_bp, split.epoch)

    def candidate_failed(self, *, timeout: bool) -> None:
        """Charge a failure before the first byte to the candidate, though the baseline serves."""
        self._count("candidate", error=True, timeout=timeout, slow=timeout)

    def begin(self, served: Assignment) -> None:
        """Note who serves, and draw the samples."""
        self.served = served
        if not self._inbound.eligible:
            return
        if served.variant == "baseline":
            for mirror in self._route.split.mirrors:
                self._draw_mirror(mirror)
        self._draw_live()
        if self._wanted:
            self._outcome = self._refusal()
        if self._wanted:
            self._take(self._inbound.body, keep=False)

    def _draw_mirror(self, mirror: Mirror) -> None:
        key, rollout_id = self._inbound.key, mirror.rollout_id
        if not sampled(mirror.salt, key, mirror.percentage_bp):
            self._buffer.dismiss(rollout_id, "mirror", "not_sampled")
            self._route.metrics.capture("not_sampled")
            return
        self._wanted.append((rollout_id, "mirror"))
        if sampled(f"{mirror.salt}:noise", key, mirror.noise_bp):
            self._wanted.append((rollout_id, "noise"))
        elif mirror.noise_bp:
            self._buffer.dismiss(rollout_id, "noise", "not_sampled")

    def _draw_live(self) -> None:
        split = self._route.split
        if not self._assigned.randomised or not split.weight_bp or split.rollout_id is None:
            return
        if sampled(f"{split.salt}:live", self._inbound.key, split.live_sample_bp):
            self._wanted.append((split.rollout_id, "live"))
        elif split.live_sample_bp:
            self._buffer.dismiss(split.rollout_id, "live", "not_sampled")

    def _refusal(self) -> str | None:
        inbound = self._inbound
        if (
            not inbound.caller.shadow
            or inbound.raw.get(b"x-coalmine-shadow", b"").strip().lower() == b"off"
        ):
            return "withheld"
        if not inbound.inference or not inbound.peeked.single_choice:
            return "unsupported"
        if self._assigned.variant == "candidate" and self.served.variant == "baseline":
            live = [pair for pair in self._wanted if pair[1] == "live"]
            for rollout_id, stream in live:  # the answer is not the assigned arm's
                self._buffer.dismiss(rollout_id, stream, "unsupported")
                self._wanted.remove((rollout_id, stream))
        return None

    @property
    def tees(self) -> bool:
        """Whether the answer's bytes are wanted."""
        return bool(self._wanted) and self._outcome is None

    def tee(self, data: bytes) -> None:
        """Keep a piece of the answer, as the upstream sent it."""
        if self._wanted and self._outcome is None:
            self._take(data, keep=True)

    def _take(self, data: bytes, *, keep: bool) -> None:
        if self._outcome is not None:
            return
        self._size += len(data)
        if len(data) > self._limit or (keep and self._size > self._limit + len(self._inbound.body)):
            self._drop("over_size")
        elif not self._buffer.reserve(len(data)):
            self._drop("shed")
        else:
            self._reserved += len(data)
            if keep:
                self._chunks.append(data)

    def _drop(self, outcome: str) -> None:
        self._outcome = outcome
        self._chunks = []
        self._buffer.free(self._reserved)
        self._reserved = 0

    def finish(self, ending: Ending) -> None:
        """Count the request, and hand its capture over or count why there is none.

        A request that was cut on our side (its client left) is neither an error nor a capture.
        """
        status, complete = ending.status, ending.complete
        failed = status >= 500 or status == 429 or (not complete and not self._inbound.cut)
        if self.served.variant == self._assigned.variant:
            slo = self._route.split.slo_s
            slow = ending.timeout or (slo is not None and ending.total > slo)
            self._count(self.served.variant, error=failed, timeout=ending.timeout, slow=slow)
        if not self._wanted:
            return
        if self._outcome is None and (
            not complete or not 200 <= status < 300 or ending.encoding not in _READABLE
        ):
            self._drop("unsupported")
        if self._outcome is None and not self._buffer.add(self._capture(ending)):
            self._outcome = "shed"
        outcome = self._outcome or "pending"
        for rollout_id, stream in self._wanted:
            if outcome != "pending":
                self._buffer.dismiss(rollout_id, stream, outcome)
            if stream == "mirror":
                self._route.metrics.capture(outcome)

    def _capture(self, ending: Ending) -> Capture:
        inbound, split = self._inbound, self._route.split
        key = inbound.targeting_key
        size, self._reserved = self._reserved, 0
        return Capture(
            id=inbound.key,
            route=self._route.name,
            request_id=inbound.id.decode("latin-1"),
            created_at=inbound.created_at,
            endpoint=inbound.endpoint,
            variant=self.served.variant,
            reason=self.served.reason,
            deployment=ending.deployment,
            stream=inbound.peeked.streams,
            request_body=inbound.body,
            response_body=b"".join(self._chunks),
            content_encoding=ending.encoding,
            status=ending.status,
            ttft_s=ending.first,
            total_s=ending.total,
            input_tokens=ending.answer.input_tokens,
            output_tokens=ending.answer.output_tokens,
            segment=inbound.segment,
            risk=inbound.risk,
            key_hash=None if key is None else hash_key(key),
            split_revision=split.revision,
            epoch=split.epoch,
            weight_bp=split.weight_bp,
            size=size,
            pairs=self._wanted,
        )

    def _count(self, variant: str, *, error: bool, timeout: bool, slow: bool) -> None:
        window, self._window = self._window, None
        if window is not None:
            self._buffer.count(window, variant, error=error, timeout=timeout, slow=slow)


def hash_key(key: str) -> str:
    """Return the pseudonym of a targeting key: which requests belong together, not whose."""
    return hashlib.blake2b(key.encode(), digest_size=16, person=b"coalmine-key").hexdigest()
