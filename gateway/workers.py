"""Several gateway processes on one port, which the kernel spreads connections over."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

from prometheus_client import CollectorRegistry

from gateway.errors import SettingsError
from gateway.exposition import Gathering, Member, serve_metrics
from gateway.settings import Settings

__all__ = ["Work", "supervise"]

_log = logging.getLogger("coalmine.gateway")
_WATCH = 0.05
_GRACE = 15.0

Work = Callable[[Settings, int, int, Connection], None]


def supervise(
    settings: Settings,
    work: Work,
    *,
    address: tuple[str, int],
    ready: Callable[[str, int], None] | None,
    stop: threading.Event,
    reload: Callable[[], Settings] | None = None,
    reloads: Callable[[], int] = lambda: 0,
) -> None:
    """Run ``work(settings, port, index, pipe)`` in ``gateway.workers`` processes until ``stop``.

    The metrics of all are served as one on ``metrics_port``; ``work`` gives ``pipe`` to
    :func:`~gateway.exposition.answer_scrapes` once it takes signals. A process that dies is
    replaced after a second. SIGHUP is passed on to every process that serves, and to one that is
    just starting as soon as it does; ``reload`` gives the settings of processes started from then
    on, and where it raises :class:`SettingsError` nothing changes. It is also called when the
    number that ``reloads`` returns moves, as processes may take other settings by themselves. At
    the end all get SIGTERM, and the drain's deadline plus 15 seconds to leave. ``ready`` is called
    once the first of them accepts.
    """
    registry = CollectorRegistry()
    gathering = Gathering()
    registry.register(gathering)
    hangup = threading.Event()
    with serve_metrics(settings.gateway, registry), _signals(stop, hangup):
        crew = _Crew(settings, work, address[1], gathering)
        seen = 0
        try:
            crew.start()
            if ready is not None and _await_port(address, stop):
                ready(*address)
            while not stop.wait(_WATCH):
                if hangup.is_set():
                    hangup.clear()
                    crew.renew(reload)
                if seen != (seen := reloads()):
                    crew.take(reload)
                crew.tend(stop)
        finally:
            crew.end(_GRACE)


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    member: Member
    renewals: int
    """How many reloads it has heard of."""


class _Crew:
    def __init__(self, settings: Settings, work: Work, port: int, gathering: Gathering) -> None:
        self._settings = settings
        self._work = work
        self._port = port
        self._gathering = gathering
        self._context = multiprocessing.get_context("spawn")
        self._renewals = 0
        self._workers: list[_Worker] = []

    def start(self) -> None:
        """Start all processes."""
        for index in range(self._settings.gateway.workers):
            self._workers.append(self._start(index))

    def _start(self, index: int) -> _Worker:
        member = self._gathering.add()
        process = self._context.Process(
            target=self._work, args=(self._settings, self._port, index, member.far)
        )
        process.start()
        member.far.close()  # or the pipe would outlive the process
        return _Worker(process, member, self._renewals)

    def renew(self, reload: Callable[[], Settings] | None) -> None:
        """Take new settings for processes to come, and let those that run hear of them."""
        if self.take(reload):
            self._renewals += 1

    def take(self, reload: Callable[[], Settings] | None) -> bool:
        """Take new settings for processes to come; ``False`` where they are wrong."""
        if reload is not None:
            try:
                self._settings = reload()
            except SettingsError as error:
                _log.error("the settings stay as they are: %s", error)
                return False
        return True

    def tend(self, stop: threading.Event) -> None:
        """Replace dead processes; pass SIGHUP on to those that have not had it."""
        for index, worker in enumerate(self._workers):
            if not worker.process.is_alive():
                _log.error("gateway worker %d died with %s", index, worker.process.exitcode)
                stop.wait(1.0)
                self._workers[index] = self._start(index)
            elif worker.renewals < self._renewals and worker.member.serves:
                # not before it serves: until its handler is there the signal would kill it
                worker.renewals = self._renewals
                os.kill(worker.process.pid or 0, signal.SIGHUP)

    def end(self, grace: float) -> None:
        """Ask all to leave, and make those leave that have not ``grace`` after their deadline."""
        deadline = time.monotonic() + self._settings.gateway.drain_timeout + grace
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()


@contextmanager
def _signals(stop: threading.Event, hangup: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def taken(number: int, _: FrameType | None) -> None:
        (hangup if number == signal.SIGHUP else stop).set()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, taken) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await_port(address: tuple[str, int], stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            stop.wait(_WATCH)
        else:
            return True
    return False
