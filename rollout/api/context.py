"""What every endpoint of the admin API can ask for: the store, the settings, who is calling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from gateway.errors import Forbidden
from gateway.settings import Settings
from gateway.store import Store
from rollout.api.auth import Principal, Role
from rollout.api.problems import MEDIA_TYPE, Problem
from rollout.service import RolloutService

__all__ = [
    "Admin",
    "Api",
    "Context",
    "Operator",
    "Reviewer",
    "Viewer",
    "problems",
]


@dataclass(frozen=True, slots=True)
class Api:
    """What the endpoints work with. ``clock`` returns Unix seconds."""

    settings: Settings
    store: Store
    service: RolloutService
    clock: Callable[[], float]


def _api(request: Request) -> Api:
    api: Api = request.app.state.api
    return api


def _require(role: Role) -> Callable[[Request], Principal]:
    def check(request: Request) -> Principal:
        principal: Principal = request.state.principal
        if principal.role < role:
            raise Forbidden(
                f"{principal.name!r} is {principal.role.name}; this needs the role {role.name}"
            )
        return principal

    return check


Context = Annotated[Api, Depends(_api)]
Viewer = Annotated[Principal, Depends(_require(Role.viewer))]
Reviewer = Annotated[Principal, Depends(_require(Role.reviewer))]
Operator = Annotated[Principal, Depends(_require(Role.operator))]
Admin = Annotated[Principal, Depends(_require(Role.admin))]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these error statuses, and of those that any call may have."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {"description": _MEANING[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({401, 403, 422, 503, *statuses})
    }


_MEANING = {
    400: "The body can't be read.",
    401: "A token is needed, and there is none or an unknown one.",
    403: "The token's role does not allow it, or a tokenless request is not the local user's.",
    404: "Nothing of that name.",
    409: "Not possible in the present phase, or changed by someone else meanwhile.",
    413: "The body is too large.",
    415: "The body's content type is not understood.",
    422: "A field is missing or wrong.",
    503: "The store can't be reached; try again.",
}
