"""Values that satisfy a schema, whatever the model's quality."""

from __future__ import annotations

import random
from typing import Any

import jsonschema_rs
import pytest

from gateway.prompts import load_prompts
from gateway.simulator.schemas import SchemaFiller
from gateway.simulator.terms import read_topic

_TEXT = (
    "Invoice INV-2041 of 2025-03-14 from Hartmann Paper to Iris van Dam (iris@vandam.example), "
    "12 boxes at 18.40, please pay 220.80 EUR before noon."
)

_SCHEMAS: dict[str, dict[str, Any]] = {
    "bounds": {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 900, "maximum": 905},
            "b": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "c": {"type": "string", "minLength": 40, "maxLength": 45},
            "d": {"type": "integer", "multipleOf": 7, "minimum": 1},
            "e": {"type": "string", "maxLength": 3},
        },
        "required": ["a", "b", "c", "d", "e"],
    },
    "arrays": {
        "type": "object",
        "properties": {
            "pair": {
                "type": "array",
                "prefixItems": [{"type": "string"}, {"type": "integer"}],
                "items": False,
                "minItems": 2,
            },
            "many": {"type": "array", "items": {"type": "boolean"}, "minItems": 6, "maxItems": 6},
            "set": {
                "type": "array",
                "items": {"enum": ["x", "y", "z"]},
                "minItems": 3,
                "uniqueItems": True,
            },
            "none": {"type": "array", "items": {"type": "string"}, "maxItems": 0},
        },
        "required": ["pair", "many", "set", "none"],
    },
    "references": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "choices": {
        "type": "object",
        "properties": {
            "maybe": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
            "either": {"oneOf": [{"const": "yes"}, {"const": "no"}]},
            "both": {
                "allOf": [
                    {"type": "object", "properties": {"p": {"type": "string"}}, "required": ["p"]},
                    {"properties": {"q": {"type": "boolean"}}, "required": ["q"]},
                ]
            },
            "listed": {"type": ["null", "string"]},
            "nothing": {"type": "null"},
        },
        "required": ["maybe", "either", "both", "listed", "nothing"],
        "additionalProperties": False,
    },
    "formats": {
        "type": "object",
        "properties": {
            name: {"type": "string", "format": name}
            for name in ("date", "date-time", "time", "email", "uri", "uuid", "ipv4", "hostname")
        }
        | {
            "number": {"type": "string", "pattern": "^INV-[0-9]{4}$"},
            "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
        },
        "required": ["date", "date-time", "email", "uri", "uuid", "number", "country"],
    },
    "untyped": {"properties": {"a": {}}, "required": ["a", "undeclared"]},
}


@pytest.mark.parametrize("name", _SCHEMAS)
@pytest.mark.parametrize("quality", [0.0, 0.5, 1.0])
def test_values_satisfy_the_schema(name: str, quality: float) -> None:
    """What is filled in is valid at every quality, formats included."""
    validator = jsonschema_rs.validator_for(_SCHEMAS[name], validate_formats=True)
    for seed in range(20):
        filler = SchemaFiller(_SCHEMAS[name], read_topic(_TEXT), quality, random.Random(seed))
        validator.validate(filler.fill())


def test_every_schema_of_the_prompts_can_be_filled() -> None:
    """Each tool and each response format of the prompt file is answered validly."""
    for prompt in load_prompts():
        topic = read_topic(str(prompt.messages[-1]["content"]))
        schemas = [tool["function"]["parameters"] for tool in prompt.tools]
        if prompt.response_format is not None and "json_schema" in prompt.response_format:
            schemas.append(prompt.response_format["json_schema"]["schema"])
        for schema in schemas:
            validator = jsonschema_rs.validator_for(schema, validate_formats=True)
            for quality in (0.0, 0.6, 1.0):
                value = SchemaFiller(schema, topic, quality, random.Random(prompt.id)).fill()
                error = next(validator.iter_errors(value), None)
                assert error is None, f"{prompt.id}: {error}"


def test_a_good_model_finds_the_values() -> None:
    """At full quality, dates, addresses and numbers come from the text; at none they don't."""
    schema = {
        "type": "object",
        "properties": {
            "date": {"type": "string", "format": "date"},
            "invoice_number": {"type": "string"},
            "customer": {"type": "string"},
        },
        "required": ["date", "invoice_number", "customer"],
    }
    good = SchemaFiller(schema, read_topic(_TEXT), 1.0, random.Random(1)).fill()
    assert good["date"] == "2025-03-14"
    assert good["invoice_number"] == "INV-2041"
    assert good["customer"] in _TEXT
    poor = SchemaFiller(schema, read_topic(_TEXT), 0.0, random.Random(1)).fill()
    assert poor["customer"] not in _TEXT


def test_a_hostile_schema_ends() -> None:
    """Schemas that refer to themselves, or to nothing, are filled in bounded time."""
    loop = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    for schema in (loop, {"$ref": "#/nowhere"}, {"$ref": "https://example.org/x"}, {}, True):
        SchemaFiller(schema, read_topic(_TEXT), 0.5, random.Random(1)).fill()
