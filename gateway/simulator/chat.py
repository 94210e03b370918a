"""Answers in the shapes of ``/v1/chat/completions`` and ``/v1/completions``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.simulator.answers import Answer, pieces
from gateway.simulator.ask import Ask
from gateway.simulator.draws import Draws

__all__ = [
    "Event",
    "Stamp",
    "chat_document",
    "chat_events",
    "completion_document",
    "completion_events",
    "grouped",
]

Event = tuple[bytes, int]
"""Bytes of a stream, and the number of tokens that they carry."""

_encode = msgspec.json.Encoder().encode
_EPOCH = 1_735_689_600
_DONE: Event = (b"data: [DONE]\n\n", 0)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identity of an answer.

    It follows from the request, so that a repeated answer is the same to the byte.
    """

    ident: str
    created: int

    @classmethod
    def of(cls, draws: Draws) -> Stamp:
        """Derive the stamp from the answer's draws."""
        return cls(ident=draws.hex("id", 32), created=_EPOCH + draws.choice("created", 31_536_000))


def grouped(text: str, size: int) -> list[tuple[str, int]]:
    """Split ``text`` into chunks of ``size`` tokens, each with its number of tokens."""
    tokens = pieces(text)
    if size == 1:
        return [(token, 1) for token in tokens]
    groups = (tokens[start : start + size] for start in range(0, len(tokens), size))
    return [("".join(group), len(group)) for group in groups]


def _usage(ask: Ask, answers: Sequence[Answer]) -> dict[str, int]:
    written = sum(answer.tokens() for answer in answers)
    return {
        "prompt_tokens": ask.input_tokens,
        "completion_tokens": written,
        "total_tokens": ask.input_tokens + written,
    }


def _message(answer: Answer, ask: Ask) -> dict[str, Any]:
    # OpenAI sets `refusal` only where a schema was asked for; elsewhere a refusal is plain text.
    formal = answer.refused and ask.strict_json
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if formal or answer.tool_calls else answer.text,
        "refusal": answer.text if formal else None,
    }
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ]
    return message


def chat_document(ask: Ask, answers: Sequence[Answer], stamp: Stamp) -> dict[str, Any]:
    """Return a whole chat completion."""
    return {
        "id": f"chatcmpl-{stamp.ident}",
        "object": "chat.completion",
        "created": stamp.created,
        "model": ask.model,
        "choices": [
            {
                "index": index,
                "message": _message(answer, ask),
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ],
        "usage": _usage(ask, answers),
        "system_fingerprint": "fp_simulated",
    }


def _chunk(head: bytes, index: int, delta: dict[str, Any], tail: bytes, end: str | None) -> bytes:
    return b'%s[{"index":%d,"delta":%s,"logprobs":null,"finish_reason":%s}]%s' % (
        head,
        index,
        _encode(delta),
        _encode(end),
        tail,
    )


def _frame(kind: str, prefix: str, ask: Ask, stamp: Stamp) -> tuple[bytes, bytes]:
    head = _encode(
        {
            "id": f"{prefix}-{stamp.ident}",
            "object": kind,
            "created": stamp.created,
            "model": ask.model,
            "system_fingerprint": "fp_simulated",
        }
    )
    tail = b',"usage":null}\n\n' if ask.include_usage else b"}\n\n"
    return b"data: " + head[:-1] + b',"choices":', tail


def chat_events(ask: Ask, answers: Sequence[Answer], stamp: Stamp, size: int) -> Iterator[Event]:
    """Yield a chat completion as server-sent events, ``size`` tokens in each."""
    head, tail = _frame("chat.completion.chunk", "chatcmpl", ask, stamp)
    for index, answer in enumerate(answers):
        opening: dict[str, Any] = {"role": "assistant", "content": None}
        if not answer.tool_calls:
            opening["content"] = ""
        yield _chunk(head, index, opening, tail, None), 0
        field = "refusal" if answer.refused and ask.strict_json else "content"
        for text, tokens in grouped(answer.text, size):
            yield _chunk(head, index, {field: text}, tail, None), tokens
        for place, call in enumerate(answer.tool_calls):
            start = {
                "index": place,
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": ""},
            }
            yield _chunk(head, index, {"tool_calls": [start]}, tail, None), 8
            for text, tokens in grouped(call.arguments, size):
                part = {"index": place, "function": {"arguments": text}}
                yield _chunk(head, index, {"tool_calls": [part]}, tail, None), tokens
        yield _chunk(head, index, {}, tail, answer.finish_reason), 0
    if ask.include_usage:
        yield head + b'[],"usage":' + _encode(_usage(ask, answers)) + b"}\n\n", 0
    yield _DONE


def completion_document(ask: Ask, answers: Sequence[Answer], stamp: Stamp) -> dict[str, Any]:
    """Return a whole legacy completion."""
    return {
        "id": f"cmpl-{stamp.ident}",
        "object": "text_completion",
        "created": stamp.created,
        "model": ask.model,
        "choices": [
            {
                "index": index,
                "text": answer.text,
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ],
        "usage": _usage(ask, answers),
    }


def completion_events(
    ask: Ask, answers: Sequence[Answer], stamp: Stamp, size: int
) -> Iterator[Event]:
    """Yield a legacy completion as server-sent events."""
    head, tail = _frame("text_completion", "cmpl", ask, stamp)
    for index, answer in enumerate(answers):
        groups = [*grouped(answer.text, size), ("", 0)]
        for place, (text, tokens) in enumerate(groups):
            end = answer.finish_reason if place == len(groups) - 1 else None
            choice = {"index": index, "text": text, "logprobs": None, "finish_reason": end}
            yield head + b"[" + _encode(choice) + b"]" + tail, tokens
    if ask.include_usage:
        yield head + b'[],"usage":' + _encode(_usage(ask, answers)) + b"}\n\n", 0
    yield _DONE
