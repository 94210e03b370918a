"""What the command line prints for people: tables and sentences from the API's documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rollout.cli.figures import ago, duration, e_value
from rollout.cli.render_people import people

__all__ = [
    "console",
    "explanation_view",
    "figure",
    "one_line",
    "phase_text",
    "print_explanation",
    "print_list",
    "print_status",
    "print_tokens",
    "status_view",
    "transition_line",
    "verdict_text",
]

_Document = Mapping[str, Any]

_PHASES = {
    "succeeded": "bold green",
    "paused": "bold yellow",
    "rolling_back": "bold red",
    "rolled_back": "bold red",
    "aborted": "bold red",
    "superseded": "dim",
    "pending": "dim",
}
_VERDICTS = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "no_data": "dim",
    "error": "bold magenta",
}
_NEEDS_SHOWN = 5
_FUNNEL_FIRST = ("eligible", "compared", "checked")


def print_list(document: _Document, *, now: float) -> None:
    """Print rollouts, one a line."""
    if not document["rollouts"]:
        console().print("no rollouts yet; apply one with `coalmine rollout apply FILE`")
        return
    table = _table("rollout", "route", "candidate", "phase", "step", "weight", "changed", "why")
    for each in document["rollouts"]:
        table.add_row(
            f"{each['name']} #{each['generation']}",
            each["route"],
            each["candidate"],
            phase_text(each["phase"]),
            f"{each['step']}/{each['steps']}",
            _percent(each["weight"]),
            ago(each["updated_at"], now),
            Text(each["why"]),
        )
    console().print(table)


def print_status(status: _Document, *, now: float) -> None:
    """Print where a rollout is, why, what is known, and what is next."""
    console().print(status_view(status, now=now))


def status_view(status: _Document, *, now: float) -> RenderableType:
    """Return a rollout's status as something rich can print."""
    return Group(
        _head(status, now),
        Text(),
        _metrics(status["metrics"]),
        _together(status),
        *people(status["metrics"]),
        Text(),
        *_funnel(status["funnel"]),
    )


def print_explanation(document: _Document, *, now: float) -> None:
    """Print why a rollout is where it is, with the receipt of what brought it there."""
    console().print(explanation_view(document, now=now))


def explanation_view(document: _Document, *, now: float) -> RenderableType:
    """Return the explanation as something rich can print."""
    parts: list[RenderableType] = [status_view(document, now=now)]
    last = document["decided_by"]
    if last is not None:
        receipt = last["receipt"]
        parts += [
            Text(),
            Text(f"Receipt of transition {last['number']}", style="bold"),
            transition_line(last),
            Text(f"spec {receipt.get('spec_hash', '')[:12]}, ", style="dim").append(
                f"candidate revision {str(receipt.get('candidate_revision'))[:12]}, "
                f"evidence up to {receipt.get('last_seq', 0)}"
            ),
            *_heaviest(document["name"], receipt.get("heaviest_pairs") or {}),
        ]
    return Group(*parts)


def one_line(rollout: _Document) -> str:
    """Return a rollout in one line, as printed after an operation."""
    return (
        f"{rollout['name']} #{rollout['generation']} is {rollout['phase']}, "
        f"step {rollout['step']} of {rollout['steps']}, weight {_percent(rollout['weight'])}, "
        f"revision {rollout['revision']}: {rollout['why']}"
    )


def transition_line(each: _Document) -> Text:
    """Return a transition in one line."""
    style = "bold red" if each["event"] in {"rollback", "abort"} else ""
    at = datetime.fromtimestamp(each["at"], UTC).astimezone().strftime("%H:%M:%S")
    line = Text(f"{at}  ", style="dim")
    line.append(
        f"{each['event']} → {each['to_phase']}", style=style or _PHASES.get(each["to_phase"], "")
    )
    before, after = each["weight_before"], each["weight_after"]
    if before != after:
        line.append(f"  {_percent(before)} → {_percent(after)}", style="cyan")
    line.append(f"  {each['reason']}", style="")
    line.append(f"  ({each['actor']})", style="dim")
    return line


def print_tokens(document: _Document, *, now: float) -> None:
    """Print the tokens, never their secrets."""
    table = _table("name", "role", "created", "last used", "state")
    for each in document["tokens"]:
        revoked = each["revoked_at"] is not None
        table.add_row(
            each["name"],
            f"{each['role']}, expert" if each.get("expert") else each["role"],
            ago(each["created_at"], now),
            "never" if each["last_used_at"] is None else ago(each["last_used_at"], now),
            Text("revoked", style="red") if revoked else Text("valid", style="green"),
        )
    console().print(table)


def console() -> Console:
    """Return the console to print to."""
    terminal = Console(highlight=False)
    # Into a pipe or a file there is no width: long lines are better than cut ones.
    return terminal if terminal.is_terminal else Console(highlight=False, width=160)


def _head(status: _Document, now: float) -> RenderableType:
    title = Text(f"{status['name']} #{status['generation']}", style="bold")
    title.append(f"   route {status['route']}, ", style="dim")
    title.append(f"{status['baseline'] or '?'} → {status['candidate']}")
    where = Text("phase  ", style="dim")
    where.append_text(phase_text(status["phase"]))
    where.append(f"   step {status['step']} of {status['steps']}")
    current = status["plan"][status["step"] - 1]
    where.append(f" ({current['label']})   weight {_percent(status['weight'])}")
    where.append(f"   revision {status['revision']}", style="dim")
    lines = [title, where, *_progress(status["progress"])]
    lines.append(Text("why    ", style="dim").append(status["why"], style="default"))
    lines.append(Text("next   ", style="dim").append(status["next"], style="default"))
    lines += _needs(status["needs"])
    if status["time_to_zero"] is not None:
        lines.append(Text(f"       time to zero {status['time_to_zero']:.3f} s", style="dim"))
    if status["finished_at"] is not None:
        lines.append(Text(f"       finished {ago(status['finished_at'], now)}", style="dim"))
    return Group(*lines)


def _needs(needs: Sequence[str]) -> list[Text]:
    shown = [Text(f"       needs {need}", style="dim") for need in needs[:_NEEDS_SHOWN]]
    if len(needs) > _NEEDS_SHOWN:
        shown.append(Text(f"       and {len(needs) - _NEEDS_SHOWN} more", style="dim"))
    return shown


def _progress(progress: _Document | None) -> list[Text]:
    if progress is None:
        return []
    parts = []
    if progress["min_pairs"]:
        parts.append(f"{progress['pairs']} of {progress['min_pairs']} pairs")
    if progress["min_samples"]:
        parts.append(
            f"{progress['candidate_requests']} of {progress['min_samples']} candidate requests"
        )
    at_least, at_most = progress["min_duration"], progress["max_duration"]
    spent = duration(progress["elapsed"])
    if at_least:
        spent += f" of at least {duration(at_least)}"
    if at_most is not None:
        spent += f", at most {duration(at_most)}"
    parts.append(spent)
    return [Text("so far ", style="dim").append(", ".join(parts), style="default")]


def _metrics(metrics: Sequence[_Document]) -> Table:
    table = _table(
        "metric", "verdict", "estimate", "bounds", "pairs", "e harm", "e ok", "live", "why"
    )
    for each in metrics:
        name = each["name"] + ("" if each["role"] == "guardrail" else " (signal)")
        if each["critical"]:
            name += " !"
        bounds = ""
        if each["low"] is not None:
            bounds = f"{figure(each, each['low'])} … {figure(each, each['high'])}"
        table.add_row(
            name,
            verdict_text(each["verdict"]),
            "" if each["estimate"] is None else figure(each, each["estimate"]),
            bounds,
            str(each["n"]),
            e_value(each["log10_e_harm"]),
            e_value(each["log10_e_non_inferior"]),
            _live(each["live"]),
            Text(each["reason"]),
        )
    return table


def _live(live: _Document | None) -> str:
    if live is None or not live["requests"]:
        return ""
    return f"{100 * live['baseline_rate']:.2g}% → {100 * live['candidate_rate']:.2g}%"


def verdict_text(verdict: str) -> Text:
    """Return a verdict in its colour."""
    return Text(verdict, style=_VERDICTS.get(verdict, ""))


def figure(metric: _Document, value: float) -> str:
    """Return an estimate or a bound of a metric in the metric's scale."""
    if metric["scale"] == "win_rate":
        return f"{value:.3f}"
    return f"{100 * value:+.2f} pp"


def _together(status: _Document) -> Text:
    line = Text("all guardrails together: ", style="dim")
    line.append(f"e harm {e_value(status['log10_e_harm'])}", style="default")
    line.append(f", rolled back at {e_value(status['rollback_at'])}; ")
    line.append(f"each needs e ok {e_value(status['promote_at'])} to go on")
    return line


def _funnel(funnel: Mapping[str, Mapping[str, int]]) -> Iterable[Text]:
    for stream, outcomes in sorted(funnel.items()):
        first = [name for name in _FUNNEL_FIRST if outcomes.get(name)]
        rest = sorted(name for name, count in outcomes.items() if count and name not in first)
        counts = ", ".join(f"{outcomes[name]} {name.replace('_', ' ')}" for name in first + rest)
        yield Text(f"{stream:<7}", style="dim").append(counts or "nothing yet", style="default")


def _heaviest(name: str, pairs: Mapping[str, Sequence[int]]) -> Iterable[Text]:
    for metric, ids in sorted(pairs.items()):
        if ids:
            shown = ", ".join(str(each) for each in ids)
            yield Text(f"heaviest pairs for {metric}: ", style="dim").append(
                f"{shown}  (GET /api/v1/rollouts/{name}/pairs?id={ids[0]})"
            )


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    right = {"pairs", "e harm", "e ok", "weight", "step"}
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold",
            ratio=1 if name == "why" else None,
            no_wrap=name != "why",
        )
    return table


def phase_text(phase: str) -> Text:
    """Return a phase in its colour."""
    return Text(phase, style=_PHASES.get(phase, "bold cyan"))


def _percent(value: float) -> str:
    return f"{value:g}%"
