"""Serving a simulated upstream: in a process of its own, in a loop, or in a thread for tests."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import SettingsError
from gateway.simulator.app import SimulatorApp
from gateway.simulator.behaviour import SimulatorConfig

__all__ = ["RunningSimulator", "serve", "start_simulator"]

_STARTED_WITHIN = 20.0


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP with the connection in reach, so that it can be dropped in mid-answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class _Server(uvicorn.Server):
    def __init__(self, app: SimulatorApp, started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=600,
            )
        )
        self._report_started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone: :func:`serve` sets its own, and a thread can't."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._report_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # An answer that hangs on purpose would hold the shutdown up for ever.
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await super().shutdown(sockets=sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"can't listen on {host}:{port}: {error.strerror}; choose another port", field="port"
        ) from None
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/v1"


async def serve(
    config: SimulatorConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    started: Callable[[str], None] = lambda _url: None,
    signals: bool = True,
) -> None:
    """Serve until cancelled, or until SIGINT or SIGTERM where ``signals``.

    ``started`` is called with the base URL (up to ``/v1``) once requests are answered. Raises
    :class:`SettingsError` where the address is taken.
    """
    listener = _listen(host, port)
    url = _url(host, listener)
    server = _Server(SimulatorApp(config), lambda: started(url))

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    handled = (signal.SIGINT, signal.SIGTERM) if signals else ()
    for number in handled:
        loop.add_signal_handler(number, stop)
    try:
        await server.serve(sockets=[listener])
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
        listener.close()


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that runs in a thread. ``base_url`` ends in ``/v1``."""

    base_url: str
    app: SimulatorApp

    @property
    def url(self) -> str:
        """Return the address without ``/v1``, for ``/sim``, ``/metrics`` and ``/health``."""
        return self.base_url.removesuffix("/v1")


@contextlib.contextmanager
def start_simulator(
    config: SimulatorConfig, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[RunningSimulator]:
    """Serve from a thread with a loop of its own until the block ends.

    Raises :class:`SettingsError` where the address is taken, and ``RuntimeError`` where the server
    does not start or stop in time.
    """
    listener = _listen(host, port)
    ready = threading.Event()
    app = SimulatorApp(config)
    server = _Server(app, ready.set)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run, name="simulator", daemon=True)
    thread.start()
    try:
        if not ready.wait(_STARTED_WITHIN):
            raise RuntimeError("the simulator did not start")
        yield RunningSimulator(base_url=_url(host, listener), app=app)
    finally:
        server.should_exit = True
        thread.join(_STARTED_WITHIN)
        listener.close()
    if thread.is_alive():
        raise RuntimeError("the simulator did not stop")
