"""What each simulated model has done: counts, the queue in front of it, and repetitions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Ledger", "ModelLedger", "Outcome"]

Outcome = str
_REMEMBERED = 200_000  # requests whose repetitions are told apart; beyond, the oldest is forgotten


@dataclass(slots=True)
class ModelLedger:
    """Counts of one model. ``requests`` is always the sum of the outcomes and of those in flight.

    ``failed`` counts scripted failures that were delivered: 429, 5xx, cut or garbled answers.
    ``cancelled`` counts requests whose client left before the answer was complete.
    """

    requests: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    waiting: int = 0
    _queue: deque[asyncio.Future[None]] = field(default_factory=deque)
    _seen: dict[bytes, int] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        """Return the number of requests that have arrived and are not over."""
        return self.running + self.waiting

    def ordinal(self, request: bytes) -> int:
        """Return how often this request has been asked before, and count it."""
        count = self._seen.pop(request, 0)
        self._seen[request] = count + 1
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return count

    async def enter(
        self, limit: int | None, until_gone: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Take a place among the running, in order of arrival; ``False`` if the client left."""
        if limit is None or (self.running < limit and not self._queue):
            self.running += 1
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self.waiting += 1
        gone = asyncio.create_task(until_gone())
        try:
            await asyncio.wait({turn, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            self.waiting -= 1
            if not turn.done():
                self._queue.remove(turn)
        if turn.done() and gone.done() and not gone.cancelled():
            self.leave()
        return turn.done() and not gone.done()

    def leave(self) -> None:
        """Give the place back, to the first in the queue where there is one."""
        self.running -= 1
        if self._queue:
            self.running += 1
            self._queue.popleft().set_result(None)

    def to_document(self) -> dict[str, int]:
        """Return the counts as ``GET /sim/state`` shows them."""
        return {
            "requests": self.requests,
            "completed": self.completed,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "in_flight": self.in_flight,
            "waiting": self.waiting,
        }


_METRICS = (
    ("vllm:num_requests_running", "gauge", "Requests in work.", "running"),
    ("vllm:num_requests_waiting", "gauge", "Requests in the queue.", "waiting"),
    ("simulator_requests_total", "counter", "Requests that arrived.", "requests"),
    ("simulator_completed_total", "counter", "Requests answered.", "completed"),
    ("simulator_failed_total", "counter", "Scripted failures.", "failed"),
    ("simulator_cancelled_total", "counter", "Requests whose client left.", "cancelled"),
)


class Ledger:
    """The ledgers of all models of one simulator."""

    def __init__(self) -> None:
        self._models: dict[str, ModelLedger] = {}

    def __getitem__(self, model: str) -> ModelLedger:
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = ModelLedger()
        return found

    def reset(self) -> None:
        """Start counting anew. Requests still in flight are counted where they began."""
        self._models = {}

    def to_document(self) -> dict[str, dict[str, int]]:
        """Return all counts by model name."""
        return {name: ledger.to_document() for name, ledger in sorted(self._models.items())}

    def exposition(self) -> str:
        """Return the counts in Prometheus' text format, with vLLM's names for its gauges."""
        lines = []
        for name, kind, told, attribute in _METRICS:
            lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
            for model, ledger in sorted(self._models.items()):
                label = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
                lines.append(f'{name}{{model_name="{label}"}} {getattr(ledger, attribute)}')
        return "\n".join(lines) + "\n"
