"""What ``rollout panel`` prints for people: before and after, and samples side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["panel_view", "print_panel", "print_samples", "samples_view"]

_Document = Mapping[str, Any]

_STYLES = {
    "moved": "bold red",
    "leaning": "yellow",
    "steady": "green",
    "unclear": "default",
    "no_data": "dim",
}
_CHARS = 1500


def print_panel(document: _Document, *, category: str | None = None) -> None:
    """Print the panel; with ``category`` that segment's figures only."""
    Console(highlight=False).print(panel_view(document, category=category))


def print_samples(document: _Document) -> None:
    """Print the samples behind a figure."""
    Console(highlight=False).print(samples_view(document))


def panel_view(document: _Document, *, category: str | None = None) -> RenderableType:
    """Return the panel as something rich can print."""
    head = Text(f"{document['name']} #{document['generation']}", style="bold")
    what = "pairs" if document["source"] == "pairs" else "live answers"
    newest = "" if document["complete"] else "the newest "
    head.append(f"   {newest}{document['pairs']:,} {what}, intervals at ", style="dim")
    kind = "at all looks together" if document["interval"] == "anytime" else "at this look"
    head.append(f"{document['level']:.0%} {kind}", style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("figure", "segment"):
        table.add_column(title)
    for title in ("before", "after", "change", "interval", "margin", "n"):
        table.add_column(title, justify="right")
    table.add_column("")
    lines = [
        each
        for each in document["lines"]
        if (category is None or each["segment"] == category)
        and (each["status"] != "no_data" or each["segment"] is None)
    ]
    for each in lines:
        table.add_row(
            each["metric"],
            each["segment"] or "all",
            _figure(each, each["before"]),
            _figure(each, each["after"]),
            _change(each["change"]),
            _interval(each),
            f"±{each['margin']:.1%}",
            f"{each['n']:,}",
            Text(each["status"].replace("_", " "), style=_STYLES[each["status"]]),
        )
    moved = [each["metric"] for each in lines if each["status"] == "moved"]
    hint = (
        f"read what moved: coalmine rollout panel {document['name']} --metric {moved[0]}"
        if moved
        else "nothing is proven to have moved beyond its margin"
    )
    return Group(head, Text(), table, Text(), Text(hint, style="dim"))


def samples_view(document: _Document) -> RenderableType:
    """Return the samples as something rich can print, baseline on the left."""
    head = Text(f"{document['metric']}", style="bold")
    where = document["segment"] or "all segments"
    head.append(f"   {document['direction']}, {where}, {document['source']}", style="dim")
    parts: list[RenderableType] = [head]
    if not document["samples"]:
        parts.append(Text("no sample moves it that way", style="dim"))
    for each in document["samples"]:
        said = each["verdict"] or "not compared"
        title = Text(f"\npair {each['pair']['id']}", style="bold")
        title.append(f"   {each['contribution']:+.2f}   judge: {said}", style="dim")
        title.append(f"   segment {each['pair']['segment'] or 'none'}", style="dim")
        table = Table(expand=True, show_lines=True)
        table.add_column("baseline", style="blue", ratio=1)
        table.add_column("candidate", style="dark_orange", ratio=1)
        table.add_row(_text(each["baseline"]), _text(each["candidate"]))
        table.add_row(_finding(each["baseline"]), _finding(each["candidate"]))
        parts += [title, Text(_short(each["prompt"]), style="italic"), table]
    return Group(*parts)


def _text(side: _Document | None) -> Text:
    return Text("not asked", style="dim") if side is None else Text(_short(side["text"]))


def _finding(side: _Document | None) -> Text:
    finding = (side or {}).get("finding") or {}
    said = [str(finding.get("outcome", "")).replace("_", " "), str(finding.get("reason", ""))]
    if finding.get("value") is not None:
        said = [f"{finding['value']:g}"]
    return Text(": ".join(each for each in said if each), style="dim")


def _short(text: str) -> str:
    return text if len(text) <= _CHARS else f"{text[:_CHARS]} … ({len(text):,} characters)"


def _figure(line: _Document, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if line["kind"] == "rate" else f"{value:,.1f}"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"


def _interval(line: _Document) -> str:
    if line["low"] is None:
        return "-"
    high = "∞" if line["high"] is None else f"{line['high']:+.1%}"
    return f"{line['low']:+.1%} … {high}"
