"""Redacting event streams: a value that is split over several events is found all the same.

The strings that a client joins (content, reasoning, arguments of tool calls) are joined, redacted
as a whole, and given back to the events they came from: what is joined of the stream afterwards is
the redacted text, and there are as many events as before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.redaction.documents import (
    CARD_NUMBER,
    LITERAL,
    SECRET_NAMES,
    decoded_json,
    is_json,
    redact_document,
    text_edits,
)
from gateway.redaction.text import Placeholders, Scanner, Withheld, spread

__all__ = ["looks_like_stream", "redact_stream"]

_CONTENT = re.compile(r'"content":\s?"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_FEW = 12
"""A stream of text has hardly more kinds of events: its first, its last, and those in between.
They are about a kilobyte each at most."""
_BLANK = re.compile(r"(?:\r\n|\r|\n){2,}")
_LINE = re.compile(r"\r\n|\r|\n")
_WHOLE = frozenset(
    [
        "id",
        "object",
        "model",
        "role",
        "type",
        "system_fingerprint",
        "finish_reason",
        "name",
        "service_tier",
        "item_id",
        "event_id",
        "call_id",
        "response_id",
        "obfuscation",
        "index",
        "status",
        "stop_reason",
    ]
)
"""Members that stand whole in each event, and are never joined."""
_GROUPS = ("type", "item_id", "output_index", "content_index", "summary_index")

Path = tuple[Any, ...]
Places = dict[Path, list[tuple[Any, Any, str, int]]]


def looks_like_stream(text: str) -> bool:
    """Whether a body is an event stream and not a JSON document."""
    return text.lstrip("\ufeff \r\n").startswith(("data:", "event:", "id:", "retry:", ":"))


def redact_stream(text: str, scanner: Scanner, placeholders: Placeholders, *, secrets: bool) -> str:
    """Return the stream redacted, itself where nothing matches. Raises :class:`Withheld`.

    An event that is not JSON can't be redacted, nor can a stream that ends within one.
    """
    if _is_harmless(text, scanner):
        return text
    before = placeholders.found.total()
    heads: list[str] = []
    written: list[str] = []
    documents: list[Any] = []
    for head, data in _events(text):
        heads.append(head)
        written.append(data)
        documents.append(None if data.strip() == "[DONE]" else decoded_json(data))
        if documents[-1] is None:
            break  # what comes after the end is read by nobody
    changed, others = _redact_joined(documents, scanner, placeholders, secrets=secrets)
    for index in changed:
        written[index] = msgspec.json.encode(documents[index]).decode()
    if _holds_more(others, written, scanner, secrets=secrets):
        written = [
            redact_document(data, scanner, placeholders, secrets=secrets) for data in written
        ]
    if placeholders.found.total() == before:
        return text
    return "".join(f"{head}data: {data}\n\n" for head, data in zip(heads, written, strict=True))


def _holds_more(others: set[str], written: list[str], scanner: Scanner, *, secrets: bool) -> bool:
    """Say whether events hold something beside what was joined, so that each has to be read."""
    if secrets and not SECRET_NAMES.isdisjoint(map(str.lower, others)):
        return True
    unused = Placeholders()
    if any(text_edits(each, scanner, unused, secrets=secrets) for each in others):
        return True
    return any(CARD_NUMBER.search(data) is not None for data in written)


def _is_harmless(text: str, scanner: Scanner) -> bool:
    """Say whether a plain stream of text holds nothing to be replaced, without reading each event.

    What stands around the text is nearly the same in each event, so that it is looked at once.
    """
    last = text.rstrip("\r\n").rpartition("\n")[2].removeprefix("data:").strip()
    if last != "[DONE]" and not is_json(last):
        return False  # what was cut off may have begun in an event before
    pieces = _CONTENT.split(text)
    around = '""'.join(dict.fromkeys(pieces[::2]))
    if len(around) > _FEW * 1024 or "\\" in around:
        return False
    content = "".join(pieces[1::2])
    if "\\" in content:
        content = json.loads(f'"{content}"', strict=False)
    if scanner.may_match(content):
        return False
    strings = "".join(dict.fromkeys(match[0].strip('"') for match in LITERAL.finditer(around)))
    loose = LITERAL.sub("", around)  # what is no string: numbers, and comments between events
    return not (scanner.edits(strings, Placeholders()) or scanner.edits(loose, Placeholders()))


def _events(text: str) -> Iterator[tuple[str, str]]:
    """Yield each event that has data: its other lines but comments, and its data."""
    for block in _BLANK.split(text.removeprefix("\ufeff").strip("\r\n")):
        lines = _LINE.split(block)
        data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
        if data:
            kept = [line for line in lines if line.startswith(("event:", "id:", "retry:"))]
            yield "".join(f"{line}\n" for line in kept), "\n".join(data)
        elif any(line and not line.startswith((":", "event:", "id:", "retry:")) for line in lines):
            raise Withheld("unreadable")


def _redact_joined(
    documents: list[Any], scanner: Scanner, placeholders: Placeholders, *, secrets: bool
) -> tuple[set[int], set[str]]:
    """Redact what is joined of several documents, in them.

    Returns which have changed, and all other strings, names of members among them.
    """
    places: Places = {}
    others: set[str] = set()
    for index, document in enumerate(documents):
        if isinstance(document, dict):
            group = tuple(repr(document.get(name)) for name in _GROUPS)
            _collect(document, group, index, places, others)
        elif document is not None:
            others.add(msgspec.json.encode(document).decode())
    changed: set[int] = set()
    for found in places.values():
        if len(found) < 2:
            others.update(piece for _, _, piece, _ in found)
            continue
        pieces = [piece for _, _, piece, _ in found]
        edits = text_edits("".join(pieces), scanner, placeholders, secrets=secrets)
        for (owner, key, old, index), new in zip(found, spread(pieces, edits), strict=True):
            if new != old:
                owner[key] = new
                changed.add(index)
    return changed, others


def _collect(value: Any, path: Path, index: int, places: Places, others: set[str]) -> None:
    """Note where strings that may be joined stand: owner, key, string, number of the document."""
    items: Any
    if isinstance(value, dict):
        others.update(value)
        items = []
        for key, each in value.items():
            if key not in _WHOLE:
                items.append((key, each, key))
            elif isinstance(each, str):
                others.add(each)
            elif isinstance(each, dict | list):
                items.append((key, each, key))
    else:
        items = [
            (place, each, each.get("index", place) if isinstance(each, dict) else place)
            for place, each in enumerate(value)
        ]
    for key, each, step in items:
        if isinstance(each, str):
            places.setdefault((*path, step), []).append((value, key, each, index))
        elif isinstance(each, dict | list):
            _collect(each, (*path, str(step)), index, places, others)
