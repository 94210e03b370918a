"""A gateway put together from its settings: one process's worth of parts, started and stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from prometheus_client import CollectorRegistry

from gateway.capture import CaptureBuffer
from gateway.clients import Clients
from gateway.errors import SettingsError
from gateway.follow import Follower
from gateway.metrics import GatewayMetrics
from gateway.proxy import Proxy
from gateway.redaction.stage import Redaction, RedactionMetrics
from gateway.reload import Change, Report, Source, prepare, settings_hash
from gateway.routes import Arm, RouteTable, build_arms, build_table
from gateway.settings import Settings
from gateway.split import Split
from gateway.store.engine import open_store
from gateway.store.tables import ReloadRow
from gateway.upstream import Upstream
from gateway.writer import BatchWriter

__all__ = ["Gateway"]

_log = logging.getLogger("coalmine.gateway")
_FIRST_SPLITS = 3.0
"""Seconds that a starting gateway waits for the store before it takes the snapshot."""
_LAST_BATCH = 10.0
"""Seconds that a stopping gateway gives its last batch."""
_SKEW = 10.0
"""Seconds by which the clock of whoever asked for a reload may be behind ours."""


class Gateway:
    """The data plane of one process; ``proxy`` is what it does with requests.

    Built from ``settings`` and the secrets in ``environ``; raises
    :class:`~gateway.errors.SettingsError` where those don't fit. ``source`` reads the settings
    again for :meth:`reload`. :meth:`start`, :meth:`reload` and :meth:`stop` belong to the event
    loop that serves it. The store is needed for none of them.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        registry: CollectorRegistry | None = None,
        source: Source | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._source = source
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
        self._arms = build_arms(settings, self._environ)
        for arm in self._arms.values():
            self._watch(arm)
        self._retired: list[Upstream] = []
        self._splits: Mapping[str, Split] = {}
        self._table = build_table(settings, {}, self._arms, self.metrics)
        self.proxy = Proxy(
            self._table,
            clients=Clients(settings.clients, self._environ),
            buffer=self.buffer,
            metrics=self.metrics,
            options=options,
        )
        self._redaction_metrics = RedactionMetrics(self.registry)
        self._writer = BatchWriter(
            self.store,
            self.buffer,
            replica=self.replica,
            interval=options.flush_interval,
            store_up=self.metrics.store_up,
            redaction=Redaction(settings, self._redaction_metrics),
        )
        self._follower = Follower(
            self.store,
            snapshot=settings.data_dir / "splits.json",
            apply=self._changed,
            asked=self._asked,
            store_up=self.metrics.store_up,
            controller_ttl=options.controller_ttl,
        )
        self._read_at = time.time()
        self._report = Report(settings_hash(settings))
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Report]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop that serves it, once it does."""
        self.metrics_address: tuple[str, int] | None = None
        """Host and port of the exposition, while it is served."""

    async def start(self) -> None:
        """Take the splits from the store, or from the snapshot, and begin to follow them."""
        self.loop = asyncio.get_running_loop()
        self.buffer.configured(self._report.to_document())
        with ThreadPoolExecutor(1) as pool:
            await self.loop.run_in_executor(pool, self._follower.start, _FIRST_SPLITS)
        self._writer.start()

    async def stop(self) -> None:
        """Stop following, close the upstream connections, and write what is in the buffer."""
        self.proxy.ready = False
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, self._follower.stop)
            await asyncio.gather(*self._tasks)
            if not await loop.run_in_executor(pool, self._writer.stop, _LAST_BATCH):
                _log.error("stopped before the last captures were written")
        for upstream in (*self._retired, *(arm.upstream for arm in self._arms.values())):
            upstream.close()
        await asyncio.sleep(0)  # so that the transports get to close
        self.store.close()

    async def reload(self, number: int | None = None) -> Report:
        """Read the settings again and serve by them from the next request on.

        Requests under way end on what they began with, and no connection of a client is closed.
        Wrong settings change nothing. Returns what is also written to the store; ``number`` is that
        of the reload asked for there, if it was.
        """
        async with self._reloading:
            now = time.time()
            try:
                with ThreadPoolExecutor(1) as pool:  # reading takes longer than a request may wait
                    loop = asyncio.get_running_loop()
                    change, redaction = await loop.run_in_executor(pool, self._prepare)
                self._take(change, redaction)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with them, we serve on
                report = self._refused(error, now)
            else:
                report = self._taken(change, now)
            number = self._report.number if number is None else number
            report = replace(report, number=number)
            self._report = report
            self.buffer.configured(report.to_document())
            return report

    def ask_reload(self, number: int | None = None) -> None:
        """Begin a :meth:`reload`, for whoever can't wait for it."""
        task = asyncio.get_running_loop().create_task(self.reload(number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _prepare(self) -> tuple[Change, Redaction]:
        if self._source is None:
            raise SettingsError("this gateway was not started from a file that it could read again")
        change = prepare(self.settings, self._arms, self._source(), self._environ)
        return change, Redaction(change.settings, self._redaction_metrics)

    def _take(self, change: Change, redaction: Redaction) -> None:
        """Put other settings in force, all at once."""
        settings, options = change.settings, change.settings.gateway
        table = build_table(settings, self._splits, change.arms, self.metrics, previous=self._table)
        before, self._arms, self.settings = self._arms, dict(change.arms), settings
        self.proxy.clients, self.proxy.options = change.clients, options
        for name in self._table.routes.keys() - table.routes.keys():
            self.metrics.drop_route(name)
        for name in before.keys() - self._arms.keys():
            self.metrics.drop_connections(name)
        for arm in self._arms.values():
            self._watch(arm)
        self._serve_by(table)
        for upstream in change.retired:
            upstream.retire()
        self._retired = [each for each in self._retired if any(each.connections)]
        self._retired += change.retired
        self._writer.interval = options.flush_interval
        self._writer.redaction = redaction
        self._follower.expect_sign(options.controller_ttl)
        self.buffer.limit(
            max_bytes=options.capture_buffer_bytes, max_count=options.capture_buffer_count
        )

    def _taken(self, change: Change, now: float) -> Report:
        for field in change.needs_restart:
            _log.warning("%s has changed but stays as it is; restart for it", field)
        _log.info("settings reloaded: %s", change.summary)
        self.metrics.reloads["ok"] += 1
        return Report(settings_hash(change.settings), now, None, change.needs_restart)

    def _refused(self, error: Exception, now: float) -> Report:
        known = isinstance(error, SettingsError)
        message = str(error) if known else f"they can't be read ({type(error).__name__})"
        _log.error("the settings stay as they are: %s", message)
        self.metrics.reloads["error"] += 1
        return replace(self._report, at=now, error=message)

    def _watch(self, arm: Arm) -> None:
        upstream = arm.upstream
        self.metrics.watch_connections(arm.name, lambda: upstream.connections)

    # From the follower's thread

    def _changed(self, splits: Mapping[str, Split]) -> None:
        loop = self.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._apply, splits)

    def _asked(self, asked: ReloadRow) -> None:
        loop = self.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._obey, asked)

    # In the event loop's thread

    def _apply(self, splits: Mapping[str, Split]) -> None:
        self._splits = splits
        self._serve_by(
            build_table(self.settings, splits, self._arms, self.metrics, previous=self._table)
        )

    def _serve_by(self, table: RouteTable) -> None:
        self._table = self.proxy.table = table
        # A route that is not declared here is served by nobody, so its split is in force too.
        revisions = {name: split.revision for name, split in self._splits.items()}
        revisions |= {name: route.split.revision for name, route in table.routes.items()}
        self.buffer.applied(revisions, time.time())

    def _obey(self, asked: ReloadRow) -> None:
        if self._report.number is None and asked.requested_at < self._read_at - _SKEW:
            # asked for before this process read its settings
            self._report = replace(self._report, number=asked.number)
            self.buffer.configured(self._report.to_document())
            return
        self.ask_reload(asked.number)
