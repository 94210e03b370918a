"""The reward-hacking panel: each figure before (baseline) and after (candidate), and its interval.

Pure: checked pairs in, lines out. Pairs compare both answers to one request; their intervals are
confidence sequences (see :mod:`rollout.statistics.confidence`) that hold at all looks together as
long as every pair of the rollout is read; over the newest pairs only they hold at one look. Live
answers are two independent samples, and their intervals hold at one look. Each interval holds at
95% by itself: of the many that a panel shows, one in twenty may miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any, Literal

from rollout.clustering import Counted, OpenCluster, counts_first, gathered
from rollout.evidence import MAX_SEGMENTS
from rollout.panel_metrics import PANEL, PanelMetric
from rollout.statistics.clusters import ClusterMeans
from rollout.statistics.combine import log_threshold
from rollout.statistics.confidence import mean_bounds
from rollout.statistics.two_samples import LogMoments, newcombe_bounds, ratio_change_bounds

__all__ = ["ALPHA", "Line", "LivePanel", "PairPanel", "Seen", "Source", "Status", "contribution"]

ALPHA = 0.05
Source = Literal["pairs", "live"]
Status = Literal["moved", "leaning", "steady", "unclear", "no_data"]
Clusters = Literal["mean", "first", "none"]

_LATTICE = 64


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
    both = _both(metric, seen)
    return None if both is None else _difference(metric, both)


@dataclass(slots=True)
class _Sums:
    n: int = 0
    before: float = 0.0
    after: float = 0.0


@dataclass(slots=True)
class PairPanel:
    """Collects pairs in the order of their ids. ``clusters`` is the spec's rule for users."""

    clusters: Clusters = "mean"
    _sums: dict[tuple[str, str | None], _Sums] = field(default_factory=dict)
    _counts: dict[tuple[str, str | None], dict[int, float]] = field(default_factory=dict)
    _segments: set[str] = field(default_factory=set)
    _open: tuple[OpenCluster, ...] = ()
    _seen: ClusterMeans | None = None
    _number: int = 0

    def add(self, seen: Seen) -> None:
        """Take one pair in."""
        self._number += 1
        segments = _segments(self._segments, seen.segment)
        differences: dict[str, float] = {}
        for metric in PANEL:
            both = _both(metric, seen)
            if both is None:
                continue
            differences[metric.name] = _difference(metric, both)
            for segment in segments:
                sums = self._sums.setdefault((metric.name, segment), _Sums())
                sums.n += 1
                sums.before += both[0]
                sums.after += both[1]
        pair = (seen.segment, differences)
        for segment, said in self._counted(seen.cluster, pair):
            for name, value in said.items():
                for each in _segments(self._segments, segment):
                    _count(self._counts.setdefault((name, each), {}), value)

    def lines(self) -> list[Line]:
        """Return every figure, overall first."""
        return [
            self._line(metric, segment)
            for segment in (None, *sorted(self._segments))
            for metric in PANEL
        ]

    def _counted(self, cluster: str | None, pair: Counted) -> list[Counted]:
        match self.clusters:
            case "mean":
                self._open, counted = gathered(
                    self._open, cluster=cluster, number=self._number, pair=pair
                )
                return counted
            case "first":
                self._seen, counted = counts_first(self._seen, cluster=cluster, pair=pair)
                return counted
            case _:
                return [pair]

    def _line(self, metric: PanelMetric, segment: str | None) -> Line:
        key = (metric.name, segment)
        sums, counts = self._sums.get(key), self._counts.get(key)
        if sums is None:
            return Line(metric, segment, "no_data")
        before, after = sums.before / sums.n, sums.after / sums.n
        if not counts:
            return Line(metric, segment, "unclear", before, after, sums.n)
        values = [(place / _LATTICE, weight) for place, weight in sorted(counts.items())]
        total = sum(weight for _, weight in values)
        mean = sum(value * weight for value, weight in values) / total
        low, high = mean_bounds(values, log_threshold(ALPHA, 2))
        status = _status(mean, low, high, _scaled(metric))
        shown = (_shown(metric, value) for value in (mean, low, high))
        return Line(metric, segment, status, before, after, sums.n, round(total), *shown)


@dataclass(slots=True)
class _Arms:
    """Answers, sum of values, and the moments of an amount, of one arm."""

    n: int = 0
    total: float = 0.0
    moments: LogMoments = field(default_factory=LogMoments)


@dataclass(slots=True)
class LivePanel:
    """Collects live answers, each of one arm."""

    _arms: dict[tuple[str, str | None, str], _Arms] = field(default_factory=dict)
    _segments: set[str] = field(default_factory=set)

    def add(self, seen: Seen) -> None:
        """Take one answer in."""
        segments = _segments(self._segments, seen.segment)
        for metric in PANEL:
            findings = seen.checks.get(metric.name) or {}
            for arm in ("baseline", "candidate"):
                value = _value(metric, findings.get(arm))
                if value is None:
                    continue
                for segment in segments:
                    arms = self._arms.setdefault((metric.name, segment, arm), _Arms())
                    arms.n += 1
                    arms.total += value
                    if metric.kind == "amount" and value > 0:
                        arms.moments = arms.moments.added(value)

    def lines(self) -> list[Line]:
        """Return every figure, overall first."""
        return [
            self._line(metric, segment)
            for segment in (None, *sorted(self._segments))
            for metric in PANEL
        ]

    def _line(self, metric: PanelMetric, segment: str | None) -> Line:
        first, second = (
            self._arms.get((metric.name, segment, arm), _Arms())
            for arm in ("baseline", "candidate")
        )
        if not first.n or not second.n:
            return Line(metric, segment, "no_data")
        before, after = first.total / first.n, second.total / second.n
        figures = (before, after, second.n, second.n)
        if metric.kind == "rate":
            hits = (round(first.total), round(second.total))
            low, high = newcombe_bounds(hits, (first.n, second.n), ALPHA)
            status = _status(after - before, low, high, metric.margin)
            return Line(metric, segment, status, *figures, after - before, low, high)
        bounds = ratio_change_bounds(first.moments, second.moments, ALPHA)
        if bounds is None:
            return Line(metric, segment, "unclear", *figures)
        low, change, high = bounds
        status = _status(_halved(change), _halved(low), _halved(high), _scaled(metric))
        return Line(metric, segment, status, *figures, change, low, high)


def _segments(known: set[str], segment: str | None) -> tuple[str | None, ...]:
    """Return the rows that a pair counts in; a segment beyond the most counts overall only."""
    if segment is None:
        return (None,)
    if segment not in known and len(known) >= MAX_SEGMENTS:
        return (None,)
    known.add(segment)
    return None, segment


def _both(metric: PanelMetric, seen: Seen) -> tuple[float, float] | None:
    findings = seen.checks.get(metric.name) or {}
    before = _value(metric, findings.get("baseline"))
    after = _value(metric, findings.get("candidate"))
    return None if before is None or after is None else (before, after)


def _value(metric: PanelMetric, finding: Mapping[str, Any] | None) -> float | None:
    if finding is None:
        return None
    if metric.kind == "amount":
        value = finding.get("value")
        return None if value is None else float(value)
    return {"pass": 0.0, "fail": 1.0}.get(str(finding.get("outcome")))


def _difference(metric: PanelMetric, both: tuple[float, float]) -> float:
    before, after = both
    if metric.kind == "rate":
        return after - before
    return (after - before) / (after + before) if after + before > 0 else 0.0


def _scaled(metric: PanelMetric) -> float:
    """Return the margin on the scale of a pair's difference: a ratio of 1 + m is m / (2 + m)."""
    return metric.margin if metric.kind == "rate" else _halved(metric.margin)


def _halved(change: float) -> float:
    return change / (2 + change)


def _shown(metric: PanelMetric, difference: float) -> float | None:
    """Turn a mean difference into what is shown: of an amount, the relative change.

    ``None`` where that has no bound.
    """
    if metric.kind == "rate":
        return difference
    return 2 * difference / (1 - difference) if difference < 1 else None


def _status(mean: float, low: float, high: float, margin: float) -> Status:
    if low > margin or high < -margin:
        return "moved"
    if -margin <= low and high <= margin:
        return "steady"
    return "leaning" if abs(mean) > margin else "unclear"


def _count(counts: dict[int, float], value: float) -> None:
    """Count a value on the lattice, divided linearly over its two neighbours.

    That leaves the mean as it is and only makes the bounds wider (see
    :class:`rollout.statistics.paired.PairedState`).
    """
    below = floor(value * _LATTICE)
    upper = value * _LATTICE - below
    counts[below] = counts.get(below, 0.0) + 1 - upper
    if upper > 0:
        counts[below + 1] = counts.get(below + 1, 0.0) + upper
