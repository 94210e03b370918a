"""What a simulated model says.

An answer is made of sentences that take up the request and of sentences that could stand anywhere;
``quality`` is the share of the first. For JSON and tool arguments it is the share of values that
were found in the request. Nothing else carries the quality: who reads the text can tell, and only
who reads the text.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any

from gateway.simulator.ask import Ask, Tool
from gateway.simulator.behaviour import ModelBehaviour
from gateway.simulator.draws import Draws
from gateway.simulator.faults import break_call, break_json
from gateway.simulator.phrases import FILLER, REFUSALS, SPECIFIC
from gateway.simulator.schemas import SchemaFiller
from gateway.simulator.terms import Topic, read_topic

__all__ = ["Answer", "ToolCall", "compose", "pieces"]

_PIECE = re.compile(r"\s*\S{1,6}|\s+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_SENTENCES = {"support": 5, "writing": 7, "general": 5}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. ``arguments`` is the text as sent, valid JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice. ``finish_reason`` is OpenAI's word; ``refused`` marks a refusal."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    refused: bool = False
    finish_reason: str = "stop"

    def tokens(self) -> int:
        """Return the answer's length in the simulator's own tokens."""
        return len(pieces(self.text)) + sum(
            len(pieces(call.arguments)) + 8 for call in self.tool_calls
        )


def pieces(text: str) -> list[str]:
    """Split ``text`` into tokens; joined they are the text again."""
    return _PIECE.findall(text)


def compose(ask: Ask, behaviour: ModelBehaviour, draws: Draws) -> Answer:
    """Return the answer that this behaviour gives to this request."""
    if draws.happens("empty", behaviour.empty_rate):
        return Answer("")
    topic = read_topic(ask.subject)
    rng = draws.stream("words")
    if draws.happens("refusal", behaviour.refusal_rate):
        return Answer(rng.choice(REFUSALS.get(topic.language, REFUSALS["en"])), refused=True)
    if ask.tools:
        answer = _call(ask, topic, behaviour, draws, rng)
    elif ask.schema is not None:
        value = SchemaFiller(ask.schema, topic, behaviour.quality, rng).fill()
        broken = draws.happens("json_break", behaviour.json_break_rate)
        answer = Answer(break_json(value, rng) if broken else _json(value))
    else:
        answer = Answer(_prose(topic, behaviour, rng))
    answer = _stopped(answer, ask)
    if draws.happens("truncation", behaviour.truncation_rate):
        kept = round(answer.tokens() * (0.35 + 0.45 * draws.uniform("truncated at")))
        return _shortened(answer, max(1, kept))
    if ask.max_tokens is not None and answer.tokens() > ask.max_tokens:
        return _shortened(answer, ask.max_tokens)
    return answer


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _prose(topic: Topic, behaviour: ModelBehaviour, rng: random.Random) -> str:
    language = topic.language
    kind = topic.kind if language == "en" else "general"
    specific = list(SPECIFIC[language, kind])
    filler = list(FILLER[language])
    subjects = list(topic.phrases) + list(topic.codes[:2])
    rng.shuffle(specific)
    rng.shuffle(filler)
    rng.shuffle(subjects)
    count = max(1, round(_SENTENCES[kind] * behaviour.verbosity + rng.uniform(-1.0, 1.0)))
    sentences = []
    for number in range(count):
        if rng.random() < behaviour.quality:
            first = subjects[2 * number % len(subjects)]
            second = subjects[(2 * number + 1) % len(subjects)]
            sentences.append(specific[number % len(specific)].format(a=first, b=second))
        else:
            sentences.append(filler[number % len(filler)])
    paragraphs = [" ".join(sentences[start : start + 3]) for start in range(0, count, 3)]
    return "\n\n".join(text[:1].upper() + text[1:] for text in paragraphs)


def _stems(text: str) -> set[str]:
    return {word[:5] for word in _WORD.findall(text.lower())}


def _chosen(ask: Ask) -> Tool:
    """Return the tool that shares most words with the request; the first where none does."""
    if ask.forced_tool is not None:
        return next(tool for tool in ask.tools if tool.name == ask.forced_tool)
    stems = _stems(ask.subject)

    def overlap(tool: Tool) -> int:
        named = _stems(tool.name.replace("_", " "))
        return 2 * len(stems & named) + len(stems & _stems(tool.description) - named)

    return max(ask.tools, key=overlap)


def _call(
    ask: Ask, topic: Topic, behaviour: ModelBehaviour, draws: Draws, rng: random.Random
) -> Answer:
    tool = _chosen(ask)
    value = SchemaFiller(tool.parameters, topic, behaviour.quality, rng).fill()
    arguments = value if isinstance(value, dict) and tool.parameters.get("properties") else {}
    name, text = tool.name, _json(arguments)
    if draws.happens("tool_fault", behaviour.tool_fault_rate):
        required = tool.parameters.get("required")
        known = [entry for entry in required if isinstance(entry, str)] if required else []
        name, text = break_call(name, arguments, known, rng)
    call = ToolCall(id=f"call_{draws.hex('call', 24)}", name=name, arguments=text)
    return Answer("", tool_calls=(call,), finish_reason="tool_calls")


def _stopped(answer: Answer, ask: Ask) -> Answer:
    ends = [at for stop in ask.stop if (at := answer.text.find(stop)) >= 0]
    return Answer(answer.text[: min(ends)]) if ends else answer


def _shortened(answer: Answer, kept: int) -> Answer:
    """Cut the answer after ``kept`` tokens, as a limit would; a call loses its arguments' end."""
    calls = tuple(
        ToolCall(call.id, call.name, "".join(pieces(call.arguments)[: max(1, kept - 8)]))
        for call in answer.tool_calls
    )
    text = "".join(pieces(answer.text)[:kept])
    return Answer(text, tool_calls=calls, finish_reason="length")
