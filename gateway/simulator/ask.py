"""What a request asks for, whichever endpoint it came through.

Chat completions, legacy completions and responses are read into one :class:`Ask`, so a model has
to know only one way of being asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import RequestError

__all__ = ["Ask", "Tool", "read_chat", "read_completion", "read_responses"]

_JSON_WORD = re.compile(r"\bjson\b", re.IGNORECASE)
_KEY = re.compile(r"[\"`']([A-Za-z_]\w{0,40})[\"`']")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. ``parameters`` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, reduced to what decides its answer.

    ``subject`` is the text that it is about: the user's words, and a tool's result where one came
    last. ``everything`` is all text but the model's own, in ``turns`` messages. ``schema`` is set
    where JSON is wanted; ``strict_json`` where the API itself asked for it.
    """

    model: str
    subject: str
    everything: str = ""
    turns: int = 1
    tools: tuple[Tool, ...] = ()
    forced_tool: str | None = None
    schema: dict[str, Any] | None = None
    strict_json: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    count: int = 1
    stream: bool = False
    include_usage: bool = False
    input_tokens: int = 0


def _content(content: Any) -> str:
    """Return the text of a message's content, be it a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return ""


def _tools(entries: Any) -> tuple[Tool, ...]:
    found = []
    for entry in entries if isinstance(entries, list) else ():
        function = entry.get("function", entry) if isinstance(entry, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            continue
        parameters = function.get("parameters")
        found.append(
            Tool(
                name=function["name"],
                description=str(function.get("description") or ""),
                parameters=parameters if isinstance(parameters, dict) else {"type": "object"},
            )
        )
    return tuple(found)


def _choice(tools: tuple[Tool, ...], choice: Any, *, after_result: bool) -> tuple[Any, str | None]:
    """Return the tools still open to the model, and the one it must call."""
    if choice == "none" or (after_result and choice in {None, "auto"}):
        return (), None
    if isinstance(choice, dict):
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, dict) else None
        if name not in {tool.name for tool in tools}:
            raise RequestError(
                f"tool_choice names {name!r}, which is not among the tools", param="tool_choice"
            )
        return tools, str(name)
    return tools, None


def _schema_in(text: str) -> dict[str, Any] | None:
    """Return the schema that a prompt spells out, or one made of the keys that it quotes."""
    start = text.find("{") if '"properties"' in text else -1
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            found = None
        if isinstance(found, dict) and isinstance(found.get("properties"), dict):
            return found
        start = text.find("{", start + 1)
    keys = list(dict.fromkeys(_KEY.findall(text)))
    if not keys:
        return None
    return {"type": "object", "properties": {key: {} for key in keys}, "required": keys}


def _wanted_json(form: Any, texts: list[str]) -> tuple[dict[str, Any] | None, bool]:
    """Return the schema of the wanted JSON, if any, and whether the API field asked for it."""
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_schema":
        holder = form.get("json_schema", form)
        schema = holder.get("schema") if isinstance(holder, dict) else None
        if not isinstance(schema, dict):
            raise RequestError("has no schema", param="response_format.json_schema.schema")
        return schema, True
    asking = [text for text in texts if _JSON_WORD.search(text)]
    if kind != "json_object" and not asking:
        return None, False
    schema = next((found for text in reversed(asking) if (found := _schema_in(text))), None)
    return schema or {"type": "object"}, kind == "json_object"


def _positive(body: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RequestError("must be a whole number above 0", param=name)
        return value
    return None


def _stops(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(entry for entry in value or () if isinstance(entry, str) and entry)


def _from_messages(
    body: Mapping[str, Any], messages: list[dict[str, Any]], form: Any, limits: tuple[str, ...]
) -> Ask:
    texts = [_content(message.get("content")) for message in messages]
    roles = [message.get("role") for message in messages]
    asked = [text for text, role in zip(texts, roles, strict=True) if role == "user" and text]
    after_result = roles[-1] == "tool"
    subject = asked[-1] if asked else texts[-1]
    if after_result:
        subject = f"{subject}\n{texts[-1]}"
    declared = _tools(body.get("tools"))
    tools, forced = _choice(declared, body.get("tool_choice"), after_result=after_result)
    guides = [text for text, role in zip(texts, roles, strict=True) if role != "assistant"]
    schema, strict_json = _wanted_json(form, guides)
    options = body.get("stream_options")
    count = _positive(body, "n") or 1
    if count > 128:
        raise RequestError("must be at most 128", param="n")
    return Ask(
        model=str(body["model"]),
        subject=subject,
        everything="\n".join(guides),
        turns=len(messages),
        tools=tools,
        forced_tool=forced,
        schema=schema,
        strict_json=strict_json,
        max_tokens=_positive(body, *limits),
        stop=_stops(body.get("stop")),
        count=count,
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        input_tokens=sum(len(text) // 4 + 4 for text in texts) + 60 * len(declared),
    )


def read_chat(body: Mapping[str, Any]) -> Ask:
    """Read a chat completion request. Raises :class:`RequestError` that names the parameter."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("must be a list with at least one message", param="messages")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError("must be an object with a role", param=f"messages[{number}]")
    return _from_messages(
        body, messages, body.get("response_format"), ("max_completion_tokens", "max_tokens")
    )


def read_completion(body: Mapping[str, Any]) -> Ask:
    """Read a legacy completion request with one prompt. Raises :class:`RequestError`."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise RequestError("must be a string", param="prompt")
    messages = [{"role": "user", "content": prompt}]
    return _from_messages(body, messages, body.get("response_format"), ("max_tokens",))


def read_responses(body: Mapping[str, Any]) -> Ask:
    """Read a request of the Responses API. Raises :class:`RequestError`."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise RequestError("must be a string or a list of items", param="input")
    messages: list[dict[str, Any]] = []
    if isinstance(body.get("instructions"), str):
        messages.append({"role": "system", "content": body["instructions"]})
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "function_call_output":
            messages.append({"role": "tool", "content": _content(item.get("output"))})
        elif kind == "function_call":
            messages.append({"role": "assistant", "content": ""})
        elif isinstance(item, dict) and isinstance(item.get("role"), str):
            messages.append(item)
    if not messages:
        raise RequestError("has no message", param="input")
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    return _from_messages(body, messages, form, ("max_output_tokens",))
