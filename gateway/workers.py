"""Several gateway processes on one port, which the kernel spreads connections over."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

from gateway.settings import Settings

__all__ = ["supervise"]

_log = logging.getLogger("coalmine.gateway")
_WATCH = 0.05
_GRACE = 15.0

Work = Callable[[Settings, int, int], None]


def supervise(
    settings: Settings,
    work: Work,
    *,
    address: tuple[str, int],
    ready: Callable[[str, int], None] | None,
    stop: threading.Event,
) -> None:
    """Run ``work(settings, port, index)`` in ``settings.gateway.workers`` processes until ``stop``.

    A process that dies is replaced after a second. At the end all get SIGTERM, and the drain's
    deadline plus 15 seconds to leave. ``ready`` is called once the first of them accepts.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    context = multiprocessing.get_context("spawn")

    def start(index: int) -> BaseProcess:
        process = context.Process(target=work, args=(settings, address[1], index))
        process.start()
        return process

    processes = [start(index) for index in range(settings.gateway.workers)]
    try:
        if ready is not None and _await_port(address, stop):
            ready(*address)
        while not stop.wait(_WATCH):
            for index, process in enumerate(processes):
                if not process.is_alive():
                    _log.error("gateway worker %d died with %s", index, process.exitcode)
                    stop.wait(1.0)
                    processes[index] = start(index)
    finally:
        _end(processes, settings.gateway.drain_timeout + _GRACE)


def _end(processes: list[BaseProcess], patience: float) -> None:
    deadline = time.monotonic() + patience
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()


def _await_port(address: tuple[str, int], stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            stop.wait(_WATCH)
        else:
            return True
    return False
