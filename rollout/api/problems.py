"""Errors of the admin API, as RFC 9457 problem details.

Every error that Coalmine raises on purpose has exactly one entry in :data:`PROBLEMS`; a test
fails when an error is added without one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gateway import errors

__all__ = [
    "MEDIA_TYPE",
    "PROBLEMS",
    "FieldProblem",
    "Problem",
    "ProblemKind",
    "error_response",
    "install_handlers",
    "kind_of",
    "problem_response",
]

MEDIA_TYPE = "application/problem+json"

_LOG = logging.getLogger(__name__)
_PLACES = frozenset({"body", "query", "path", "header", "cookie"})


class FieldProblem(BaseModel):
    """One wrong field of a request."""

    field: str = Field(description="Dotted path of the field.")
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})

    type: str = Field(description="Kind of error: urn:coalmine:problem:KIND. Programs test this.")
    title: str = Field(description="The kind in words; the same for all errors of the kind.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong here, and what would be right.")
    field: str | None = Field(None, description="The wrong field, where there is one.")
    errors: list[FieldProblem] | None = Field(None, description="All wrong fields, where several.")


class ProblemKind(NamedTuple):
    """The part of a problem that is the same for all errors of a class."""

    status: int
    kind: str
    title: str


PROBLEMS: Mapping[type[errors.CoalmineError], ProblemKind] = {
    errors.CoalmineError: ProblemKind(500, "internal", "Something failed inside"),
    errors.SettingsError: ProblemKind(500, "settings", "A setting is wrong"),
    errors.SpecError: ProblemKind(422, "spec", "The spec is wrong"),
    errors.TransitionError: ProblemKind(409, "transition", "Not possible in this phase"),
    errors.NotFound: ProblemKind(404, "not-found", "Nothing of that name"),
    errors.Forbidden: ProblemKind(403, "forbidden", "The token's role does not allow it"),
    errors.StoreError: ProblemKind(500, "store", "The store failed"),
    errors.StoreUnavailable: ProblemKind(503, "store-unavailable", "The store can't be reached"),
    errors.Conflict: ProblemKind(409, "conflict", "Changed by someone else meanwhile"),
    errors.RequestError: ProblemKind(400, "request", "The request can't be served"),
    errors.UpstreamError: ProblemKind(502, "upstream", "A deployment failed"),
    errors.ConnectFailed: ProblemKind(502, "upstream-connect", "A deployment can't be reached"),
    errors.UpstreamTimeout: ProblemKind(504, "upstream-timeout", "A deployment is too slow"),
    errors.UpstreamClosed: ProblemKind(502, "upstream-closed", "A deployment hung up"),
    errors.UpstreamProtocolError: ProblemKind(
        502, "upstream-protocol", "A deployment sent no HTTP"
    ),
}
"""Status, kind and title of every error. The only place where errors become statuses."""

_HTTP_KINDS: Mapping[int, ProblemKind] = {
    kind.status: kind
    for kind in (
        ProblemKind(400, "bad-request", "The request can't be read"),
        ProblemKind(401, "unauthorized", "A valid token is needed"),
        ProblemKind(403, "forbidden", "Not allowed"),
        ProblemKind(404, "not-found", "Nothing at this address"),
        ProblemKind(405, "method-not-allowed", "This method is not possible here"),
        ProblemKind(413, "too-large", "The body is too large"),
        ProblemKind(415, "media-type", "The body's content type is not understood"),
        ProblemKind(422, "invalid", "A field is missing or wrong"),
        ProblemKind(500, "internal", "Something failed inside"),
    )
}


def kind_of(error: errors.CoalmineError) -> ProblemKind:
    """Return the entry of the error's class, or of the nearest class above it."""
    kind = next(PROBLEMS[each] for each in type(error).__mro__ if each in PROBLEMS)
    if isinstance(error, errors.RequestError):
        return _HTTP_KINDS.get(error.status) or kind._replace(status=error.status)
    return kind


def problem_response(
    status: int,
    detail: str,
    *,
    field: str | None = None,
    findings: Sequence[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
    kind: ProblemKind | None = None,
) -> JSONResponse:
    """Build the response of a problem that no exception stands for."""
    kind = kind or _HTTP_KINDS.get(status) or _plain(status)
    problem = Problem(
        type=f"urn:coalmine:problem:{kind.kind}",
        title=kind.title,
        status=status,
        detail=detail,
        field=field,
        errors=list(findings) if findings else None,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=dict(headers or {}),
    )


def error_response(error: errors.CoalmineError) -> JSONResponse:
    """Build the response of an error; what is not the client's fault is logged."""
    kind = kind_of(error)
    if kind.status >= 500:
        _LOG.error("%s: %s", kind.title, error)
    headers = {"retry-after": "1"} if kind.status == 503 else {}
    return problem_response(
        kind.status, error.message, field=error.field, headers=headers, kind=kind
    )


def install_handlers(app: FastAPI) -> None:
    """Make every error of ``app``, its framework's included, a problem."""
    app.add_exception_handler(errors.CoalmineError, _coalmine_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _coalmine_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, errors.CoalmineError):
        raise error
    return error_response(error)


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        reason = found[0].get("ctx", {}).get("error", "it can't be parsed")
        return problem_response(400, f"the body is not JSON: {reason}")
    findings = [FieldProblem(field=_path(each["loc"]), message=_message(each)) for each in found]
    first = findings[0]
    detail = f"{first.field} {first.message}" if first.field else first.message
    if len(findings) > 1:
        detail += f" (and {len(findings) - 1} more)"
    return problem_response(
        422,
        detail,
        field=first.field or None,
        findings=findings if len(findings) > 1 else None,
    )


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}; /docs lists all addresses"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method} is not possible at {request.url.path}; possible: {allowed}"
    return problem_response(error.status_code, detail, headers=error.headers)


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    # Starlette raises the error again after this answer, so that the server logs its traceback.
    return problem_response(500, "an unexpected error; the log of control has its traceback")


def _path(location: Sequence[int | str]) -> str:
    parts = location[1:] if location and location[0] in _PLACES else location
    return ".".join(str(part) for part in parts)


def _message(finding: Mapping[str, Any]) -> str:
    if finding["type"] == "missing":
        return "is missing; add it" if len(finding["loc"]) > 1 else "the body is missing"
    if finding["type"] == "extra_forbidden":
        return "is not known here; leave it out"
    message = str(finding["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _plain(status: int) -> ProblemKind:
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    return ProblemKind(status, f"http-{status}", title)
