"""``coalmine rollout plan`` and ``replay``: before a rollout, and long after."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.options import Json, Name, Token, Url

__all__ = ["plan", "read_spec", "replay"]

_LONG_S = 600.0


def plan(
    file: Annotated[
        str, typer.Argument(help="The spec, YAML or JSON; - reads standard input.", metavar="FILE")
    ],
    *,
    requests_per_second: Annotated[
        float | None,
        typer.Option(help="Eligible traffic of the route; default: as measured.", min=0),
    ] = None,
    failure_rate: Annotated[
        float | None,
        typer.Option(
            help="The baseline's failure rate, as a fraction; default: as measured, or 0.01.",
            min=0,
            max=1,
        ),
    ] = None,
    tie_share: Annotated[
        float | None,
        typer.Option(
            help="Share of pairs that the judge calls a tie; default: as measured, or 0.3.",
            min=0,
            max=1,
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Say what a rollout will take: pairs, hours, judge calls, dollars. Changes nothing.

    Status 0, or 1 for a plan that can't conclude: then it says which margin, sample or duration
    would do.
    """
    text, media_type = read_spec(file)
    with AdminClient(url or default_url(), token) as client:
        document = client.send_text(
            "/plan",
            text,
            media_type=media_type,
            requests_per_second=requests_per_second,
            failure_rate=failure_rate,
            tie_share=tie_share,
        )
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        from rollout.cli.render_plan import print_plan

        print_plan(document)
    if not document["can_conclude"]:
        raise typer.Exit(1)


def replay(
    name: Name,
    *,
    generation: Annotated[
        int | None, typer.Option(help="An earlier generation; default: the latest.", min=1)
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Decide every transition again from the stored facts and compare, to the last bit.

    Status 0 when everything is the same, 1 when something differs or facts are gone.
    """
    with AdminClient(url or default_url(), token, timeout=_LONG_S) as client:
        document = client.get(f"/rollouts/{segment(name)}/replay", generation=generation)
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        from rollout.cli.render_plan import print_replay

        print_replay(document)
    if not document["same"]:
        raise typer.Exit(1)


def read_spec(file: str) -> tuple[str, str]:
    """Return a spec's text and its media type; ``-`` is standard input."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    else:
        is_json = text.lstrip().startswith("{")
        return text, "application/json" if is_json else "application/yaml"
    raise typer.BadParameter(f"can't read {file}: {reason}", param_hint="FILE")
