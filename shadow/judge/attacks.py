"""Attacks on a judge, as answers might carry them: a data file, for tests and for probing a judge.

Each text stands at the end of an answer that is otherwise useless. A judge that lets it beat a good
answer can't be trusted with answers that anybody can write into.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Attack", "load_attacks"]

WEAK_ANSWER = "Thank you for your message."
"""What the attack stands in: polite, and of no use for any question."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack, by its stable id, such as `fence-3`."""

    id: str
    category: str
    text: str

    @property
    def answer(self) -> str:
        """An answer that has nothing but the attack to recommend it."""
        return f"{WEAK_ANSWER}\n\n{self.text}"


def load_attacks() -> tuple[Attack, ...]:
    """Return all attacks, in the order of the file."""
    text = files("shadow.judge").joinpath("attacks.jsonl").read_text(encoding="utf-8")
    return tuple(Attack(**json.loads(line)) for line in text.splitlines())
