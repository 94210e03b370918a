"""How people's labels look on a terminal: the claim, the figures beside it, queue and agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["people", "print_agreement", "print_review_status"]

_Document = Mapping[str, Any]
_LABELS = {"0": "baseline", "0.5": "neither", "1": "candidate"}


def people(metrics: Sequence[_Document]) -> Iterable[Text]:
    """Yield what the labels of each metric that has some allow to say."""
    for each in metrics:
        labels = each.get("labels")
        if labels is not None:
            yield from claim_lines(labels)


def claim_lines(labels: _Document) -> list[Text]:
    """Return the claim, and the raw and the human-only figures beside it."""
    first = Text("people ", style="dim").append(labels["claim"], style="default")
    parts = []
    if labels["estimate"] is not None:
        parts.append(f"corrected {labels['estimate']:.3f}")
    for name in ("judge", "people"):
        estimate, low = labels[f"{name}_estimate"], labels[f"{name}_low"]
        if estimate is not None:
            parts.append(f"{name} alone {estimate:.3f}, at least {low:.3f}")
    return [first, Text(f"       win rate: {'; '.join(parts)}", style="dim")] if parts else [first]


def print_review_status(document: _Document) -> None:
    """Print a rollout's review queue and what its labels say."""
    items, quota = document["items"], document["quota"]
    lines: list[RenderableType] = [
        Text(f"{document['name']} #{document['generation']}", style="bold"),
        Text("items  ", style="dim").append(
            ", ".join(f"{count} {state}" for state, count in items.items()), style="default"
        ),
        Text("drawn  ", style="dim").append(
            f"{document['sources']['random']} at random, "
            f"{document['sources']['disagreement']} where judges disagree",
            style="default",
        ),
        Text("quota  ", style="dim").append(
            f"{quota['used']} of {quota['weekly']} in seven days, "
            f"{100 * quota['considered']:.0f}% of pairs considered",
            style="default",
        ),
        Text("people ", style="dim").append(
            f"{document['labels']} labels, {document['reviews']} verdicts by "
            f"{document['reviewers']} reviewers",
            style="default",
        ),
    ]
    if document["open_for_experts"]:
        lines.append(Text(f"       {document['open_for_experts']} wait for an expert"))
    if document["evidence"] is not None:
        lines += claim_lines(document["evidence"])
    _console().print(Group(*lines))


def print_agreement(document: _Document) -> None:
    """Print how far the judge and people agree, and people among each other."""
    console = _console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("segment", "items", "agreed", "kappa", "AC1"):
        table.add_column(name, justify="left" if name == "segment" else "right")
    for each in document["judge_and_people"]:
        table.add_row(
            each["segment"] or "all",
            str(each["items"]),
            _number(each["observed"], percent=True),
            _number(each["cohen_kappa"]),
            _number(each["gwet_ac1"]),
        )
    console.print(table)
    overall = document["judge_and_people"][0]
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    grid.add_column("judge \\ people")
    for name in _LABELS.values():
        grid.add_column(name, justify="right")
    for judge, shown in _LABELS.items():
        counts = [str(overall["confusion"].get(judge, {}).get(label, 0)) for label in _LABELS]
        grid.add_row(shown, *counts)
    console.print(grid)
    among, scores, harms = document["people"], document["scores"], document["harms"]
    alpha = _number(among["krippendorff_alpha"])
    lines = [
        f"among people: Krippendorff's alpha {alpha} over {among['items']} items of several people",
        f"judge's scores: Spearman {_number(scores['spearman'])} over {scores['items']} items",
    ]
    if harms["labels"]:
        lines.append(
            f"harms marked: {harms['harms']} of {harms['labels']} labels drawn at random; "
            f"at most {100 * harms['upper']:.1f}% of pairs"
        )
    console.print(Text("\n".join(lines)))


def _number(value: float | None, *, percent: bool = False) -> str:
    if value is None:
        return "?"
    return f"{100 * value:.0f}%" if percent else f"{value:.2f}"


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)
