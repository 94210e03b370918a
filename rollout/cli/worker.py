"""``coalmine worker``: mirrors captures, checks and judges them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from gateway.settings import Settings, load_settings
from rollout.cli.logs import start_logging
from rollout.cli.options import Config
from shadow.serve import serve_worker

__all__ = ["run_worker", "worker"]


def worker(
    config: Config = None,
) -> None:
    """Claim captured requests, mirror them to the candidate, check and judge the answers.

    Several may run at the same time; a killed one loses nothing. SIGTERM finishes what is begun.
    """
    settings = load_settings(config)
    start_logging("worker", settings)
    import uvloop

    uvloop.run(run_worker(settings))


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def started(url: str) -> None:
        logging.getLogger("coalmine.worker").info("worker started; metrics at %s", url)

    await serve_worker(settings, environ=os.environ, stop=stop, started=started)
