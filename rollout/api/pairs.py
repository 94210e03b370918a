"""The pairs behind the evidence: both arms' answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from gateway.store.tables import CaptureRow, JudgmentRow, PairRow
from rollout import ledger
from rollout.api.context import Context, Viewer, problems
from rollout.api.rollouts import Generation
from shadow.fingerprint import fingerprint
from shadow.pair import UnreadableRequest, read_prompt

__all__ = ["ArmInfo", "JudgmentInfo", "PairInfo", "PairPage", "load_pairs", "router"]

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


class ArmInfo(BaseModel):
    """What one arm answered."""

    status: int | None = Field(description="HTTP status; null: no answer.")
    error: str | None = Field(description="Why there is no answer.")
    ttft: float | None = Field(description="Seconds to the first token.")
    total: float | None = Field(description="Seconds to the end.")
    response: str | None = Field(description="The body, redacted: JSON or raw SSE.")


class JudgmentInfo(BaseModel):
    """One call of the judge."""

    order: str = Field(description="AB: the baseline stood first. BA: the candidate did.")
    verdict: str | None
    evidence: str | None
    severity: str | None
    error: str | None
    model: str
    cached: bool
    stage: str | None = Field(description="first: the cheap judge; final: the judge.")
    asked: str | None = Field(description="Why this stage was asked; audit: drawn at random.")
    probability: float | None = Field(description="With which it was asked.")
    rubric: str | None = Field(description="Name of the rubric it went by.")
    rubric_hash: str | None = Field(description="SHA-256 of the rubric's words.")


class PairInfo(BaseModel):
    """One request, answered by both arms."""

    id: int
    stream: str = Field(description="mirror, noise (baseline again) or live.")
    state: str
    outcome: str | None
    segment: str | None
    created_at: float
    finished_at: float | None
    capture_id: str
    request_id: str
    endpoint: str
    request: str = Field(description="The request's body, redacted.")
    fingerprint: str | None = Field(
        description="Of its messages, for a case of known_failures; null: the body can't be read."
    )
    bodies_removed_at: float | None = Field(
        description="When request and answers were removed, in Unix seconds; null: they are here."
    )
    variant: str = Field(description="The arm that served the user.")
    captured: ArmInfo = Field(description="What the user got.")
    mirrored: ArmInfo | None = Field(description="What the other arm answered; live: null.")
    checks: dict[str, Any] | None
    comparison: dict[str, Any] | None
    judgments: list[JudgmentInfo]


class PairPage(BaseModel):
    """Pairs, newest first."""

    name: str
    generation: int
    pairs: list[PairInfo]
    next_cursor: str | None = Field(description="Give it as cursor for the next page; null: end.")


@router.get("/{name}/pairs", responses=problems(404))
def list_pairs(
    api: Context,
    _: Viewer,
    name: str,
    *,
    generation: Generation = None,
    outcome: Annotated[
        str | None, Query(description="Only these, for example compared or judge_error.")
    ] = None,
    stream: Annotated[str | None, Query(description="Only mirror, noise or live.")] = None,
    id: Annotated[  # noqa: A002 - the parameter's name in the address
        list[int] | None, Query(description="Only these pairs, as named in a receipt.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Pairs on a page.")] = 20,
    cursor: Annotated[
        int | None, Query(ge=1, description="next_cursor of the page before.")
    ] = None,
) -> PairPage:
    """List pairs with requests, both answers, checks and judgments, newest first."""
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        query = (
            select(PairRow, CaptureRow)
            .where(PairRow.rollout_id == record.id, PairRow.capture_id == CaptureRow.id)
            .order_by(col(PairRow.id).desc())
            .limit(limit + 1)
        )
        if outcome is not None:
            query = query.where(PairRow.outcome == outcome)
        if stream is not None:
            query = query.where(PairRow.stream == stream)
        if id:
            query = query.where(col(PairRow.id).in_(id))
        if cursor is not None:
            query = query.where(col(PairRow.id) < cursor)
        rows = session.exec(query).all()
        judgments = _judgments(session, [pair.id or 0 for pair, _ in rows])
    page = [_info(pair, capture, judgments) for pair, capture in rows[:limit]]
    return PairPage(
        name=record.name,
        generation=record.generation,
        pairs=page,
        next_cursor=str(page[-1].id) if len(rows) > limit else None,
    )


def load_pairs(session: Session, ids: Sequence[int]) -> dict[int, PairInfo]:
    """Return these pairs by their ids, with requests, answers and judgments."""
    query = select(PairRow, CaptureRow).where(
        PairRow.capture_id == CaptureRow.id, col(PairRow.id).in_(ids)
    )
    rows = session.exec(query).all()
    judgments = _judgments(session, ids)
    return {pair.id or 0: _info(pair, capture, judgments) for pair, capture in rows}


def _judgments(session: Session, pair_ids: Sequence[int]) -> dict[int, list[JudgmentInfo]]:
    query = select(JudgmentRow).where(col(JudgmentRow.pair_id).in_(pair_ids))
    found: dict[int, list[JudgmentInfo]] = {}
    for row in session.exec(query.order_by(col(JudgmentRow.id))).all():
        found.setdefault(row.pair_id, []).append(
            JudgmentInfo.model_validate(row, from_attributes=True)
        )
    return found


def _fingerprint(capture: CaptureRow) -> str | None:
    try:
        prompt = read_prompt(endpoint=capture.endpoint, body=capture.request_body)
    except UnreadableRequest:
        return None
    return fingerprint(prompt.messages)


def _info(pair: PairRow, capture: CaptureRow, judgments: dict[int, list[JudgmentInfo]]) -> PairInfo:
    mirrored = ArmInfo(
        status=pair.candidate_status,
        error=pair.candidate_error,
        ttft=pair.candidate_ttft_s,
        total=pair.candidate_total_s,
        response=pair.candidate_response,
    )
    return PairInfo(
        id=pair.id or 0,
        stream=pair.stream,
        state=pair.state,
        outcome=pair.outcome,
        segment=pair.segment,
        created_at=pair.created_at,
        finished_at=pair.finished_at,
        capture_id=capture.id,
        request_id=capture.request_id,
        endpoint=capture.endpoint,
        request=capture.request_body,
        fingerprint=_fingerprint(capture),
        bodies_removed_at=capture.bodies_removed_at,
        variant=capture.variant,
        captured=ArmInfo(
            status=capture.status,
            error=None,
            ttft=capture.ttft_s,
            total=capture.total_s,
            response=capture.response_body,
        ),
        mirrored=None if pair.stream == "live" else mirrored,
        checks=pair.checks,
        comparison=pair.comparison,
        judgments=judgments.get(pair.id or 0, []),
    )
