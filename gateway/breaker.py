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
    """

    __slots__ = ("_cooldown", "_failures", "_opened_at", "_probe_at", "_recent")

    def __init__(self, *, failures: int = 5, window: int = 20, cooldown: float = 30.0) -> None:
        self._failures = min(failures, window)
        self._cooldown = cooldown
        self._recent: deque[bool] = deque(maxlen=window)
        self._opened_at: float | None = None
        self._probe_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether requests are turned away, the probes apart."""
        return self._opened_at is not None

    @property
    def failures(self) -> int:
        """Hard failures among the recent requests."""
        return sum(self._recent)

    @property
    def of(self) -> int:
        """How many recent requests are remembered."""
        return len(self._recent)

    def admits(self, now: float) -> bool:
        """Say whether a request may go to the candidate; ``True`` of an open breaker is a probe."""
        if self._opened_at is None:
            return True
        since = self._opened_at if self._probe_at is None else max(self._opened_at, self._probe_at)
        if now - since < self._cooldown:
            return False
        self._probe_at = now
        return True

    def record(self, *, failed: bool, now: float) -> BreakerChange | None:
        """Take the result of a request to the candidate; return the new state if it changed."""
        self._recent.append(failed)
        if self._opened_at is not None:
            if self._probe_at is None:
                return None  # a straggler from before it opened
            self._probe_at = None
            if failed:
                self._opened_at = now
                return None
            self._opened_at = None
            self._recent.clear()
            return "closed"
        if failed and sum(self._recent) >= self._failures:
            self._opened_at = now
            return "open"
        return None
