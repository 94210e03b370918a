"""How an answer cites: marks in brackets, named sources, URLs, quotations beside a mark."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shadow.checks.citation_context import URL, WORD, Context, normal_id, normal_text, scalar, shape
from shadow.checks.schema import NotJson, parse_json

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_SOURCE_WORD = r"(?:sources?|quellen?|fuentes?|fontes?|fonti|bron(?:nen)?)"
_MARK = re.compile(
    r"(?<!!)[\[\u3010]\^?(?P<square>[^\[\]\u3010\u3011\n]{1,120})[\]\u3011](?P<link>\()?"
    rf"|\((?P<round>(?:see |siehe |voir |ver )?{WORD}[^()\n]{{1,120}})\)"
    rf"|^[ \t>*_-]{{0,6}}{_SOURCE_WORD}[*_]{{0,2}}:[*_ \t]*(?P<line>[^\n\[\]]{{1,120}})$",
    re.IGNORECASE | re.MULTILINE,
)
_SEE = re.compile(r"^(?:see|siehe|voir|ver) ", re.IGNORECASE)
_NAMED = re.compile(
    rf"^(?:{_SOURCE_WORD}|docs?|documents?|refs?|references?|citations?)\s*:\s*(?P<what>.+)$",
    re.IGNORECASE,
)
_WORDED = re.compile(rf"^{WORD}[\s_#-]*\d", re.IGNORECASE)
_SPLIT = re.compile(r"\s*(?:[,;&|]|\band\b|\bund\b|\bet\b|\by\b)\s*")
_RANGE = re.compile(r"^(\d{1,4})\s*[-\u2013]\s*(\d{1,4})$")
_REFERENCE_LINE = re.compile(r"^[ \t*>-]{0,6}\[\^?([^\[\]\n]{1,64})\][^\n]*https?://", re.MULTILINE)
_QUOTE = re.compile(
    r"[\"\u201c\u201e\u00ab]([^\"\u201c\u201d\u201e\u00ab\u00bb\n]{1,800})[\"\u201d\u201c\u00bb]"
)
_GAP = re.compile(r"\s*\u2026\s*|\s*\.\.\.\s*|\s*\[(?:\u2026|\.\.\.)\]\s*")
_CITING_KEYS = frozenset(
    {"citations", "citation", "cited", "cites", "references", "source_ids", "doc_ids",
     "document_ids", "cited_ids"}
)  # fmt: skip
_SOURCE_KEYS = frozenset({"sources", "source", "id", "ref"})
_WORDS = re.compile(r"[\w\"]")
_END = re.compile(r"[.!?\n\"]")
_MAX_QUOTES = 200
_MAX_NODES = 5_000
_BEFORE, _AFTER = 25, 4
"""Characters between a mark and a quotation that stand together: `[3] says: "…"`, `"…" [3]`."""


@dataclass(frozen=True, slots=True)
class Cited:
    """What an answer cites.

    `known` and `unknown` count the sources that it names and that the context has or has not;
    `urls` are as written, `quotations` those that stand beside a mark.
    """

    known: int = 0
    unknown: int = 0
    urls: tuple[str, ...] = ()
    quotations: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there is any citation."""
        return bool(self.known or self.unknown or self.urls)


def read_citations(text: str, context: Context) -> Cited:
    """Find what `text` cites; `context` tells what citations look like there."""
    verdicts: list[bool] = []
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        with suppress(NotJson):
            text = _flat(parse_json(stripped), context, verdicts)
    if "`" in text:
        text = _CODE.sub(" ", text)
    own = {normal_id(name) for name in _REFERENCE_LINE.findall(text)} if "://" in text else set()
    starts: list[int] = []
    ends: list[int] = []
    for mark in _MARK.finditer(text):
        found = _verdicts(mark, context, own)
        if found:
            starts.append(mark.start())
            ends.append(mark.end())
            verdicts += found
    urls = tuple(match.rstrip(".,;:!?*_") for match in URL.findall(text)) if "://" in text else ()
    return Cited(
        known=sum(verdicts),
        unknown=len(verdicts) - sum(verdicts),
        urls=urls,
        quotations=tuple(_quotations(text, starts, ends)) if starts else (),
    )


def verbatim(quotation: str, context: Context) -> bool:
    """Say whether a quotation stands in the context word for word; omissions may be marked."""
    for piece in _GAP.split(re.sub(r"\[(\w)\]", r"\1", quotation)):
        plain = normal_text(piece).strip(" .,;:!?-'\"")
        if len(plain) > 2 and plain not in context.words:
            return False
    return True


def _verdicts(mark: re.Match[str], context: Context, own: set[str]) -> list[bool]:
    """Return for each source that a mark names whether it is known; nothing if it is no mark."""
    content = _SEE.sub("", (mark["square"] or mark["round"] or mark["line"]).strip())
    if mark["link"] or "://" in content:
        return []  # the URL is looked at as such
    if mark["line"] and _names(content, context):
        return [True]
    if (named := _NAMED.match(content)) and not mark["line"]:
        return [_names(named["what"], context)]
    if mark["round"] and not _WORDED.match(content):
        return []
    found: list[bool] = []
    for item in _SPLIT.split(content):
        span = _RANGE.match(item)
        for name in span.groups() if span else (item.partition("\u2020")[0],):
            identifier = normal_id(name)
            if identifier in own:
                continue
            known = identifier in context.ids
            if not known and not _alike(identifier, context):
                return []
            found.append(known)
    return found


def _alike(identifier: str, context: Context) -> bool:
    """Whether this looks like the context's identifiers, and not like a year or an interval."""
    if not identifier or shape(identifier) not in context.shapes:
        return False
    if not identifier.isdigit():
        return True
    longest = max(len(known) for known in context.ids if known.isdigit())
    return identifier != "0" and len(identifier) <= max(2, longest)


def _names(what: str, context: Context) -> bool:
    """Whether a source that is named in words is one that the context has."""
    whole = normal_id(what)
    if whole in context.ids:
        return True
    pieces = [piece for piece in _SPLIT.split(what) if piece]
    if pieces and all(normal_id(piece) in context.ids for piece in pieces):
        return True
    plain = normal_text(what).strip(" .,;:!?-'\"")
    return len(plain) > 2 and plain in context.words


def _quotations(text: str, starts: list[int], ends: list[int]) -> Iterator[str]:
    for number, quote in enumerate(_QUOTE.finditer(text)):
        if number == _MAX_QUOTES:
            return
        words = quote[1]
        if len(words.split()) < 3 and (words.isascii() or len(words) < 6):
            continue
        after = bisect_left(starts, quote.end())
        before = bisect_right(ends, quote.start()) - 1
        if after < len(starts) and starts[after] - quote.end() <= _AFTER:
            between, foreign = text[quote.end() : starts[after]], _WORDS
        elif before >= 0 and quote.start() - ends[before] <= _BEFORE:
            between, foreign = text[ends[before] : quote.start()], _END
        else:
            continue
        if not foreign.search(between):
            yield words


def _flat(document: Any, context: Context, verdicts: list[bool]) -> str:
    """Return a JSON answer's strings as text; what its fields cite goes into `verdicts`."""
    texts: list[str] = []
    waiting: list[tuple[str, Any]] = [("", document)]
    for _ in range(_MAX_NODES):
        if not waiting:
            break
        key, node = waiting.pop()
        if isinstance(node, dict):
            waiting += [
                (key if key in _CITING_KEYS and name in _SOURCE_KEYS else name.casefold(), value)
                for name, value in reversed(node.items())
            ]
        elif isinstance(node, list):
            waiting += [(key, value) for value in reversed(node)]
        elif isinstance(node, str | int) and not isinstance(node, bool):
            words = scalar(node)
            if words is not None and "://" not in words:
                identifier = normal_id(words)
                known = identifier in context.ids
                if key in _CITING_KEYS:
                    verdicts.append(known or _names(words, context))
                    continue
                if key in _SOURCE_KEYS and (known or _alike(identifier, context)):
                    verdicts.append(known)
                    continue
            if isinstance(node, str):
                texts.append(node)
    return "\n".join(texts)
