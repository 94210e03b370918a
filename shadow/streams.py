"""Event streams joined into the document that the same request would have got unstreamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


class StreamFault(ValueError):
    """The stream carries an error, is not JSON, or ended before the answer did."""


def join_stream(endpoint: str, text: str) -> dict[str, Any]:
    """Join the raw text of an event stream; raise `StreamFault` where there is no whole answer."""
    if endpoint == "responses":
        return _join_responses(text)
    return _join_chunks(text)


def events(text: str) -> Iterator[str]:
    """Yield the data of each event, by the rules of the HTML standard (any line ending)."""
    data: list[str] = []
    normal = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for line in normal.split("\n"):
        if not line:
            if data:
                yield "\n".join(data)
                data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line == "data":
            data.append("")
    if data:  # a cut stream: the standard drops this event, a client has read its bytes
        yield "\n".join(data)


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield each event's JSON object, and an empty one for the closing `[DONE]`."""
    for data in events(text):
        if data.strip() == "[DONE]":
            yield {}
            return
        try:
            document = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise StreamFault("the stream has an event that is not JSON") from None
        if isinstance(document, dict):
            yield document


def _join_chunks(text: str) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    usage: Any = None
    model: Any = None
    done = False
    for document in _documents(text):
        done = not document
        if error := document.get("error"):
            message = error.get("message") if isinstance(error, dict) else error
            raise StreamFault(f"error in the stream: {str(message)[:200]}")
        usage = document.get("usage") or usage
        model = document.get("model") or model
        for choice in _dicts(document.get("choices")):
            index = choice.get("index")
            _add(choices.setdefault(index if isinstance(index, int) else 0, {}), choice)
    finished = all(choice.get("finish_reason") for choice in choices.values())
    if not choices or not (done or finished):
        raise StreamFault("the stream ended before the answer did")
    joined = [_closed(choices[index]) for index in sorted(choices)]
    return {"choices": joined, "usage": usage, "model": model}


def _add(joined: dict[str, Any], choice: dict[str, Any]) -> None:
    joined["finish_reason"] = choice.get("finish_reason") or joined.get("finish_reason")
    if isinstance(text := choice.get("text"), str):
        joined["text"] = joined.get("text", "") + text
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return
    message = joined.setdefault("message", {"calls": {}})
    for name in ("content", "refusal", "reasoning_content", "reasoning"):
        if isinstance(piece := delta.get(name), str):
            message[name] = message.get(name, "") + piece
    pieces = _dicts(delta.get("tool_calls"))
    if isinstance(legacy := delta.get("function_call"), dict):
        pieces.append({"index": -1, "function": legacy})
    for piece in pieces:
        _add_call(message["calls"], piece)


def _add_call(calls: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    """Add one piece of a tool call; an upstream that sends no index tells calls apart by id."""
    index = piece.get("index")
    if not isinstance(index, int):
        known = next((k for k, v in calls.items() if piece.get("id") in (v["id"], None)), None)
        index = len(calls) if known is None or not calls else known
        if not piece.get("id") and calls:
            index = next(reversed(calls))
    call = calls.setdefault(index, {"id": None, "function": {"name": "", "arguments": ""}})
    call["id"] = piece.get("id") or call["id"]
    function = piece.get("function")
    if not isinstance(function, dict):
        return
    # Some upstreams repeat the whole name in each piece.
    name = function.get("name")
    if isinstance(name, str) and name != call["function"]["name"]:
        call["function"]["name"] += name
    if isinstance(arguments := function.get("arguments"), str):
        call["function"]["arguments"] += arguments


def _closed(joined: dict[str, Any]) -> dict[str, Any]:
    message = joined.get("message")
    if message is not None:
        calls = message.pop("calls")
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return joined


def _join_responses(text: str) -> dict[str, Any]:
    for document in _documents(text):
        kind = document.get("type")
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            response = document.get("response")
            return response if isinstance(response, dict) else {}
        if kind == "error":
            raise StreamFault(f"error in the stream: {str(document.get('message'))[:200]}")
    raise StreamFault("the stream ended before the answer did")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
