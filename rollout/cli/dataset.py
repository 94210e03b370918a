"""``coalmine dataset``: what was exported, its rows, and what changed between two versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.options import Json, Token, Url

__all__ = ["app", "save"]

_LONG_S = 600.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="List what was exported, download it, compare two versions.",
)

_Reference = Annotated[
    str,
    typer.Argument(help="NAME (the latest version), NAME@VERSION or NAME@HASH.", metavar="NAME"),
]


@app.command("list")
def index(*, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """List the datasets, newest first."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get("/exports")
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render_dataset import print_datasets

    print_datasets(document)


@app.command()
def show(name: _Reference, *, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Show what is in a dataset, from where, and what was skipped and why."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get(f"/exports/{segment(name)}")
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render_dataset import print_dataset

    print_dataset(document)


@app.command()
def download(
    name: _Reference,
    *,
    out: Annotated[Path, typer.Option("--out", help="File for the rows; its manifest beside.")],
    split: Annotated[
        str | None, typer.Option(help="Only train, validation or test; default: all.")
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Download a dataset as JSON Lines, with its manifest as FILE.manifest.json."""
    with AdminClient(url or default_url(), token, timeout=_LONG_S) as client:
        document = client.get(f"/exports/{segment(name)}")
        exact = f"{document['name']}@{document['version']}"
        lines = save(client, exact, document["manifest"], out, split=split)
    typer.echo(f"{out}: {lines:,} rows of {exact}")


@app.command()
def diff(
    old: _Reference,
    new: _Reference,
    *,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Say which rows came, went and changed from one dataset to another."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get(f"/exports/{segment(old)}/diff/{segment(new)}")
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render_dataset import print_difference

    print_difference(document)


@app.command()
def schema(
    kind: Annotated[
        str, typer.Argument(help="preferences, text-preferences, regressions or evalset.")
    ],
    *,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print the JSON Schema of a kind's rows, as for an eval set written by hand."""
    with AdminClient(url or default_url(), token) as client:
        _print_json(client.get(f"/export-schemas/{segment(kind)}"))


def save(
    client: AdminClient,
    name: str,
    manifest: Mapping[str, Any],
    out: Path,
    *,
    split: str | None = None,
) -> int:
    """Write a dataset's rows and its manifest to files, and return the number of rows.

    The rows go to a file beside first, so that a broken download leaves none behind.
    """
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("wb") as file:
            lines = client.save(f"/exports/{segment(name)}/items", file, split=split)
        part.replace(out)
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        out.with_name(f"{out.name}.manifest.json").write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(
            f"can't write {out}: {error.strerror}", param_hint="--out"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return lines


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
