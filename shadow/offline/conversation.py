"""Conversations as trainers take them: role and content, tool calls with arguments as objects.

That is the layout of TRL's conversational datasets
(https://huggingface.co/docs/trl/dataset_formats); the OpenAI API writes arguments as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shadow.answer import CHAT, Answer
from shadow.pair import Prompt

__all__ = ["as_text", "chat_messages", "function_tools", "last_words", "reply", "training_messages"]

Message = dict[str, Any]

_ROLES = {"developer": "system", "function": "tool"}
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})


def training_messages(prompt: Prompt) -> list[Message] | None:
    """Return a request's messages for training, or None where they hold more than text.

    `developer` becomes `system`, parts of text one text, and the items of the responses API
    messages. Images, audio and files have no place in a column of text.
    """
    messages: list[Message] = []
    for raw in prompt.messages:
        message = _message(raw)
        if message is None:
            return None
        messages.append(message)
    return messages or None


def chat_messages(prompt: Prompt) -> list[Message] | None:
    """Return a request's messages to be asked again: as the client wrote them, where it was chat.

    Images and other parts stay. None where another endpoint's input can't be written as chat.
    """
    if prompt.endpoint == CHAT:
        return [dict(message) for message in prompt.messages] or None
    return training_messages(prompt)


def function_tools(prompt: Prompt) -> list[dict[str, Any]]:
    """Return the tools on offer, each as `{"type": "function", "function": {…}}`."""
    tools: list[dict[str, Any]] = []
    for raw in prompt.raw_tools:
        function = raw.get("function")
        if isinstance(function, dict):
            tools.append({"type": "function", "function": function})
        elif raw.get("type") == "function":  # the responses API is flat
            inner = {name: value for name, value in raw.items() if name != "type"}
            tools.append({"type": "function", "function": inner})
    return tools


def reply(answer: Answer) -> Message | None:
    """Return an answer as one assistant message, or None where there is nothing to learn from.

    That is an error, an empty answer, or several choices. Reasoning is left out.
    """
    if answer.error is not None or len(answer.choices) != 1 or answer.first.empty:
        return None
    choice = answer.first
    message: Message = {"role": "assistant", "content": choice.text or choice.refusal or ""}
    if choice.tool_calls:
        message["tool_calls"] = [_call(each.name, each.arguments) for each in choice.tool_calls]
    return message


def as_text(messages: Iterable[Mapping[str, Any]]) -> str | None:
    """Return a prompt as one text, or None where it holds tool calls, which need a chat template.

    A single message of the user stands by itself; a conversation has a line for each role.
    """
    listed = list(messages)
    if any(each.get("tool_calls") or each["role"] == "tool" for each in listed):
        return None
    if [each["role"] for each in listed] == ["user"]:
        return str(listed[0]["content"])
    lines = [f"{each['role']}: {each['content']}" for each in listed]
    return "\n\n".join([*lines, "assistant:"])


def last_words(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of the last message of the user: what tells one request from another."""
    said = [each for each in messages if each.get("role") == "user"]
    return _text(said[-1].get("content")) or "" if said else ""


def _message(raw: Mapping[str, Any]) -> Message | None:
    kind = raw.get("type")
    if kind == "function_call":
        call = _call(str(raw.get("name", "")), str(raw.get("arguments", "")))
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "content": _text(raw.get("output")) or ""}
    role = raw.get("role")
    content = _text(raw.get("content"))
    if not isinstance(role, str) or content is None:
        return None
    message: Message = {"role": _ROLES.get(role, role), "content": content}
    calls = raw.get("tool_calls")
    if isinstance(calls, list) and calls:
        functions = [each.get("function") for each in calls if isinstance(each, dict)]
        message["tool_calls"] = [
            _call(str(each.get("name", "")), str(each.get("arguments", "")))
            for each in functions
            if isinstance(each, dict)
        ]
    if role in ("tool", "function") and isinstance(raw.get("name"), str):
        message["name"] = raw["name"]
    return message


def _text(content: Any) -> str | None:
    """Return a content's text; None where a part of it is none."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in _TEXT_PARTS:
            texts.append(str(part.get("text") or part.get("refusal") or ""))
        else:
            return None
    return "".join(texts)


def _call(name: str, arguments: str) -> dict[str, Any]:
    """Return one call; arguments that are no JSON object stay the text that they are."""
    try:
        document: Any = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        document = None
    function = {"name": name, "arguments": document if isinstance(document, dict) else arguments}
    return {"type": "function", "function": function}
