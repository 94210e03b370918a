"""What the gateway reads of OpenAI bodies, and nothing more.

A request is peeked at, never decoded as a whole: the few fields that decide where it goes are read
with msgspec, the rest stays bytes (see :mod:`gateway.splice` for how it is rewritten). Of an
answer only the token usage and the finish reason are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import RequestError

__all__ = [
    "Answer",
    "Peek",
    "Rest",
    "document",
    "lookup",
    "multipart_model",
    "only_usage",
    "peek",
    "read_answer",
    "read_rest",
    "read_role",
]


class Peek(msgspec.Struct, frozen=True, gc=False):
    """The fields of a request that decide its way. Absent fields are ``None``."""

    model: str | None = None
    stream: object = None
    stream_options: object = None
    user: object = None
    metadata: object = None
    n: object = None
    background: object = None
    previous_response_id: object = None
    conversation: object = None

    @property
    def streams(self) -> bool:
        """Whether the client asked for a stream."""
        return self.stream is True

    @property
    def wants_usage(self) -> bool:
        """Whether the client itself asked for the usage chunk of a stream."""
        options = self.stream_options
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def stateful(self) -> bool:
        """Whether the request leans on state that only one deployment has.

        Such a request (of the responses API) can't be served by another arm, nor mirrored.
        """
        return bool(self.previous_response_id or self.conversation or self.background)

    @property
    def single_choice(self) -> bool:
        """Whether one answer was asked for; several can't be paired one to one."""
        return self.n is None or self.n == 1


_peek = msgspec.json.Decoder(Peek).decode


def peek(body: bytes) -> Peek:
    """Read the fields of :class:`Peek` from a JSON body.

    Raises :class:`RequestError` (400) where the body is no JSON object or ``model`` is no string.
    A body that is unusual but legal for common JSON parsers (lone surrogates, ``NaN``, numbers
    beyond a double) is let through: it is the upstream's to judge.
    """
    try:
        return _peek(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        values = document(body)
    model = values.get("model")
    if model is not None and not isinstance(model, str):
        raise RequestError(
            "'model' must be a string: the name of a route; GET /v1/models lists them.",
            code="invalid_type",
            param="model",
        )
    return Peek(**{name: values.get(name) for name in Peek.__struct_fields__})


def document(body: bytes) -> dict[str, Any]:
    """Decode a whole body with the standard library's lenient parser.

    Raises :class:`RequestError` (400) where it is no JSON object.
    """
    try:
        values = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise RequestError(
            "The body is not UTF-8; send JSON in UTF-8.", code="invalid_json"
        ) from None
    except json.JSONDecodeError as error:
        raise RequestError(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}.",
            code="invalid_json",
        ) from None
    except (RecursionError, ValueError):
        raise RequestError(
            "The body's JSON is nested too deeply or holds a number that is too long.",
            code="invalid_json",
        ) from None
    if not isinstance(values, dict):
        raise RequestError("The body must be a JSON object.", code="invalid_json")
    return values


_MULTIPART_MODEL = re.compile(
    rb'\r\n(?i:content-disposition):[^\r\n]*?;[ ]*name="model"[^\r\n]*(?:\r\n[^\r\n]+)*\r\n\r\n'
    rb"([^\r\n]{1,256})\r\n--"
)


def multipart_model(body: bytes) -> tuple[str, int, int] | None:
    """Find the ``model`` field of a multipart form: its value and where it starts and ends."""
    match = _MULTIPART_MODEL.search(body)
    if match is None:
        return None
    return match[1].decode("utf-8", "replace"), match.start(1), match.end(1)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is counted of an answer. ``None`` where the upstream did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    status: str | None = None


class _Document(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    choices: list[_Choice] | None = None
    response: _Response | None = None


_read = msgspec.json.Decoder(_Document).decode


def read_answer(body: bytes) -> Answer:
    """Read usage and finish reason of a JSON answer or of one event's data. Never raises.

    Understands the chat, completions, embeddings and responses APIs, the last also as the
    ``response.completed`` event of a stream.
    """
    try:
        answer = _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NOTHING
    usage = answer.usage
    if usage is None and answer.response is not None:
        usage = answer.response.usage
    reason = answer.choices[0].finish_reason if answer.choices else None
    if usage is None:
        return Answer(finish_reason=reason)
    read, written = usage.prompt_tokens, usage.completion_tokens
    return Answer(
        usage.input_tokens if read is None else read,
        usage.output_tokens if written is None else written,
        reason,
    )


_NOTHING = Answer()


def lookup(source: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """Return what stands at ``header:NAME``, ``metadata.KEY`` or ``body:PATH``, as a string."""
    kind, colon, name = source.partition(":")
    if kind == "header":
        return headers.get(name.lower()) or None
    value: Any = body
    for part in (name if colon else source).split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


class _Role(msgspec.Struct, gc=False):
    role: object = None


_role = msgspec.json.Decoder(_Role).decode


def read_role(message: bytes) -> object:
    """Return the role of a chat message in JSON, ``None`` where it has none that can be read."""
    try:
        return _role(message).role
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Rest(msgspec.Struct, gc=False):
    """What :func:`gateway.splice` asks of a body whose model was taken out."""

    model: object = msgspec.UNSET
    stream_options: object = msgspec.UNSET


_rest = msgspec.json.Decoder(Rest).decode


def read_rest(body: bytes) -> Rest | None:
    """Return what ``body`` says beside the model that was taken out; ``None`` if there is another.

    This proves that the one taken out was the only one at the top level: the peek found a model,
    and now a parser finds none. Parsing takes less than half the time of searching for others.
    """
    try:
        rest = _rest(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return rest if rest.model is msgspec.UNSET else None


class _Chunk(msgspec.Struct):
    choices: object = None
    usage: object = None


_chunk = msgspec.json.Decoder(_Chunk).decode


def only_usage(data: bytes) -> bool:
    """Say whether an event's data is the chunk that ``include_usage`` adds: usage, no choices."""
    try:
        chunk = _chunk(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return chunk.choices == [] and isinstance(chunk.usage, dict)
