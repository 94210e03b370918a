"""How late the worker itself was, so that its own slowness is never taken for the candidate's."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

__all__ = ["LoopLag"]

_INTERVAL_S = 0.02
_KEPT_S = 120.0
_DISTURBED_S = 0.1
_DISTURBED_SHARE = 0.2


class LoopLag:
    """Watches the event loop: a sleep that ends late shows that the loop was busy elsewhere.

    The production answer was timed by a gateway, the mirrored one by this worker. A worker that is
    short of CPU would make every candidate look slow, so latencies are left out, as unknown, where
    the worker was late for more than a fifth of the time and more than 0.1 s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._late: deque[tuple[float, float]] = deque(maxlen=round(_KEPT_S / _INTERVAL_S))

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            before = self._clock()
            await asyncio.sleep(_INTERVAL_S)
            now = self._clock()
            self.add(now, now - before - _INTERVAL_S)

    def add(self, at: float, late: float) -> None:
        """Note that at ``at`` (seconds of the clock) the loop was ``late`` seconds late."""
        if late > 0:
            self._late.append((at, late))

    def disturbed(self, started: float, ended: float) -> bool:
        """Say whether what was timed from ``started`` to ``ended`` was timed badly."""
        late = 0.0
        for at, each in reversed(self._late):
            if at < started:
                break
            late += each
        return late > _DISTURBED_S and late > _DISTURBED_SHARE * (ended - started)
