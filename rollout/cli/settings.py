"""``coalmine settings``."""

from __future__ import annotations

import json

import typer

from gateway.settings import Settings, load_settings
from rollout.cli.options import Config, Json

__all__ = ["app", "effective"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Check the settings.",
)


@app.callback()
def _group() -> None:
    """Check the settings."""


@app.command()
def check(config: Config = None, *, as_json: Json = False) -> None:
    """Validate the settings and print them as they are in effect, the environment included.

    Secrets are not among them: settings name the variables that hold secrets. Ends with status 2
    and the name of the setting that is wrong.
    """
    document = effective(load_settings(config))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    import yaml

    typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


def effective(settings: Settings) -> dict[str, object]:
    """Return the settings as a document; a password in the store's URL is left out."""
    document = settings.model_dump(mode="json")
    if not settings.store.startswith("sqlite"):
        from sqlalchemy import make_url

        document["store"] = make_url(settings.store).render_as_string(hide_password=True)
    return document
