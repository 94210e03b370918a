"""How many mirrored requests a deployment gets at a time: fewer while its queue grows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_WAITING = re.compile(r"^vllm:num_requests_waiting(?:\{[^}]*\})?\s+([0-9.eE+]+)", re.MULTILINE)


def waiting_requests(metrics: str) -> float | None:
    """Sum `vllm:num_requests_waiting` over a Prometheus text; None where it is not there."""
    found = _WAITING.findall(metrics)
    return sum(float(value) for value in found) if found else None


class Limiter:
    """A concurrency limit that halves under pressure and recovers one by one.

    The ceiling is the caller's; several rollouts may share a deployment with ceilings of their own.
    """

    def __init__(self) -> None:
        self._running = 0
        self._share = 1.0
        self._waiting: float | None = None
        self._changed = asyncio.Condition()

    @property
    def share(self) -> float:
        """The part of the ceiling in use, between 1/64 and 1."""
        return self._share

    @asynccontextmanager
    async def slot(self, ceiling: int) -> AsyncIterator[None]:
        """Wait for a place among at most `ceiling` times `share` (one at least), and hold it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._running < self._allowed(ceiling))
            self._running += 1
        try:
            yield
        finally:
            async with self._changed:
                self._running -= 1
                self._share = min(1.0, self._share + 1.0 / (8 * ceiling))
                self._changed.notify_all()

    def observe(self, waiting: float) -> None:
        """Take note of the engine's queue length; narrow where it has not emptied."""
        before, self._waiting = self._waiting, waiting
        if waiting > 0 and before is not None and waiting >= before:
            self.narrow()

    def narrow(self) -> None:
        """Halve the share."""
        self._share = max(self._share / 2, 1 / 64)

    def _allowed(self, ceiling: int) -> int:
        return max(1, int(ceiling * self._share))
