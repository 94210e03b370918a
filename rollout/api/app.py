"""The admin API as one ASGI application."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from gateway.settings import Settings
from gateway.store import Store
from rollout.api import (
    audit,
    comparing,
    docs_page,
    exports,
    fleet,
    gateways,
    health,
    judge,
    judging,
    operations,
    outcomes,
    pairs,
    panel,
    plans,
    privacy,
    replays,
    review_exchange,
    reviews,
    rollouts,
    tokens,
)
from rollout.api.context import Api
from rollout.api.gatekeeper import Gatekeeper
from rollout.api.openapi import install_openapi
from rollout.api.problems import install_handlers
from rollout.service import RolloutService

__all__ = ["API_PREFIX", "create_app"]

API_PREFIX = "/api/v1"


def create_app(
    settings: Settings,
    store: Store,
    service: RolloutService,
    controller: Any = None,
    metrics: CollectorRegistry | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Build the admin API.

    ``service`` carries out operations on rollouts. ``controller``, where given, runs as long as
    the application does: its ``start()`` is awaited before the first request, its ``stop()`` after
    the last. ``metrics`` is the registry behind ``/metrics``. ``clock`` returns Unix seconds.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if controller is not None:
            await controller.start()
        try:
            yield
        finally:
            if controller is not None:
                await controller.stop()

    app = FastAPI(
        title="Coalmine admin API",
        version=version("coalmine"),
        description="Rollouts of language models: apply, watch, decide, and see why.",
        openapi_url=f"{API_PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    app.state.api = Api(settings=settings, store=store, service=service, clock=clock)
    app.state.registry = metrics if metrics is not None else CollectorRegistry()
    install_handlers(app)
    api = APIRouter(prefix=API_PREFIX)
    for part in (rollouts, comparing, replays, plans, pairs, judging, panel, operations, outcomes):
        api.include_router(part.router)
    for part in (judge, reviews, review_exchange, exports, fleet, gateways, audit, tokens, privacy):
        api.include_router(part.router)
    api.include_router(exports.schemas)
    app.include_router(api)
    app.include_router(health.router)
    app.include_router(docs_page.router)
    install_openapi(app)
    app.add_middleware(Gatekeeper, store=store, host=settings.control.host, clock=clock)
    return app


def _operation_id(route: APIRoute) -> str:
    """Return the function's name: stable, and what a generated client's method is called."""
    return route.name
