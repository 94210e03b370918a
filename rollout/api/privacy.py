"""Deleting what is stored of a user."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rollout.api.context import Admin, Context, problems
from rollout.deleting import delete_user

__all__ = ["DeletionReport", "DeletionRequest", "router"]

router = APIRouter(prefix="/privacy", tags=["privacy"])


class DeletionRequest(BaseModel):
    """Whose captures are to be deleted."""

    model_config = ConfigDict(extra="forbid")

    user_key: SecretStr = Field(
        min_length=1,
        max_length=4096,
        description="The targeting key as the user's requests carry it, such as the value of "
        "x-user-id. It is hashed, and kept nowhere.",
    )
    reason: str = Field("", max_length=2000, description="Why; kept in the audit log.")


class DeletionReport(BaseModel):
    """What was deleted; all zero where there was nothing."""

    user: str = Field(description="The user's pseudonym, as the audit log shows it.")
    packed: int = Field(description="Captures on their way, that no worker had taken up.")
    captures: int = Field(description="Requests with their answers.")
    pairs: int = Field(description="Pairs of these, with the candidates' answers.")
    judgments: int = Field(description="Judgments of these pairs.")
    judge_cache: int = Field(description="Kept verdicts that only they had.")
    others: int = Field(description="Rows of other tables, such as outcomes and exports.")


@router.post("/deletions", responses=problems())
def delete_user_data(api: Context, admin: Admin, body: DeletionRequest) -> DeletionReport:
    """Delete all captures of a user up to now, with everything that was made of them.

    Captures still on their way are dropped when they arrive. Evidence stays: it holds numbers and
    the user's pseudonym, and no text. The same request again finds nothing more.
    """
    done = delete_user(
        api.store,
        body.user_key.get_secret_value(),
        actor=admin.actor,
        reason=body.reason,
        now=api.clock(),
    )
    return DeletionReport(user=done.user, packed=done.packed, **done.erased.to_json())
