"""The judge's reply, accepted only when it is exactly a verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_REPLY_CHARS = 20_000

Score = Annotated[int, Field(strict=True, ge=1, le=10)]


class Scores(BaseModel):
    """Each answer on its own, 1 (useless) to 10 (could not be better)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    A: Score
    B: Score


class Verdict(BaseModel):
    """One reply. The evidence comes first, so that the verdict follows from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    evidence: Annotated[str, Field(min_length=1, max_length=4000)]
    verdict: Literal["A", "B", "tie"]
    scores: Scores
    severity: Literal["none", "minor", "major"]


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A reply that is no verdict, and the sentence that says why."""

    reason: str


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "evidence": {"type": "string"},
        "verdict": {"type": "string", "enum": ["A", "B", "tie"]},
        "scores": {
            "type": "object",
            "properties": {
                "A": {"type": "integer", "minimum": 1, "maximum": 10},
                "B": {"type": "integer", "minimum": 1, "maximum": 10},
            },
            "required": ["A", "B"],
            "additionalProperties": False,
        },
        "severity": {"type": "string", "enum": ["none", "minor", "major"]},
    },
    "required": ["evidence", "verdict", "scores", "severity"],
    "additionalProperties": False,
}
"""The JSON Schema that the judge is asked to answer in."""

RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA},
}

_FENCED = re.compile(r"\A\s*```(?:json)?[ \t]*\n(?P<body>.*)\n```\s*\Z", re.DOTALL)


def parse_verdict(reply: str, *, answers: Sequence[str] = ()) -> Verdict | Unparsed:
    """Read a reply: one JSON object and nothing else, or that inside one code fence.

    Nothing is searched for inside other text: an answer that smuggles a verdict into the judge's
    prose must not be able to win by it. Nor does a verdict count that stands word for word in one
    of the ``answers``: a judge that repeats it has copied, not compared.
    """
    if len(reply) > MAX_REPLY_CHARS:
        return Unparsed(f"the reply is longer than {MAX_REPLY_CHARS} characters")
    fenced = _FENCED.match(reply)
    try:
        verdict = Verdict.model_validate_json(fenced["body"] if fenced else reply)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "reply"
        return Unparsed(f"{place}: {first['msg']}"[:300])
    if any(_carries(answer, verdict) for answer in answers):
        return Unparsed("the verdict stands word for word in one of the answers")
    return verdict


_DECODER = json.JSONDecoder()
_MOST_OBJECTS = 1000


def _carries(answer: str, verdict: Verdict) -> bool:
    """Say whether an answer brings this very verdict as JSON, however it is spaced."""
    if '"verdict"' not in answer:
        return False
    wanted = verdict.model_dump(mode="json")
    place = -1
    for _ in range(_MOST_OBJECTS):
        place = answer.find("{", place + 1)
        if place < 0:
            break
        try:
            found, _ = _DECODER.raw_decode(answer, place)
        except (ValueError, RecursionError):
            continue
        if found == wanted:
            return True
    return False


def repair_messages(
    messages: list[dict[str, str]], reply: str, problem: Unparsed
) -> list[dict[str, str]]:
    """Return the conversation that asks once more, after a reply that was no verdict."""
    return [
        *messages,
        {"role": "assistant", "content": reply[:MAX_REPLY_CHARS]},
        {
            "role": "user",
            "content": f"That was not the JSON object asked for ({problem.reason}). Reply with the "
            "object only: evidence, verdict, scores, severity.",
        },
    ]
