"""``coalmine token``: who may use the admin API."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.options import Config, Json, Token, Url

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Create, list and revoke the admin API's tokens.",
)

_Local = Annotated[
    bool,
    typer.Option(
        "--local",
        help="Write to the store of the settings instead of asking control: for the first token "
        "of a control that is not bound to loopback, or when no admin token is left.",
    ),
]
_TokenName = Annotated[str, typer.Argument(help="Whose token it is.", show_default=False)]


class RoleName(StrEnum):
    """What a token may do; each role may do what those before may."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@app.command()
def create(
    name: _TokenName,
    role: Annotated[RoleName, typer.Option(help="What it may do.")] = RoleName.OPERATOR,
    *,
    expert: Annotated[
        bool, typer.Option("--expert", help="May review pairs that are for experts only.")
    ] = False,
    local: _Local = False,
    config: Config = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Create a token and print its secret, which is shown this once only."""
    if local:
        document = _create_local(name, role, config, expert=expert)
    else:
        with AdminClient(url or default_url(), token) as client:
            wanted = {"name": name, "role": role.value, "expert": expert}
            document = client.send("POST", "/tokens", wanted)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(document["secret"])
    typer.echo(
        f"This is the secret of {name!r} ({role.value}); it is not shown again. "
        "Use it with COALMINE_TOKEN or --token.",
        err=True,
    )


@app.command("list")
def index(url: Url = None, token: Token = None, *, as_json: Json = False) -> None:
    """List the tokens, never their secrets."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get("/tokens")
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    from rollout.cli.render import print_tokens

    print_tokens(document, now=time.time())


@app.command()
def revoke(
    name: _TokenName, url: Url = None, token: Token = None, *, as_json: Json = False
) -> None:
    """Revoke a token at once."""
    with AdminClient(url or default_url(), token) as client:
        document = client.delete(f"/tokens/{segment(name)}")
    typer.echo(json.dumps(document, indent=2) if as_json else f"{name} is revoked")


def _create_local(name: str, role: RoleName, config: Any, *, expert: bool) -> dict[str, Any]:
    from gateway.settings import load_settings
    from gateway.store import open_store
    from rollout.api.auth import LOCAL, Role, create_token
    from rollout.audit import record_audit

    store = open_store(load_settings(config).store)
    now = time.time()
    try:
        store.migrate()
        with store.write() as session:
            row, secret = create_token(session, name, Role[role.value], now=now, expert=expert)
            record_audit(
                session,
                at=now,
                actor=LOCAL.actor,
                action="token.create",
                target=name,
                detail={"role": row.role},
            )
            return {
                "name": row.name,
                "role": row.role,
                "expert": row.expert,
                "created_at": row.created_at,
                "last_used_at": None,
                "revoked_at": None,
                "secret": secret,
            }
    finally:
        store.close()
