"""The reward-hacking panel's lines: what a figure says, and when it has moved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rollout.evidence import MAX_SEGMENTS
from rollout.panel_metrics import PanelMetric

__all__ = [
    "ALPHA",
    "Line",
    "Seen",
    "Source",
    "Status",
    "both_of",
    "contribution",
    "difference_of",
    "halved",
    "scaled_margin",
    "segments_of",
    "shown_change",
    "status_of",
    "value_of",
]

ALPHA = 0.05
"""Each interval misses with this probability, by itself: of many, one in twenty may."""

Source = Literal["pairs", "live"]
Status = Literal["moved", "leaning", "steady", "unclear", "no_data"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One finished pair, or one live answer, as the panel looks at it.

    ``checks`` is what the worker stored, ``{check: {arm: finding}}``; ``cluster`` the user.
    """

    id: int
    segment: str | None
    cluster: str | None
    checks: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure, overall (``segment`` is ``None``) or in a segment.

    ``before`` and ``after`` are shares or mean amounts. ``change``, ``low`` and ``high`` are on the
    scale of ``margin``: an absolute change of a share, a relative change of an amount. ``n`` counts
    pairs, or the candidate's live answers. ``observations`` is what the interval rests on: users
    whose pairs are near each other count once.
    """

    metric: PanelMetric
    segment: str | None
    status: Status
    before: float | None = None
    after: float | None = None
    n: int = 0
    observations: int = 0
    change: float | None = None
    low: float | None = None
    high: float | None = None


def contribution(metric: PanelMetric, seen: Seen) -> float | None:
    """Return how far one pair moves a figure, in [-1, 1]; ``None`` where it says nothing."""
    both = both_of(metric, seen)
    return None if both is None else difference_of(metric, both)


def segments_of(known: set[str], segment: str | None) -> tuple[str | None, ...]:
    """Return the rows that a pair counts in; a segment beyond the most counts overall only."""
    if segment is None:
        return (None,)
    if segment not in known and len(known) >= MAX_SEGMENTS:
        return (None,)
    known.add(segment)
    return None, segment


def both_of(metric: PanelMetric, seen: Seen) -> tuple[float, float] | None:
    """Return what both arms' answers say, baseline first; `None` where one says nothing."""
    findings = seen.checks.get(metric.name) or {}
    before = value_of(metric, findings.get("baseline"))
    after = value_of(metric, findings.get("candidate"))
    return None if before is None or after is None else (before, after)


def value_of(metric: PanelMetric, finding: Mapping[str, Any] | None) -> float | None:
    """Return what one answer says: 0 or 1 for a rate, the check's value for an amount."""
    if finding is None:
        return None
    if metric.kind == "amount":
        value = finding.get("value")
        return None if value is None else float(value)
    return {"pass": 0.0, "fail": 1.0}.get(str(finding.get("outcome")))


def difference_of(metric: PanelMetric, both: tuple[float, float]) -> float:
    """Return what a pair moves the figure by, in [-1, 1]: of amounts (c - b) / (c + b)."""
    before, after = both
    if metric.kind == "rate":
        return after - before
    return (after - before) / (after + before) if after + before > 0 else 0.0


def scaled_margin(metric: PanelMetric) -> float:
    """Return the margin on the scale of a pair's difference: a ratio of 1 + m is m / (2 + m)."""
    return metric.margin if metric.kind == "rate" else halved(metric.margin)


def halved(change: float) -> float:
    """Turn a relative change into a difference of a pair."""
    return change / (2 + change)


def shown_change(metric: PanelMetric, difference: float) -> float | None:
    """Turn a mean difference into what is shown: of an amount, the relative change.

    ``None`` where that has no bound.
    """
    if metric.kind == "rate":
        return difference
    return 2 * difference / (1 - difference) if difference < 1 else None


def status_of(mean: float, low: float, high: float, margin: float) -> Status:
    """Return what an interval says of a margin, all on the scale of a pair's difference."""
    if low > margin or high < -margin:
        return "moved"
    if -margin <= low and high <= margin:
        return "steady"
    return "leaning" if abs(mean) > margin else "unclear"
