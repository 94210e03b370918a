"""``coalmine rollout panel``: what moved with the candidate, and the samples behind it."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.options import Json, Name, Token, Url

__all__ = ["panel"]

_LONG_S = 120.0


def panel(
    name: Name,
    *,
    metric: Annotated[
        str | None, typer.Option(help="Show the samples behind this figure, side by side.")
    ] = None,
    samples: Annotated[int, typer.Option(help="With --metric: how many.", min=1, max=50)] = 5,
    category: Annotated[
        str | None, typer.Option("--segment", help="Only this segment.", show_default=False)
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(help="With --metric: increase or decrease; unset: as the figure changed."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Live answers of both arms, instead of pairs.")
    ] = False,
    limit: Annotated[
        int, typer.Option(help="The newest so many pairs only.", min=1, max=100_000)
    ] = 10_000,
    generation: Annotated[
        int | None, typer.Option(help="An earlier generation; default: the latest.", min=1)
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show length, citations, refusals and more before and after, and what moved them.

    A figure that moved beyond its margin is a reason to read its samples (--metric), no verdict.
    """
    source: Literal["live", "pairs"] = "live" if live else "pairs"
    path = f"/rollouts/{segment(name)}/panel"
    query: dict[str, str | float | None] = {
        "generation": generation,
        "source": source,
        "limit": limit,
    }
    with AdminClient(url or default_url(), token, timeout=_LONG_S) as client:
        if metric is None:
            document = client.get(path, **query)
        else:
            document = client.get(
                f"{path}/{segment(metric)}/samples",
                **query,
                segment=category,
                direction=direction,
                count=samples,
            )
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from rollout.cli.render_panel import print_panel, print_samples

    if metric is None:
        print_panel(document, category=category)
    else:
        print_samples(document)
