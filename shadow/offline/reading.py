"""Pairs read from the store for exports: a page at a time, oldest first."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from sqlmodel import Session, col, select

from gateway.store.engine import Store
from gateway.store.tables import (
    CaptureRow,
    JudgeWindowRow,
    JudgmentRow,
    PairRow,
    ReviewItemRow,
)
from shadow.answer import Answer, read_answer
from shadow.offline.material import Judged, Material
from shadow.offline.request import ExportRequest
from shadow.pair import UnreadableRequest, read_prompt

__all__ = ["PAGE", "read_pages"]

PAGE = 32
"""Pairs in memory at a time; each holds up to three bodies of `gateway.max_capture_bytes`."""

_STREAMS = {
    "preferences": ("mirror",),
    "regressions": ("mirror", "live"),
    "evalset": ("mirror", "live"),
}


def read_pages(
    store: Store, rollout_id: int, request: ExportRequest
) -> Iterator[list[Material | str]]:
    """Yield pages of a rollout's finished pairs; a word where a pair has no text to export.

    What was opted out of is in no capture, and a capture whose text is not stored gives none.
    Raises `StoreError`.
    """
    last = 0
    while True:
        with store.read() as session:
            rows = session.exec(_query(rollout_id, request, last)).all()
            ids = [pair.id or 0 for pair, _ in rows]
            distrusted = _distrusted(session, rollout_id)
            labels, judged = _labels(session, ids), _judged(session, ids, distrusted)
        if rows:
            yield [
                _material(pair, capture, labels.get(pair.id or 0), judged.get(pair.id or 0, ()))
                for pair, capture in rows
            ]
            last = ids[-1]
        if len(rows) < PAGE:
            return


def _query(rollout_id: int, request: ExportRequest, last: int) -> Any:
    query = (
        select(PairRow, CaptureRow)
        .where(
            PairRow.rollout_id == rollout_id,
            PairRow.capture_id == CaptureRow.id,
            PairRow.state == "done",
            col(PairRow.stream).in_(_STREAMS[request.kind]),
            col(PairRow.id) > last,
        )
        .order_by(col(PairRow.id))
        .limit(PAGE)
    )
    if request.segments:
        query = query.where(col(PairRow.segment).in_(request.segments))
    if request.since is not None:
        query = query.where(CaptureRow.created_at >= request.since)
    if request.until is not None:
        query = query.where(CaptureRow.created_at < request.until)
    return query


def _labels(session: Session, ids: Sequence[int]) -> dict[int, float]:
    """Return what people said, as their settled label: 1 for the candidate, 0 the baseline."""
    query = select(ReviewItemRow.pair_id, ReviewItemRow.label).where(
        col(ReviewItemRow.pair_id).in_(ids),
        ReviewItemRow.state == "done",
        col(ReviewItemRow.label).is_not(None),
    )
    return {pair: float(label) for pair, label in session.exec(query).all() if label is not None}


def _distrusted(session: Session, rollout_id: int) -> list[range]:
    """Return the judgments that no examination vouches for, as ranges of their numbers.

    Around a window in which the judge failed, from the last pass before it to the first after it.
    """
    query = (
        select(JudgeWindowRow.result, JudgeWindowRow.after_judgment)
        .where(
            JudgeWindowRow.rollout_id == rollout_id,
            col(JudgeWindowRow.result).in_(("pass", "fail")),
        )
        .order_by(col(JudgeWindowRow.window))
    )
    found: list[range] = []
    passed, failed = 0, False
    for result, last in session.exec(query).all():
        if result == "fail":
            failed = True
            continue
        if failed:
            found.append(range(passed + 1, last + 1))
        passed, failed = last, False
    if failed:
        found.append(range(passed + 1, sys.maxsize))
    return found


def _judged(
    session: Session, ids: Sequence[int], distrusted: Sequence[range]
) -> dict[int, tuple[Judged, ...]]:
    query = (
        select(JudgmentRow)
        .where(col(JudgmentRow.pair_id).in_(ids), col(JudgmentRow.verdict).is_not(None))
        .order_by(col(JudgmentRow.id))
    )
    found: dict[int, tuple[Judged, ...]] = {}
    for row in session.exec(query).all():
        known = found.get(row.pair_id, ())
        number = row.id or 0
        found[row.pair_id] = (
            *known,
            Judged(
                row.order,
                row.model,
                row.scores,
                rubric_hash=row.rubric_hash,
                quarantined=any(number in gap for gap in distrusted),
            ),
        )
    return found


def _material(
    pair: PairRow, capture: CaptureRow, label: float | None, judged: tuple[Judged, ...]
) -> Material | str:
    if capture.truncated or not capture.store_bodies or not capture.request_body:
        return "no_text"
    try:
        prompt = read_prompt(endpoint=capture.endpoint, body=capture.request_body)
    except UnreadableRequest:
        return "no_text"
    captured = _answer(capture.endpoint, capture.response_body, capture.status)
    mirrored = _answer(capture.endpoint, pair.candidate_response, pair.candidate_status)
    served = capture.variant == "candidate"
    live = pair.stream == "live"
    other = None if live else mirrored
    return Material(
        pair_id=pair.id or 0,
        capture_id=capture.id,
        request_id=capture.request_id,
        stream=pair.stream,
        outcome=pair.outcome,
        prompt=prompt,
        baseline=other if served else captured,
        candidate=captured if served else other,
        checks=pair.checks or {},
        comparison=pair.comparison or {},
        label=label,
        judged=judged,
        segment=pair.segment,
        risk=capture.risk,
        user=capture.key_hash,
        captured_at=capture.created_at,
        finished_at=pair.finished_at or 0.0,
    )


def _answer(endpoint: str, body: str | None, status: int | None) -> Answer | None:
    return read_answer(endpoint=endpoint, body=body, status=status) if body else None
