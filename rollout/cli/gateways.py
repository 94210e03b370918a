"""``coalmine gateways``: what the gateways serve by, and having them read their settings again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from rollout.cli.client import AdminClient, default_url
from rollout.cli.figures import ago
from rollout.cli.options import Json, Token, Url

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="List the gateways, and have them read their settings again.",
)


@app.command("list")
def index(url: Url = None, token: Token = None, *, as_json: Json = False) -> None:
    """List the gateways, the settings that they serve by, and their last reload."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get("/gateways")
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    for each in document["gateways"]:
        typer.echo(_line(each, time.time()))
    if not document["gateways"]:
        typer.echo("no gateway runs; start one with `coalmine gateway` or `coalmine up`")


@app.command()
def reload(
    reason: Annotated[
        str, typer.Option(help="Why; kept in the audit log.", show_default=False)
    ] = "",
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the gateways' answers.", min=0, max=20)
    ] = 5.0,
    url: Url = None,
    token: Token = None,
    *,
    as_json: Json = False,
) -> None:
    """Have every gateway read its settings again; no request is dropped.

    Ends with status 1 where a gateway refused its settings or did not answer in time. Wrong
    settings change nothing.
    """
    with AdminClient(url or default_url(), token) as client:
        document = client.send("POST", f"/gateways/reload?wait={wait:g}", {"reason": reason})
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        _say(document)
    if document["failed"] or document["waiting"]:
        raise typer.Exit(1)


def _line(each: Mapping[str, Any], now: float) -> str:
    """Return a gateway in one line, with what its last reload came to."""
    seen = f"seen {ago(each['heartbeat_at'], now)}" if each["alive"] else "gone"
    parts = [each["id"], seen, f"settings {(each['settings_hash'] or 'unknown')[:12]}"]
    if last := each["last_reload"]:
        restart = ", ".join(last["needs_restart"])
        came = last["error"] or (restart and f"needs a restart for {restart}") or "ok"
        parts.append(f"reloaded {ago(last['at'], now)}: {came}")
    return "  ".join(parts)


def _say(document: Mapping[str, Any]) -> None:
    for name in document["applied"]:
        typer.echo(f"{name} serves by the settings as they are now")
    for name in document["needs_restart"]:
        typer.echo(f"{name} has changed and needs a restart of the gateways", err=True)
    for each in document["failed"]:
        typer.echo(f"{each['id']} serves on by what it had: {each['error']}", err=True)
    for name in document["waiting"]:
        typer.echo(f"{name} has not answered yet", err=True)
    if not (document["applied"] or document["failed"] or document["waiting"]):
        typer.echo("no gateway is running; those that start read their settings anyway")
