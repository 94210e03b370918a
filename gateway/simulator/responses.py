"""Answers in the shape of ``/v1/responses``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.simulator.answers import Answer
from gateway.simulator.ask import Ask
from gateway.simulator.chat import Event, Stamp, grouped

__all__ = ["response_document", "response_events"]

_encode = msgspec.json.Encoder().encode


def _item(answer: Answer, stamp: Stamp, status: str) -> dict[str, Any]:
    if answer.tool_calls:
        call = answer.tool_calls[0]
        return {
            "id": f"fc_{stamp.ident}",
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
    part: dict[str, Any] = {"type": "output_text", "text": answer.text, "annotations": []}
    if answer.refused:
        part = {"type": "refusal", "refusal": answer.text}
    return {
        "id": f"msg_{stamp.ident}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part],
    }


def _shell(ask: Ask, stamp: Stamp, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{stamp.ident}",
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": ask.max_tokens,
        "model": ask.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
        "metadata": {},
    }


def response_document(ask: Ask, answers: Sequence[Answer], stamp: Stamp) -> dict[str, Any]:
    """Return a whole response."""
    answer = answers[0]
    cut = answer.finish_reason == "length"
    status = "incomplete" if cut else "completed"
    written = answer.tokens()
    return _shell(ask, stamp, status) | {
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_item(answer, stamp, status)],
        "usage": {
            "input_tokens": ask.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": ask.input_tokens + written,
        },
    }


def _opened(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] == "function_call":
        return item | {"arguments": "", "status": "in_progress"}
    return item | {"content": [], "status": "in_progress"}


def _inner(item: dict[str, Any], size: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the events inside an output item, without their common fields."""
    if item["type"] == "function_call":
        kind = "response.function_call_arguments"
        for text, tokens in grouped(item["arguments"], size):
            yield {"type": f"{kind}.delta", "delta": text}, tokens
        yield {"type": f"{kind}.done", "name": item["name"], "arguments": item["arguments"]}, 0
        return
    part = item["content"][0]
    name = "text" if part["type"] == "output_text" else "refusal"
    kind = "response.output_text" if name == "text" else "response.refusal"
    more: dict[str, Any] = {"content_index": 0}
    yield {"type": "response.content_part.added", "part": part | {name: ""}, **more}, 0
    logprobs: dict[str, Any] = {"logprobs": []} if name == "text" else {}
    for text, tokens in grouped(part[name], size):
        yield {"type": f"{kind}.delta", "delta": text, **more, **logprobs}, tokens
    yield {"type": f"{kind}.done", name: part[name], **more, **logprobs}, 0
    yield {"type": "response.content_part.done", "part": part, **more}, 0


def response_events(
    ask: Ask, answers: Sequence[Answer], stamp: Stamp, size: int
) -> Iterator[Event]:
    """Yield a response as the typed events of the Responses API."""
    whole = response_document(ask, answers, stamp)
    item = whole["output"][0]
    begun = _shell(ask, stamp, "in_progress")
    at = {"item_id": item["id"], "output_index": 0}
    end = "response.incomplete" if whole["status"] == "incomplete" else "response.completed"
    events: list[tuple[dict[str, Any], int]] = [
        ({"type": "response.created", "response": begun}, 0),
        ({"type": "response.in_progress", "response": begun}, 0),
        ({"type": "response.output_item.added", "output_index": 0, "item": _opened(item)}, 0),
        *((at | event, tokens) for event, tokens in _inner(item, size)),
        ({"type": "response.output_item.done", "output_index": 0, "item": item}, 0),
        ({"type": end, "response": whole}, 0),
    ]
    for number, (event, tokens) in enumerate(events):
        body = _encode({"type": event["type"], "sequence_number": number} | event)
        yield b"event: %s\ndata: %s\n\n" % (event["type"].encode(), body), tokens
