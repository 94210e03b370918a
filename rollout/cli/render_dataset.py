"""What ``export`` and ``dataset`` print for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_dataset", "print_datasets", "print_difference"]

_Document = Mapping[str, Any]


def print_dataset(
    document: _Document, *, created: bool | None = None, out: Path | None = None
) -> None:
    """Print one dataset; after an export, whether it is new and where it was saved."""
    console = Console(highlight=False)
    head = Text(f"{document['name']}@{document['version']}", style="bold")
    head.append(f"   {document['kind']}, {document['items']:,} rows", style="dim")
    head.append(f"   sha256 {document['sha256']}", style="dim")
    console.print(head)
    if created is False:
        console.print("nothing new: the same rows were exported before")
    if out is not None:
        console.print(f"saved as {out}, its manifest as {out}.manifest.json")
    if document["deleted"]:
        console.print(f"{document['deleted']:,} rows are gone, with their deleted pairs")
    manifest = document["manifest"]
    for title in ("splits", "sources", "segments", "skipped"):
        if manifest[title]:
            counts = ", ".join(f"{name or 'none'} {n:,}" for name, n in manifest[title].items())
            console.print(f"{title:<9}{counts}")
    origin = manifest["origin"]
    console.print(
        f"{'from':<9}{origin['rollout']} #{origin['generation']}: {origin['baseline']} → "
        f"{origin['candidate']}, Coalmine {origin['code_version']}"
    )


def print_datasets(document: _Document) -> None:
    """Print the list of datasets."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("dataset", "kind", "rollout", "rows", "hash", "at", "by"):
        table.add_column(title, justify="right" if title == "rows" else "left")
    for each in document["datasets"]:
        at = datetime.fromtimestamp(each["created_at"], UTC).astimezone()
        table.add_row(
            f"{each['name']}@{each['version']}",
            each["kind"],
            each["rollout"],
            f"{each['items']:,}",
            each["sha256"][:12],
            at.strftime("%Y-%m-%d %H:%M"),
            each["created_by"],
        )
    Console(highlight=False).print(table)


def print_difference(document: _Document) -> None:
    """Print what changed between two datasets."""
    console = Console(highlight=False)
    old, new = document["old"], document["new"]
    console.print(f"{old['name']}@{old['version']} → {new['name']}@{new['version']}")
    for title in ("same", "changed", "added", "removed"):
        keys = ", ".join(key[:12] for key in document["examples"].get(title, [])[:5])
        console.print(f"{title:<9}{document[title]:>7,}   {keys}".rstrip())
