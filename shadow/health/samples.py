"""The route's own recent answers, as far as they are fit to stand for good ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlmodel import col, select

from gateway.store.engine import Store
from gateway.store.tables import CaptureRow, PairRow
from shadow.answer import COMPARABLE, endpoint_of, read_answer
from shadow.health.controls import Sample, usable
from shadow.pair import UnreadableRequest, read_prompt

__all__ = ["recent_samples"]

_MOST_REQUEST_CHARS = 20_000


def recent_samples(store: Store, rollout_id: int, *, limit: int = 40) -> list[Sample]:
    """Return what the baseline answered lately in pairs that were compared. Raises `StoreError`.

    An answer that failed a check is left out, and so is one whose text was not kept.
    """
    with store.read() as session:
        rows = session.exec(
            select(PairRow, CaptureRow)
            .where(
                PairRow.rollout_id == rollout_id,
                PairRow.stream == "mirror",
                PairRow.outcome == "compared",
                PairRow.capture_id == CaptureRow.id,
                CaptureRow.variant == "baseline",
            )
            .order_by(col(PairRow.id).desc())
            .limit(limit)
        ).all()
    found = (_sample(pair, capture) for pair, capture in rows)
    return [sample for sample in found if sample is not None]


def _sample(pair: PairRow, capture: CaptureRow) -> Sample | None:
    if endpoint_of(capture.endpoint) not in COMPARABLE or capture.truncated:
        return None
    if len(capture.request_body) > _MOST_REQUEST_CHARS or _failed(pair.checks or {}):
        return None
    try:
        prompt = read_prompt(endpoint=capture.endpoint, body=capture.request_body)
    except UnreadableRequest:
        return None
    answer = read_answer(
        endpoint=capture.endpoint, body=capture.response_body, status=capture.status
    )
    if not prompt.messages or not usable(answer):
        return None
    return Sample(f"capture:{capture.id}", prompt, answer.text)


def _failed(checks: Mapping[str, Any]) -> bool:
    return any(each.get("baseline", {}).get("outcome") == "fail" for each in checks.values())
