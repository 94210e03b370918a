"""Turning Pydantic's findings into one sentence that names the field and the remedy."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gateway.errors import SpecError

__all__ = ["spec_error"]


def spec_error(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """Return the first finding as a :class:`SpecError`, with the number of further ones."""
    finding = error.errors(include_url=False)[0]
    path = finding["loc"]
    field = ".".join(str(part) for part in path) or None
    kind = finding["type"]
    message = finding["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = _unknown(str(path[-1]), _fields(model, path[:-1]))
    elif kind == "missing":
        message = "is missing; add it"
    elif kind == "model_type" or kind.endswith("dict_type"):
        message = f"must be a mapping with: {', '.join(_fields(model, path)) or 'keys and values'}"
    elif message.startswith("Input should be"):
        message = f"is {_brief(finding['input'])}; it {message.removeprefix('Input ')}"
    elif kind == "value_error" and ": " in message and message.split(": ")[0].count(" ") == 0:
        # A rule over several fields names the field itself.
        inner, _, message = message.partition(": ")
        field = f"{field}.{inner}" if field else inner
    further = error.error_count() - 1
    if further:
        message += f" (and {further} more)"
    return SpecError(message, field=field)


def _brief(value: Any) -> str:
    # A few lines of YAML can mean a billion values: only the first ones are ever written out.
    shown = reprlib.Repr()
    shown.maxlevel = 2
    return f"{shown.repr(value):.60}"


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"is not known here; did you mean {close[0]}?"
    return f"is not known here; known are: {', '.join(known)}"


def _fields(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Return the field names of the model at ``path``."""
    at: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or at is None:
            continue
        field = at.model_fields.get(part)
        at = None if field is None else _model_in(field.annotation)
    return [] if at is None else list(at.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
