"""The command ``coalmine``. Commands are imported when they run, so that the help is instant."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.errors import CoalmineError, SettingsError
from rollout.cli.lazy import Lazy, lazy_group

__all__ = ["app", "main"]

_COMMANDS = {
    "up": Lazy("rollout.cli.up:up", "Run gateway, worker and control on this machine, supervised."),
    "demo": Lazy(
        "rollout.cli.demo:demo", "Watch one candidate win and two fail, on simulated models."
    ),
    "gateway": Lazy(
        "rollout.cli.gateway:gateway", "Run the data plane: the OpenAI-compatible API."
    ),
    "worker": Lazy(
        "rollout.cli.worker:worker", "Run the evaluator: mirror, check and judge captures."
    ),
    "control": Lazy(
        "rollout.cli.control:control", "Run the admin API and the controller of rollouts."
    ),
    "simulate": Lazy("rollout.cli.simulate:simulate", "Run a scripted OpenAI-compatible upstream."),
    "rollout": Lazy(
        "rollout.cli.rollout:app", "Apply rollouts, watch them, and decide about them."
    ),
    "gateways": Lazy(
        "rollout.cli.gateways:app", "List the gateways, and have them read their settings again."
    ),
    "judge": Lazy("rollout.cli.judge:app", "Say whether the judge can be trusted."),
    "explain": Lazy("rollout.cli.rollout:explain", "Say why a rollout is where it is."),
    "replay": Lazy(
        "rollout.cli.planning:replay", "Decide every transition again from the stored facts."
    ),
    "review": Lazy(
        "rollout.cli.review:app", "Review pairs blind, and see what people's labels come to."
    ),
    "export": Lazy("rollout.cli.export:app", "Export pairs to train on, or to evaluate with."),
    "dataset": Lazy(
        "rollout.cli.dataset:app", "List what was exported, download it, compare two versions."
    ),
    "privacy": Lazy(
        "rollout.cli.privacy:app", "Delete what is stored of a user; try the redaction."
    ),
    "token": Lazy("rollout.cli.token:app", "Create, list and revoke the API's tokens."),
    "settings": Lazy("rollout.cli.settings:app", "Check the settings."),
    "store": Lazy("rollout.cli.store:app", "Look after the store."),
}

app = typer.Typer(
    name="coalmine",
    cls=lazy_group(_COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"coalmine {version('coalmine')}")
        raise typer.Exit


@app.callback()
def _coalmine(
    _version_wanted: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Coalmine rolls a new language model out only as fast as the evidence allows."""


def main() -> None:
    """Run the command line.

    Ends with status 0 when done, 1 when refused or failed, 2 when a command or setting is wrong.
    An error that Coalmine knows is one line on stderr, never a traceback.
    """
    try:
        app()
    except CoalmineError as error:
        typer.echo(f"coalmine: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
