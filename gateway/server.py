"""Serving a gateway: as a process, as several on one port, or in a thread."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from ctypes import c_longlong
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from gateway.app import Gateway
from gateway.compile import log_state
from gateway.errors import SettingsError
from gateway.exposition import answer_scrapes, serve_metrics
from gateway.listening import Listener
from gateway.reload import Report, Source, prepare
from gateway.settings import Settings
from gateway.workers import Work, supervise

__all__ = ["GatewayThread", "run_gateway"]

_log = logging.getLogger("coalmine.gateway")
_WATCH = 0.05
_SWITCH = 0.0001
"""Seconds that the loop waits for the interpreter while another thread has it; Python has 5 ms."""

Ready = Callable[[str, int], None]


def run_gateway(
    settings: Settings,
    *,
    environ: Mapping[str, str] | None = None,
    source: Source | None = None,
    ready: Ready | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or ``stop``; then drain open answers and write the last batch.

    At SIGHUP, and when asked to through the store, ``source`` reads the settings again (see
    :meth:`Gateway.reload`). ``ready`` is called with host and port once requests are accepted. With
    ``settings.gateway.workers`` above 1 as many processes share the port (they take secrets from
    their own environment, and ``source`` has to be picklable), and one that dies is replaced.
    Raises :class:`SettingsError` for settings that can't be served.
    """
    stop = stop or threading.Event()
    # wrong settings fail here, and once
    gateway = Gateway(settings, environ=environ, source=source)
    try:
        with _listen(settings) as sock:
            if settings.gateway.workers == 1:
                sys.setswitchinterval(_SWITCH)
                _serve_process(gateway, sock, ready=ready, stop=stop)
            else:
                # the socket keeps the port; it never listens, so no connection comes to it
                host, port = sock.getsockname()[:2]
                reads = _Reads(settings, source)
                supervise(
                    settings,
                    reads.work,
                    address=(host, port),
                    ready=ready,
                    stop=stop,
                    reload=reads.newest,
                    reloads=reads.count,
                )
    finally:
        gateway.store.close()


class _Reads:
    """How several processes and their parent come to have the same settings.

    The processes read them, and say what is wrong with them; the parent reads them when one of
    them did, for processes to come, and keeps the last that can be served.
    """

    def __init__(self, settings: Settings, source: Source | None) -> None:
        self._settings = settings
        self._source = source
        self._count = multiprocessing.get_context("spawn").RawValue("q", 0)
        work = partial(_worker, source=source and partial(_counted, source, self._count))
        self.work: Work = work

    def count(self) -> int:
        """Return a number that moves when a process has read the settings again."""
        return int(self._count.value)

    def newest(self) -> Settings:
        """Return the settings for processes to come."""
        if self._source is not None:
            with suppress(Exception):  # the processes say what is wrong
                self._settings = prepare(self._settings, {}, self._source(), os.environ).settings
        return self._settings


def _counted(source: Source, count: c_longlong) -> Settings:
    count.value += 1
    return source()


def _worker(
    settings: Settings, port: int, index: int, pipe: Connection, *, source: Source | None
) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format=f"%(asctime)s gateway[{index}] %(levelname)s %(message)s",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    sys.setswitchinterval(_SWITCH)
    gateway = Gateway(settings, source=source)
    with _listen(settings, port=port) as sock:
        _serve_process(gateway, sock, ready=None, stop=threading.Event(), pipe=pipe)


def _listen(settings: Settings, *, port: int | None = None) -> socket.socket:
    options = settings.gateway
    port = options.port if port is None else port
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.workers > 1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((options.host, port))
    except OSError as error:
        sock.close()
        raise SettingsError(
            f"can't listen on {options.host} port {port}: {error.strerror}", field="gateway.port"
        ) from None
    return sock


def _serve_process(
    gateway: Gateway,
    sock: socket.socket,
    *,
    ready: Ready | None,
    stop: threading.Event,
    pipe: Connection | None = None,
) -> None:
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(gateway, sock, ready=ready, stop=stop, pipe=pipe))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # it does not run on every platform
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _serve(
    gateway: Gateway,
    sock: socket.socket,
    *,
    ready: Ready | None,
    stop: threading.Event,
    pipe: Connection | None,
) -> None:
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, gateway.ask_reload)
    options, registry = gateway.settings.gateway, gateway.registry
    with (
        serve_metrics(options, registry) if pipe is None else answer_scrapes(registry, pipe)
    ) as gateway.metrics_address:
        await gateway.start()
        listener = Listener(gateway.proxy)
        try:
            await listener.start(sock)
            host, port = sock.getsockname()[:2]
            _log.info("serving on %s port %d", host, port)
            log_state(_log)
            gc.collect()
            gc.freeze()  # what is here now stays; collections need not look at it again
            if ready is not None:
                ready(host, port)
            await _stopped(stop)
            gateway.proxy.ready = False
            cut = await listener.drain(gateway.settings.gateway.drain_timeout)
            if cut:
                _log.warning("cut %d connections at the drain's deadline", cut)
        finally:
            await gateway.stop()


async def _stopped(stop: threading.Event) -> None:
    """Wait for ``stop``, or for the end of the parent process."""
    creator = multiprocessing.parent_process()  # who may have ended while we started
    parent = os.getppid() if creator is None else creator.pid
    while not stop.is_set() and os.getppid() == parent:  # noqa: ASYNC110 - set in another thread
        await asyncio.sleep(_WATCH)


class GatewayThread:
    """A gateway served by a thread of this process: for tests, demonstrations and embedding.

    ::

        with GatewayThread(settings, environ={"KEY": "…"}) as served:
            OpenAI(base_url=served.base_url, api_key="…")

    Entering returns once requests are accepted; leaving drains and stops. Port 0 takes a free
    port, also for the metrics. ``workers`` is ignored. ``source`` reads the settings again for
    :meth:`reload`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        registry: CollectorRegistry | None = None,
        source: Source | None = None,
    ) -> None:
        self.gateway = Gateway(settings, environ=environ, registry=registry, source=source)
        self.host = ""
        self.port = 0
        self._stop = threading.Event()
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="coalmine-gateway", daemon=True)

    @property
    def base_url(self) -> str:
        """The base URL for an OpenAI client."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    @property
    def registry(self) -> CollectorRegistry:
        """Where the gateway's metrics are."""
        return self.gateway.registry

    def _run(self) -> None:
        try:
            with _listen(self.gateway.settings) as sock:
                _serve_process(self.gateway, sock, ready=self._ready, stop=self._stop)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        finally:
            self._started.set()

    def _ready(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._started.set()

    def start(self) -> None:
        """Start serving. Raises what the gateway raised where it could not."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    def reload(self) -> Report:
        """Read the settings again, serve by them if they are right, and say what came of it."""
        loop = self.gateway.loop
        if loop is None:
            raise SettingsError("this gateway does not serve yet")
        return asyncio.run_coroutine_threadsafe(self.gateway.reload(), loop).result()

    def stop(self) -> None:
        """Drain, write the last batch and stop. Raises what the gateway raised."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
