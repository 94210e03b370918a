"""A gateway put together from its settings: one process's worth of parts, started and stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CollectorRegistry

from gateway.capture import CaptureBuffer
from gateway.clients import Clients
from gateway.follow import Follower
from gateway.metrics import GatewayMetrics
from gateway.proxy import Proxy
from gateway.routes import build_arms, build_table
from gateway.settings import Settings
from gateway.split import Split
from gateway.store.engine import open_store
from gateway.writer import BatchWriter

__all__ = ["Gateway"]

_log = logging.getLogger("coalmine.gateway")
_FIRST_SPLITS = 3.0
"""Seconds that a starting gateway waits for the store before it takes the snapshot."""
_LAST_BATCH = 10.0
"""Seconds that a stopping gateway gives its last batch."""


class Gateway:
    """The data plane of one process; ``proxy`` is its ASGI application.

    Built from ``settings`` and the secrets in ``environ``; raises
    :class:`~gateway.errors.SettingsError` where those don't fit. :meth:`start` and :meth:`stop`
    belong to the event loop that serves it. The store is needed for neither.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        options = settings.gateway
        self.settings = settings
        self.registry = registry or CollectorRegistry()
        self.metrics = GatewayMetrics(self.registry)
        self.replica = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        self.store = open_store(settings.store, pool_size=2)
        self.buffer = CaptureBuffer(
            max_bytes=options.capture_buffer_bytes,
            max_count=options.capture_buffer_count,
            now=time.time(),
        )
        self.metrics.buffer_bytes.set_function(lambda: float(self.buffer.bytes))
        self.metrics.store_up.set(0)
        self._arms = build_arms(settings, environ)
        for arm in self._arms.values():
            upstream = arm.upstream
            self.metrics.watch_connections(
                arm.name,
                lambda upstream=upstream: upstream.connections,  # type: ignore[misc]
            )
        self._table = build_table(settings, {}, self._arms, self.metrics)
        self.proxy = Proxy(
            self._table,
            clients=Clients(settings.clients, environ),
            buffer=self.buffer,
            metrics=self.metrics,
            options=options,
        )
        self._writer = BatchWriter(
            self.store,
            self.buffer,
            replica=self.replica,
            interval=options.flush_interval,
            store_up=self.metrics.store_up,
        )
        self._follower = Follower(
            self.store,
            snapshot=settings.data_dir / "splits.json",
            apply=self._changed,
            store_up=self.metrics.store_up,
            controller_ttl=options.controller_ttl,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self.metrics_address: tuple[str, int] | None = None
        """Host and port of the exposition, while it is served."""

    async def start(self) -> None:
        """Take the splits from the store, or from the snapshot, and begin to follow them."""
        self._loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            await self._loop.run_in_executor(pool, self._follower.start, _FIRST_SPLITS)
        self._writer.start()

    async def stop(self) -> None:
        """Stop following, close the upstream connections, and write what is in the buffer."""
        self.proxy.ready = False
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, self._follower.stop)
            if not await loop.run_in_executor(pool, self._writer.stop, _LAST_BATCH):
                _log.error("stopped before the last captures were written")
        for arm in self._arms.values():
            arm.upstream.close()
        await asyncio.sleep(0)  # so that the transports get to close
        self.store.close()

    def _changed(self, splits: Mapping[str, Split]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._apply, splits)

    def _apply(self, splits: Mapping[str, Split]) -> None:
        self._table = build_table(
            self.settings, splits, self._arms, self.metrics, previous=self._table
        )
        self.proxy.table = self._table
        self.buffer.applied(
            {name: route.split.revision for name, route in self._table.routes.items()},
            time.time(),
        )
