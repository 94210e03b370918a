"""Serving a gateway: as a process, as several on one port, or in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server

from gateway.app import Gateway
from gateway.errors import SettingsError
from gateway.protocol import GatewayProtocol
from gateway.settings import Settings
from gateway.workers import supervise

__all__ = ["GatewayThread", "run_gateway"]

_log = logging.getLogger("coalmine.gateway")
_WATCH = 0.05
_KEEP_ALIVE = 75

Ready = Callable[[str, int], None]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: whoever runs the server decides when it stops."""
        yield


def run_gateway(
    settings: Settings,
    *,
    environ: Mapping[str, str] | None = None,
    ready: Ready | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or ``stop``; then drain open answers and write the last batch.

    ``ready`` is called with host and port once requests are accepted. With
    ``settings.gateway.workers`` above 1 as many processes share the port (they take secrets from
    their own environment), and one that dies is replaced. Raises :class:`SettingsError` for
    settings that can't be served.
    """
    stop = stop or threading.Event()
    gateway = Gateway(settings, environ=environ)  # wrong settings fail here, and once
    try:
        with _listen(settings) as sock:
            if settings.gateway.workers == 1:
                _serve_process(gateway, sock, ready=ready, stop=stop)
            else:
                # the socket keeps the port; it never listens, so no connection comes to it
                host, port = sock.getsockname()[:2]
                supervise(settings, _worker, address=(host, port), ready=ready, stop=stop)
    finally:
        gateway.store.close()


def _worker(settings: Settings, port: int, index: int) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format=f"%(asctime)s gateway[{index}] %(levelname)s %(message)s",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    gateway = Gateway(settings)
    with _listen(settings, port=port) as sock:
        _serve_process(gateway, sock, ready=None, stop=threading.Event(), index=index)


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
    index: int = 0,
) -> None:
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(gateway, sock, ready=ready, stop=stop, index=index))


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
    index: int,
) -> None:
    server = _Server(
        uvicorn.Config(
            gateway.proxy,
            http=GatewayProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=math.ceil(gateway.settings.gateway.drain_timeout),
        )
    )
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    with _exposition(gateway, index):
        await gateway.start()
        watcher = loop.create_task(_watch(server, stop, gateway, sock, ready))
        try:
            await server.serve(sockets=[sock])
        finally:
            watcher.cancel()
            await gateway.stop()


@contextlib.contextmanager
def _exposition(gateway: Gateway, index: int) -> Iterator[None]:
    options = gateway.settings.gateway
    port = options.metrics_port + index if options.metrics_port else 0
    try:
        server, thread = start_http_server(port, options.metrics_host, gateway.registry)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {options.metrics_host} port {port}: {error.strerror}",
            field="gateway.metrics_port",
        ) from None
    gateway.metrics_address = (options.metrics_host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _watch(
    server: uvicorn.Server,
    stop: threading.Event,
    gateway: Gateway,
    sock: socket.socket,
    ready: Ready | None,
) -> None:
    """Announce the server once it accepts, and end it on ``stop`` or with the parent process."""
    parent = os.getppid()
    announced = False
    while not stop.is_set() and os.getppid() == parent:
        if server.started and not announced:
            announced = True
            host, port = sock.getsockname()[:2]
            _log.info("serving on %s port %d", host, port)
            if ready is not None:
                ready(host, port)
        await asyncio.sleep(_WATCH if announced else _WATCH / 10)
    gateway.proxy.ready = False
    server.should_exit = True


class GatewayThread:
    """A gateway served by a thread of this process: for tests, demonstrations and embedding.

    ::

        with GatewayThread(settings, environ={"KEY": "…"}) as served:
            OpenAI(base_url=served.base_url, api_key="…")

    Entering returns once requests are accepted; leaving drains and stops. Port 0 takes a free
    port, also for the metrics. ``workers`` is ignored.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.gateway = Gateway(settings, environ=environ, registry=registry)
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
