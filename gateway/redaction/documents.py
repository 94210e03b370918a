"""Redacting inside JSON: string literals are rewritten where they stand, all else stays as it is.

Numbers, spaces, the order of members and repeated keys are kept to the byte. A string that holds
JSON itself, such as a tool call's arguments, is redacted as JSON, so that it stays JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from gateway.redaction.checksums import is_card
from gateway.redaction.text import Edit, Placeholders, Scanner, Withheld, applied

__all__ = [
    "CARD_NUMBER",
    "ENVELOPE",
    "LITERAL",
    "SECRET_NAMES",
    "decoded_json",
    "document_edits",
    "is_json",
    "redact_document",
    "text_edits",
]

LITERAL = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
"""A string of JSON as it is written."""
CARD_NUMBER = re.compile(r"(?<![\d.eE+-])\d{13,19}(?![\d.eE])", re.ASCII)
_VALUE = re.compile(r'\s*:\s*(")?')
SECRET_NAMES = frozenset(
    [
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "client_secret",
        "api_key",
        "apikey",
        "api-key",
        "x-api-key",
        "access_token",
        "refresh_token",
        "auth_token",
        "id_token",
        "authorization",
        "private_key",
        "secret_key",
        "secret_access_key",
        "aws_secret_access_key",
    ]
)
_FILLED = re.compile(r"(?:bearer |basic )?\[[A-Z][A-Z0-9_]*_\d+\]", re.IGNORECASE)
ENVELOPE = re.compile(
    r'"(?:created|created_at|completed_at)":\s?\d{10}(?=[,}\s])'
    r'|"model":\s?"(?=[A-Za-z])(?!(?:[^"\d]*\d){13})[\w./:-]{1,100}"',
    re.ASCII,
)
"""Instants, and models with a date in their name: in nearly every answer, and no one's number. A
quotation mark within a string is escaped, so only members of the document itself look like this."""
_MIN_SECRET = 4
_SHORT = 100
_DEPTH = 6
"""So deep JSON inside strings is read as JSON; deeper, as text."""


def decoded_json(text: str) -> Any:
    """Return the document. Raises :class:`Withheld` where it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise Withheld("unreadable") from None


def is_json(text: str) -> bool:
    """Say whether a text is a JSON document."""
    try:
        decoded_json(text)
    except Withheld:
        return False
    return True


def redact_document(
    text: str, scanner: Scanner, placeholders: Placeholders, *, secrets: bool
) -> str:
    """Return a JSON text redacted. ``secrets``: members called a password are replaced whole."""
    if "\\u" not in text and not scanner.may_match(text, harmless=ENVELOPE):
        return text
    return applied(text, document_edits(text, scanner, placeholders, secrets=secrets))


def document_edits(
    text: str, scanner: Scanner, placeholders: Placeholders, *, secrets: bool, depth: int = 0
) -> list[Edit]:
    """Return the edits of a text that is JSON. Raises :class:`Withheld`."""
    edits: list[Edit] = []
    cards = any(rule.name == "card" for rule in scanner.rules)
    end = secret_at = 0
    for match in LITERAL.finditer(text):
        if cards:
            _refuse_card(text, end, match.start())
        start, end = match.span()
        raw = text[start:end]
        content = json.loads(raw) if "\\" in raw else raw[1:-1]
        is_secret = start == secret_at and start > 0 and len(content) >= _MIN_SECRET
        if is_secret and not _FILLED.fullmatch(content):
            given = placeholders.of("secret", "SECRET", content)
            edits.append((start, end, f'"{given}"'))
            continue
        if secrets and len(content) <= 24 and content.lower() in SECRET_NAMES:
            following = _VALUE.match(text, end)
            if following is not None and following[1]:
                secret_at = following.start(1)
        inner = text_edits(content, scanner, placeholders, secrets=secrets, depth=depth)
        if inner:
            edits.append((start, end, json.dumps(applied(content, inner), ensure_ascii=False)))
    if cards:
        _refuse_card(text, end, len(text))
    return edits


def text_edits(
    text: str, scanner: Scanner, placeholders: Placeholders, *, secrets: bool, depth: int = 0
) -> list[Edit]:
    """Return the edits of a string's content, which may be JSON itself. Raises `Withheld`."""
    if text in placeholders.clean:
        return []
    edits = _text_edits(text, scanner, placeholders, secrets=secrets, depth=depth)
    if not edits and len(text) <= _SHORT:
        placeholders.clean.add(text)
    return edits


def _text_edits(
    text: str, scanner: Scanner, placeholders: Placeholders, *, secrets: bool, depth: int
) -> list[Edit]:
    first = text.lstrip()[:1]
    if first and first in "{[" and depth < _DEPTH and ("\\u" in text or scanner.may_match(text)):
        try:
            document = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            document = None
        if isinstance(document, dict | list):
            return document_edits(text, scanner, placeholders, secrets=secrets, depth=depth + 1)
    return scanner.edits(text, placeholders)


def _refuse_card(text: str, start: int, end: int) -> None:
    """Look at what stands between two strings: a number can't be replaced by a placeholder."""
    if end - start >= 13:
        for match in CARD_NUMBER.finditer(text, start, end):
            if is_card(match[0]):
                raise Withheld("number")
