"""``coalmine up``: gateway, worker and control on one machine, supervised."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from gateway.settings import Settings, load_settings
from gateway.store import open_store
from rollout.cli.logs import start_logging
from rollout.cli.options import Config
from rollout.supervisor import Part, Supervisor

__all__ = ["parts", "run_up", "up"]


def up(config: Config = None) -> None:
    """Run gateway, worker and control on this machine; a part that ends is started again.

    SIGHUP has the gateway read its settings again, as `coalmine gateway` does.
    """
    settings = load_settings(config)
    start_logging("up", settings)
    asyncio.run(run_up(settings, config))


def parts(settings: Settings, config: Path | None) -> list[Part]:
    """Return the three processes that make up Coalmine on one machine."""
    options = [] if config is None else ["--config", str(config)]

    def arguments(command: str) -> list[str]:
        return [sys.executable, "-m", "rollout.cli", command, *options]

    return [
        Part(
            "gateway",
            arguments("gateway"),
            f"http://{_local(settings.gateway.host)}:{settings.gateway.port}/readyz",
        ),
        Part(
            "worker",
            arguments("worker"),
            f"http://{_local(settings.worker.metrics_host)}:{settings.worker.metrics_port}/metrics",
        ),
        Part(
            "control",
            arguments("control"),
            f"http://{_local(settings.control.host)}:{settings.control.port}/readyz",
        ),
    ]


async def run_up(settings: Settings, config: Path | None) -> None:
    """Migrate the store, start the parts, and stop them on SIGTERM or SIGINT.

    SIGHUP is passed on to the gateway; worker and control take other settings when started again.
    """
    store = open_store(settings.store)
    try:
        await asyncio.to_thread(store.migrate)
    finally:
        store.close()
    supervisor = Supervisor(
        parts(settings, config), drain_timeout=settings.gateway.drain_timeout + 5.0
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, supervisor.send, "gateway", signal.SIGHUP)
    try:
        starting = asyncio.create_task(supervisor.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _announce(settings)
            await stopping
        else:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
    finally:
        await supervisor.stop()


def _announce(settings: Settings) -> None:
    gateway, control = settings.gateway, settings.control
    print(  # noqa: T201 - what the command is for
        f"OpenAI API   http://{gateway.host}:{gateway.port}/v1\n"
        f"Admin API    http://{control.host}:{control.port}/docs\n"
        f"Metrics      http://{control.host}:{control.port}/metrics",
        flush=True,
    )


def _local(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
