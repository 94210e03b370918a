"""Answers of the OpenAI API in one form, whichever endpoint and transport they came through.

What the client saw is what is judged: the text is never cleaned here. Reasoning that the upstream
sends in its own field stays apart from the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec

from shadow.streams import StreamFault, join_stream

CHAT = "chat/completions"
COMPLETIONS = "completions"
RESPONSES = "responses"
COMPARABLE = (CHAT, COMPLETIONS, RESPONSES)
"""The endpoints whose answers can be paired."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asked for; `arguments` is the text exactly as sent."""

    name: str
    arguments: str
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to a request (there are several only with `n > 1`)."""

    text: str = ""
    reasoning: str = ""
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None

    @property
    def empty(self) -> bool:
        """Whether a reader sees nothing at all: no visible text, no call, no refusal."""
        return not (visible(self.text) or self.tool_calls or self.refusal)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them; None where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a deployment answered. With `error` set there are no choices to judge.

    `streamed` says that it came as an event stream, so that its first token has a time.
    """

    choices: tuple[Choice, ...] = ()
    usage: Usage = Usage()
    model: str | None = None
    error: str | None = None
    streamed: bool = False

    @property
    def first(self) -> Choice:
        """The first choice, or an empty one."""
        return self.choices[0] if self.choices else Choice()

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.first.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the first choice."""
        return self.first.tool_calls

    @property
    def refusal(self) -> str | None:
        """The `message.refusal` of the first choice."""
        return self.first.refusal

    @property
    def finish_reason(self) -> str | None:
        """The finish reason of the first choice."""
        return self.first.finish_reason


_MAX_TOKENS = 2**53
_INVISIBLES = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e"
_INVISIBLE = re.compile(f"[{_INVISIBLES}]+")


def visible(text: str) -> str:
    """Return the text without what a reader cannot see (zero-width characters, outer space)."""
    return text.strip() if text.isascii() else _without_invisibles(text)


@lru_cache(maxsize=8)  # checks ask for the same two answers, one after the other
def _without_invisibles(text: str) -> str:
    if any(char in text for char in _INVISIBLES):
        text = _INVISIBLE.sub("", text)
    return text.strip()


def endpoint_of(path: str) -> str:
    """Reduce a request path (`/v1/chat/completions?x=1`) to the endpoint's name."""
    return path.partition("?")[0].strip("/").removeprefix("v1/")


def read_answer(*, endpoint: str, body: str, status: int | None = 200) -> Answer:
    """Read a response body, JSON or the raw text of an event stream, into an `Answer`.

    Never raises: an error status, a body that is not JSON, an `error` object and a stream that was
    cut all come back as an `Answer` with `error` set.
    """
    if status is None:
        return Answer(error="no response")
    if status >= 400:
        return Answer(error=f"status {status}: {_error_sentence(body)}")
    name = endpoint_of(endpoint)
    document: Any
    streamed = looks_like_stream(body)
    try:
        document = join_stream(name, body) if streamed else msgspec.json.decode(body)
    except StreamFault as fault:
        return Answer(error=str(fault))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        document = None
    if not isinstance(document, dict):
        return Answer(error="the response body is not a JSON object")
    if document.get("error"):
        return Answer(error=_error_message(document["error"]))
    reader = _read_responses if name == RESPONSES else _read_choices
    return replace(reader(document), streamed=streamed)


def looks_like_stream(body: str) -> bool:
    """Whether a body is the text of an event stream and not a JSON document."""
    return body.lstrip("\ufeff \r\n").startswith(("data:", "event:", "id:", "retry:", ":"))


def _read_choices(document: Mapping[str, Any]) -> Answer:
    raw = document.get("choices")
    if not isinstance(raw, list) or not raw:
        return Answer(error="the response has no choices")
    choices = tuple(_choice(item) for item in raw if isinstance(item, dict))
    return Answer(choices, _usage(document), _text_or_none(document.get("model")))


def _choice(item: Mapping[str, Any]) -> Choice:
    message = item.get("message")
    finish = _text_or_none(item.get("finish_reason"))
    if not isinstance(message, dict):
        return Choice(text=_plain(item.get("text")), finish_reason=finish)
    calls = [
        ToolCall(
            _plain(function.get("name")),
            _arguments(function.get("arguments")),
            _text_or_none(call.get("id")),
        )
        for call in _dicts(message.get("tool_calls"))
        if isinstance(function := call.get("function") or call.get("custom") or {}, dict)
    ]
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        calls.append(ToolCall(_plain(legacy.get("name")), _arguments(legacy.get("arguments"))))
    return Choice(
        text=_plain(message.get("content")),
        reasoning=_plain(message.get("reasoning_content") or message.get("reasoning")),
        refusal=_text_or_none(message.get("refusal")) or _refusal_part(message.get("content")),
        tool_calls=tuple(calls),
        finish_reason=finish,
    )


def _read_responses(document: Mapping[str, Any]) -> Answer:
    text: list[str] = []
    reasoning: list[str] = []
    refusal: str | None = None
    calls: list[ToolCall] = []
    for item in _dicts(document.get("output")):
        kind = item.get("type")
        if kind == "message":
            text.append(_plain(item.get("content")))
            refusal = refusal or _refusal_part(item.get("content"))
        elif kind == "function_call":
            calls.append(
                ToolCall(
                    _plain(item.get("name")),
                    _arguments(item.get("arguments")),
                    _text_or_none(item.get("call_id")),
                )
            )
        elif kind == "reasoning":
            reasoning.append(_plain(item.get("content") or item.get("summary")))
    if document.get("status") == "failed":
        return Answer(error="the response failed")
    choice = Choice(
        text="".join(text),
        reasoning="".join(reasoning),
        refusal=refusal,
        tool_calls=tuple(calls),
        finish_reason=_responses_finish(document, calls),
    )
    return Answer((choice,), _usage(document), _text_or_none(document.get("model")))


def _responses_finish(document: Mapping[str, Any], calls: Sequence[ToolCall]) -> str | None:
    status = document.get("status")
    if status == "incomplete":
        details = document.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return "content_filter" if reason == "content_filter" else "length"
    if status == "completed":
        return "tool_calls" if calls else "stop"
    return None


def _usage(document: Mapping[str, Any]) -> Usage:
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    return Usage(
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
    )


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < _MAX_TOKENS else None


def _plain(value: Any) -> str:
    """Text of a string or of a list of content parts."""
    if isinstance(value, str):
        return value
    return "".join(_plain(part.get("text")) for part in _dicts(value))


def _refusal_part(content: Any) -> str | None:
    parts = [_plain(part.get("refusal")) for part in _dicts(content)]
    return "".join(parts) or None


def _arguments(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _error_message(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error.get("type") or "unnamed error"
    return str(error)[:300]


def _error_sentence(body: str) -> str:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return body[:200].strip() or "empty body"
    if isinstance(document, dict) and "error" in document:
        return _error_message(document["error"])
    return body[:200]
