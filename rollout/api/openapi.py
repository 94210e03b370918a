"""The OpenAPI document: FastAPI's, with our errors and the bearer token in it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from rollout.api.gatekeeper import OPEN_PATHS
from rollout.api.problems import Problem

__all__ = ["install_openapi"]

_TAGS = [
    {"name": "rollouts", "description": "What is being rolled out, and why it is where it is."},
    {"name": "operations", "description": "Decisions of people. Each is audited."},
    {"name": "outcomes", "description": "What came of requests later, as applications know it."},
    {"name": "judge", "description": "Whether the judge can be trusted."},
    {"name": "fleet", "description": "Routes, deployments and the processes that serve."},
    {"name": "reviews", "description": "What people say about pairs, blind, and what it comes to."},
    {"name": "panel", "description": "What moved with the candidate, and the samples behind it."},
    {"name": "exports", "description": "Pairs to train on and to evaluate with."},
    {"name": "audit", "description": "Who did what."},
    {"name": "privacy", "description": "Deleting what is stored of a user."},
    {"name": "tokens", "description": "Who may do what."},
    {"name": "health", "description": "Probes and metrics; no token needed."},
]


def install_openapi(app: FastAPI) -> None:
    """Make ``app.openapi()`` return the full document, built once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=_TAGS,
    )
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    schemas |= problem.pop("$defs", {})
    schemas[Problem.__name__] = problem
    parts["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token (cm_…). Not needed on loopback until the first token exists.",
        }
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            # The first line of the function's docstring says it better than the function's name.
            operation["summary"] = operation["description"].partition("\n")[0].rstrip(".")
            if path not in OPEN_PATHS:
                operation["security"] = [{"token": []}]
    return document
