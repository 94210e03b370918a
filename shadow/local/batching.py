"""Micro-batching: items that arrive together go through a slow function together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Batcher(Generic[Given, Made]):
    """Runs `work` on up to `size` items at a time, in `executor`, so that the loop never blocks.

    A batch begins when it is full, or `wait_s` seconds after its first item came; whatever comes
    while one is in work goes into the next. At most `queue` items wait: who brings more waits
    until there is room. `work` returns one result for each item, in their order.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Given]], Sequence[Made]],
        *,
        executor: Executor,
        size: int,
        wait_s: float,
        queue: int,
    ) -> None:
        self._work = work
        self._executor = executor
        self._size = size
        self._wait_s = wait_s
        self._queue: asyncio.Queue[tuple[Given, asyncio.Future[Made]]] = asyncio.Queue(queue)
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Given]) -> list[Made]:
        """Return the results in the items' order. Raises what `work` raised."""
        loop = asyncio.get_running_loop()
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        futures: list[asyncio.Future[Made]] = []
        try:
            for item in items:
                future: asyncio.Future[Made] = loop.create_future()
                futures.append(future)
                await self._queue.put((item, future))
            return list(await asyncio.gather(*futures))
        finally:
            for future in futures:
                future.cancel()  # of those that nobody waits for any more; no effect on done ones

    async def close(self) -> None:
        """Stop; whoever still waits is cancelled."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
            self._runner = None
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [each for each in await self._gather(loop) if not each[1].done()]
            if not batch:
                continue
            items = [item for item, _ in batch]
            try:
                made = await loop.run_in_executor(self._executor, self._work, items)
            except asyncio.CancelledError:
                for _, future in batch:
                    future.cancel()
                raise
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait for the batch
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, made, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _gather(
        self, loop: asyncio.AbstractEventLoop
    ) -> list[tuple[Given, asyncio.Future[Made]]]:
        batch = [await self._queue.get()]
        deadline = loop.time() + self._wait_s
        while len(batch) < self._size:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        return batch
