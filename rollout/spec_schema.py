"""The spec's JSON Schema, for editors and for clients of the admin API."""

from __future__ import annotations

import json
from typing import Any

from rollout.spec import RolloutSpec

__all__ = ["SCHEMA_ID", "spec_json_schema", "spec_json_schema_text"]

SCHEMA_ID = "urn:coalmine:rollout-spec:1"
"""Identifies the schema; the number grows when a valid spec could become invalid."""

_NUMBER_OR_TEXT = {
    "duration": r"^\s*((\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+|\d+(\.\d+)?)\s*$",
    "share": r"^\s*\d+(\.\d+)?\s*%?\s*$",
}


def spec_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a spec as a user may write it.

    Wherever a number is a duration, a share or a fraction, the schema also allows the text forms
    (``15m``, ``2%``) that :func:`rollout.spec.load_spec` reads.
    """
    schema = RolloutSpec.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = SCHEMA_ID
    metric = schema["$defs"]["MetricSpec"]
    metric["required"] = [name for name in metric["required"] if name != "margin"]
    allowed: dict[str, Any] = _allow_text(schema)
    return allowed


def spec_json_schema_text() -> str:
    """Return the schema as indented JSON, ending in a newline."""
    return json.dumps(spec_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _allow_text(node: Any) -> Any:
    if isinstance(node, list):
        return [_allow_text(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "number":
        limits = {key: value for key, value in node.items() if key not in _NOTES}
        notes = {key: value for key, value in node.items() if key in _NOTES}
        text = [{"type": "string", "pattern": pattern} for pattern in _NUMBER_OR_TEXT.values()]
        return {**notes, "anyOf": [limits, *text]}
    return {key: _allow_text(value) for key, value in node.items()}


_NOTES = frozenset({"title", "description", "default"})
