"""A wall clock that a momentary jump does not move."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["SteadyClock"]

_log = logging.getLogger(__name__)


class SteadyClock:
    """Unix seconds that go on steadily while the wall clock jumps; called for the present.

    A jump of more than ``tolerance`` seconds is ignored until it has lasted ``patience`` seconds;
    then the wall clock is believed again, for it may have been corrected, or this machine been
    asleep. For one thread.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        tolerance: float = 2.0,
        patience: float = 60.0,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._tolerance = tolerance
        self._patience = patience
        self._last = wall()
        self._read_at = monotonic()
        self._jumped_at: float | None = None

    def __call__(self) -> float:
        """Return the present, in Unix seconds."""
        wall, moment = self._wall(), self._monotonic()
        steady = self._last + moment - self._read_at
        jump = wall - steady
        if abs(jump) <= self._tolerance:
            self._jumped_at = None
        elif self._jumped_at is None:
            self._jumped_at = moment
            _log.warning(
                "the clock jumped by %+.0f s; it is ignored unless that lasts %g s",
                jump,
                self._patience,
            )
        elif moment - self._jumped_at >= self._patience:
            self._jumped_at = None
            _log.warning("the clock is still %+.0f s off and is believed from now on", jump)
        self._last = steady if self._jumped_at is not None else wall
        self._read_at = moment
        return self._last
