"""Values that satisfy a JSON Schema, taken from what the request says.

What a value *should* be follows from the topic and its place in the document, so two models of
full quality agree. Each value is found with the model's quality as probability; otherwise a value
that is valid and says nothing stands in its place.

Understood: ``type`` (also a list), ``properties``, ``required``, ``items``, ``prefixItems``,
``enum``, ``const``, ``anyOf``, ``oneOf``, ``allOf``, local ``$ref``, the bounds of numbers,
strings and arrays, ``multipleOf``, ``uniqueItems``, common ``format``, and ``pattern``.
"""

from __future__ import annotations

import random
import re
from typing import Any
from zlib import crc32

from gateway.simulator.patterns import sample
from gateway.simulator.terms import Topic

__all__ = ["SchemaFiller"]

_VAGUE = ("unknown", "n/a", "not specified", "see above", "other", "various")
_FORMATS = {
    "date": "2025-01-31",
    "date-time": "2025-01-31T09:30:00Z",
    "time": "09:30:00Z",
    "duration": "P1D",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "url": "https://example.org/",
    "uri-reference": "/path",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_MAX_DEPTH = 8
_LONG = re.compile(r"summary|description|reason|note|message|body|text|comment|detail|explan|query")
_NAMED = re.compile(r"name|customer|person|author|company|vendor|supplier|city|place|contact")


class SchemaFiller:
    """Fills one document. ``rng`` decides which values the model finds."""

    def __init__(self, schema: Any, topic: Topic, quality: float, rng: random.Random) -> None:
        self._root = schema
        self._topic = topic
        self._quality = quality
        self._rng = rng

    def fill(self) -> Any:
        """Return a value for the whole schema."""
        return self._value(self._root, "$", 0)

    def _truth(self, path: str, count: int) -> int:
        return crc32(path.encode()) % count

    def _found(self) -> bool:
        return self._rng.random() < self._quality

    def _value(self, schema: Any, path: str, depth: int) -> Any:  # noqa: PLR0911 - one a keyword
        schema = self._plain(schema)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._member(schema["enum"], path)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((entry for entry in kind if entry != "null"), "null")
        if kind is None:
            kind = _implied(schema)
        if kind == "object":
            return self._object(schema, path, depth)
        if kind == "array":
            return self._array(schema, path, depth)
        if kind in {"integer", "number"}:
            return self._number(schema, path, whole=kind == "integer")
        if kind == "boolean":
            return bool(self._truth(path, 2)) is self._found()
        if kind == "null":
            return None
        return self._string(schema, path)

    def _plain(self, schema: Any) -> dict[str, Any]:
        """Follow references and choices until a schema with its own keywords stands there."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, dict):
                return {}
            if isinstance(schema.get("$ref"), str):
                schema = {**self._resolve(schema["$ref"]), **_without(schema, "$ref")}
                continue
            options = schema.get("anyOf") or schema.get("oneOf")
            if isinstance(options, list) and options:
                solid = [
                    o for o in options if not (isinstance(o, dict) and o.get("type") == "null")
                ]
                chosen = (solid or options)[0]
                chosen = chosen if isinstance(chosen, dict) else {}
                schema = _merged(_without(schema, "anyOf", "oneOf"), chosen)
                continue
            parts = schema.get("allOf")
            if isinstance(parts, list) and parts:
                schema = _without(schema, "allOf")
                for part in parts:
                    schema = _merged(schema, self._plain(part))
                continue
            return schema
        return {}

    def _resolve(self, reference: str) -> dict[str, Any]:
        node: Any = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            node = node.get(key) if isinstance(node, dict) else None
        return node if isinstance(node, dict) else {}

    def _member(self, members: list[Any], path: str) -> Any:
        if not self._found():
            return self._rng.choice(members)
        for member in members:
            if isinstance(member, str) and len(member) > 3:
                stem = member.lower().replace("_", " ")[:6]
                if any(phrase.lower().startswith(stem) for phrase in self._topic.words):
                    return member
        return members[self._truth(path + self._topic.phrases[0], len(members))]

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        filled: dict[str, Any] = {}
        for name, child in properties.items():
            if name in required or (depth < _MAX_DEPTH // 2 and self._found()):
                filled[name] = self._value(child, f"{path}.{name}", depth + 1)
        for name in required:
            if name not in filled:
                extra = schema.get("additionalProperties")
                filled[name] = self._value(extra, f"{path}.{name}", depth + 1)
        if not filled and not properties:
            filled["answer"] = self._sentence(path)
        return filled

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> list[Any]:
        low = _whole(schema.get("minItems"), 0)
        high = _whole(schema.get("maxItems"), max(low, 3))
        count = low if depth >= _MAX_DEPTH else min(high, max(low, 1 + self._truth(path + "#", 3)))
        fixed = schema.get("prefixItems")
        fixed = fixed if isinstance(fixed, list) else []
        items = [self._value(child, f"{path}[{i}]", depth + 1) for i, child in enumerate(fixed)]
        if schema.get("items") is not False:
            items += [
                self._value(schema.get("items"), f"{path}[{i}]", depth + 1)
                for i in range(len(items), count)
            ]
        if schema.get("uniqueItems"):
            items = self._unique(items, schema.get("items"), low)
        return items

    def _unique(self, items: list[Any], schema: Any, low: int) -> list[Any]:
        distinct = list({repr(item): item for item in items}.values())
        plain = self._plain(schema)
        spare = list(plain.get("enum") or [])
        while len(distinct) < low:
            number = len(distinct)
            extra: Any = spare.pop() if spare else f"item {number}"
            if not spare and plain.get("type") in {"integer", "number"}:
                extra = number
            if extra not in distinct:
                distinct.append(extra)
        return distinct

    def _number(self, schema: dict[str, Any], path: str, *, whole: bool) -> int | float:
        number = 0.0
        numbers = self._topic.numbers
        if numbers and self._found():
            number = float(numbers[self._truth(path, len(numbers))].replace(",", "."))
        step = schema.get("multipleOf")
        step = step if isinstance(step, int | float) and step > 0 else (1 if whole else None)
        low = _bound(schema, "minimum", "exclusiveMinimum", step or 0.01)
        high = _bound(schema, "maximum", "exclusiveMaximum", -(step or 0.01))
        if low is not None:
            number = max(number, low)
        if high is not None:
            number = min(number, high)
        if step:
            number = step * round(number / step)
            if low is not None and number < low:
                number += step
            if high is not None and number > high:
                number -= step
        return round(number) if whole else round(number, 6)

    def _string(self, schema: dict[str, Any], path: str) -> str:
        pattern, form = schema.get("pattern"), schema.get("format")
        if isinstance(pattern, str):
            return self._matching(pattern, schema, path)
        if form in _FORMATS:
            return self._formatted(str(form))
        text = self._specific(path) if self._found() else self._rng.choice(_VAGUE)
        low, high = _whole(schema.get("minLength"), 0), _whole(schema.get("maxLength"), 0)
        while len(text) < low:
            text += " " + self._rng.choice(self._topic.phrases)
        if "maxLength" in schema:
            text = text[:high].rstrip().ljust(low, ".")
        return text

    def _formatted(self, form: str) -> str:
        if form == "email" and self._topic.emails:
            return self._topic.emails[0]
        if form == "date" and self._topic.dates and self._found():
            return self._topic.dates[0]
        return _FORMATS[form]

    def _matching(self, pattern: str, schema: dict[str, Any], path: str) -> str:
        topic = self._topic
        pieces = (*topic.codes, *topic.numbers, *topic.tokens, *topic.names)
        low, high = _whole(schema.get("minLength"), 0), _whole(schema.get("maxLength"), 1 << 20)
        made = sample(pattern)
        try:
            matches = re.compile(pattern).search
            for piece in (*pieces, *topic.phrases, made or ""):
                if low <= len(piece) <= high and matches(piece):
                    return piece
        except re.error:
            pass
        return self._specific(path)

    def _specific(self, path: str) -> str:
        name = path.rpartition(".")[2].lower()
        topic = self._topic
        if "mail" in name and topic.emails:
            return topic.emails[0]
        if ("date" in name or name.endswith("_at")) and topic.dates:
            return topic.dates[0]
        if ("id" in name.split("_") or "number" in name or "code" in name) and topic.codes:
            return topic.codes[self._truth(path, len(topic.codes))]
        if _LONG.search(name):
            return self._sentence(path)
        if _NAMED.search(name) and topic.names:
            return topic.names[self._truth(path, len(topic.names))]
        return topic.phrases[self._truth(path, len(topic.phrases))]

    def _sentence(self, path: str) -> str:
        phrases = self._topic.phrases
        first = self._truth(path, len(phrases))
        chosen = [phrases[(first + step) % len(phrases)] for step in range(min(3, len(phrases)))]
        return ", ".join(chosen).capitalize() + "."


def _implied(schema: dict[str, Any]) -> str:
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema:
        return "number"
    return "string"


def _without(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in keys}


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {**first, **second}
    if isinstance(first.get("properties"), dict) and isinstance(second.get("properties"), dict):
        both["properties"] = {**first["properties"], **second["properties"]}
    if isinstance(first.get("required"), list) and isinstance(second.get("required"), list):
        both["required"] = [*first["required"], *second["required"]]
    return both


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _bound(
    schema: dict[str, Any], inclusive: str, exclusive: str, step: float
) -> int | float | None:
    if isinstance(schema.get(exclusive), int | float):
        bound: int | float = schema[exclusive] + step
        return bound
    value = schema.get(inclusive)
    return value if isinstance(value, int | float) else None
