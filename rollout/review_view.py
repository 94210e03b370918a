"""What a reviewer sees of a pair: the conversation and two answers, left and right. Pure.

Nothing here tells the arms apart but the answers' own words: no name, no id, no time, no token
count, no reasoning. Both answers are rendered in one form, however they were sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shadow.answer import Answer, Choice, read_answer
from shadow.pair import Prompt, UnreadableRequest, read_prompt

__all__ = ["Shown", "Turn", "answer_text", "show", "turns"]

_OPAQUE = {
    "image_url": "[image]",
    "input_image": "[image]",
    "input_audio": "[audio]",
    "file": "[file]",
    "input_file": "[file]",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An item as a reviewer sees it. ``tools`` are the names of the tools that were offered."""

    conversation: tuple[Turn, ...]
    tools: tuple[str, ...]
    left: str
    right: str


def show(
    *, endpoint: str, request: str, baseline: str | None, candidate: str | None, left_arm: str
) -> Shown:
    """Render a pair from its bodies, the candidate's answer left where ``left_arm`` says so.

    A body that can't be read is shown as an answer that did not come.
    """
    try:
        prompt = read_prompt(endpoint=endpoint, body=request)
    except UnreadableRequest:
        prompt = Prompt(endpoint=endpoint)
    answers = [
        answer_text(read_answer(endpoint=endpoint, body=body or ""))
        for body in (baseline, candidate)
    ]
    if left_arm == "candidate":
        answers.reverse()
    return Shown(turns(prompt.messages), tuple(t.name for t in prompt.tools), *answers)


def turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Return a conversation as text, images and the like as ``[image]``."""
    return tuple(_turn(message) for message in messages)


def answer_text(answer: Answer) -> str:
    """Return an answer as text: what a user saw, tool calls as ``→ name(arguments)``."""
    if answer.error is not None:
        return "[no answer]"
    if len(answer.choices) == 1:
        return _choice_text(answer.choices[0])
    total = len(answer.choices)
    return "\n\n".join(
        f"[{number} of {total}]\n{_choice_text(choice)}"
        for number, choice in enumerate(answer.choices, start=1)
    )


def _choice_text(choice: Choice) -> str:
    parts = [choice.text] if choice.text else []
    if choice.refusal:
        parts.append(f"[refusal] {choice.refusal}")
    parts += [f"→ {call.name}({call.arguments})" for call in choice.tool_calls]
    return "\n".join(parts) or "[nothing]"


def _turn(message: Mapping[str, Any]) -> Turn:
    kind = message.get("type")
    if kind == "function_call":
        return Turn("assistant", f"→ {message.get('name')}({message.get('arguments')})")
    if kind == "function_call_output":
        return Turn("tool", _content(message.get("output")))
    parts = [_content(message.get("content"))]
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts.append(f"→ {function.get('name')}({function.get('arguments')})")
    return Turn(str(message.get("role") or "user"), "\n".join(part for part in parts if part))


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(filter(None, map(_part, content)))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    return _OPAQUE.get(str(part.get("type"))) or str(part.get("text") or "")
