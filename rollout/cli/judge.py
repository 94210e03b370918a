"""``coalmine judge``: whether the judge can be trusted, and what it was asked to find out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.figures import ago
from rollout.cli.options import Json, Token, Url

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Look after the judge.",
)

_Document = Mapping[str, Any]

_STATES = {
    "passed": "its verdicts count",
    "quarantined": "QUARANTINED: its verdicts do not count",
    "unexamined": "not examined yet: its verdicts widen nothing",
    "unwatched": "nobody examines it",
}


@app.callback()
def judge() -> None:
    """Look after the judge."""


@app.command()
def health(
    rollout: Annotated[
        str | None,
        typer.Argument(help="Name of a rollout; default: all under way.", show_default=False),
    ] = None,
    url: Url = None,
    token: Token = None,
    *,
    as_json: Json = False,
) -> None:
    """Say whether the judge can be trusted: control pairs, anchors, biases, quarantine.

    Ends with status 1 where a judge is quarantined.
    """
    with AdminClient(url or default_url(), token) as client:
        if rollout is None:
            document = client.get("/judge/health")
            reports = document["rollouts"]
        else:
            document = client.get(f"/rollouts/{segment(rollout)}/judge-health")
            reports = [document]
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        for report in reports:
            _print(report, time.time())
        if not reports:
            typer.echo("no rollout is under way")
    if any(report["state"] == "quarantined" for report in reports):
        raise typer.Exit(1)


def _print(report: _Document, now: float) -> None:
    console = Console(highlight=False)
    console.print(
        f"{report['rollout']} #{report['generation']} on {report['route']}: the judge is "
        f"{report['state']}; {_STATES[report['state']]}",
        markup=False,
    )
    for line in _lines(report, now):
        console.print(f"  {line}", markup=False)
    if report["controls"]:
        table = Table("controls", "asked", "passed", "failed", "no verdict", box=None)
        for each in report["controls"]:
            counts = (each[name] for name in ("asked", "passed", "failed", "no_verdict"))
            table.add_row(each["kind"], *map(str, counts))
        console.print(table)
    if any(each["position"]["n"] for each in report["biases"]):
        table = Table("bias", "pairs", "first place", "length", "turns with the order", box=None)
        for each in report["biases"]:
            table.add_row(
                each["segment"] or "all",
                str(each["position"]["n"]),
                *(_interval(each[name]) for name in ("position", "length", "inconsistent")),
            )
        console.print(table)


def _lines(report: _Document, now: float) -> list[str]:
    """Return what is to be said in sentences."""
    lines = []
    if report["reason"]:
        lines.append(f"window {report['window']}: {report['reason']}")
    if report["windows"]:
        last = report["windows"][0]
        came = last["result"] or "is being examined"
        when = ago(last["finished_at"] or last["opened_at"], now)
        detail = f" ({last['reason']})" if last["result"] == "not_run" else ""
        lines.append(f"last window {last['window']}: {came} {when}{detail}")
        lines.append(
            f"{report['passes']} windows passed, {report['fails']} failed; "
            f"{report['unconfirmed']} verdicts on trial, {report['dropped']} dropped"
        )
    anchors = report["anchors"]
    if anchors is not None:
        agreed = "judged for the first time"
        if anchors["agreement"] is not None:
            agreed = f"{anchors['agreed']} of {anchors['compared']} as at first"
        drift = "; it has DRIFTED" if anchors["drifted"] else ""
        lines.append(f"anchors, {ago(anchors['at'], now)}: {agreed}{drift}")
        if anchors["former"] is not None:
            lines.append(f"the judge before it agrees on {anchors['former']:.0%} of the anchors")
    noise = report["noise"]
    if noise is not None:
        alarm = "; ALARM: distrust the evaluator" if noise["alarm"] else ""
        lines.append(
            f"baseline against itself: win rate {_interval(noise['win_rate'])} over "
            f"{noise['pairs']} pairs{alarm}"
        )
    return lines


def _interval(estimate: _Document) -> str:
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:+.2f} ({estimate['low']:+.2f} to {estimate['high']:+.2f})"
