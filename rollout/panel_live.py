"""The reward-hacking panel over live answers: two independent samples, at one look. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from rollout.panel_lines import (
    ALPHA,
    Line,
    Seen,
    halved,
    scaled_margin,
    segments_of,
    status_of,
    value_of,
)
from rollout.panel_metrics import PANEL, PanelMetric
from rollout.statistics.two_samples import LogMoments, newcombe_bounds, ratio_change_bounds

__all__ = ["LivePanel"]


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
        segments = segments_of(self._segments, seen.segment)
        for metric in PANEL:
            findings = seen.checks.get(metric.name) or {}
            for arm in ("baseline", "candidate"):
                value = value_of(metric, findings.get(arm))
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
            status = status_of(after - before, low, high, metric.margin)
            return Line(metric, segment, status, *figures, after - before, low, high)
        bounds = ratio_change_bounds(first.moments, second.moments, ALPHA)
        if bounds is None:
            return Line(metric, segment, "unclear", *figures)
        low, change, high = bounds
        status = status_of(halved(change), halved(low), halved(high), scaled_margin(metric))
        return Line(metric, segment, status, *figures, change, low, high)
