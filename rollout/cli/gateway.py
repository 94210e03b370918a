"""``coalmine gateway``: the data plane as a process, or as several on one port."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gateway.server import run_gateway
from gateway.settings import GatewaySettings, Settings, load_settings
from rollout.cli.logs import start_logging
from rollout.cli.options import Config

__all__ = ["gateway"]


def gateway(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API.", min=0, max=65535)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the port.", min=1, max=64)
    ] = None,
) -> None:
    """Serve the OpenAI-compatible API. Needs its settings and nothing else; the store may be down.

    SIGTERM takes no more connections, lets open answers end (gateway.drain_timeout), writes the
    last captures and ends with status 0. SIGHUP has the settings read again: requests under way
    end on what they began with, and wrong settings change nothing.
    """
    source = partial(_read, config, host=host, port=port, workers=workers)
    settings = source()
    start_logging("gateway", settings)
    run_gateway(settings, source=source)


def _read(config: Path | None, **given: str | int | None) -> Settings:
    return _overridden(load_settings(config), **given)


def _overridden(settings: Settings, **given: str | int | None) -> Settings:
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return settings
    section = GatewaySettings.model_validate(settings.gateway.model_dump() | changes)
    return settings.model_copy(update={"gateway": section})
