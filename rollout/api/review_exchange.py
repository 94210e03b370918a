"""Reviews by way of Label Studio: items as tasks, and its export as verdicts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col, select

from gateway.errors import Forbidden, NotFound
from gateway.store.tables import CaptureRow, PairRow, ReviewItemRow
from rollout.api.context import Context, Operator, problems
from rollout.api.reviews import rules_of, shown_of
from rollout.api.rollouts import Generation
from rollout.audit import record_audit
from rollout.label_studio import CONFIG, Annotation, read_export, task
from rollout.ledger import find
from rollout.reviews import OPEN, Reviewer, Said, post_review

__all__ = ["MAX_TASKS", "router"]

router = APIRouter(prefix="/rollouts", tags=["reviews"])

MAX_TASKS = 500
"""Most tasks in one export or import."""


class LabelStudioExport(BaseModel):
    """Open items as tasks of Label Studio, and the configuration that its project needs."""

    name: str
    generation: int
    config: str = Field(description="Labelling configuration (XML) of the project.")
    tasks: list[dict[str, Any]] = Field(description="Import these into the project, as JSON.")
    next_cursor: str | None = Field(description="Give it as cursor for the next tasks; null: end.")


class LabelStudioImport(BaseModel):
    """A project's export."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[Any] = Field(
        min_length=1,
        max_length=MAX_TASKS,
        description="Tasks as Label Studio exports them (JSON). Of each, data.coalmine_item and "
        "annotations are read; the rest may be left out.",
    )
    experts: list[str] = Field(
        default_factory=list,
        description="E-mails or numbers of annotators who are experts.",
    )


class ImportedRow(BaseModel):
    """An annotation that was not taken."""

    row: str = Field(description="Where it stands in the export.")
    reason: str


class LabelStudioImported(BaseModel):
    """What became of every annotation: new, known, corrected or refused, and they add up."""

    annotations: int
    new: int
    known: int = Field(description="Imported before; they count once.")
    corrected: int = Field(description="They take the place of what the same person said before.")
    uncounted: int = Field(description="Of these, kept though their item was settled already.")
    refused: list[ImportedRow]


@router.get("/{name}/reviews/export", responses=problems(404))
def export_reviews(
    api: Context,
    _: Operator,
    name: str,
    *,
    generation: Generation = None,
    format: Annotated[  # noqa: A002 - the parameter's name in the address
        Literal["label_studio"], Query(description="For which tool.")
    ] = "label_studio",
    limit: Annotated[int, Query(ge=1, le=MAX_TASKS, description="Tasks at most.")] = 200,
    cursor: Annotated[
        int | None, Query(ge=1, description="next_cursor of the call before.")
    ] = None,
) -> LabelStudioExport:
    """Export open items as tasks for Label Studio: blind, sides as they are drawn.

    They stay in the queue here too; whoever says something first counts.
    """
    del format  # there is one
    with api.store.read() as session:
        record = find(session, name, generation=generation)
        query = (
            select(ReviewItemRow, PairRow, CaptureRow)
            .where(
                ReviewItemRow.rollout_id == record.id,
                ReviewItemRow.state == OPEN,
                ReviewItemRow.pair_id == PairRow.id,
                PairRow.capture_id == CaptureRow.id,
            )
            .order_by(col(ReviewItemRow.id))
            .limit(limit + 1)
        )
        if cursor is not None:
            query = query.where(col(ReviewItemRow.id) > cursor)
        rows = session.exec(query).all()
    page = rows[:limit]
    return LabelStudioExport(
        name=record.name,
        generation=record.generation,
        config=CONFIG,
        tasks=[task(item.id or 0, shown_of(item, pair, capture)) for item, pair, capture in page],
        next_cursor=str(page[-1][0].id) if len(rows) > limit else None,
    )


@router.post("/{name}/reviews/import", responses=problems(404, 413))
def import_reviews(
    api: Context,
    operator: Operator,
    name: str,
    body: LabelStudioImport,
    *,
    generation: Generation = None,
) -> LabelStudioImported:
    """Import a project's JSON export. Importing it again changes nothing.

    Annotators stay who they are: label-studio:E-MAIL. Every annotation that can't be taken is
    listed with its place and why; the others count.
    """
    now = api.clock()
    with api.store.read() as session:
        record = find(session, name, generation=generation)
        mine = set(
            session.exec(
                select(ReviewItemRow.id).where(ReviewItemRow.rollout_id == record.id)
            ).all()
        )
    experts = {f"label-studio:{who}" for who in body.experts}
    read = read_export(body.tasks)
    counts = dict.fromkeys(("new", "known", "corrected", "uncounted"), 0)
    refused: list[ImportedRow] = []
    for each in read:
        if not isinstance(each, Annotation):
            refused.append(ImportedRow(row=each.row, reason=each.reason))
            continue
        if each.item_id not in mine:
            reason = f"item {each.item_id} does not belong to rollout {record.name!r}"
            refused.append(ImportedRow(row=each.row, reason=reason))
            continue
        reviewer = Reviewer(each.reviewer, "reviewer", each.reviewer in experts)
        said = Said(each.verdict, each.categories, each.note, each.seconds)
        try:
            posted = post_review(
                api.store,
                each.item_id,
                said,
                reviewer,
                now=now,
                correction_s=lambda route: rules_of(api, route).correction_time,
                via="label_studio",
            )
        except (Forbidden, NotFound) as error:
            refused.append(ImportedRow(row=each.row, reason=error.message))
            continue
        kind = "known" if posted.known else "corrected" if posted.corrected else "new"
        counts[kind] += 1
        counts["uncounted"] += not (posted.known or posted.counted)
    with api.store.write() as session:
        record_audit(
            session,
            at=now,
            actor=operator.actor,
            action="reviews.import",
            target=record.name,
            detail={**counts, "refused": len(refused)},
        )
    return LabelStudioImported(annotations=len(read), **counts, refused=refused)
