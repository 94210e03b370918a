"""A worker put together from settings: store, judge, metrics and their address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from random import Random

from prometheus_client import CollectorRegistry, start_http_server

from gateway.errors import SettingsError, StoreUnavailable
from gateway.redaction.stage import Redaction
from gateway.settings import Settings
from gateway.store.engine import Store, open_store
from gateway.store.replicas import this_replica
from shadow.evaluate import Evaluator
from shadow.health.build import build_watch
from shadow.judge.build import build_judge
from shadow.judge.rubrics import read_rubrics
from shadow.metrics import WorkerMetrics
from shadow.refusal.build import build_decider
from shadow.worker import Worker

_log = logging.getLogger("coalmine.worker")


async def serve_worker(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    started: Callable[[str], None] = lambda _url: None,
) -> None:
    """Run a worker until `stop` is set; `started` hears the URL of its metrics.

    The store may be away at the start: it is waited for. Raises `SettingsError` where the metrics
    address is taken, or the rubric or a certificate can't be read.
    """
    rubric = read_rubric(settings)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    host, port = settings.worker.metrics_host, settings.worker.metrics_port
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {host}:{port}: {error.strerror}", field="worker.metrics_port"
        ) from None
    store = open_store(settings.store, pool_size=10)
    try:
        started(f"http://{host}:{server.server_port}/metrics")
        if await _migrated(store, stop):
            worker = build_worker(settings, store, environ=environ, metrics=metrics, rubric=rubric)
            await worker.run(stop)
    finally:
        store.close()
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def build_worker(
    settings: Settings,
    store: Store,
    *,
    environ: Mapping[str, str],
    metrics: WorkerMetrics,
    rubric: str,
    clock: Callable[[], float] = time.time,
    rng: Random | None = None,
) -> Worker:
    """Put a worker together on an open store. Call it inside the event loop that runs it."""
    rng = rng or Random()
    judge = build_judge(settings, store, environ=environ, rubric=rubric, rng=rng)
    replica = this_replica("worker", clock())
    evaluator = Evaluator(
        settings,
        store,
        environ=environ,
        judge=judge,
        clock=clock,
        rng=rng,
        redaction=Redaction(settings, metrics.redaction),
        mirrored=metrics.mirrored,
        decider=build_decider(settings, store, environ=environ, clock=clock),
        decided=metrics.refusal_decided,
    )
    return Worker(
        store=store,
        evaluator=evaluator,
        metrics=metrics,
        settings=settings.worker,
        replica=replica,
        clock=clock,
        health=build_watch(
            settings,
            store,
            judge,
            rubric=rubric,
            worker=replica.id,
            clock=clock,
            told=metrics.examined,
        ),
    )


def read_rubric(settings: Settings) -> str:
    """Return the judge's rubric: the file that the settings name, or the built-in one."""
    return read_rubrics(settings).default.text


async def _migrated(store: Store, stop: asyncio.Event) -> bool:
    """Bring the store up to date as soon as it is there; False where `stop` came first."""
    while not stop.is_set():
        try:
            await asyncio.to_thread(store.migrate)
        except StoreUnavailable as error:
            _log.warning("waiting for the store: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), timeout=1.0)
        else:
            return True
    return False
