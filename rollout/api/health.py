"""Probes and metrics: read without a token."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel

from gateway.errors import StoreUnavailable
from rollout.api.context import Context, problems

__all__ = ["Health", "router"]

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """A sign of life."""

    status: Literal["ok"]


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the process is alive. Asks nothing of the store."""
    return Health(status="ok")


@router.get("/readyz", responses={503: problems()[503]})
def readyz(api: Context) -> Health:
    """Say whether control can serve: the store answers and its tables are current."""
    api.store.ping()
    if not api.store.is_current():
        raise StoreUnavailable("the store's tables are not of this version; run: store migrate")
    return Health(status="ok")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Return control's metrics in Prometheus' text form."""
    registry: CollectorRegistry = request.app.state.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
