"""A circuit breaker on the candidate: a pure state machine that only ever narrows.

While it is open, requests assigned to the candidate are served by the baseline. It never sends a
request to the candidate that the split did not.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

__all__ = ["Breaker", "BreakerChange"]

BreakerChange = Literal["open", "closed"]


class Breaker:
    """Opens after ``failures`` hard failures among the last ``window`` requests.

    Once ``cooldown`` seconds have passed, one request at a time is let through as a probe: its
    success closes the breaker, its failure opens it for another ``cooldown``. A probe that never
    reports (its client left) is replaced after a ``cooldown``. Times are seconds on any clock
    that does not go back.

    ``open`` tells whether requests are turned away, the probes apart; ``failures`` is the number of
    hard failures among the recent requests.
    """

    __slots__ = ("_cooldown", "_limit", "_opened_at", "_probe_at", "_recent", "failures", "open")

    def __init__(self, *, failures: int = 5, window: int = 20, cooldown: float = 30.0) -> None:
        self.open = False
        self.failures = 0
        self._limit = min(failures, window)
        self._cooldown = cooldown
        self._recent: deque[bool] = deque(maxlen=window)
        self._opened_at = 0.0
        self._probe_at: float | None = None

    def adjust(self, *, failures: int, window: int, cooldown: float) -> None:
        """Go by other limits from the next result on; what is known of the candidate stays."""
        self._limit = min(failures, window)
        self._cooldown = cooldown
        if window != self._recent.maxlen:
            self._recent = deque(self._recent, maxlen=window)
            self.failures = sum(self._recent)

    @property
    def of(self) -> int:
        """How many recent requests are remembered."""
        return len(self._recent)

    def admits(self, now: float) -> bool:
        """Say whether a request may go to the candidate; ``True`` of an open breaker is a probe."""
        if not self.open:
            return True
        since = self._opened_at if self._probe_at is None else max(self._opened_at, self._probe_at)
        if now - since < self._cooldown:
            return False
        self._probe_at = now
        return True

    def record(self, *, failed: bool, now: float) -> BreakerChange | None:
        """Take the result of a request to the candidate; return the new state if it changed."""
        recent = self._recent
        if len(recent) == recent.maxlen:
            self.failures -= recent[0]
        recent.append(failed)
        self.failures += failed
        if self.open:
            if self._probe_at is None:
                return None  # a straggler from before it opened
            self._probe_at = None
            if failed:
                self._opened_at = now
                return None
            self.open = False
            self.failures = 0
            recent.clear()
            return "closed"
        if failed and self.failures >= self._limit:
            self.open = True
            self._opened_at = now
            return "open"
        return None
