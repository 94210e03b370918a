"""A worker put together from settings: store, judge, metrics and their address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from random import Random

from prometheus_client import CollectorRegistry, start_http_server

from gateway.errors import SettingsError, StoreUnavailable
from gateway.redaction.stage import Redaction
from gateway.settings import Settings
from gateway.store.engine import Store, open_store
from gateway.store.replicas import this_replica
from gateway.upstream import outbound
from shadow.evaluate import Evaluator
from shadow.judge import Judge
from shadow.judge.cache import JudgeCache
from shadow.judge.client import JudgeClient
from shadow.metrics import WorkerMetrics
from shadow.prices import Prices
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
    evaluator = Evaluator(
        settings,
        store,
        environ=environ,
        judge=build_judge(settings, store, environ=environ, rubric=rubric),
        clock=clock,
        rng=rng or Random(),
        redaction=Redaction(settings, metrics.redaction),
        mirrored=metrics.mirrored,
    )
    return Worker(
        store=store,
        evaluator=evaluator,
        metrics=metrics,
        settings=settings.worker,
        replica=this_replica("worker", clock()),
        clock=clock,
    )


def build_judge(
    settings: Settings, store: Store, *, environ: Mapping[str, str], rubric: str
) -> Judge | None:
    """Return the judge of the settings, or None where none is declared."""
    declared = settings.judge
    if declared is None:
        return None
    deployment = settings.deployments[declared.deployment]
    client = JudgeClient(
        base_url=deployment.base_url,
        model=deployment.model,
        api_key=deployment.api_key(environ),
        timeout_s=declared.timeout,
        max_concurrency=declared.max_concurrency,
        parameters=deployment.parameters,
        outbound=outbound(declared.deployment, deployment, environ),
    )
    return Judge(
        client,
        endpoint=deployment.base_url,
        rubric=rubric,
        nonce=lambda: secrets.token_hex(8),
        cache=JudgeCache(store),
        prices=Prices(
            declared.dollars_per_million_input_tokens, declared.dollars_per_million_output_tokens
        ),
    )


def read_rubric(settings: Settings) -> str:
    """Return the judge's rubric: the file that the settings name, or the built-in one."""
    if settings.judge is None or settings.judge.rubric is None:
        return files("shadow.judge").joinpath("rubric.md").read_text(encoding="utf-8")
    try:
        return Path(settings.judge.rubric).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            f"can't read {settings.judge.rubric}: {error}", field="judge.rubric"
        ) from None


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
