"""The gateways: which settings they serve by, and having them read those again.

Control and gateways talk through the store only: a reload is a number there, which gateways follow
and acknowledge in their own rows.
"""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from gateway.store.reloads import ask_reload
from gateway.store.tables import ReplicaRow
from rollout.api.context import Api, Context, Operator, Viewer, problems
from rollout.audit import record_audit
from rollout.draining import ALIVE_S

__all__ = [
    "GatewayInfo",
    "GatewayList",
    "ReloadFailure",
    "ReloadInfo",
    "ReloadRequest",
    "ReloadResult",
    "router",
]

router = APIRouter(prefix="/gateways", tags=["fleet"])

_POLL_S = 0.05


class ReloadInfo(BaseModel):
    """What came of a gateway's last attempt to read its settings again."""

    at: float = Field(description="When, in Unix seconds.")
    error: str | None = Field(description="Why the settings stayed as they were; null: they serve.")
    needs_restart: list[str] = Field(
        description="Settings that have changed and wait for a restart of the gateway."
    )


class GatewayInfo(BaseModel):
    """A gateway process."""

    id: str
    host: str
    pid: int
    started_at: float = Field(description="Unix seconds.")
    heartbeat_at: float = Field(description="Its last sign of life, in Unix seconds.")
    alive: bool
    revisions: dict[str, int] = Field(description="The split revision served, by route.")
    settings_hash: str | None = Field(
        description="Gateways with the same hash serve by the same settings; null: not reported."
    )
    reload_number: int | None = Field(
        description="The last reload asked for through the API that it has dealt with."
    )
    last_reload: ReloadInfo | None = Field(description="Null: it has what it was started with.")


class GatewayList(BaseModel):
    """Gateways that have not been stopped, newest first."""

    gateways: list[GatewayInfo]


class ReloadRequest(BaseModel):
    """Why a reload is asked for."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=2000, description="Why; kept in the audit log.")


class ReloadFailure(BaseModel):
    """A gateway that serves on by what it had."""

    id: str
    error: str = Field(description="What is wrong with the settings, and with which one.")


class ReloadResult(BaseModel):
    """What the living gateways said before the answer was due."""

    number: int = Field(description="Number of this reload; gateways acknowledge it.")
    applied: list[str] = Field(description="Gateways that serve by the settings as they are now.")
    failed: list[ReloadFailure] = Field(description="Gateways that refused the settings.")
    waiting: list[str] = Field(description="Gateways that had not said anything yet.")
    needs_restart: list[str] = Field(
        description="Settings that have changed and wait for a restart of a gateway."
    )


@router.get("", responses=problems())
def list_gateways(api: Context, _: Viewer) -> GatewayList:
    """List the gateways, which settings they serve by, and what their last reload came to."""
    now = api.clock()
    with api.store.read() as session:
        rows = _gateways(session)
    return GatewayList(gateways=[_info(row, now) for row in rows])


@router.post("/reload", responses=problems(400))
def reload_gateways(
    api: Context,
    operator: Operator,
    body: ReloadRequest | None = None,
    *,
    wait: Annotated[
        float, Query(ge=0, le=20, description="Seconds to wait for the gateways' answers.")
    ] = 5.0,
) -> ReloadResult:
    """Have every gateway read its settings again, and say which of them serve by them now.

    Each reads its own file and environment. Requests under way end on what they began with; wrong
    settings change nothing. Gateways that are slow, or can't reach the store, carry it out later.
    """
    now = api.clock()
    with api.store.write() as session:
        number = ask_reload(api.store, session, by=operator.actor.name, now=now).number or 0
        record_audit(
            session,
            at=now,
            actor=operator.actor,
            action="gateways.reload",
            target="gateways",
            detail={"number": number, "reason": body.reason if body else ""},
        )
        asked = [row.id for row in _gateways(session) if _alive(row, now)]
    deadline = time.monotonic() + wait
    result = _result(api, number, asked)
    while result.waiting and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        result = _result(api, number, asked)
    return result


def _result(api: Api, number: int, asked: list[str]) -> ReloadResult:
    """Return what the gateways that were asked have said so far."""
    with api.store.read() as session:
        said = {row.id: row.settings or {} for row in _gateways(session) if row.id in asked}
    result = ReloadResult(number=number, applied=[], failed=[], waiting=[], needs_restart=[])
    for name, settings in said.items():
        if (settings.get("number") or 0) < number:
            result.waiting.append(name)
        elif settings["error"] is not None:
            result.failed.append(ReloadFailure(id=name, error=settings["error"]))
        else:
            result.applied.append(name)
            result.needs_restart = sorted({*result.needs_restart, *settings["needs_restart"]})
    return result


def _gateways(session: Session) -> list[ReplicaRow]:
    query = select(ReplicaRow).where(
        ReplicaRow.role == "gateway", col(ReplicaRow.stopped_at).is_(None)
    )
    return list(session.exec(query.order_by(col(ReplicaRow.started_at).desc())).all())


def _alive(row: ReplicaRow, now: float) -> bool:
    return now - row.heartbeat_at <= ALIVE_S


def _info(row: ReplicaRow, now: float) -> GatewayInfo:
    settings = row.settings or {}
    last = None
    if settings.get("at") is not None:
        last = ReloadInfo(
            at=settings["at"], error=settings["error"], needs_restart=settings["needs_restart"]
        )
    return GatewayInfo(
        id=row.id,
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        alive=_alive(row, now),
        revisions={route: applied["revision"] for route, applied in sorted(row.revisions.items())},
        settings_hash=settings.get("hash"),
        reload_number=settings.get("number"),
        last_reload=last,
    )
