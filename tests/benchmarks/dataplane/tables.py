"""The tables that the benchmarks print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataplane.goals import METRICS, Round, summary
from rich.console import Console
from rich.table import Table

__all__ = ["print_goals", "print_loads", "print_measurements"]


def number(value: float) -> str:
    """Return a number short enough for a table."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def print_loads(loads: Mapping[str, Mapping[str, str]], out: Console) -> None:
    """Print how much load each subject gets; subjects with the same load share a line."""
    lines: dict[str, list[str]] = {}
    for subject, load in loads.items():
        lines.setdefault(", ".join(load.values()), []).append(subject)
    for line, names in lines.items():
        out.print(f"load: {line}: {', '.join(names)}", highlight=False)


def print_measurements(rounds: Sequence[Round], out: Console) -> None:
    """Print the medians by metric and subject."""
    names = list(dict.fromkeys(name for one in rounds for name in one))
    table = Table(
        title=f"medians; rounds: {len(rounds)}; in brackets: (largest - smallest) / median",
        caption="ours: the gateway's process; the worker that mirrors and judges runs elsewhere",
    )
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for metric, unit in METRICS.items():
        cells = []
        for name in names:
            values = [one[name][metric] for one in rounds if metric in one.get(name, {})]
            found = summary(values) if values else None
            spread = f" ({found['spread']:.0%})" if found and len(values) > 1 else ""
            cells.append(f"{number(found['value'])}{spread}" if found else "")
        table.add_row(f"{metric.removesuffix('_us').replace('_', ' ')}, {unit}", *cells)
    out.print(table)


def print_goals(document: Mapping[str, Any], out: Console) -> None:
    """Print the report's goals, and what it notes beside them."""
    table = Table(title="goals")
    for column in ("goal", "value", "limit", "spread", "met", "note"):
        table.add_column(column)
    for row in document["results"]:
        if row["goal"] is None:
            continue
        value = "" if row["value"] is None else f"{number(row['value'])} {row['unit']}"
        met = {True: "yes", False: "[red]NO[/red]", None: ""}[row["met"]]
        spread = "" if "spread" not in row else f"{row['spread']:.0%}"
        table.add_row(row["name"], value, row["goal"], spread, met, row.get("note", ""))
    out.print(table)
    for row in document["results"]:
        if row["goal"] is None and row["unit"] == "ratio" and "note" in row:
            line = f"{row['name']}: {number(row['value'])} ({row['note']})"
            out.print(line, highlight=False)
