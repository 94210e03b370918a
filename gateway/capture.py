"""The buffer between the hot path and the store: bounded, and never waited for.

The event loop's thread puts captures and counts in, the writer's thread takes them out as one
:class:`~gateway.batch.Batch` (see :mod:`gateway.writer`). What does not fit is shed and counted as
shed; counts themselves are sums and take no more room when there is more traffic.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from gateway.batch import (
    DROPPED,
    Account,
    Batch,
    BreakerChange,
    Capture,
    DroppedKey,
    FunnelKey,
    Scope,
)

__all__ = ["CaptureBuffer"]

_SEGMENTS = 500
"""Segments (times rollouts and outcomes) told apart between two writes; clients name them."""
_CHANGES = 1000
"""Changes of breakers kept while the store is down."""


class CaptureBuffer:
    """Collects what is to be written. The event loop's thread adds, the writer's thread takes.

    ``max_bytes`` bounds the bodies held, from the moment that a tee grows until the batch is
    written; ``max_count`` bounds the captures.
    """

    def __init__(self, *, max_bytes: int, max_count: int, now: float) -> None:
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._lock = threading.Lock()
        self._bytes = 0
        self._count = 0
        self._from_at = now
        self._captures: list[Capture] = []
        self._accounts: dict[Scope, Account] = {}
        self._ended: Counter[FunnelKey] = Counter()
        self._dropped: Counter[DroppedKey] = Counter()
        self._breaker: deque[BreakerChange] = deque(maxlen=_CHANGES)
        self._revisions: dict[str, dict[str, Any]] = {}
        self._settings: dict[str, Any] | None = None
        self.wake = threading.Event()
        """Set when a batch should be written soon."""
        self.hurry = threading.Event()
        """Set when a batch should be written now: a revision or settings were applied."""

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
        """Put a capture in whose ``size`` is reserved; ``False`` (room given back) when full.

        Its requests count as pending from the batch that takes it.
        """
        with self._lock:
            if self._count >= self._max_count:
                self._bytes -= capture.size
                return False
            self._count += 1
            self._captures.append(capture)
            return True

    def dismiss(
        self, pairs: Iterable[tuple[int, str]], outcome: str, segment: str | None = None
    ) -> None:
        """Count an eligible request that is not captured for these pairs, and why.

        Of those that a mirror lost the ``segment`` counts too, as long as there are few of them.
        """
        with self._lock:
            for rollout_id, stream in pairs:
                self._ended[rollout_id, stream, outcome] += 1
                if stream == "mirror" and outcome in DROPPED:
                    known = segment if segment and len(self._dropped) < _SEGMENTS else ""
                    self._dropped[rollout_id, known, outcome] += 1

    def settle(
        self,
        scope: Scope,
        arm: str | None,
        missed: int,
        error: bool = False,
        timeout: bool = False,
        slow: bool = False,
    ) -> None:
        """Count a request under one lock, with no more work than this, for every request is.

        ``arm`` is the arm that chance gave it, ``None`` where it counts in no window; ``missed``
        says in which samples it is not (:data:`MIRRORS` or :data:`REVERSE`, and :data:`LIVE`,
        added up). A failed candidate is reported soon.
        """
        with self._lock:
            account = self._accounts.get(scope)
            if account is None:
                account = self._accounts[scope] = Account()
            if arm is not None:
                tally = account.baseline if arm == "baseline" else account.candidate
                tally.requests += 1
                if error or timeout or slow:
                    tally.error_rate += error
                    tally.timeout_rate += timeout
                    tally.latency += slow
            account.missed[missed] += 1
        if error and arm == "candidate":
            self.wake.set()

    def breaker(self, rollout_id: int, epoch: int, at: float, payload: dict[str, Any]) -> None:
        """Report that a breaker opened or closed."""
        with self._lock:
            self._breaker.append((rollout_id, epoch, at, payload))
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

    def configured(self, settings: dict[str, Any]) -> None:
        """Note what is to be said of the settings in force, and have it written at once."""
        with self._lock:
            self._settings = settings
        self.hurry.set()
        self.wake.set()

    def limit(self, *, max_bytes: int, max_count: int) -> None:
        """Hold so much at most; what is held beyond it is written as it would have been."""
        with self._lock:
            self._max_bytes, self._max_count = max_bytes, max_count

    def candidate_called(self, route: str, now: float) -> None:
        """Note that a request goes to the candidate of ``route``."""
        known = self._revisions.get(route)
        if known is not None:
            known["last_candidate_at"] = now  # one store into a dictionary needs no lock

    def take(self, now: float, *, max_bytes: int | None = None, max_count: int = 500) -> Batch:
        """Take out all counts, and the oldest captures up to these bounds, but at least one.

        What the batch holds still counts against the buffer's bounds until freed. Only one thread
        may take.
        """
        first = self._captures[:max_count]  # only added to meanwhile
        if max_bytes is not None:
            sums = accumulate(capture.size for capture in first)
            first = first[: max(1, sum(total <= max_bytes for total in sums))]
        with self._lock:
            accounts, self._accounts = self._accounts, {}
            ended, self._ended = self._ended, Counter()
            dropped, self._dropped = self._dropped, Counter()
            breaker = list(self._breaker)
            self._breaker.clear()
            del self._captures[: len(first)]
            batch = Batch(from_at=self._from_at, to_at=now, captures=first, breaker=breaker)
            batch.revisions = {route: dict(known) for route, known in self._revisions.items()}
            batch.settings = self._settings
            batch.dropped = dropped
            self._from_at = now
        for scope, account in accounts.items():
            batch.include(scope, account)
        for (rollout_id, stream, outcome), count in ended.items():
            batch.end(rollout_id, stream, outcome, count)
        for capture in first:
            for rollout_id, stream in capture.pairs:
                batch.end(rollout_id, stream, "pending")
        return batch

    @property
    def waiting(self) -> int:
        """How many captures are not taken yet."""
        return len(self._captures)
