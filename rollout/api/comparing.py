"""All candidates on a route side by side: from the same captures, each with evidence of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, col, func, select

from gateway.errors import NotFound
from gateway.split import Split
from gateway.store.evidence import load_funnel
from gateway.store.splits import load_split
from gateway.store.tables import JudgeBudgetRow, PairRow
from rollout import ledger
from rollout.api import views
from rollout.api.context import Api, Context, Viewer, problems
from rollout.api.models import Counts, MetricReport, Progress, RolloutSummary
from rollout.records import Record
from rollout.states import FINISHED
from rollout.traffic import effective_baseline, mirror_of
from shadow.budget import day_of

__all__ = ["CandidateReport", "CapturesInfo", "ComparisonReport", "JudgeSpendInfo", "router"]

router = APIRouter(tags=["rollouts"])


class CapturesInfo(BaseModel):
    """The captures that a rollout's pairs are made of."""

    taken: int = Field(description="Captures mirrored to its candidate.")
    shared: int = Field(description="Those that other candidates listed here were given too.")


class JudgeSpendInfo(BaseModel):
    """What the judge has cost a rollout today (UTC), and what it may. Null limits: none."""

    calls: int
    dollars: float
    calls_per_day: int | None
    usd_per_day: float | None


class CandidateReport(RolloutSummary):
    """One candidate of the route."""

    mirrored: float | None = Field(description="Share of eligible requests, percent; null: none.")
    captures: CapturesInfo
    judge: JudgeSpendInfo
    progress: Progress | None
    log10_e_harm: float = Field(description="The guardrails' evidence of harm, taken together.")
    rollback_at: float
    promote_at: float
    counts: Counts
    metrics: list[MetricReport] = Field(description="Over all segments, in the spec's order.")
    funnel: dict[str, dict[str, int]] = Field(description="Stream, outcome, count.")
    reconciles: bool = Field(description="Whether the outcomes add up to the eligible requests.")


class ComparisonReport(BaseModel):
    """All candidates of a route."""

    route: str
    baseline: str = Field(description="What serves as baseline now.")
    holder: str | None = Field(description="The rollout that holds the live traffic.")
    weight: float = Field(description="Its candidate's share, in percent.")
    candidates: list[CandidateReport] = Field(
        description="Who holds the live traffic first, then in the order in which they began."
    )


@router.get("/compare", responses=problems(404))
def compare_candidates(
    api: Context,
    _: Viewer,
    *,
    route: Annotated[str, Query(description="The route.")],
    finished: Annotated[
        bool, Query(description="Rollouts that are over too, the latest generation of each.")
    ] = False,
) -> ComparisonReport:
    """Compare all candidates on a route: where each is, its evidence, its funnel, what it costs."""
    with api.store.read() as session:
        split = load_split(session, route)
        if route not in api.settings.routes and split is None:
            known = ", ".join(sorted(api.settings.routes)) or "none"
            raise NotFound(
                f"there is no route called {route!r}; declared are: {known}", field="route"
            )
        found = [
            record
            for record in ledger.find_all(session)
            if record.route == route and (finished or record.phase not in FINISHED)
        ]
        found.sort(key=lambda each: (split is None or split.rollout_id != each.id, each.id))
        captures = _captures(session, [record.id for record in found])
        reports = [_report(api, session, each, split, captures) for each in found]
    baseline = split.baseline if split is not None else ""
    if route in api.settings.routes:
        baseline = effective_baseline(split, route, api.settings.routes)
    return ComparisonReport(
        route=route,
        baseline=baseline,
        holder=split.rollout if split is not None else None,
        weight=split.weight_bp / 100 if split is not None else 0.0,
        candidates=reports,
    )


def _report(
    api: Api,
    session: Session,
    record: Record,
    split: Split | None,
    captures: dict[int, CapturesInfo],
) -> CandidateReport:
    funnel = load_funnel(session, record.id)
    now = api.clock()
    status = views.status_of(
        record, split=split, last_reason=None, funnel=funnel, time_to_zero=None, now=now
    ).model_dump()
    known = {name: value for name, value in status.items() if name in CandidateReport.model_fields}
    own = mirror_of(split, record.id)
    spent = session.get(JudgeBudgetRow, (record.id, day_of(now)))
    budget = record.spec.mirror.budget
    return CandidateReport(
        **known,
        mirrored=None if own is None else own.percentage_bp / 100,
        captures=captures.get(record.id, CapturesInfo(taken=0, shared=0)),
        judge=JudgeSpendInfo(
            calls=spent.calls if spent else 0,
            dollars=spent.microusd / 1_000_000 if spent else 0.0,
            calls_per_day=budget.calls_per_day,
            usd_per_day=budget.usd_per_day,
        ),
        reconciles=views.funnel_reconciles(funnel),
    )


def _captures(session: Session, rollout_ids: Sequence[int]) -> dict[int, CapturesInfo]:
    """Count each rollout's captures, and those that several of them were given."""
    wanted = (col(PairRow.rollout_id).in_(rollout_ids), col(PairRow.stream) == "mirror")
    several = (
        select(PairRow.capture_id)
        .where(*wanted)
        .group_by(col(PairRow.capture_id))
        .having(func.count() > 1)
        .subquery()
    )
    query = (
        select(PairRow.rollout_id, func.count(), func.count(several.c.capture_id))
        .select_from(PairRow)
        .outerjoin(several, several.c.capture_id == PairRow.capture_id)
        .where(*wanted)
        .group_by(col(PairRow.rollout_id))
    )
    return {
        rollout_id: CapturesInfo(taken=taken, shared=shared)
        for rollout_id, taken, shared in session.exec(query).all()
    }
