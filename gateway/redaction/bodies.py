"""Redacting the request and the answer of a capture as one, so that placeholders agree."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.redaction.custom import check_pattern
from gateway.redaction.documents import decoded_json, redact_document
from gateway.redaction.rules import BUILT_IN
from gateway.redaction.streams import looks_like_stream, redact_stream
from gateway.redaction.text import Placeholders, Scanner, Withheld, applied
from gateway.settings_privacy import RedactionSettings
from gateway.splice import members

__all__ = ["Recognise", "Redacted", "Redactor"]

Recognise = Callable[[str], Iterable[tuple[int, int, str]]]
"""Finds spans with their labels in a text, such as names of people."""

_ENDPOINTS_USER = ("user", "safety_identifier")
_SPELLED = ("logprobs", "prompt_logprobs", "token_ids", "prompt_token_ids", "top_logprobs")
"""Members of answers that spell the text once more, token by token."""

_SPELLS = re.compile(rf'"(?:{"|".join(_SPELLED)})"\s*+:\s*+(?!null)')


@dataclass(frozen=True, slots=True)
class Redacted:
    """A capture's texts as they may be kept, and how often each rule matched."""

    request: bytes
    response: bytes
    encoding: bytes
    segment: str | None
    risk: str | None
    found: Counter[str]


class Redactor:
    """Redacts by the settings of one route. ``clock`` returns seconds of this thread's own work."""

    def __init__(
        self,
        settings: RedactionSettings,
        *,
        clock: Callable[[], float],
        recognise: Recognise | None = None,
    ) -> None:
        on = settings.rules
        self._scanner = Scanner(
            [rule for rule in BUILT_IN if getattr(on, rule.name)],
            [(rule.name, check_pattern(rule.pattern)) for rule in settings.custom],
            clock=clock,
            recognise=recognise,
        )
        self._user = on.user
        self._secrets = on.secret
        self._withholds = settings.on_match == "withhold"
        self.active = self._scanner.active or on.user
        """Whether there is anything to do."""

    def capture(
        self,
        request: bytes,
        response: bytes,
        encoding: bytes,
        *,
        limit: int,
        segment: str | None = None,
        risk: str | None = None,
    ) -> Redacted:
        """Redact a request with its answer, and its labels. Raises :class:`Withheld`.

        A compressed answer is unpacked, up to ``limit`` bytes. What has nothing to be replaced
        comes back as it was, byte for byte.
        """
        asked = _text(request)
        body = _text(_unpacked(response, encoding, limit))
        placeholders = Placeholders((asked, body))
        given = self._request(asked, placeholders)
        answer = self._answer(body, placeholders)
        labels = (self._label(segment, placeholders), self._label(risk, placeholders))
        self._withhold_matches(placeholders)
        return Redacted(
            request if given is asked else given.encode(),
            response if answer is body else answer.encode(),
            encoding if answer is body else b"",
            *labels,
            placeholders.found,
        )

    def mirrored(self, request: str, body: str) -> tuple[str, Counter[str]]:
        """Redact the other arm's answer to a ``request`` that is redacted already.

        New values are numbered from where the request ended, as they were in the captured answer.
        Raises :class:`Withheld`.
        """
        placeholders = Placeholders((request, body))
        answer = self._answer(body, placeholders)
        self._withhold_matches(placeholders)
        return answer, placeholders.found

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Redact a text that is nobody's body: JSON, an event stream or plain words.

        Raises :class:`Withheld`; plain words are always taken, a stream that can't be read is not.
        """
        placeholders = Placeholders((text,))
        if looks_like_stream(text):
            return self._answer(text, placeholders), placeholders.found
        try:
            decoded_json(text)
            return self._request(text, placeholders), placeholders.found
        except Withheld as refusal:
            if refusal.reason != "unreadable":
                raise
        return applied(text, self._scanner.edits(text, placeholders)), placeholders.found

    def _withhold_matches(self, placeholders: Placeholders) -> None:
        if self._withholds and placeholders.found:
            raise Withheld("matched")

    def _label(self, label: str | None, placeholders: Placeholders) -> str | None:
        if label is None:
            return None
        return applied(label, self._scanner.edits(label, placeholders))

    def _request(self, text: str, placeholders: Placeholders) -> str:
        document = decoded_json(text)
        if isinstance(document, dict):
            for name in ("prompt", "input"):
                if _holds_tokens(document.get(name)):
                    raise Withheld("tokens")
            if self._user and not document.keys().isdisjoint(_ENDPOINTS_USER):
                text = _without_user(text, placeholders)
        return redact_document(text, self._scanner, placeholders, secrets=self._secrets)

    def _answer(self, text: str, placeholders: Placeholders) -> str:
        if not self._scanner.active:
            return text
        if looks_like_stream(text):
            answer = redact_stream(text, self._scanner, placeholders, secrets=self._secrets)
        else:
            decoded_json(text)
            answer = redact_document(text, self._scanner, placeholders, secrets=self._secrets)
        spelled = placeholders.found and any(f'"{name}"' in answer for name in _SPELLED)
        return _unspelled(answer) if spelled and _SPELLS.search(answer) else answer


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Withheld("unreadable") from None


def _unpacked(body: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding not in (b"gzip", b"deflate"):
        return body
    unpacking = zlib.decompressobj(wbits=47)
    try:
        whole = unpacking.decompress(body, limit)
    except zlib.error:
        raise Withheld("unreadable") from None
    if not unpacking.eof:
        raise Withheld("unreadable")
    return whole


def _holds_tokens(value: Any) -> bool:
    """Say whether a prompt is written as token ids: a text that can't be read here."""
    if not isinstance(value, list):
        return False
    return any(
        isinstance(each, int) or (isinstance(each, list) and any(isinstance(n, int) for n in each))
        for each in value
    )


def _without_user(text: str, placeholders: Placeholders) -> str:
    """Return a request without the words in which it names its user."""
    body = text.encode()
    start = body.index(b"{")
    parts: list[bytes] = []
    position = 0
    for key, begin, end in members(body, start):
        if key in _ENDPOINTS_USER and body[begin:end] not in (b"null", b'""'):
            value = str(json.loads(body[begin:end]))
            if value.startswith("[USER_") and value.endswith("]"):
                continue
            given = placeholders.of("user", "USER", value)
            parts += (body[position:begin], f'"{given}"'.encode())
            position = end
    return b"".join((*parts, body[position:])).decode() if parts else text


def _unspelled(text: str) -> str:
    """Return an answer without what spells its text token by token."""
    if not looks_like_stream(text):
        return msgspec.json.encode(_emptied(msgspec.json.decode(text))).decode()
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if line.startswith("data: {"):
            lines[index] = (
                f"data: {msgspec.json.encode(_emptied(msgspec.json.decode(line[6:]))).decode()}"
            )
    return "\n".join(lines)


def _emptied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: None if key in _SPELLED else _emptied(each) for key, each in value.items()}
    return [_emptied(each) for each in value] if isinstance(value, list) else value
