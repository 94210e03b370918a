"""What is deployed and which split is served where: routes, deployments, replicas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from gateway.errors import NotFound
from gateway.settings import Contract, Deployment, Route, Settings
from gateway.split import Split
from gateway.store.splits import load_split, load_splits
from gateway.store.tables import ReplicaRow
from rollout.api.context import Context, Viewer, problems
from rollout.draining import ALIVE_S
from rollout.traffic import effective_baseline

__all__ = [
    "DeploymentInfo",
    "DeploymentList",
    "MirrorInfo",
    "ReplicaInfo",
    "ReplicaList",
    "RouteInfo",
    "RouteList",
    "RouteReplica",
    "router",
]

router = APIRouter(tags=["fleet"])


class MirrorInfo(BaseModel):
    """A rollout that shadows on the route."""

    rollout: str
    candidate: str
    percentage: float = Field(description="Share of eligible requests mirrored, in percent.")
    noise_probe: float = Field(description="Share of those sent to the baseline again, percent.")


class RouteReplica(BaseModel):
    """A gateway process, and what it serves on one route."""

    id: str
    host: str
    alive: bool
    revision: int | None = Field(description="The split's revision that it serves; null: none.")
    applied_at: float | None = Field(description="Since when, in Unix seconds.")
    last_candidate_at: float | None = Field(
        description="When it last sent a request to the candidate, in Unix seconds."
    )
    is_current: bool = Field(description="Whether it serves the newest revision.")


class RouteInfo(BaseModel):
    """A public model name, and what serves it now."""

    name: str
    baseline: str = Field(description="Deployment that serves as baseline now.")
    declared_baseline: str | None = Field(description="The settings' baseline; null: undeclared.")
    former_baseline: str | None = Field(description="Where a rollback after promotion returns to.")
    candidate: str | None
    rollout: str | None = Field(description="The rollout that holds live traffic.")
    weight: float = Field(description="The candidate's share, in percent.")
    revision: int = Field(description="Revision of the split; 0: no rollout ever touched it.")
    epoch: int = Field(description="Grows when the assignment of users starts anew.")
    updated_at: float | None = Field(description="When the split was written, in Unix seconds.")
    reason: str
    mirrors: list[MirrorInfo]
    replicas: list[RouteReplica]
    time_to_zero: float | None = Field(
        description="Seconds from writing weight 0 until the last living gateway had stopped "
        "sending requests to the candidate; null: the weight is not 0, or not all have applied it."
    )
    contract: Contract | None = Field(description="What every answer must satisfy.")


class RouteList(BaseModel):
    """All routes by name."""

    routes: list[RouteInfo]


class DeploymentInfo(BaseModel):
    """A model behind an API. Keys are never shown, only the variable that holds one."""

    name: str
    base_url: str
    model: str
    revision: str = Field(description="SHA-256 of the manifest: the identity that evidence is of.")
    manifest: dict[str, Any]
    parameters: dict[str, Any]
    system_prompt: str | None
    api_key_env: str | None = Field(description="Name of the variable that holds the key.")
    used_as: list[str] = Field(description="baseline of ROUTE, candidate of ROUTE, judge.")


class DeploymentList(BaseModel):
    """All deployments by name."""

    deployments: list[DeploymentInfo]


class ReplicaInfo(BaseModel):
    """A running process."""

    id: str
    role: str
    host: str
    pid: int
    started_at: float = Field(description="Unix seconds.")
    heartbeat_at: float = Field(description="Its last sign of life, in Unix seconds.")
    alive: bool
    revisions: dict[str, int] = Field(description="Gateways: the split revision served, by route.")


class ReplicaList(BaseModel):
    """All processes, newest first."""

    replicas: list[ReplicaInfo]


@router.get("/routes", responses=problems())
def list_routes(api: Context, _: Viewer) -> RouteList:
    """List the routes with their splits and the replicas that serve them."""
    with api.store.read() as session:
        splits, replicas = load_splits(session), _replicas(session)
    now = api.clock()
    names = sorted({*api.settings.routes, *splits})
    return RouteList(
        routes=[
            _route(name, api.settings.routes.get(name), splits.get(name), replicas, now)
            for name in names
        ]
    )


@router.get("/routes/{name:path}", responses=problems(404))
def show_route(api: Context, _: Viewer, name: str) -> RouteInfo:
    """Show a route's split, which replica serves which revision, and the time to zero."""
    with api.store.read() as session:
        split, replicas = load_split(session, name), _replicas(session)
    declared = api.settings.routes.get(name)
    if declared is None and split is None:
        known = ", ".join(sorted(api.settings.routes)) or "none"
        raise NotFound(f"there is no route called {name!r}; declared are: {known}", field="name")
    return _route(name, declared, split, replicas, api.clock())


@router.get("/deployments", responses=problems())
def list_deployments(api: Context, _: Viewer) -> DeploymentList:
    """List the deployments with their manifests and revisions."""
    with api.store.read() as session:
        splits = load_splits(session)
    return DeploymentList(
        deployments=[
            _deployment(name, deployment, _uses(api.settings, splits, name))
            for name, deployment in sorted(api.settings.deployments.items())
        ]
    )


@router.get("/replicas", responses=problems())
def list_replicas(api: Context, _: Viewer) -> ReplicaList:
    """List gateways, workers and controls that have reported themselves."""
    with api.store.read() as session:
        rows = session.exec(select(ReplicaRow).order_by(col(ReplicaRow.started_at).desc())).all()
    now = api.clock()
    return ReplicaList(
        replicas=[
            ReplicaInfo(
                id=row.id,
                role=row.role,
                host=row.host,
                pid=row.pid,
                started_at=row.started_at,
                heartbeat_at=row.heartbeat_at,
                alive=_alive(row, now),
                revisions={
                    route: applied["revision"] for route, applied in sorted(row.revisions.items())
                },
            )
            for row in rows
        ]
    )


def _replicas(session: Session) -> list[ReplicaRow]:
    query = select(ReplicaRow).where(
        ReplicaRow.role == "gateway", col(ReplicaRow.stopped_at).is_(None)
    )
    return list(session.exec(query.order_by(col(ReplicaRow.id))).all())


def _alive(row: ReplicaRow, now: float) -> bool:
    return row.stopped_at is None and now - row.heartbeat_at <= ALIVE_S


def _route(
    name: str,
    declared: Route | None,
    split: Split | None,
    replicas: Iterable[ReplicaRow],
    now: float,
) -> RouteInfo:
    shown = split or Split(route=name, revision=0, baseline=declared.baseline if declared else "")
    baseline = effective_baseline(split, name, {name: declared}) if declared else shown.baseline
    served = [_served(row, name, shown.revision, now) for row in replicas]
    return RouteInfo(
        name=name,
        baseline=baseline,
        declared_baseline=declared.baseline if declared else None,
        former_baseline=shown.former_baseline,
        candidate=shown.candidate,
        rollout=shown.rollout,
        weight=shown.weight_bp / 100,
        revision=shown.revision,
        epoch=shown.epoch,
        updated_at=shown.updated_at or None,
        reason=shown.reason,
        mirrors=[
            MirrorInfo(
                rollout=mirror.rollout,
                candidate=mirror.candidate,
                percentage=mirror.percentage_bp / 100,
                noise_probe=mirror.noise_bp / 100,
            )
            for mirror in shown.mirrors
        ],
        replicas=served,
        time_to_zero=_time_to_zero(shown, served),
        contract=declared.contract if declared else None,
    )


def _served(row: ReplicaRow, route: str, revision: int, now: float) -> RouteReplica:
    applied: Mapping[str, Any] = row.revisions.get(route) or {}
    return RouteReplica(
        id=row.id,
        host=row.host,
        alive=_alive(row, now),
        revision=applied.get("revision"),
        applied_at=applied.get("applied_at"),
        last_candidate_at=applied.get("last_candidate_at"),
        is_current=revision == 0 or applied.get("revision") == revision,
    )


def _time_to_zero(split: Split, replicas: Iterable[RouteReplica]) -> float | None:
    living = [replica for replica in replicas if replica.alive]
    if split.weight_bp or not split.revision or not living:
        return None
    if not all(replica.is_current for replica in living):
        return None
    # A replica that applied the split late has sent its last request before it did so.
    applied = max(replica.applied_at or 0.0 for replica in living)
    sent = max(replica.last_candidate_at or 0.0 for replica in living)
    return max(0.0, applied - split.updated_at, sent - split.updated_at)


def _deployment(name: str, deployment: Deployment, used_as: list[str]) -> DeploymentInfo:
    return DeploymentInfo(
        name=name,
        base_url=deployment.base_url,
        model=deployment.model,
        revision=deployment.revision(),
        manifest=deployment.manifest.model_dump(mode="json", exclude_none=True),
        parameters=deployment.parameters,
        system_prompt=deployment.system_prompt,
        api_key_env=deployment.api_key_env,
        used_as=used_as,
    )


def _uses(settings: Settings, splits: Mapping[str, Split], name: str) -> list[str]:
    uses = []
    for route in sorted({*settings.routes, *splits}):
        split = splits.get(route)
        if route in settings.routes and effective_baseline(split, route, settings.routes) == name:
            uses.append(f"baseline of {route}")
        if split is not None and split.candidate == name:
            uses.append(f"candidate of {route}")
        if split is not None and any(mirror.candidate == name for mirror in split.mirrors):
            uses.append(f"mirrored on {route}")
    if settings.judge is not None and settings.judge.deployment == name:
        uses.append("judge")
    return uses
