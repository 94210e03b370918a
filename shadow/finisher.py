"""Writes finished pairs in batches: one transaction for what piled up while the last one ran."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.errors import StoreUnavailable
from gateway.store.engine import Store
from shadow.pairs import Finished, finish_pairs

_log = logging.getLogger("coalmine.worker")

_BATCH = 64
_WAIT_S = 0.5
_GATHER_S = 0.01
"""Seconds in which what ends at about the same time comes into one transaction."""


class Finisher:
    """A queue in front of `finish_pairs`. Outages are waited out; a bad row harms only itself."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._queue: asyncio.Queue[tuple[Finished, asyncio.Future[bool]]] = asyncio.Queue()

    async def finish(self, finished: Finished) -> bool:
        """Write one pair; return whether it counted. Raises what the store refused it with."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((finished, done))
        return await done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            batch = [await self._queue.get()]
            if self._queue.empty():
                await asyncio.sleep(_GATHER_S)
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            # One whose task was cancelled has been given back and is not ours to write.
            await self._write([(each, done) for each, done in batch if not done.done()])

    async def _write(self, batch: list[tuple[Finished, asyncio.Future[bool]]]) -> None:
        while batch:
            try:
                counted = await asyncio.to_thread(
                    finish_pairs, self._store, [each for each, _ in batch], now=self._clock()
                )
            except StoreUnavailable as error:
                _log.warning("can't write %d pairs yet: %s", len(batch), error)
                await asyncio.sleep(_WAIT_S)
            except Exception as error:  # noqa: BLE001 - the writer must outlive every bad row
                if len(batch) > 1:
                    for single in batch:
                        await self._write([single])
                elif not batch[0][1].done():
                    batch[0][1].set_exception(error)
                return
            else:
                for (_, done), mine in zip(batch, counted, strict=True):
                    if not done.done():
                        done.set_result(mine)
                return
