"""Managing the admin API's tokens."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from gateway.store.tables import TokenRow
from rollout.api import auth
from rollout.api.auth import Principal, Role
from rollout.api.context import Admin, Context, problems
from rollout.audit import record_audit

__all__ = ["NewToken", "TokenInfo", "TokenList", "TokenRequest", "router"]

router = APIRouter(prefix="/tokens", tags=["tokens"])

RoleName = Literal["viewer", "reviewer", "operator", "admin"]


class TokenRequest(BaseModel):
    """A token to be created."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Whose it is; shown in receipts and in the audit log.")
    role: RoleName = Field(description="What it may do; each role may do what those before may.")
    expert: bool = Field(
        False, description="May review pairs of routes whose review is expert_only."
    )


class TokenInfo(BaseModel):
    """A token without its secret."""

    name: str
    role: RoleName
    expert: bool = Field(False, description="May review pairs that are for experts only.")
    created_at: float = Field(description="Unix seconds.")
    last_used_at: float | None = Field(description="Unix seconds, to the minute; null: never.")
    revoked_at: float | None = Field(description="Unix seconds; null: it is valid.")


class NewToken(TokenInfo):
    """A token just created. The secret is shown this once and kept nowhere."""

    secret: str = Field(description="Send it as `Authorization: Bearer …`.")


class TokenList(BaseModel):
    """All tokens, oldest first."""

    tokens: list[TokenInfo]


@router.post("", status_code=201, responses=problems(409))
def create_token(api: Context, admin: Admin, body: TokenRequest) -> NewToken:
    """Create a token. Its secret is in the answer, and nowhere else ever after.

    From the first token on, every call needs one, and control may listen beyond loopback.
    """
    now = api.clock()
    with api.store.write() as session:
        row, secret = auth.create_token(
            session, body.name, Role[body.role], now=now, expert=body.expert
        )
        _audit(session, admin, "token.create", row, now=now)
        info = _info(row)
    return NewToken(**info.model_dump(), secret=secret)


@router.get("", responses=problems())
def list_tokens(api: Context, _: Admin) -> TokenList:
    """List all tokens, revoked ones too."""
    with api.store.read() as session:
        return TokenList(tokens=[_info(row) for row in auth.list_tokens(session)])


@router.delete("/{name}", responses=problems(404, 409))
def revoke_token(api: Context, admin: Admin, name: str) -> TokenInfo:
    """Revoke a token. From the next call on it is worth nothing."""
    now = api.clock()
    with api.store.write() as session:
        row = auth.revoke_token(session, name, now=now)
        _audit(session, admin, "token.revoke", row, now=now)
        return _info(row)


def _audit(session: Session, admin: Principal, action: str, row: TokenRow, *, now: float) -> None:
    record_audit(
        session,
        at=now,
        actor=admin.actor,
        action=action,
        target=row.name,
        detail={"role": row.role, "expert": True} if row.expert else {"role": row.role},
    )


def _info(row: TokenRow) -> TokenInfo:
    return TokenInfo.model_validate(row, from_attributes=True)
