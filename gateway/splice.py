"""Rewriting a request without re-encoding it.

Only the bytes of the values that change are replaced; everything else stays exactly as the client
wrote it: number formats, escapes, white space, the order and repetition of keys. The functions
here expect a body that :func:`gateway.wire.peek` has accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET

from gateway.wire import Peek, read_rest, read_role

__all__ = ["Rewrite", "elements", "members"]

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING_AT = re.compile(_STRING, re.DOTALL)
_MEMBER = re.compile(rb"[ \t\r\n,]*+(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL)
_ITEM = re.compile(rb"[ \t\r\n,]*+(?=[^\]\s,])")
_STRUCTURE = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_SCALAR = re.compile(rb"[^,\]}\s]++")
_MODEL = b'"model"'
_LEADING = ("system", "developer")  # no set: a client may send a list for a role
_OPTIONS = b'"stream_options":{"include_usage":true},'

Edit = tuple[int, int, bytes]


def _skip(body: bytes, start: int) -> int:
    """Return where the value that begins at ``start`` ends."""
    first = body[start]
    if first == 0x22:
        match = _STRING_AT.match(body, start)
    elif first in b"{[":
        depth = 0
        for match in _STRUCTURE.finditer(body, start):
            mark = body[match.start()]
            if mark in b"{[":
                depth += 1
            elif mark in b"}]":
                depth -= 1
                if depth == 0:
                    return match.end()
        match = None
    else:
        match = _SCALAR.match(body, start)
    if match is None:
        raise ValueError("not JSON")
    return match.end()


def members(body: bytes, start: int) -> Iterator[tuple[str, int, int]]:
    """Yield key, start and end of value for each member of the object that begins at ``start``.

    Repeated keys are yielded as often as they stand there; escapes in keys are decoded.
    """
    position = start + 1
    while match := _MEMBER.match(body, position):
        raw = match[1]
        key = json.loads(raw) if b"\\" in raw else raw[1:-1].decode("utf-8", "replace")
        position = _skip(body, match.end())
        yield key, match.end(), position


def elements(body: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each element of the array that begins at ``start``."""
    position = start + 1
    while match := _ITEM.match(body, position):
        position = _skip(body, match.end())
        yield match.end(), position


def _only(body: bytes, key: int) -> bool:
    """Say whether the ``"model"`` found at ``key`` must be the object's own, as there is no other.

    Where it could be written with escapes there may be, which only reading it all can tell.
    """
    return b"\\u" not in body and body.find(_MODEL) == key == body.rfind(_MODEL)


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


class Rewrite:
    """How requests are written for one deployment. Encoded once, applied to every request.

    ``model`` is the upstream's name for the model. ``parameters`` are set in every request,
    whatever the client asked. ``system_prompt`` replaces the first system or developer message
    of a chat (or is put first) and the ``instructions`` of the responses API.
    """

    __slots__ = ("_message", "_model", "_parameters", "_prompt", "_simple", "name")

    def __init__(
        self,
        model: str,
        *,
        system_prompt: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = model.encode()
        """The upstream's name for the model, as plain text."""
        self._model = _encode(model)
        self._parameters = {name: _encode(value) for name, value in (parameters or {}).items()}
        self._prompt = None if system_prompt is None else _encode(system_prompt)
        self._message = None
        if system_prompt is not None:
            self._message = _encode({"role": "system", "content": system_prompt})
        self._simple = not self._parameters and self._prompt is None

    def apply(self, body: bytes, peeked: Peek, *, path: str = "", ask_usage: bool = False) -> bytes:
        """Return ``body`` written for the deployment.

        ``path`` is the endpoint after ``/v1`` and decides where a system prompt goes. With
        ``ask_usage`` the stream's usage chunk is asked for as well; ``stream_options`` that are
        neither absent, ``null`` nor an object are left for the upstream to refuse.
        """
        if self._simple and peeked.model is not None:
            key = body.find(_MODEL, 0, 32)
            if key < 0:
                key = body.rfind(_MODEL)  # some clients write it first, some behind the messages
            start = body.find(b'"', key + 7)
            end = body.find(b'"', start + 1) + 1
            if (
                0 < key < start < end
                and body[key + 7] == 0x3A
                and (start == key + 8 or body[key + 8 : start].isspace())
                and body[end - 2] != 0x5C  # the quote is no escaped one
            ):
                after = body[end:]
                if not ask_usage and _only(body, key):
                    return body[:start] + self._model + after
                rest = read_rest(body[:key] + b'"":""' + after)
                if rest is not None and (not ask_usage or rest.stream_options is UNSET):
                    if not ask_usage:
                        return body[:start] + self._model + after
                    brace = body.index(b"{") + 1
                    return b"".join((body[:brace], _OPTIONS, body[brace:start], self._model, after))
        return self._general(body, peeked, path, ask_usage=ask_usage)

    def _general(self, body: bytes, peeked: Peek, path: str, *, ask_usage: bool) -> bytes:
        start = body.index(b"{")
        wanted = dict(self._parameters)
        if peeked.model is not None:
            wanted["model"] = self._model
        if self._prompt is not None and path == "/responses":
            wanted["instructions"] = self._prompt
        if ask_usage:
            options = peeked.stream_options
            if options is None:
                options = {}
            if isinstance(options, dict):
                wanted["stream_options"] = _encode({**options, "include_usage": True})
        edits: list[Edit] = []
        missing = dict(wanted)
        empty = True
        for key, begin, end in members(body, start):
            empty = False
            if key in wanted:
                edits.append((begin, end, wanted[key]))
                missing.pop(key, None)
            elif key == "messages" and self._prompt is not None and body[begin] == 0x5B:
                edits.append(self._place_prompt(body, begin))
        if missing:
            added = b",".join(_encode(key) + b":" + value for key, value in missing.items())
            edits.append((start + 1, start + 1, added if empty else added + b","))
        return _edit(body, edits)

    def _place_prompt(self, body: bytes, array: int) -> Edit:
        prompt, message = self._prompt or b'""', self._message or b"{}"
        empty = True
        for begin, end in elements(body, array):
            empty = False
            if body[begin] != 0x7B or read_role(body[begin:end]) not in _LEADING:
                continue
            spots = [(s, e, prompt) for key, s, e in members(body, begin) if key == "content"]
            if not spots:
                spots = [(begin + 1, begin + 1, b'"content":' + prompt + b",")]
            shifted = [(s - begin, e - begin, text) for s, e, text in spots]
            return begin, end, _edit(body[begin:end], shifted)
        return array + 1, array + 1, message if empty else message + b","


def _edit(body: bytes, edits: list[Edit]) -> bytes:
    parts: list[bytes] = []
    position = 0
    for start, end, text in sorted(edits):
        parts += (body[position:start], text)
        position = end
    parts.append(body[position:])
    return b"".join(parts)
