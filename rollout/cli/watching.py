"""``coalmine rollout watch``: following a rollout to its end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from gateway.errors import ConnectFailed, RequestError, UpstreamTimeout
from rollout.cli.client import AdminClient, segment
from rollout.cli.render import status_view, transition_line

__all__ = ["follow"]

_OVER = frozenset({"succeeded", "rolled_back", "aborted", "superseded"})
_PATIENCE = 60
"""Looks in a row without an answer after which watching is given up."""


def follow(
    client: AdminClient,
    name: str,
    *,
    interval: float,
    as_json: bool = False,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print each transition until the rollout is over; return 0 when it succeeded, otherwise 1.

    In a terminal the status stays at the bottom, live. Control may restart meanwhile.
    ``interval`` is in seconds.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    looks = _looks(client, name, interval=interval, sleep=sleep)
    live = None
    if console.is_terminal and not as_json:
        live = Live(console=console, auto_refresh=False, transient=True)
    phase = ""
    with live or contextlib.nullcontext():
        for status, fresh in looks:
            phase = status["phase"]
            for each in fresh:
                line = json.dumps(each) if as_json else transition_line(each)
                console.print(line, markup=False, soft_wrap=True)
            if live is not None:
                live.update(_view(status), refresh=True)
    return 0 if phase == "succeeded" else 1


def _looks(
    client: AdminClient,
    name: str,
    *,
    interval: float,
    sleep: Callable[[float], None],
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the status and the transitions since the last look, until the rollout is over."""
    path = f"/rollouts/{segment(name)}"
    seen, generation, misses = 0, None, 0
    while True:
        try:
            status = client.get(path, generation=generation)
            # The generation that was there at first is the one watched.
            generation = status["generation"]
            fresh: list[dict[str, Any]] = []
            page: dict[str, Any] = {"next_cursor": str(seen)}
            while page["next_cursor"] is not None:
                page = client.get(
                    f"{path}/transitions", generation=generation, cursor=page["next_cursor"]
                )
                fresh += page["transitions"]
        except (ConnectFailed, UpstreamTimeout, RequestError) as error:
            misses += 1
            passing = not isinstance(error, RequestError) or error.status == 503
            if generation is None or misses > _PATIENCE or not passing:
                raise
            if misses == 1:
                typer.echo(f"{error.message}; trying again", err=True)
            sleep(interval)
            continue
        misses = 0
        seen = fresh[-1]["number"] if fresh else seen
        yield status, fresh
        if status["phase"] in _OVER:
            return
        sleep(interval)


def _view(status: dict[str, Any]) -> RenderableType:
    return Group(Text("─" * 60, style="dim"), status_view(status, now=time.time()))
