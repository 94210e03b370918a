"""The reward-hacking panel over pairs: each figure before (baseline) and after (candidate). Pure.

A pair compares both answers to one request. The intervals are confidence sequences (see
:mod:`rollout.statistics.confidence`) that hold at all looks together as long as every pair of the
rollout is read; over the newest pairs only they hold at one look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import Literal

from rollout.clustering import Counted, OpenCluster, counts_first, gathered
from rollout.panel_lines import (
    ALPHA,
    Line,
    Seen,
    both_of,
    difference_of,
    scaled_margin,
    segments_of,
    shown_change,
    status_of,
)
from rollout.panel_metrics import PANEL, PanelMetric
from rollout.statistics.clusters import ClusterMeans
from rollout.statistics.combine import log_threshold
from rollout.statistics.confidence import mean_bounds

__all__ = ["Clusters", "PairPanel"]

Clusters = Literal["mean", "first", "none"]
"""What counts of one user's pairs, as `analysis.clusters` of the spec says."""

_LATTICE = 64


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
        segments = segments_of(self._segments, seen.segment)
        differences: dict[str, float] = {}
        for metric in PANEL:
            both = both_of(metric, seen)
            if both is None:
                continue
            differences[metric.name] = difference_of(metric, both)
            for segment in segments:
                sums = self._sums.setdefault((metric.name, segment), _Sums())
                sums.n += 1
                sums.before += both[0]
                sums.after += both[1]
        pair = (seen.segment, differences)
        for segment, said in self._counted(seen.cluster, pair):
            for name, value in said.items():
                for each in segments_of(self._segments, segment):
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
        status = status_of(mean, low, high, scaled_margin(metric))
        shown = (shown_change(metric, value) for value in (mean, low, high))
        return Line(metric, segment, status, before, after, sums.n, round(total), *shown)


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
