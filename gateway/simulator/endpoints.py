"""The endpoints that generate, and what they have in common: reading bodies, unknown models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.errors import RequestError
from gateway.simulator.answers import Answer
from gateway.simulator.ask import Ask, read_chat, read_completion, read_responses
from gateway.simulator.chat import (
    Event,
    Stamp,
    chat_document,
    chat_events,
    completion_document,
    completion_events,
)
from gateway.simulator.responses import response_document, response_events

__all__ = ["ENDPOINTS", "Endpoint", "decode_object", "no_such_model"]

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How an endpoint's requests are read, and its answers written, whole or as a stream."""

    read: Callable[[Mapping[str, Any]], Ask]
    document: Callable[[Ask, Sequence[Answer], Stamp], dict[str, Any]]
    events: Callable[[Ask, Sequence[Answer], Stamp, int], Iterator[Event]]


ENDPOINTS = {
    "/v1/chat/completions": Endpoint(read_chat, chat_document, chat_events),
    "/v1/completions": Endpoint(read_completion, completion_document, completion_events),
    "/v1/responses": Endpoint(read_responses, response_document, response_events),
}


def decode_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises :class:`RequestError`."""
    try:
        body = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"The body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestError("The body must be a JSON object.")
    return body


def no_such_model(name: str) -> RequestError:
    """Return the error for a model that is not served."""
    return RequestError(
        f"The model `{name}` does not exist.", status=404, code="model_not_found", param="model"
    )
