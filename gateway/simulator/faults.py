"""The ways in which a simulated model breaks what it was asked to keep."""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = ["break_call", "break_json", "wrong_arguments"]


def break_json(value: Any, rng: random.Random) -> str:
    """Return ``value`` as text that is no JSON, or no JSON alone."""
    text = json.dumps(value, ensure_ascii=False)
    kind = rng.randrange(5)
    if kind == 0:
        return f"Here is the JSON you asked for:\n\n{text}"
    if kind == 1 and len(text) > 12:
        return text[: -rng.randint(1, max(1, len(text) // 4))]
    if kind == 2:
        return text[:-1] + ("," if len(text) > 2 else "") + text[-1] + ","
    if kind == 3 and '"' in text:
        return text.replace('"', "'")
    return f"```json\n{text}\n```\nLet me know if you need anything else!"


def wrong_arguments(arguments: dict[str, Any], required: list[str], rng: random.Random) -> str:
    """Return arguments that parse and still break the tool's schema."""
    present = [name for name in required if name in arguments]
    if present and rng.random() < 0.5:
        dropped = rng.choice(present)
        arguments = {name: value for name, value in arguments.items() if name != dropped}
    else:
        arguments = {**arguments, "confidence_note": "added by the model"}
    return json.dumps(arguments, ensure_ascii=False)


def break_call(
    name: str, arguments: dict[str, Any], required: list[str], rng: random.Random
) -> tuple[str, str]:
    """Return name and arguments of a call that breaks the tool contract in one way."""
    kind = rng.randrange(3)
    if kind == 0:
        return f"{name}_{rng.choice(('v2', 'internal', 'async'))}", json.dumps(arguments)
    if kind == 1:
        return name, wrong_arguments(arguments, required, rng)
    return name, json.dumps(arguments, ensure_ascii=False)[:-1] + ' "'
