"""The buffer between the hot path and the store: bounded, and never waited for.

The event loop's thread puts captures and counts in, the writer's thread takes them out as one
:class:`Batch` (see :mod:`gateway.writer`). What does not fit is shed and counted as shed; counts
themselves are sums and take no more room when there is more traffic.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Batch", "Capture", "CaptureBuffer", "Tally", "WindowKey"]


@dataclass(slots=True)
class Capture:
    """A request with its answer, on its way to the store. Bodies are the raw bytes.

    ``id`` is unique over all processes, ``request_id`` is what the client was told.
    ``pairs`` names who wants it: ``(rollout_id, stream)``. ``size`` is what it takes of the buffer
    in bytes. It never holds an authorization header, nor any other header.
    """

    id: str
    route: str
    request_id: str
    created_at: float
    endpoint: str
    variant: str
    reason: str
    deployment: str
    stream: bool
    request_body: bytes
    response_body: bytes
    content_encoding: bytes
    status: int
    ttft_s: float | None
    total_s: float
    input_tokens: int | None
    output_tokens: int | None
    segment: str | None
    risk: str | None
    key_hash: str | None
    split_revision: int
    epoch: int
    weight_bp: int
    size: int
    pairs: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class WindowKey:
    """What the requests of one window have in common."""

    rollout_id: int
    split_revision: int
    weight_bp: int
    epoch: int


@dataclass(slots=True)
class Tally:
    """Counts of one arm in one window. ``latency`` counts answers over the objective."""

    requests: int = 0
    error_rate: int = 0
    timeout_rate: int = 0
    latency: int = 0


@dataclass(slots=True)
class Batch:
    """Everything that happened between two writes."""

    number: int = 0
    from_at: float = 0.0
    to_at: float = 0.0
    captures: list[Capture] = field(default_factory=list)
    funnel: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    windows: dict[WindowKey, dict[str, Tally]] = field(default_factory=dict)
    breaker: list[tuple[int, int, float, dict[str, Any]]] = field(default_factory=list)
    """``(rollout_id, epoch, at, payload)`` of changes of breakers."""
    revisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The replica's ``revisions`` as a whole, for it is small."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it but a sign of life."""
        return not (self.captures or self.funnel or self.windows or self.breaker)


class CaptureBuffer:
    """Collects what is to be written. All methods may be called from any thread.

    ``max_bytes`` bounds the bodies held, from the moment that a tee grows until the batch is
    written; ``max_count`` bounds the captures.
    """

    def __init__(self, *, max_bytes: int, max_count: int, now: float) -> None:
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._lock = threading.Lock()
        self._bytes = 0
        self._count = 0
        self._batch = Batch(from_at=now)
        self._revisions: dict[str, dict[str, Any]] = {}
        self.wake = threading.Event()
        """Set when a batch should be written soon."""
        self.hurry = threading.Event()
        """Set when a batch should be written now: a revision was applied."""

    @property
    def bytes(self) -> int:
        """Bytes of bodies held."""
        return self._bytes

    def reserve(self, size: int) -> bool:
        """Take room for ``size`` bytes; ``False`` where there is none."""
        with self._lock:
            if self._bytes + size > self._max_bytes or self._count >= self._max_count:
                return False
            self._bytes += size
            return True

    def free(self, size: int, count: int = 0) -> None:
        """Give room back."""
        with self._lock:
            self._bytes -= size
            self._count -= count

    def add(self, capture: Capture) -> bool:
        """Put a capture in whose ``size`` is reserved; ``False`` (room given back) when full."""
        with self._lock:
            if self._count >= self._max_count:
                self._bytes -= capture.size
                return False
            self._count += 1
            self._batch.captures.append(capture)
            for rollout_id, stream in capture.pairs:
                self._batch.funnel[rollout_id, stream, "eligible"] += 1
                self._batch.funnel[rollout_id, stream, "pending"] += 1
            return True

    def dismiss(self, rollout_id: int, stream: str, outcome: str) -> None:
        """Count an eligible request that is not captured, and why."""
        with self._lock:
            self._batch.funnel[rollout_id, stream, "eligible"] += 1
            self._batch.funnel[rollout_id, stream, outcome] += 1

    def count(
        self, key: WindowKey, variant: str, *, error: bool, timeout: bool, slow: bool
    ) -> None:
        """Count a randomised request into its window. A failed candidate is reported soon."""
        with self._lock:
            arms = self._batch.windows.get(key)
            if arms is None:
                arms = {"baseline": Tally(), "candidate": Tally()}
                self._batch.windows[key] = arms
            tally = arms[variant]
            tally.requests += 1
            tally.error_rate += error
            tally.timeout_rate += timeout
            tally.latency += slow
        if error and variant == "candidate":
            self.wake.set()

    def breaker(self, rollout_id: int, epoch: int, at: float, payload: dict[str, Any]) -> None:
        """Report that a breaker opened or closed."""
        with self._lock:
            self._batch.breaker.append((rollout_id, epoch, at, payload))
        self.wake.set()

    def applied(self, revisions: dict[str, int], now: float) -> None:
        """Note that these revisions are served from now on, and have it written at once."""
        with self._lock:
            for route, revision in revisions.items():
                known = self._revisions.get(route)
                if known is None or known["revision"] != revision:
                    last = None if known is None else known["last_candidate_at"]
                    self._revisions[route] = {
                        "revision": revision,
                        "applied_at": now,
                        "last_candidate_at": last,
                    }
        self.hurry.set()
        self.wake.set()

    def candidate_called(self, route: str, now: float) -> None:
        """Note that a request goes to the candidate of ``route``."""
        with self._lock:
            known = self._revisions.get(route)
            if known is not None:
                known["last_candidate_at"] = now

    def take(self, now: float) -> Batch:
        """Take everything out. What it holds still counts against the bounds until freed."""
        with self._lock:
            batch, self._batch = self._batch, Batch(from_at=now)
            batch.to_at = now
            batch.revisions = {route: dict(known) for route, known in self._revisions.items()}
            return batch
