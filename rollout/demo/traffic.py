"""Users, for demos and tests: a steady stream of real prompts through the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.errors import UpstreamError
from gateway.prompts import Prompt
from gateway.upstream import Upstream

__all__ = ["Tally", "Traffic"]

_USERS = 400


@dataclass
class Tally:
    """What the users saw: requests by status (0: the connection failed) and by variant.

    ``rollouts`` counts the requests that a candidate served, by its rollout's name.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    variants: Counter[str] = field(default_factory=Counter)
    rollouts: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """How many requests have ended."""
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        """How many of them did not end with 200."""
        return self.requests - self.statuses[200]


class Traffic:
    """Sends prompts at a steady rate until stopped; a share of them asks for a stream.

    Who asks what is fixed by ``seed``; ``rate`` is in requests per second. Requests are started
    on schedule and do not wait for each other, up to ``max_open`` at a time.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        prompts: Sequence[Prompt],
        *,
        rate: float,
        seed: int,
        stream_share: float = 0.3,
        max_open: int = 256,
    ) -> None:
        self.tally = Tally()
        self.rate = rate
        self._upstream = Upstream("gateway", base_url)
        self._rng = random.Random(seed)
        self._stream_share = stream_share
        self._slots = asyncio.Semaphore(max_open)
        self._open: set[asyncio.Task[None]] = set()
        self._requests = [_request(model, prompt) for prompt in prompts]

    async def run(self, stop: asyncio.Event) -> None:
        """Send requests until ``stop`` is set, then wait for the open ones to end."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stop.is_set():
            due = max(due + 1.0 / self.rate, loop.time() - 0.25)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, due - loop.time()))
            await self._slots.acquire()
            task = asyncio.create_task(self._send())
            self._open.add(task)
            task.add_done_callback(self._ended)
        if self._open:
            await asyncio.wait(self._open)
        self._upstream.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._slots.release()

    async def _send(self) -> None:
        headers, plain, streamed = self._rng.choice(self._requests)
        body = streamed if self._rng.random() < self._stream_share else plain
        user = self._rng.randrange(_USERS)
        head = (
            b"POST %b/chat/completions HTTP/1.1\r\n%bcontent-type: application/json\r\n"
            b"content-length: %d\r\nx-user-id: user-%d\r\n%b\r\n"
        ) % (self._upstream.prefix, self._upstream.host_lines, len(body), user, headers)
        try:
            exchange = await self._upstream.request(b"POST", head, body)
            while await exchange.read():
                pass
        except UpstreamError:
            self.tally.statuses[0] += 1
            return
        self.tally.statuses[exchange.status] += 1
        said = {name.lower(): value.decode() for name, value in exchange.headers}
        variant = said.get(b"x-coalmine-variant", "")
        self.tally.variants[variant] += 1
        if variant == "candidate":
            self.tally.rollouts[said.get(b"x-coalmine-rollout", "")] += 1


def _request(model: str, prompt: Prompt) -> tuple[bytes, bytes, bytes]:
    headers = f"x-category: {prompt.category}\r\nx-risk: {prompt.risk}\r\n".encode()
    plain = msgspec.json.encode(prompt.request(model))
    return headers, plain, msgspec.json.encode(prompt.request(model, stream=True))
