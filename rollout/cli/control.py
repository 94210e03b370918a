"""``coalmine control``: the admin API and the controller, as one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
import uvicorn
from prometheus_client import CollectorRegistry

from gateway.errors import SettingsError
from gateway.settings import Settings, load_settings
from gateway.store import Store, open_store
from rollout.api import create_app
from rollout.api.auth import check_binding
from rollout.cli.logs import start_logging
from rollout.cli.options import Config
from rollout.controller import Controller
from rollout.feeding import FedController
from rollout.health import DeploymentProbe
from rollout.metrics import ControlMetrics
from rollout.service import RolloutService

__all__ = ["control", "run_control"]

_LOG = logging.getLogger("coalmine.control")
_SHUTDOWN_S = 10

Ready = Callable[[str, int], None]


def control(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", min=0, max=65535)] = None,
) -> None:
    """Serve the admin API and lead the rollouts.

    Several may run: one leads, all serve. SIGTERM ends open answers, gives the lease up and ends
    with status 0. Beyond loopback it needs a token first (`coalmine token create --local`).
    """
    settings = load_settings(config)
    given = {"host": host, "port": port}
    changed = {name: value for name, value in given.items() if value is not None}
    settings = settings.model_copy(update={"control": settings.control.model_copy(update=changed)})
    start_logging("control", settings)
    store = open_store(settings.store)
    try:
        run_control(settings, store)
    finally:
        store.close()


def run_control(settings: Settings, store: Store, *, ready: Ready | None = None) -> None:
    """Migrate the store and serve until SIGTERM or SIGINT. Belongs into the main thread.

    ``ready`` is called with host and port once requests are accepted. Raises
    :class:`gateway.errors.SettingsError` for an address that is taken, or not safe without a
    token, and :class:`gateway.errors.StoreUnavailable` when the store can't be reached.
    """
    store.migrate()
    check_binding(settings, store)
    registry = CollectorRegistry()
    probe = DeploymentProbe(settings)
    metrics = ControlMetrics(registry)
    controller = Controller(store, settings, health=probe, metrics=metrics)
    service = RolloutService(store, settings, health=probe)
    fed = FedController(store, settings, controller, metrics=metrics)
    app = create_app(settings, store, service, fed, registry)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # What a proxy claims about its client is never believed; see rollout.api.gatekeeper.
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    with _listen(settings) as listening:
        asyncio.run(_serve(_Server(config, ready), listening))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Ready | None) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again after a clean shutdown."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where: the port was chosen by the system where the settings say 0."""
        await super().startup(sockets)
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            _LOG.info("control started; http://%s:%s/docs", shown, port)
            if self._ready is not None:
                self._ready(host, port)


async def _serve(server: _Server, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    await server.serve(sockets=[listening])


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.control.host, settings.control.port
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"can't listen on {host} port {port}: {error.strerror or error}", field="control.port"
        ) from None
    return listening
