"""Reading rollouts: where they are, why, and on what evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import Session, col, func, select

from gateway.store.evidence import load_funnel
from gateway.store.splits import load_split, load_splits
from gateway.store.tables import EvidenceHeadRow, TransitionRow
from rollout import ledger
from rollout.api import views
from rollout.api.context import Api, Context, Viewer, problems
from rollout.api.models import (
    EvidenceReport,
    Explanation,
    Funnel,
    RolloutList,
    RolloutStatus,
    RolloutSummary,
    TransitionList,
)
from rollout.records import Record, transition_from
from rollout.states import Event

__all__ = ["Generation", "load_summary", "router"]

router = APIRouter(prefix="/rollouts", tags=["rollouts"])

Generation = Annotated[
    int | None, Query(ge=1, description="Which generation; by default the latest.")
]


@router.get("", responses=problems())
def list_rollouts(
    api: Context,
    _: Viewer,
    every_generation: Annotated[
        bool, Query(description="Earlier generations too, not only the latest of each name.")
    ] = False,
) -> RolloutList:
    """List rollouts, newest first."""
    with api.store.read() as session:
        found = ledger.find_all(session, every_generation=every_generation)
        splits = load_splits(session)
        last = _last(session, [record.id for record in found])
    return RolloutList(
        rollouts=[
            views.summary_of(
                record,
                split=splits.get(record.route),
                last_reason=last[record.id].reason if record.id in last else None,
            )
            for record in found
        ]
    )


@router.get("/{name}", responses=problems(404))
def show_rollout(
    api: Context, _: Viewer, name: str, generation: Generation = None
) -> RolloutStatus:
    """Show where a rollout is, why, what is known, and what comes next."""
    return _load_status(api, name, generation)


@router.get("/{name}/explain", responses=problems(404))
def explain_rollout(
    api: Context, _: Viewer, name: str, generation: Generation = None
) -> Explanation:
    """Explain why a rollout is where it is, with the receipt of what brought it there."""
    status = _load_status(api, name, generation)
    with api.store.read() as session:
        record = ledger.find(session, name, generation=status.generation)
        decisive = _last(session, [record.id]).get(record.id)
    return Explanation(
        **status.model_dump(),
        decided_by=views.transition_info(transition_from(decisive, record)) if decisive else None,
    )


@router.get("/{name}/evidence", responses=problems(404))
def show_evidence(
    api: Context, _: Viewer, name: str, generation: Generation = None
) -> EvidenceReport:
    """Show all figures: every metric overall and by segment, with estimates and bounds."""
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        head = session.get(EvidenceHeadRow, record.id)
    return views.evidence_of(record, recorded=head.seq if head else 0, now=api.clock())


@router.get("/{name}/transitions", responses=problems(404))
def list_transitions(
    api: Context,
    _: Viewer,
    name: str,
    generation: Generation = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Transitions on a page.")] = 100,
    cursor: Annotated[int, Query(ge=0, description="next_cursor of the page before.")] = 0,
) -> TransitionList:
    """List the transitions with their receipts, oldest first."""
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        found = ledger.transitions(session, record, after=cursor, limit=limit + 1)
    page = found[:limit]
    return TransitionList(
        name=record.name,
        generation=record.generation,
        transitions=[views.transition_info(each) for each in page],
        next_cursor=str(page[-1].number) if len(found) > limit else None,
    )


@router.get("/{name}/funnel", responses=problems(404))
def show_funnel(api: Context, _: Viewer, name: str, generation: Generation = None) -> Funnel:
    """Show where every eligible request ended."""
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        funnel = load_funnel(session, record.id)
    return Funnel(
        name=record.name,
        generation=record.generation,
        streams=funnel,
        reconciles=views.funnel_reconciles(funnel),
        subset=views.subset_of(record),
    )


def load_summary(api: Api, record: Record) -> RolloutSummary:
    """Return the summary of a record that was just written."""
    with api.store.read() as session:
        split = load_split(session, record.route)
        last = _last(session, [record.id]).get(record.id)
    return views.summary_of(record, split=split, last_reason=last.reason if last else None)


def _load_status(api: Api, name: str, generation: int | None) -> RolloutStatus:
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        split = load_split(session, record.route)
        funnel = load_funnel(session, record.id)
        last = _last(session, [record.id]).get(record.id)
        drained = _last(session, [record.id], drained=True).get(record.id)
    measured = drained.receipt.get("drained", {}) if drained else {}
    return views.status_of(
        record,
        split=split,
        last_reason=last.reason if last else None,
        funnel=funnel,
        time_to_zero=measured.get("time_to_zero"),
        now=api.clock(),
    )


def _last(
    session: Session, rollout_ids: Sequence[int], *, drained: bool = False
) -> dict[int, TransitionRow]:
    """Return the last transition of each rollout that says why it is where it is.

    That a rollback is complete (``drained``) explains nothing and is left out, or asked for alone.
    """
    event = col(TransitionRow.event)
    last = (
        select(func.max(TransitionRow.id))
        .where(
            col(TransitionRow.rollout_id).in_(rollout_ids),
            event == Event.DRAINED.value if drained else event != Event.DRAINED.value,
        )
        .group_by(col(TransitionRow.rollout_id))
    )
    rows = session.exec(select(TransitionRow).where(col(TransitionRow.id).in_(last))).all()
    return {row.rollout_id: row for row in rows}
