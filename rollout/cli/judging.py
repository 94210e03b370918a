"""``coalmine rollout judging``: whether the judge of a rollout can be relied on."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.options import Json, Name, Token, Url

__all__ = ["judging"]


def judging(
    name: Name,
    *,
    generation: Annotated[
        int | None, typer.Option(help="An earlier generation; default: the latest.", min=1)
    ] = None,
    limit: Annotated[
        int, typer.Option(help="The latest pairs to look at.", min=1, max=20_000)
    ] = 5000,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Report on the judge: missing verdicts, position bias, its stages, scores, length."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get(
            f"/rollouts/{segment(name)}/judging", generation=generation, limit=limit
        )
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from rollout.cli.render_judging import print_judging

    print_judging(document)
