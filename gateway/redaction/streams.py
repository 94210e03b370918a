"""Redacting event streams: a value that is split over several events is found all the same.

The strings that a client joins (content, reasoning, arguments of tool calls) are joined, redacted
as a whole, and given back to the events they came from: what is joined of the stream afterwards is
the redacted text, and there are as many events as before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from gateway.redaction.documents import (
    CARD_NUMBER,
    ENVELOPE,
    LITERAL,
    SECRET_NAMES,
    decoded_json,
    is_json,
    redact_document,
    text_edits,
)
from gateway.redaction.text import Placeholders, Scanner, Withheld, spread

__all__ = ["looks_like_stream", "redact_stream"]

_TEXTS = ("content", "text", "reasoning_content", "reasoning", "refusal")
_MEMBER = re.compile(r'"([^"]*)"\s*(?:(:)\s*(?:"([^"]*)")?)?')
_LONG_NUMBER = re.compile(r"\d{13}", re.ASCII)
_ROLE = re.compile(r'"role":\s?"\w*",\s?')
_NUMBER = re.compile(r"\d+", re.ASCII)
_LATER_INDEX = re.compile(r'"index"\s*+:(?!\s*+0[\s,}])')
"""A choice that is not the first, however its number is written."""
_FEW = 12
"""A stream of text has hardly more kinds of events: its first, its last, and those in between.
They are about a kilobyte each at most."""
_START = 4096
"""Characters in which the names of the texts are looked for first; others come later, if at all."""
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
"""Members that say which of several texts an event belongs to."""

Path = tuple[Any, ...]
Places = dict[Path, list[tuple[Any, Any, str, int]]]


def looks_like_stream(text: str) -> bool:
    """Whether a body is an event stream and not a JSON document."""
    return text.lstrip("\ufeff \r\n").startswith(("data:", "event:", "id:", "retry:", ":"))


def redact_stream(text: str, scanner: Scanner, placeholders: Placeholders, *, secrets: bool) -> str:
    """Return the stream redacted, itself where nothing matches. Raises :class:`Withheld`.

    An event that is not JSON can't be redacted, nor can a stream that ends within one.
    """
    plain = _plain(text, scanner, secrets=secrets)
    if plain is not None:
        return _redact_plain(text, plain, scanner, placeholders, secrets=secrets)
    before = placeholders.found.total()
    heads: list[str] = []
    written: list[str] = []
    end: list[str] = []
    for head, data in _events(text):
        heads.append(head)
        if data.strip() == "[DONE]":
            end = [data]
            break  # what comes after the end is read by nobody
        written.append(data)
    documents = [decoded_json(data) for data in written]
    changed, others = _redact_joined(documents, scanner, placeholders, secrets=secrets)
    for index in changed:
        written[index] = msgspec.json.encode(documents[index]).decode()
    if _holds_more(others, written, scanner, secrets=secrets):
        written = [
            redact_document(data, scanner, placeholders, secrets=secrets) for data in written
        ]
    if placeholders.found.total() == before:
        return text
    events = zip(heads, written + end, strict=True)
    return "".join([f"{head}data: {data}\n\n" for head, data in events])


def _holds_more(others: set[str], written: list[str], scanner: Scanner, *, secrets: bool) -> bool:
    """Say whether events hold something beside what was joined, so that each has to be read."""
    if secrets and not SECRET_NAMES.isdisjoint(map(str.lower, others)):
        return True
    unused = Placeholders()
    if any(text_edits(each, scanner, unused, secrets=secrets) for each in others):
        return True
    together = "\n".join(written)
    return _LONG_NUMBER.search(together) is not None and CARD_NUMBER.search(together) is not None


class _Plain(NamedTuple):
    """A stream whose events differ in nothing but a text: what stands around, and the texts.

    There is one more ``around`` than ``names`` (the member's name up to the text) and ``texts``, as
    they are written. ``joined`` are the numbers of the texts that are joined with each other.
    """

    around: list[str]
    names: list[str]
    texts: list[str]
    joined: Collection[Sequence[int]]


def _plain(text: str, scanner: Scanner, *, secrets: bool) -> _Plain | None:
    """Take a stream of text apart without reading each event; None where that is not certain.

    What stands around the texts is nearly the same in each event, so that it is looked at once. It
    may hold no string that a client could join, no choice but the first, and nothing to replace;
    and up to the texts all events are the same, so that those of one name are one member.
    """
    last = text.rstrip("\r\n").rpartition("\n")[2].removeprefix("data:").strip()
    if last != "[DONE]" and not is_json(last):
        return None  # what was cut off may have begun in an event before
    held = [name for name in _TEXTS if f'"{name}":' in text[:_START]]
    around, names, texts = _divided(text, held)
    later = [name for name in _TEXTS if name not in held and f'"{name}":' in "".join(set(around))]
    if later:
        around, names, texts = _divided(text, held + later)
    together = "\n".join(dict.fromkeys(around))
    if not texts or not _is_frame(together, scanner, secrets=secrets):
        return None
    if not all(map(_BLANK.search, dict.fromkeys(around[1:-1]))):
        return None  # two texts in one event
    heads = {kind: _head(kind) for kind in dict.fromkeys(around[:-1])}
    if len(set(heads.values())) > 1:
        return None  # perhaps the same member in another spelling
    if len(set(names)) == 1:
        return _Plain(around, names, texts, [range(len(texts))])
    joined: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        joined.setdefault(name.split('"')[1], []).append(index)
    return _Plain(around, names, texts, joined.values())


def _divided(text: str, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return what stands around the strings that are called this, their names, and what they hold.

    A name is all up to the string. Without names all stands around.
    """
    pieces = _member_of(tuple(names)).split(text) if names else [text]
    return pieces[::3], pieces[1::3], pieces[2::3]


@lru_cache
def _member_of(names: tuple[str, ...]) -> re.Pattern[str]:
    which = names[0] if len(names) == 1 else f"(?:{'|'.join(names)})"
    return re.compile(rf'("{which}":\s?")((?:[^"\\]++|\\.)*+)"', re.DOTALL)


def _is_frame(around: str, scanner: Scanner, *, secrets: bool) -> bool:
    """Say whether nothing around the texts is joined with anything, and nothing to be replaced."""
    if len(around) > _FEW * 1024 or "\\" in around or _LATER_INDEX.search(around):
        return False
    strings: dict[str, None] = {}
    for name, sign, value in _MEMBER.findall(around):
        if not sign or name in _GROUPS or (value and name not in _WHOLE):
            return False
        strings[name] = strings[value] = None
    if secrets and not SECRET_NAMES.isdisjoint(map(str.lower, strings)):
        return False
    if not scanner.may_match(around, harmless=ENVELOPE):
        return True
    loose = LITERAL.sub("", around)  # what is no string: numbers, and comments between events
    unused = Placeholders()
    return not (scanner.edits("\n".join(strings), unused) or scanner.edits(loose, unused))


def _head(around: str) -> str:
    """Return how an event begins, up to a text: the same where texts are joined.

    Without numbers, such as times, and without the role, which only the first event has.
    """
    return _NUMBER.sub("0", _ROLE.sub("", _BLANK.split(around)[-1].lstrip("\ufeff\r\n")))


def _redact_plain(
    text: str, plain: _Plain, scanner: Scanner, placeholders: Placeholders, *, secrets: bool
) -> str:
    new = list(plain.texts)
    for own in plain.joined:
        texts = [plain.texts[index] for index in own]
        if not scanner.may_match(_unescaped("".join(texts))):
            continue
        pieces = [_unescaped(each) for each in texts]
        edits = text_edits("".join(pieces), scanner, placeholders, secrets=secrets)
        for index, old, piece in zip(own, pieces, spread(pieces, edits), strict=True):
            if piece != old:
                new[index] = json.dumps(piece, ensure_ascii="\\u" in plain.texts[index])[1:-1]
    if new == plain.texts:
        return text
    parts = zip(plain.around, plain.names, new, strict=False)
    return "".join([f'{before}{name}{each}"' for before, name, each in parts]) + plain.around[-1]


def _unescaped(text: str) -> str:
    return json.loads(f'"{text}"', strict=False) if "\\" in text else text


def _events(text: str) -> Iterator[tuple[str, str]]:
    """Yield each event that has data: its other lines but comments, and its data."""
    text = text.removeprefix("\ufeff").strip("\r\n")
    if "\r" in text:
        text = _LINE.sub("\n", text)
    for block in text.split("\n\n"):
        if block.startswith("data: ") and "\n" not in block:
            yield "", block[6:]
            continue
        lines = block.split("\n")
        data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
        if data:
            kept = [line for line in lines if line.startswith(("event:", "id:", "retry:"))]
            yield "".join([f"{line}\n" for line in kept]), "\n".join(data)
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
            group: Path = ()
            if not document.keys().isdisjoint(_GROUPS):
                group = tuple([repr(document.get(name)) for name in _GROUPS])
            _collect(document, group, index, places, others)
        else:
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
    if isinstance(value, dict):
        others.update(value)
        for key, each in value.items():
            if isinstance(each, str):
                if key in _WHOLE:
                    others.add(each)
                else:
                    places.setdefault((*path, key), []).append((value, key, each, index))
            elif isinstance(each, (dict, list)):
                _collect(each, (*path, key), index, places, others)
        return
    for place, each in enumerate(value):
        step = each.get("index", place) if isinstance(each, dict) else place
        if isinstance(each, str):
            places.setdefault((*path, step), []).append((value, place, each, index))
        elif isinstance(each, (dict, list)):
            _collect(each, (*path, str(step)), index, places, others)
