"""What ``coalmine rollout judging`` prints for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["judging_view", "print_judging"]

_Document = Mapping[str, Any]
_LEFT = frozenset({"segment", "stage", "asked because", "rubric", "hash"})


def print_judging(document: _Document) -> None:
    """Print the report on a rollout's judge."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(judging_view(document))


def judging_view(report: _Document) -> RenderableType:
    """Return the report as something rich can print."""
    head = Text(f"{report['name']} #{report['generation']}", style="bold")
    head.append(f"   the latest {report['pairs']:,} pairs", style="dim")
    return Group(
        head,
        *_missing(report["missing"]),
        *_position(report["position"]),
        *_stages(report["stages"]),
        *_scores(report["scores"]),
        *_length(report["length_controlled"]),
        *_rubrics(report["rubrics"]),
    )


def _missing(missing: _Document | None) -> Iterable[RenderableType]:
    if missing is None:
        return
    yield _title("Verdicts")
    table = _table("segment", "given", "missing", "share", "win rate", "all lost", "all won")
    for each in missing["counts"]:
        table.add_row(
            _segment(each),
            f"{each['given']:,}",
            f"{each['missing']:,}",
            _percent(each["share"]),
            _rate(each["win_rate"]),
            _rate(each["worst"]),
            _rate(each["best"]),
        )
    yield table
    if missing["inconclusive"]:
        yield Text(f"inconclusive: {missing['inconclusive']}", style="bold yellow")


def _position(positions: Iterable[_Document]) -> Iterable[RenderableType]:
    rows = list(positions)
    if not rows:
        return
    yield _title("Position, over pairs judged in both orders")
    table = _table("stage", "segment", "pairs", "first wins", "second wins", "bias", "inconsistent")
    for each in rows:
        table.add_row(
            each["stage"],
            _segment(each),
            f"{each['pairs']:,}",
            _percent(each["first_wins"]),
            _percent(each["second_wins"]),
            f"{each['bias']:+.1%}",
            _percent(each["inconsistent"]),
        )
    yield table


def _stages(stages: _Document) -> Iterable[RenderableType]:
    if not stages["asked"]:
        return
    yield _title("Who judged")
    table = _table("stage", "asked because", "pairs")
    for stage, reasons in stages["asked"].items():
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            table.add_row(stage, reason, f"{count:,}")
    yield table
    agreed = stages["agreement"]
    if agreed is None:
        return
    if agreed["agreed"] is None:
        yield Text("no pair has been audited yet", style="dim")
        return
    yield Text(
        f"the stages agree on {agreed['agreed']:.1%} of {agreed['audited']:,} audited pairs "
        f"({agreed['low']:.1%} to {agreed['high']:.1%}), on {agreed['overall']:.1%} of all"
    )


def _scores(points: Iterable[_Document]) -> Iterable[RenderableType]:
    rows = [each for each in points if each["segment"] is None]
    if not rows:
        return
    yield _title("Mean scores, oldest first; for trends only")
    for stage in sorted({each["stage"] for each in rows}):
        own = [each for each in rows if each["stage"] == stage]
        for arm in ("baseline", "candidate"):
            figures = "  ".join(f"{each[arm]:.1f}" for each in own)
            yield Text(f"{stage:<7}{arm:<11}{figures}")


def _length(length: _Document | None) -> Iterable[RenderableType]:
    if length is None:
        return
    yield _title("Length")
    yield Text(
        f"win rate {length['raw']:.3f}, at equal length {length['win_rate']:.3f} "
        f"({length['low']:.3f} to {length['high']:.3f}), from {length['pairs']:,} pairs; the "
        f"candidate writes {length['mean_difference']:+.0f} tokens. A diagnostic, nothing more."
    )


def _rubrics(rubrics: Iterable[_Document]) -> Iterable[RenderableType]:
    named = [each for each in rubrics if each["rubric"] is not None]
    if not named:
        return
    yield _title("Rubrics")
    table = _table("rubric", "hash", "judgments")
    for each in named:
        table.add_row(each["rubric"], each["hash"][:12], f"{each['judgments']:,}")
    yield table


def _title(text: str) -> RenderableType:
    return Group(Text(), Text(text, style="bold"))


def _segment(each: _Document) -> str:
    return "all" if each["segment"] is None else str(each["segment"])


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in _LEFT else "right", overflow="fold")
    return table
