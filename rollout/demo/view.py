"""The demo's live view: where the rollout is, the evidence, and the decisions as they fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rollout.demo.acts import Act
from rollout.demo.traffic import Tally

__all__ = ["act_view", "receipt_view"]

_COLOURS = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "no_data": "dim",
    "error": "red",
}
_NAMES = {"mirror": "shadow pairs", "noise": "noise floor", "live": "live answers"}


def act_view(
    number: int,
    act: Act,
    status: Mapping[str, Any] | None,
    transitions: Sequence[Mapping[str, Any]],
    tally: Tally,
    footer: str,
) -> RenderableType:
    """Return the whole screen of one act; ``status`` is the admin API's, once there is one."""
    parts: list[RenderableType] = [Text(act.story, style="italic"), Text()]
    if status is not None:
        parts += [_where(status), Text(), _metrics(status), Text(), _funnel(status)]
    parts += [_users(act, tally), Text(), _decisions(transitions)]
    return Panel(
        Group(*parts),
        title=f"[bold]Act {number}: {act.title}[/bold]",
        subtitle=footer,
        border_style="cyan",
        padding=(1, 2),
    )


def receipt_view(
    act: Act, transitions: Sequence[Mapping[str, Any]], verdict: str
) -> RenderableType:
    """Return the receipt of an act's decisions, for the end."""
    table = Table(title=f"{act.rollout}: {verdict}", title_justify="left", expand=True)
    for name in ("at", "decision", "weight", "why"):
        table.add_column(name, overflow="fold", ratio=6 if name == "why" else None)
    for each in transitions:
        table.add_row(
            _time(each["at"]),
            f"{each['event']} → {each['to_phase']}",
            f"{each['weight_before']:g}% → {each['weight_after']:g}%",
            each["reason"],
        )
    return table


def _where(status: Mapping[str, Any]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text(status["phase"], style="bold"),
        f"step {status['step']} of {status['steps']}",
        "candidate's share",
        ProgressBar(total=100, completed=status["weight"], width=30),
        f"{status['weight']:g}%",
    )
    return Group(grid, Text(status["why"], style="dim"))


def _metrics(status: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("guardrail", "verdict", "baseline → candidate", "bounds"):
        table.add_column(name, no_wrap=True)
    for name in ("pairs", "harm", "proof"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in status["metrics"]:
        verdict = each["verdict"]
        label = each["name"] + (" (signal)" if each["role"] == "signal" else "")
        bounds = "" if each["low"] is None else f"{_number(each, 'low')} … {_number(each, 'high')}"
        table.add_row(
            label,
            Text(verdict, style=_COLOURS.get(verdict, "")),
            "" if each["estimate"] is None else _number(each, "estimate"),
            bounds,
            str(each["n"]),
            f"{each['log10_e_harm']:.1f}/{status['rollback_at']:.1f}",
            f"{each['log10_e_non_inferior']:.1f}/{status['promote_at']:.1f}",
        )
    legend = "harm and proof of no harm: log10 of the e-value / where it is proven"
    return Group(table, Text(legend, style="dim italic"))


def _number(metric: Mapping[str, Any], which: str) -> str:
    value = float(metric[which])
    return f"{value:.3f} wins" if metric["scale"] == "win_rate" else f"{100 * value:+.2f} pp"


def _funnel(status: Mapping[str, Any]) -> RenderableType:
    lines = []
    for stream, outcomes in sorted(status["funnel"].items()):
        counts = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in sorted(outcomes.items()) if count
        )
        lines.append(Text(f"{_NAMES.get(stream, stream)}: {counts}", style="dim"))
    return Group(*lines)


def _users(act: Act, tally: Tally) -> RenderableType:
    text = Text(f"users: {tally.requests} requests, ")
    text.append(f"{tally.failed} failed", style="bold red" if tally.failed else "green")
    text.append(f", {tally.rollouts[act.rollout]} served by {act.rollout}")
    return text


def _decisions(transitions: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for each in transitions[-8:]:
        style = "bold red" if each["event"] == "rollback" else ""
        table.add_row(
            Text(_time(each["at"]), style="dim"),
            Text(f"{each['event']} → {each['to_phase']}", style=style),
            f"{each['weight_after']:g}%",
            Text(each["reason"], style=style),
        )
    return table


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S")  # noqa: DTZ006 - the viewer's own clock
