"""The audit log: who did what through the admin API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import col, select

from gateway.store.tables import AuditRow
from rollout.api.context import Context, Viewer, problems

__all__ = ["AuditEntry", "AuditPage", "router"]

router = APIRouter(tags=["audit"])


class AuditEntry(BaseModel):
    """One thing that somebody did, or tried to do."""

    id: int
    at: float = Field(description="When, in Unix seconds.")
    actor: str = Field(description="Name of the token, or local.")
    role: str = Field(description="The actor's role then.")
    action: str = Field(description="What, for example set_weight or token.create.")
    target: str = Field(description="Name of the rollout or token.")
    detail: dict[str, Any] = Field(description="Parameters and outcome; never a secret.")


class AuditPage(BaseModel):
    """Entries of the audit log, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None = Field(description="Give it as cursor for the next page; null: end.")


@router.get("/audit", responses=problems())
def list_audit(
    api: Context,
    _: Viewer,
    target: Annotated[str | None, Query(description="Only this rollout or token.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Entries on a page.")] = 100,
    cursor: Annotated[
        int | None, Query(ge=1, description="next_cursor of the page before.")
    ] = None,
) -> AuditPage:
    """List what was done through the API, newest first."""
    query = select(AuditRow).order_by(col(AuditRow.id).desc()).limit(limit + 1)
    if target is not None:
        query = query.where(AuditRow.target == target)
    if cursor is not None:
        query = query.where(col(AuditRow.id) < cursor)
    with api.store.read() as session:
        rows = session.exec(query).all()
    entries = [AuditEntry.model_validate(row, from_attributes=True) for row in rows[:limit]]
    more = len(rows) > limit
    return AuditPage(entries=entries, next_cursor=str(entries[-1].id) if more else None)
