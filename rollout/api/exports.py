"""Feedback into training: pairs exported as preferences, regression cases and eval sets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlmodel import Session

from gateway.store.tables import DatasetRow
from rollout.api.context import Context, Operator, Reviewer, Viewer, problems
from rollout.exporting import export_rollout
from shadow.offline import datasets
from shadow.offline.cases import schema_of
from shadow.offline.request import ExportRequest, Kind

__all__ = ["MEDIA_TYPE", "router"]

router = APIRouter(prefix="/exports", tags=["exports"])

MEDIA_TYPE = "application/x-ndjson"
"""JSON Lines: one row a line."""

_Reference = Annotated[
    str, Path(description="NAME (the latest version), NAME@VERSION, or NAME@ and its hash.")
]


class DatasetInfo(BaseModel):
    """One version of a dataset. It never changes; the deletion of a pair takes its row along."""

    name: str
    version: int
    kind: Kind
    sha256: str = Field(description="Hash of the whole file, as `sha256sum` prints it.")
    items: int = Field(description="Rows it was made with.")
    rollout: str
    created_at: float
    created_by: str


class DatasetDetail(DatasetInfo):
    """One version of a dataset, with its manifest."""

    deleted: int = Field(description="Rows that went with deleted pairs; the hash tells.")
    manifest: dict[str, Any] = Field(
        description="Rows by split, source and segment; what was skipped and why; the request; "
        "deployments, revisions, rubric and code behind it."
    )


class DatasetList(BaseModel):
    """Datasets, newest first."""

    datasets: list[DatasetInfo]


class ExportDone(BaseModel):
    """What an export led to."""

    created: bool = Field(description="false: the same rows were exported before.")
    dataset: DatasetDetail


class DatasetDifference(BaseModel):
    """What changed between two datasets, by the rows' keys."""

    old: DatasetInfo
    new: DatasetInfo
    same: int
    changed: int = Field(description="The same row with other content, such as a new answer.")
    added: int
    removed: int
    examples: dict[str, list[str]] = Field(description="Some keys of each kind.")


@router.post(
    "",
    status_code=201,
    responses={
        **problems(400, 404, 409, 413),
        200: {"model": ExportDone, "description": "The same rows were exported before."},
    },
)
def create_export(
    api: Context, operator: Operator, body: ExportRequest, response: Response
) -> ExportDone:
    """Export a rollout's pairs as preference data, regression cases, or an eval set.

    The same request over the same pairs gives the dataset that is there, and answers 200.
    """
    done = export_rollout(api.store, api.settings, body, actor=operator.actor, now=api.clock())
    if not done.created:
        response.status_code = 200
    with api.store.read() as session:
        return ExportDone(created=done.created, dataset=_detail(session, done.dataset))


@router.get("", responses=problems())
def list_exports(api: Context, _: Viewer) -> DatasetList:
    """List the datasets, newest first."""
    with api.store.read() as session:
        return DatasetList(datasets=[_info(row) for row in datasets.list_datasets(session)])


@router.get("/{dataset}", responses=problems(404))
def show_export(api: Context, _: Viewer, dataset: _Reference) -> DatasetDetail:
    """Show one dataset with its manifest."""
    with api.store.read() as session:
        return _detail(session, datasets.find_dataset(session, dataset))


@router.get(
    "/{dataset}/items",
    response_class=StreamingResponse,
    responses={
        **problems(404),
        200: {
            "description": "One row of JSON a line.",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
        },
    },
)
def download_export(
    api: Context,
    _: Reviewer,
    dataset: _Reference,
    split: Annotated[
        Literal["train", "validation", "test"] | None, Query(description="Only this split.")
    ] = None,
) -> StreamingResponse:
    """Download a dataset as JSON Lines, streamed."""
    with api.store.read() as session:
        row = datasets.find_dataset(session, dataset)
    name = f"{row.name}@{row.version}{f'.{split}' if split else ''}.jsonl"
    return StreamingResponse(
        datasets.read_lines(api.store, row.id or 0, split=split),
        media_type=MEDIA_TYPE,
        headers={
            "content-disposition": f'attachment; filename="{name}"',
            "x-coalmine-sha256": row.hash or "",
        },
    )


@router.get("/{dataset}/diff/{other}", responses=problems(404))
def compare_exports(
    api: Context, _: Viewer, dataset: _Reference, other: _Reference
) -> DatasetDifference:
    """Say which rows came, went and changed from one dataset to another."""
    with api.store.read() as session:
        old, new = (datasets.find_dataset(session, each) for each in (dataset, other))
        found = datasets.compare(session, old, new)
    return DatasetDifference(
        old=_info(old),
        new=_info(new),
        same=found.same,
        changed=found.changed,
        added=found.added,
        removed=found.removed,
        examples=found.examples,
    )


schemas = APIRouter(prefix="/export-schemas", tags=["exports"])


@schemas.get("/{kind}", responses=problems())
def export_schema(
    _: Viewer,
    kind: Literal["preferences", "text-preferences", "regressions", "evalset"],
) -> dict[str, Any]:
    """Return the JSON Schema of a kind's rows, for editors, checks and hand-written eval sets."""
    return schema_of(kind)


def _info(row: DatasetRow) -> DatasetInfo:
    return DatasetInfo.model_validate(_fields(row))


def _detail(session: Session, row: DatasetRow) -> DatasetDetail:
    left = datasets.count_items(session, row)
    return DatasetDetail.model_validate(
        {**_fields(row), "deleted": row.items - left, "manifest": row.manifest}
    )


def _fields(row: DatasetRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.version,
        "kind": row.kind,
        "sha256": row.hash,
        "items": row.items,
        "rollout": row.manifest["origin"]["rollout"],
        "created_at": row.created_at,
        "created_by": row.created_by,
    }
