"""``coalmine demo``: three acts on simulated models, with the real gateway and controller."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    seed: Annotated[int, typer.Option(help="Fixes users, prompts and simulated answers.")] = 1,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer samples and shorter waits.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where to keep the demo's files; default: a new folder.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests per second from simulated users.", min=1)
    ] = None,
) -> None:
    """Watch a good candidate go to 100%, and two bad ones come back.

    Ends with status 1 if an act ends otherwise than announced.
    """
    from rich.console import Console

    from rollout.demo.run import play
    from rollout.demo.scene import FAST, Pace

    pace = FAST if fast else Pace()
    if rate is not None:
        pace = replace(pace, requests_per_second=rate)
    place = folder or Path(tempfile.mkdtemp(prefix="coalmine-demo-"))
    place.mkdir(parents=True, exist_ok=True)
    if (place / "coalmine.db").exists():
        raise typer.BadParameter(f"{place} holds an earlier demo; choose an empty folder")
    raise typer.Exit(asyncio.run(play(place, Console(), seed=seed, pace=pace)))
