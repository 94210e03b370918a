"""``coalmine privacy``: deleting what is stored of a user, and trying the redaction on a text."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import NotFound, RequestError
from rollout.cli.client import AdminClient, default_url
from rollout.cli.options import Config, Json, Token, Url

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Delete what is stored of a user, and try the redaction on a text.",
)


@app.command()
def delete(
    user_key: Annotated[
        str,
        typer.Option(
            help="The targeting key as the user's requests carry it; - reads it from the input, "
            "which keeps it out of the shell's history.",
            show_default=False,
        ),
    ],
    reason: Annotated[
        str, typer.Option(help="Why; kept in the audit log.", show_default=False)
    ] = "",
    url: Url = None,
    token: Token = None,
    *,
    as_json: Json = False,
) -> None:
    """Delete a user's captures, and everything that was made of them. Needs the role admin."""
    key = sys.stdin.readline().rstrip("\r\n") if user_key == "-" else user_key
    if not key:
        raise RequestError("is empty; give the key of one user", param="--user-key")
    with AdminClient(url or default_url(), token) as client:
        document = client.send(
            "POST", "/privacy/deletions", {"user_key": key, "reason": reason or None}
        )
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    captures = document["captures"] + document["packed"]
    typer.echo(
        f"{document['user']}: {captures} captures deleted, {document['pairs']} pairs, "
        f"{document['judgments']} judgments, {document['judge_cache']} kept verdicts, "
        f"{document['others']} other rows"
    )


@app.command()
def check(
    file: Annotated[
        str, typer.Argument(help="Text, JSON or an event stream; - reads the input.")
    ] = "-",
    route: Annotated[
        str | None, typer.Option(help="By the settings of this route; default: of all routes.")
    ] = None,
    config: Config = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what redaction would make of a text, by the settings. Nothing is stored or sent."""
    text = _read(file)
    import time

    from gateway.redaction.bodies import Redactor
    from gateway.redaction.presidio import load_recogniser
    from gateway.redaction.text import Withheld
    from gateway.settings import load_settings

    settings = load_settings(config)
    if route is not None and route not in settings.routes:
        known = ", ".join(sorted(settings.routes)) or "none"
        raise NotFound(f"no route is called {route!r}; declared are: {known}", field="--route")
    rules = settings.redaction
    if route is not None:
        rules = rules.for_route(settings.routes[route].redaction)
    found = rules.presidio
    recognise = None if found is None else load_recogniser(found)
    withheld: str | None = None
    redacted = ""
    counts: Mapping[str, int] = {}
    try:
        redacted, counts = Redactor(rules, clock=time.thread_time, recognise=recognise).text(text)
    except Withheld as refusal:
        withheld = refusal.reason
    if counts and rules.on_match == "withhold":
        withheld = "matched"
    if as_json:
        document = {"text": redacted, "found": dict(counts), "withheld": withheld}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    typer.echo(redacted, nl=not redacted.endswith("\n"))
    said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing found"
    typer.echo(f"withheld: {withheld}" if withheld else said, err=True)


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"can't read {file}: {error.strerror}", param="FILE") from None
    except UnicodeDecodeError:
        raise RequestError(f"{file} is not UTF-8", param="FILE") from None
