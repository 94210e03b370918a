"""What ``plan`` and ``replay`` print for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["plan_view", "print_plan", "print_replay", "replay_view"]

_Document = Mapping[str, Any]

_SAME = {True: ("same", "green"), False: ("DIFFERS", "bold red"), None: ("facts gone", "yellow")}
_VALUE_CHARS = 60


def print_plan(document: _Document) -> None:
    """Print what a rollout will take."""
    _console().print(plan_view(document))


def print_replay(document: _Document) -> None:
    """Print which transitions the stored facts give again."""
    _console().print(replay_view(document))


def plan_view(plan: _Document) -> RenderableType:
    """Return a plan as something rich can print."""
    verdict = Text(f"{plan['name']}", style="bold")
    verdict.append(f"   route {plan['route']}, candidate {plan['candidate']}   ", style="dim")
    if plan["can_conclude"]:
        verdict.append("can conclude", style="bold green")
    else:
        verdict.append("can't conclude", style="bold red")
    return Group(
        verdict,
        *_assumed(plan["assumptions"]),
        Text(),
        _metrics(plan["metrics"]),
        Text(),
        _shadow(plan["shadow"]),
        Text(),
        _steps(plan["steps"]),
        *_total(plan["total"]),
        *_warnings(plan["warnings"]),
    )


def replay_view(replay: _Document) -> RenderableType:
    """Return a replay as something rich can print."""
    label, style = _SAME[replay["same"]]
    head = Text(f"{replay['name']} #{replay['generation']}", style="bold")
    head.append(f"   {replay['facts']:,} facts folded again   ", style="dim")
    head.append(label, style=style)
    table = _table("", "at", "event", "by", "facts", "", "why")
    lines: list[RenderableType] = []
    for each in (*replay["transitions"], replay["state"]):
        label, style = _SAME[each["same"]]
        at = datetime.fromtimestamp(each["at"], UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(
            str(each["number"]),
            at,
            each["event"],
            each["actor"],
            str(each["last_seq"]),
            Text(label, style=style),
            each["why"],
        )
        lines += [_difference(each["number"], one) for one in each["differences"]]
    return Group(head, Text(), table, *lines)


def _difference(number: int, each: _Document) -> Text:
    line = Text(f"  {number}: {each['where']}: ", style="dim")
    line.append(f"stored {_short(each['stored'])}", style="red")
    return line.append(f", the facts give {_short(each['recomputed'])}", style="default")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE_CHARS else f"{text[:_VALUE_CHARS]}…"


def _assumed(each: _Document) -> Iterable[Text]:
    traffic = each["requests_per_second"]
    rate = "unknown" if traffic is None else f"{traffic:.3g} requests/s ({each['traffic_from']})"
    yield Text("traffic  ", style="dim").append(rate, style="default")
    rest = f"a baseline that fails in {each['failure_rate']:.2%}, {each['tie_share']:.0%} ties"
    if each["known"]:
        rest += f"; measured on the route: {', '.join(sorted(each['known']))}"
    yield Text("assumed  ", style="dim").append(rest, style="default")


def _metrics(metrics: Iterable[_Document]) -> Table:
    table = _table(
        "metric", "margin", "pairs to prove", "in 80%", "worse by", "pairs to find", "in 80%",
        "found live", "users till then",
    )  # fmt: skip
    for each in metrics:
        name = each["name"] + ("" if each["role"] == "guardrail" else " (signal)")
        live = each["live_detected"]
        table.add_row(
            name,
            f"{each['margin']:g}",
            *_need(each["prove"]),
            f"{each['regression']:g}",
            *_need(each["detect"]),
            "" if live is None else f"{live:.0%}",
            _count(each["live_users"]) if live else "",
        )
    return table


def _shadow(shadow: _Document) -> Table:
    table = _table("all guardrails at the same moment", "median", "in 80%")
    for label, name in (
        ("pairs", "pairs"),
        ("hours", "hours"),
        ("requests on the route", "requests"),
        ("mirrored requests", "mirrored"),
        ("judge calls", "judge_calls"),
        ("dollars for the judge", "dollars"),
    ):
        need = shadow[name]
        form = _hours if name in {"hours", "dollars"} else _count
        table.add_row(label, form(need["median"]), form(need["most"]))
    table.add_row("proven within the step's limits", f"{shadow['concluded']:.0%}", "")
    return table


def _steps(steps: Iterable[_Document]) -> Table:
    table = _table("step", "", "requests", "by the candidate", "hours")
    for each in steps:
        table.add_row(
            str(each["number"]),
            each["label"],
            _count(each["requests"]),
            _count(each["candidate_requests"]),
            _hours(each["hours"]),
        )
    return table


def _total(total: _Document) -> Iterable[Text]:
    line = Text("to 100%: ", style="bold")
    line.append(f"{_count(total['requests'])} requests, ", style="default")
    line.append(f"{_count(total['candidate_requests'])} of them by the candidate, ")
    line.append(f"{_hours(total['hours'])} hours, {_count(total['judge_calls'])} judge calls, ")
    line.append(f"${_hours(total['dollars'])}")
    yield line


def _warnings(warnings: Iterable[_Document]) -> Iterable[Text]:
    for each in warnings:
        style = "bold red" if each["blocking"] else "yellow"
        line = Text("blocks   " if each["blocking"] else "warning  ", style=style)
        yield line.append(f"{each['field']}: {each['message']}", style="default")


def _need(need: _Document | None) -> tuple[str, str]:
    return ("", "") if need is None else (_count(need["median"]), _count(need["most"]))


def _count(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _hours(value: float | None) -> str:
    return "?" if value is None else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    words = {"metric", "event", "by", "why", "step", "at", "", "all guardrails at the same moment"}
    for name in columns:
        table.add_column(name, justify="left" if name in words else "right", overflow="fold")
    return table


def _console() -> Console:
    console = Console(highlight=False)
    # Into a pipe or a file there is no width: long lines are better than cut ones.
    return console if console.is_terminal else Console(highlight=False, width=160)
