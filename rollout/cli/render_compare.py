"""What ``coalmine rollout compare`` prints: candidates in columns, metrics in rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rollout.cli.figures import e_value
from rollout.cli.render import console, figure, phase_text, verdict_text

__all__ = ["comparison_view", "print_comparison"]

_Document = Mapping[str, Any]


def print_comparison(document: _Document) -> None:
    """Print all candidates of a route."""
    console().print(comparison_view(document))


def comparison_view(document: _Document) -> RenderableType:
    """Return the comparison as something rich can print."""
    candidates = document["candidates"]
    head = Text(document["route"], style="bold").append(
        f": baseline {document['baseline']}", style="default"
    )
    if document["holder"] is not None:
        head.append(f", live traffic {document['holder']} at {document['weight']:g}%")
    if not candidates:
        return Group(head, Text("no candidates; --all shows those that are over"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("", style="dim", no_wrap=True)
    for each in candidates:
        table.add_column(f"{each['name']} #{each['generation']}", overflow="fold")
    for label, show in _ROWS.items():
        table.add_row(label, *(show(each) for each in candidates))
    for name in _names(candidates):
        table.add_row(name, *(_metric(each, name) for each in candidates))
    return Group(head, Text(), table, *_why(candidates))


def _where(each: _Document) -> Text:
    place = f"  step {each['step']}/{each['steps']}, {each['weight']:g}%"
    return phase_text(each["phase"]).append(place, style="default")


def _captures(each: _Document) -> str:
    captures = each["captures"]
    share = "" if each["mirrored"] is None else f"  ({each['mirrored']:g}% mirrored)"
    return f"{captures['taken']}, {captures['shared']} shared{share}"


def _pairs(each: _Document) -> str:
    counts = each["counts"]
    return f"{counts['pairs']}, {counts['noise_pairs']} A/A"


def _judge(each: _Document) -> str:
    judge = each["judge"]
    limits = [
        f"{judge['calls_per_day']} calls" if judge["calls_per_day"] is not None else "",
        f"${judge['usd_per_day']:g}" if judge["usd_per_day"] is not None else "",
    ]
    allowed = " or ".join(limit for limit in limits if limit)
    spent = f"{judge['calls']} calls, ${judge['dollars']:.2f}"
    return f"{spent} of {allowed}" if allowed else spent


def _harm(each: _Document) -> str:
    return f"{e_value(each['log10_e_harm'])}, rolled back at {e_value(each['rollback_at'])}"


def _funnel(each: _Document) -> str:
    mirror = each["funnel"].get("mirror", {})
    lost = {
        name: count
        for name, count in sorted(mirror.items())
        if count and name not in {"eligible", "not_sampled", "compared", "candidate_failed"}
    }
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in lost.items())
    return said or "nothing lost"


_ROWS: dict[str, Callable[[_Document], str | Text]] = {
    "candidate": lambda each: str(each["candidate"]),
    "where": _where,
    "captures": _captures,
    "pairs": _pairs,
    "not compared": _funnel,
    "judge today": _judge,
    "e harm": _harm,
}


def _names(candidates: Iterable[_Document]) -> list[str]:
    """Return every metric that some candidate has, in the order of the first that has it."""
    return list(dict.fromkeys(metric["name"] for each in candidates for metric in each["metrics"]))


def _metric(each: _Document, name: str) -> Text:
    metric = next((one for one in each["metrics"] if one["name"] == name), None)
    if metric is None:
        return Text("not asked", style="dim")
    shown = verdict_text(metric["verdict"])
    if metric["estimate"] is not None:
        shown.append(f"  {figure(metric, metric['estimate'])}", style="default")
    if metric["low"] is not None:
        bounds = f"  {figure(metric, metric['low'])} … {figure(metric, metric['high'])}"
        shown.append(bounds, style="dim")
    return shown


def _why(candidates: Iterable[_Document]) -> Iterable[Text]:
    for each in candidates:
        yield Text(f"{each['name']}: ", style="dim").append(each["why"], style="default")
