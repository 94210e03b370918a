"""``coalmine rollout``: apply rollouts, watch them, and decide about them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.judging import judging
from rollout.cli.options import IfRevision, Json, Name, Reason, Token, Url
from rollout.cli.panel import panel
from rollout.cli.planning import plan, read_spec, replay

__all__ = ["app", "explain"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Apply rollouts, watch them, and decide about them.",
)

_Generation = Annotated[
    int | None, typer.Option(help="An earlier generation; default: the latest.", min=1)
]


@app.command()
def apply(
    file: Annotated[
        str, typer.Argument(help="The spec, YAML or JSON; - reads standard input.", metavar="FILE")
    ],
    *,
    start: Annotated[bool, typer.Option(help="Start it at once, or let it wait.")] = True,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Apply a spec: a new rollout, or the next generation of one, is started."""
    text, kind = read_spec(file)
    with AdminClient(url or default_url(), token) as client:
        applied = client.send_text(
            "/rollouts",
            text,
            media_type=kind,
            start="true" if start else "false",
            reason=reason or None,
        )
    if as_json:
        _print_json(applied)
        return
    from rollout.cli.render import one_line

    for warning in applied["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    if not applied["created"]:
        typer.echo("nothing changed: the same spec was applied before")
    typer.echo(one_line(applied["rollout"]))


app.command()(plan)
app.command()(replay)
app.command()(judging)
app.command()(panel)


@app.command("list")
def index(
    *,
    every_generation: Annotated[
        bool, typer.Option("--all", help="Earlier generations too.")
    ] = False,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """List rollouts: phase, step, weight, and why each is where it is."""
    query = {"every_generation": "true"} if every_generation else {}
    with AdminClient(url or default_url(), token) as client:
        document = client.get("/rollouts", **query)
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render import print_list

    print_list(document, now=time.time())


@app.command()
def compare(
    route: Annotated[str, typer.Option("--route", help="The route: the model clients ask for.")],
    *,
    finished: Annotated[
        bool, typer.Option("--all", help="Those that are over too, the latest generation of each.")
    ] = False,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show all candidates on a route side by side: where each is, its evidence, what it costs."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get("/compare", route=route, finished="true" if finished else None)
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render_compare import print_comparison

    print_comparison(document)


@app.command()
def status(
    name: Name,
    *,
    generation: _Generation = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show where a rollout is, why, every guardrail, the funnel, and what is next."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get(f"/rollouts/{segment(name)}", generation=generation)
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render import print_status

    print_status(document, now=time.time())


@app.command()
def explain(
    name: Name,
    *,
    generation: _Generation = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Say why a rollout is where it is, with the receipt of what brought it there."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get(f"/rollouts/{segment(name)}/explain", generation=generation)
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render import print_explanation

    print_explanation(document, now=time.time())


@app.command()
def watch(
    name: Name,
    *,
    interval: Annotated[
        float, typer.Option(help="Seconds between two looks.", min=0.05, max=60)
    ] = 1.0,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Follow a rollout to its end: status 0 when it succeeded, 1 when it did not.

    With --json each transition is one line. A pause is not the end: it waits for a person.
    """
    from rollout.cli.watching import follow

    with AdminClient(url or default_url(), token) as client:
        raise typer.Exit(follow(client, name, interval=interval, as_json=as_json))


@app.command()
def weight(
    name: Name,
    percent: Annotated[
        float, typer.Argument(help="The candidate's share, in percent.", min=0, max=100)
    ],
    *,
    reason: Reason = "",
    if_revision: IfRevision = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Set the candidate's weight by hand; pauses the automation."""
    change = {"weight": percent, "reason": reason or None, "if_revision": if_revision}
    with AdminClient(url or default_url(), token) as client:
        document = client.send("PUT", f"/rollouts/{segment(name)}/weight", change)
    _print_done(document, as_json=as_json)


def _operation(operation: str, help_text: str) -> None:
    """Add the command of an operation that takes no more than a reason."""

    def command(
        name: Name,
        *,
        reason: Reason = "",
        if_revision: IfRevision = None,
        url: Url = None,
        token: Token = None,
        as_json: Json = False,
    ) -> None:
        change = {"reason": reason or None, "if_revision": if_revision}
        with AdminClient(url or default_url(), token) as client:
            document = client.send("POST", f"/rollouts/{segment(name)}/{operation}", change)
        _print_done(document, as_json=as_json)

    app.command(operation, help=help_text)(command)


for _name, _help in {
    "start": "Start a rollout that waits for it.",
    "pause": "Pause the automation; proven harm still rolls back.",
    "resume": "Go on where the rollout was paused.",
    "approve": "Approve the step that waits for it.",
    "promote": "Make the candidate the baseline now, on your own responsibility.",
    "abort": "End the rollout and take its traffic away; always wins.",
    "retry": "Start again, with fresh evidence, what was rolled back or aborted.",
    "rollback": "Take all traffic off the candidate; after a promotion, return to the former one.",
}.items():
    _operation(_name, _help)


def _print_done(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render import one_line

    typer.echo(one_line(document))


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
