"""The report: goals first, then what every rule came to in every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from decisions.plots import bars, curves
from decisions.streams import Floats
from decisions.summary import OURS, Summary
from rich.console import Console
from rich.table import Table

__all__ = ["document", "print_goals", "print_rules", "write_plots"]

_HEADINGS = ("case", "rule", "rolled back", "observations, median / 80%", "users served, median")
_SHARE = "share of runs"

_Groups = dict[str, dict[str, float | None]]


def document(
    goals: Sequence[Mapping[str, Any]], summaries: Sequence[Summary], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the benchmark's JSON document."""
    measured = [
        {
            "name": f"{each.world.name}: {each.rule}: {name}",
            "value": value if value is None else round(value, 4),
            "unit": unit,
            "goal": None,
            "met": None,
            "runs": len(each.stopped),
        }
        for each in summaries
        for name, (value, unit) in each.numbers().items()
    ]
    return {"environment": dict(environment), "results": [*map(dict, goals), *measured]}


def print_goals(goals: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print the goals."""
    table = Table(title="goals", title_justify="left")
    for heading in ("goal", "value", "spread", "limit", "met"):
        table.add_column(heading, justify="left" if heading == "goal" else "right")
    for row in goals:
        form = ".4f" if row["unit"] == _SHARE else ",.0f"
        numbers = [row["value"], *row["spread"]]
        value, low, high = ("never" if one is None else format(one, form) for one in numbers)
        met = {True: "yes", False: "[red]NO[/red]", None: ""}[row["met"]]
        goal = row["goal"] or ""
        table.add_row(row["name"], f"{value} {row['unit']}", f"{low} to {high}", goal, met)
    out.print(table)


def print_rules(summaries: Sequence[Summary], out: Console) -> None:
    """Print every rule in every case."""
    table = Table(title="the same requests, decided by each rule", title_justify="left")
    for heading in (*_HEADINGS, "requests until 100%", "judge calls"):
        table.add_column(heading, justify="left" if heading in _HEADINGS[:2] else "right")
    before = ""
    for each in summaries:
        found = each.numbers()
        if each.world.name != before:
            table.add_section()
        unit = "pairs" if "pairs until rollback, median" in found else "requests"
        middle, most = (found.get(f"{unit} until rollback, {end}") for end in ("median", "80%"))
        table.add_row(
            each.world.name if each.world.name != before else "",
            each.rule,
            f"{each.rate:.1%}",
            ""
            if middle is None or most is None
            else f"{_in_words(middle)} / {_in_words(most)} {unit}",
            _in_words(found.get("users served, median")),
            _in_words(found.get("requests until 100%, median")),
            _in_words(found.get("judge calls, median")),
        )
        before = each.world.name
    out.print(table)


def write_plots(
    folder: Path, summaries: Sequence[Summary], detection: Mapping[str, Floats]
) -> list[Path]:
    """Write the plots as SVG and return where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = list(dict.fromkeys(each.rule for each in summaries))
    false: _Groups = {}
    missed: _Groups = {}
    served: _Groups = {}
    for each in summaries:
        group = each.world.name
        if each.world.healthy:
            false.setdefault(group, dict.fromkeys(rules))[each.rule] = each.rate
        else:
            missed.setdefault(group, dict.fromkeys(rules))[each.rule] = 1 - each.rate
            users = each.numbers()["users served, median"][0]
            served.setdefault(group, dict.fromkeys(rules))[each.rule] = users
    plots = {
        "false-rollbacks": bars("Healthy candidates that were rolled back", false, "share"),
        "missed": bars("Regressions that were shipped", missed, "share"),
        "users-served": bars(
            "Requests answered by a worse candidate, median (logarithmic)",
            served,
            "requests",
            log=True,
        ),
        "detection": curves(
            f"{OURS}: share of regressions proven in shadow", detection, "pairs", end=1500
        ),
    }
    written = []
    for name, text in plots.items():
        path = folder / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _in_words(entry: tuple[float | None, str] | None) -> str:
    if entry is None:
        return ""
    return "never" if entry[0] is None else f"{entry[0]:,.0f}"
