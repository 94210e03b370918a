"""Changing rollouts: applying a spec, and the decisions of people.

Each operation is one transaction of the service, which writes the audit log too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import RequestError, SpecError
from rollout.api.context import Context, Operator, Viewer, problems
from rollout.api.models import Applied, RolloutSummary
from rollout.api.rollouts import load_summary
from rollout.spec_schema import spec_json_schema

__all__ = ["SPEC_BODY", "Change", "WeightChange", "parse_spec", "router", "spec_body"]

router = APIRouter(tags=["operations"])

_YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})


class Change(BaseModel):
    """Why, and on what condition."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=2000, description="Why; kept in the receipt.")
    if_revision: int | None = Field(
        None,
        strict=True,
        description="Only if the rollout is still at this revision; otherwise 409.",
    )


class WeightChange(Change):
    """A weight set by hand."""

    weight: float = Field(
        strict=True, ge=0, le=100, description="The candidate's share, in percent."
    )


async def spec_body(request: Request) -> tuple[str, bytes]:
    """Return the media type and the bytes of a body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind, await request.body()


SPEC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The spec; GET /api/v1/spec-schema returns its JSON Schema.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/yaml": {"schema": {"type": "string"}},
        },
    }
}


@router.get("/spec-schema", responses=problems())
def spec_schema(_: Viewer) -> dict[str, Any]:
    """Return the JSON Schema of a rollout's spec, for editors and checks."""
    return spec_json_schema()


@router.post(
    "/rollouts",
    status_code=201,
    responses={
        **problems(400, 409, 413, 415),
        200: {"model": Applied, "description": "The same spec was there already."},
    },
    openapi_extra=SPEC_BODY,
)
def apply_rollout(
    api: Context,
    operator: Operator,
    body: Annotated[tuple[str, bytes], Depends(spec_body)],
    response: Response,
    *,
    start: Annotated[
        bool, Query(description="Start it at once; false: it waits for start.")
    ] = True,
    reason: Annotated[str, Query(max_length=2000, description="Why; kept in the log.")] = "",
) -> Applied:
    """Apply a spec, as JSON or YAML: a new rollout, or the next generation of one, is started.

    An unfinished generation of the same name is superseded and loses its traffic. Applying what
    is already there changes nothing and answers 200.
    """
    applied = api.service.apply(parse_spec(*body), actor=operator.actor, reason=reason, start=start)
    if not applied.created:
        response.status_code = 200
    return Applied(
        created=applied.created,
        warnings=list(applied.warnings),
        rollout=load_summary(api, applied.record),
    )


@router.post("/rollouts/{name}/start", responses=problems(404, 409))
def start_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """Start a pending rollout. Refused for a candidate revision that was rolled back."""
    return _done(api, operator, "start", name, body)


@router.post("/rollouts/{name}/pause", responses=problems(404, 409))
def pause_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """Pause the automation. Traffic stays as it is, and proven harm still rolls back."""
    return _done(api, operator, "pause", name, body)


@router.post("/rollouts/{name}/resume", responses=problems(404, 409))
def resume_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """Go on in the step where the rollout was paused, at the step's weight."""
    return _done(api, operator, "resume", name, body)


@router.post("/rollouts/{name}/approve", responses=problems(404, 409))
def approve_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """Approve the step that waits for an approval."""
    return _done(api, operator, "approve", name, body)


@router.post("/rollouts/{name}/promote", responses=problems(404, 409))
def promote_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """Make the candidate the baseline now, on the operator's responsibility."""
    return _done(api, operator, "promote", name, body)


@router.post("/rollouts/{name}/abort", responses=problems(404, 409))
def abort_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """End the rollout and take its traffic away. Always wins over the automation."""
    return _done(api, operator, "abort", name, body)


@router.post("/rollouts/{name}/retry", responses=problems(404, 409))
def retry_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """Start a new generation, with fresh evidence, of what was rolled back or aborted."""
    return _done(api, operator, "retry", name, body)


@router.post("/rollouts/{name}/rollback", responses=problems(404, 409))
def rollback_rollout(
    api: Context, operator: Operator, name: str, body: Change | None = None
) -> RolloutSummary:
    """Take all traffic off the candidate; after a promotion, return to the former baseline."""
    return _done(api, operator, "rollback", name, body)


@router.put("/rollouts/{name}/weight", responses=problems(404, 409))
def set_weight(api: Context, operator: Operator, name: str, body: WeightChange) -> RolloutSummary:
    """Set the candidate's weight by hand. Pauses the automation; a new assignment epoch."""
    return _done(api, operator, "set_weight", name, body, weight=body.weight)


def _done(
    api: Context,
    operator: Operator,
    operation: str,
    name: str,
    body: Change | None,
    **arguments: Any,
) -> RolloutSummary:
    change = body or Change(reason="", if_revision=None)
    record = getattr(api.service, operation)(
        name,
        actor=operator.actor,
        reason=change.reason,
        if_revision=change.if_revision,
        **arguments,
    )
    return load_summary(api, record)


def parse_spec(kind: str, body: bytes) -> str | Mapping[str, Any]:
    """Return the spec as text (YAML) or as a mapping (JSON)."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise RequestError("the body is not UTF-8", status=400) from None
    if kind in _YAML_TYPES:
        return text
    if kind != "application/json":
        raise RequestError(
            f"the body's type is {kind or 'not given'!r}; "
            "send application/json or application/yaml",
            status=415,
        )
    try:
        document = json.loads(text)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}", status=400) from None
    except RecursionError:
        raise RequestError("the body is nested too deeply", status=400) from None
    if not isinstance(document, dict):
        raise SpecError("the spec must be a mapping; begin with `kind: Rollout`")
    return document
