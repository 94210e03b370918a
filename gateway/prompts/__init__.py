"""Two hundred and thirty requests of the kinds that a production route sees.

Written for this project: support, extraction, writing and tool use, some over several turns, some
in other languages, each with the risk that a wrong answer would carry. The demo and the tests send
them; nothing in a production path reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import msgspec

__all__ = ["Prompt", "load_prompts"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request. ``expects`` says what a good answer is: JSON, a tool call, or text."""

    id: str
    category: Literal["support", "extraction", "writing", "tools"]
    risk: Literal["low", "medium", "high"]
    messages: tuple[dict[str, Any], ...]
    expects: Literal["json", "tool", "text"]
    tools: tuple[dict[str, Any], ...] = ()
    response_format: dict[str, Any] | None = None

    def request(self, model: str, **parameters: Any) -> dict[str, Any]:
        """Return the body of a chat completion request for ``model``."""
        body: dict[str, Any] = {"model": model, "messages": list(self.messages)}
        if self.tools:
            body["tools"] = list(self.tools)
        if self.response_format is not None:
            body["response_format"] = self.response_format
        return {**body, **parameters}


def load_prompts() -> tuple[Prompt, ...]:
    """Read the prompts in the order of the file.

    Raises ``msgspec.ValidationError`` where a line has an unknown category, risk or shape.
    """
    lines = (files(__name__) / "prompts.jsonl").read_bytes().splitlines()
    decoder = msgspec.json.Decoder(Prompt)
    return tuple(decoder.decode(line) for line in lines)
