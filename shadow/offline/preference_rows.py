"""Preference data in TRL's layout: a prompt, the better answer, the other one. Pure."""

from __future__ import annotations

from typing import Any

from shadow.offline.cases import Preference, TextPreference
from shadow.offline.conversation import (
    Message,
    as_text,
    function_tools,
    reply,
    training_messages,
)
from shadow.offline.material import Material, Preferred
from shadow.offline.request import ExportRequest
from shadow.offline.row_parts import CUT, Origin, Row, choice_of, make_row, provenance_of

__all__ = ["preference_rows"]


def preference_rows(material: Material, request: ExportRequest, origin: Origin) -> list[Row] | str:
    """Return the one row of a pair with a better answer, or a word on why there is none."""
    choice = choice_of(material, request)
    if isinstance(choice, str):
        return choice
    messages = training_messages(material.prompt)
    if messages is None:
        return "not_text"
    both = _answers(material, choice)
    if isinstance(both, str):
        return both
    tools = function_tools(material.prompt)
    text = request.format == "text"
    row = _as_text(messages, *both) if text else _as_messages(messages, *both, tools)
    if row is None:
        return "not_text"
    provenance = provenance_of(material, request, origin, choice)
    model = (TextPreference if text else Preference).model_validate({**row, "metadata": provenance})
    body = model.model_dump(exclude_none=True)
    asked = {"messages": messages, "tools": tools}
    return [make_row(material, provenance, asked=asked, key=row, body=body)]


def _answers(material: Material, choice: Preferred) -> tuple[Message, Message] | str:
    """Return the better and the other answer, or why they can't be learnt from."""
    better, other = material.answer(choice.winner), material.answer(choice.loser)
    chosen = None if better is None else reply(better)
    rejected = None if other is None else reply(other)
    if better is None or chosen is None or rejected is None:
        return "no_text"
    if better.finish_reason in CUT:
        return "chosen_cut"
    return "identical" if chosen == rejected else (chosen, rejected)


def _as_messages(
    messages: list[Message], chosen: Message, rejected: Message, tools: list[dict[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": messages, "chosen": [chosen], "rejected": [rejected]}
    return {**row, "tools": tools} if tools else row


def _as_text(messages: list[Message], chosen: Message, rejected: Message) -> dict[str, Any] | None:
    """Return the row as text; None where there are tool calls, which need a chat template."""
    prompt = as_text(messages)
    if prompt is None or "tool_calls" in chosen or "tool_calls" in rejected:
        return None
    space = "" if len(messages) == 1 and messages[0]["role"] == "user" else " "
    return {
        "prompt": prompt,
        "chosen": space + chosen["content"],
        "rejected": space + rejected["content"],
    }
