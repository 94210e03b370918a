"""Which route and which arm a request goes to. No I/O; the clock is a parameter."""

from __future__ import annotations

from gateway.errors import RequestError
from gateway.inbound import Inbound
from gateway.routes import RouteState, RouteTable
from gateway.split import Assignment
from gateway.wire import multipart_model, peek

__all__ = ["choose_arm", "find_route"]

_DEFAULT = Assignment("baseline", "default")
_BREAKER = Assignment("baseline", "breaker")
_FORCED = {
    b"baseline": Assignment("baseline", "forced"),
    b"candidate": Assignment("candidate", "forced"),
}


def find_route(table: RouteTable, inbound: Inbound) -> tuple[RouteState, bool]:
    """Return the route of a request, and whether the request itself names it.

    The model stands in a JSON body or in a multipart form. A request without a model (a file, a
    batch, a GET) goes to the first route's baseline as it is, unless its endpoint needs a model.
    Raises :class:`RequestError` for bodies that are no JSON where they must be, a missing model
    and an unknown one.
    """
    model: str | None = None
    if inbound.inference or inbound.method == b"POST":
        content_type = inbound.raw.get(b"content-type", b"")
        if content_type.startswith(b"multipart/"):
            found = multipart_model(inbound.body)
            model = None if found is None else found[0]
        elif inbound.inference:
            peeked = inbound.peeked = peek(inbound.body)
            model = peeked.model
            if model is None:
                raise RequestError(
                    "The body must have a 'model': the name of a route; GET /v1/models lists them.",
                    code="missing_required_parameter",
                    param="model",
                )
        elif b"json" in content_type:
            try:
                inbound.peeked = peek(inbound.body)
            except RequestError:
                pass  # the upstream knows this endpoint better than we do
            else:
                model = inbound.peeked.model
    if model is not None:
        return table.routes.get(model) or table.find(model), True
    if table.default is None:
        raise RequestError(
            "No route is declared; add one under 'routes' in coalmine.yaml.",
            status=404,
            code="no_route",
        )
    return table.default, False


def choose_arm(route: RouteState, inbound: Inbound, *, now: float) -> Assignment:
    """Assign a request to an arm: forced, then eligible, then by the split, then the breaker.

    Fills in what else a rollout wants to know of the request. Raises :class:`RequestError` where a
    variant is forced that may not or can't be.
    """
    if route.targeting is not None:
        route.targeting.describe(inbound)
    forced = inbound.raw.get(b"x-coalmine-force-variant")
    if forced is not None:
        chosen = _forced(route, inbound, forced)
    elif route.assigner is None:
        return _DEFAULT
    else:
        chosen = route.assigner.assign(inbound.targeting_key, inbound.eligible, inbound.key)
    if chosen.variant == "candidate" and route.breaker.open and not route.breaker.admits(now):
        return _BREAKER
    return chosen


def _forced(route: RouteState, inbound: Inbound, forced: bytes) -> Assignment:
    if not inbound.caller.may_force_variant:
        raise RequestError(
            "This client may not force a variant; its settings need 'may_force_variant: true'.",
            status=403,
            type="permission_error",
            code="force_variant_denied",
            param="x-coalmine-force-variant",
        )
    chosen = _FORCED.get(forced.strip().lower())
    if chosen is None:
        raise RequestError(
            "The header must say 'baseline' or 'candidate'.",
            code="invalid_value",
            param="x-coalmine-force-variant",
        )
    if chosen.variant == "candidate" and route.candidate is None:
        raise RequestError(
            f"The route {route.name!r} has no candidate at present.",
            code="no_candidate",
            param="x-coalmine-force-variant",
        )
    return chosen
