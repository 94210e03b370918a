"""``coalmine store``."""

from __future__ import annotations

import typer

from gateway.settings import load_settings
from rollout.cli.options import Config

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Look after the store.",
)


@app.callback()
def _group() -> None:
    """Look after the store."""


@app.command()
def migrate(config: Config = None) -> None:
    """Bring the store's tables to this version's form; does nothing where they have it."""
    from gateway.store import open_store

    store = open_store(load_settings(config).store)
    try:
        before = store.is_current()
        store.migrate()
    finally:
        store.close()
    typer.echo("the store is current" if before else "the store was migrated")
