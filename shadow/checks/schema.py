"""JSON Schema validation that is safe with schemas written by strangers.

No reference outside the document is ever fetched, patterns run on a linear-time engine where they
can and with a backtracking limit where they can't, and size and depth are capped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

MAX_SCHEMA_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_ERRORS = 3

_DECODER = msgspec.json.Decoder()


class BadSchema(ValueError):
    """The schema can't be used: too large, too deep, invalid, or it points outside itself."""


class NotJson(ValueError):
    """The text is not one JSON document."""


def parse_json(text: str) -> Any:
    """Parse one whole JSON document (RFC 8259: no NaN, no trailing text). Raises `NotJson`."""
    if text.count("{") + text.count("[") > MAX_DEPTH and _nesting(text) > MAX_DEPTH:
        raise NotJson(f"nested deeper than {MAX_DEPTH}")
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise NotJson(str(error)[:200]) from None


def _nesting(text: str) -> int:
    """Return how deep brackets nest outside strings."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest


def violations(schema: dict[str, Any] | bool, instance: Any) -> list[str]:
    """Return up to three sentences on how `instance` breaks `schema`; empty when it is valid.

    Raises `BadSchema`.
    """
    validator = _validator(_canonical(schema))
    found: list[str] = []
    try:
        for error in validator.iter_errors(instance):
            if "error" in error.kind.as_dict():  # of the regex engine, not of the answer
                raise BadSchema("a pattern of the schema takes too long to match")
            path = "/".join(str(part) for part in error.instance_path)
            found.append(f"{path or 'answer'}: {error.message}"[:200])
            if len(found) == MAX_ERRORS:
                break
    except (ValueError, RecursionError) as error:
        raise BadSchema(_sentence(error)) from None
    return found


def usable(schema: dict[str, Any] | bool) -> None:
    """Raise `BadSchema` where `violations` would."""
    _validator(_canonical(schema))


def _canonical(schema: dict[str, Any] | bool) -> bytes:
    _refuse_deep(schema)
    encoded = msgspec.json.encode(schema, order="sorted")
    if len(encoded) > MAX_SCHEMA_BYTES:
        raise BadSchema(f"the schema is larger than {MAX_SCHEMA_BYTES} bytes")
    return encoded


def _refuse_deep(schema: Any) -> None:
    level = [schema]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below += node.values()
            elif isinstance(node, list):
                below += node
        if not below:
            return
        level = below
    raise BadSchema(f"the schema is nested deeper than {MAX_DEPTH}")


def _refuse_remote(uri: str) -> NoReturn:
    raise ValueError(f"references outside the schema are never fetched: {uri[:100]}")


@lru_cache(maxsize=512)
def _validator(encoded: bytes) -> Any:
    schema = _DECODER.decode(encoded)
    try:
        return jsonschema_rs.validator_for(
            schema,
            mask="the value",  # reasons are shown and exported; answers may hold private text
            retriever=_refuse_remote,
            pattern_options=jsonschema_rs.FancyRegexOptions(
                backtrack_limit=100_000, size_limit=1_000_000
            ),
        )
    except (ValueError, jsonschema_rs.ReferencingError, RecursionError) as error:
        raise BadSchema(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
