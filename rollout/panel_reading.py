"""Reading the reward-hacking panel from the store, a page at a time and no more than asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappush, heappushpop
from typing import Any, Literal

from sqlmodel import Session, col, select

from gateway.store.tables import CaptureRow, PairRow
from rollout.panel import PairPanel
from rollout.panel_lines import Line, Seen, Source, contribution
from rollout.panel_live import LivePanel
from rollout.panel_metrics import PanelMetric
from rollout.records import Record

__all__ = ["Direction", "Panel", "Sample", "find_samples", "read_panel"]

_PAGE = 500
_STREAMS: dict[Source, str] = {"pairs": "mirror", "live": "live"}

Direction = Literal["increase", "decrease"]


@dataclass(frozen=True, slots=True)
class Panel:
    """The panel of one rollout. ``read`` pairs (or live answers) are in it.

    ``complete`` says that these are all there are, and not the newest of them only.
    """

    source: Source
    read: int
    complete: bool
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Sample:
    """A pair, and how far it moves the figure: in [-1, 1], as a pair's difference."""

    pair_id: int
    contribution: float


def read_panel(session: Session, record: Record, *, source: Source, limit: int) -> Panel:
    """Return the panel over the newest ``limit`` finished pairs, or live answers, of a rollout."""
    panel = PairPanel(record.spec.analysis.clusters) if source == "pairs" else LivePanel()
    start, complete = _start(session, record.id, source, limit)
    read = 0
    for seen in _pages(session, record.id, source, start):
        panel.add(seen)
        read += 1
    return Panel(source, read, complete, panel.lines())


def find_samples(
    session: Session,
    record: Record,
    metric: PanelMetric,
    *,
    source: Source,
    direction: Direction,
    segment: str | None,
    count: int,
    limit: int,
) -> list[Sample]:
    """Return the pairs that move a figure most in this direction, of the newest ``limit``.

    Equal ones newest first. Of live answers, those of the candidate that have (increase) or lack
    (decrease) what the figure counts; of an amount, the largest or the smallest.
    """
    sign = 1.0 if direction == "increase" else -1.0
    start, _ = _start(session, record.id, source, limit)
    best: list[tuple[float, int, float]] = []
    for seen in _pages(session, record.id, source, start):
        if segment is not None and seen.segment != segment:
            continue
        moved = contribution(metric, seen) if source == "pairs" else _alone(metric, seen)
        if moved is None or (moved * sign <= 0 and (source == "pairs" or metric.kind == "rate")):
            continue
        (heappush if len(best) < count else heappushpop)(best, (moved * sign, seen.id, moved))
    return [Sample(number, moved) for _, number, moved in sorted(best, reverse=True)]


def _alone(metric: PanelMetric, seen: Seen) -> float | None:
    """Return what a live answer of the candidate says, as if the baseline's had said nothing."""
    finding = (seen.checks.get(metric.name) or {}).get("candidate") or {}
    if metric.kind == "amount":
        value = finding.get("value")
        return None if value is None else float(value)
    return {"pass": -1.0, "fail": 1.0}.get(str(finding.get("outcome")))


def _start(session: Session, rollout_id: int, source: Source, limit: int) -> tuple[int, bool]:
    """Return the id from which the newest ``limit`` begin, and whether that is all."""
    query = (
        select(PairRow.id)
        .where(*_finished(rollout_id, source))
        .order_by(col(PairRow.id).desc())
        .offset(limit)
        .limit(1)
    )
    before = session.exec(query).first()
    return (0, True) if before is None else (before + 1, False)


def _pages(session: Session, rollout_id: int, source: Source, start: int) -> Iterator[Seen]:
    while True:
        query = (
            select(PairRow.id, PairRow.segment, CaptureRow.key_hash, PairRow.checks)
            .where(
                *_finished(rollout_id, source),
                PairRow.capture_id == CaptureRow.id,
                col(PairRow.id) >= start,
            )
            .order_by(col(PairRow.id))
            .limit(_PAGE)
        )
        rows = session.exec(query).all()
        for number, segment, cluster, checks in rows:
            yield Seen(number or 0, segment, cluster, checks or {})
        if len(rows) < _PAGE:
            return
        start = (rows[-1][0] or 0) + 1


def _finished(rollout_id: int, source: Source) -> tuple[Any, ...]:
    return (
        PairRow.rollout_id == rollout_id,
        PairRow.stream == _STREAMS[source],
        PairRow.state == "done",
        col(PairRow.checks).is_not(None),
    )
