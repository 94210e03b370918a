"""Finding what is to be replaced in one text, and the placeholders that stand in its place.

Placeholders are numbered for each kind by first appearance: ``[EMAIL_1]``. One
:class:`Placeholders` belongs to one capture, so that the same value has the same placeholder in
request and answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from gateway.redaction.custom import windows
from gateway.redaction.rules import (
    NumberInTheWay,
    Rule,
    Span,
    has_digits,
    has_literals,
)

__all__ = ["MAX_CUSTOM_S", "Edit", "Placeholders", "Scanner", "Withheld", "applied", "spread"]

Edit = tuple[int, int, str]
"""Start, end, and what stands there instead."""

MAX_CUSTOM_S = 0.25
"""Seconds that the rules of one's own may take for one capture; beyond, it is withheld."""

_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z0-9_]{0,31})_(\d{1,6})\]", re.ASCII)
_ESCAPED = re.compile(r"\\u00([2-7][0-9a-fA-F])")
_BASE64 = re.compile(
    r"(?:data:[\w.+/-]{1,80}(?:;[\w=.-]{1,40}){0,3};base64,)?[A-Za-z0-9+/_-]*={0,2}"
)
_OPAQUE = 256
_SHORTEST = 6
"""Characters of the shortest thing that a rule finds: `a@b.cd`."""


class Withheld(Exception):
    """A capture that can't be redacted safely, or may not be kept. ``reason`` is one word.

    ``unreadable``: not JSON, cut, or in an encoding that can't be undone. ``tokens``: text as token
    ids. ``number``: a card's number as a JSON number. ``too_slow``: the rules of one's own took too
    long. ``matched``: ``on_match`` says so. ``failed``: an unexpected fault.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Placeholders:
    """The placeholders of one capture, and how often each rule matched.

    ``known`` are texts whose own placeholders are not given out again.
    """

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._known = known
        self._last: dict[str, int] | None = None
        self._given: dict[tuple[str, str], str] = {}
        self.found: Counter[str] = Counter()
        self.clean: set[str] = set()
        """Short texts that hold nothing to replace: events of a stream repeat them."""
        self.spent_s = 0.0
        """Seconds spent on rules of one's own."""

    def of(self, rule: str, label: str, value: str) -> str:
        """Return the placeholder of a value, a new one where it is seen for the first time."""
        self.found[rule] += 1
        given = self._given.get((label, value))
        if given is None:
            if self._last is None:
                self._last = {}
                for match in chain.from_iterable(map(_PLACEHOLDER.finditer, self._known)):
                    self._last[match[1]] = max(int(match[2]), self._last.get(match[1], 0))
            number = self._last[label] = self._last.get(label, 0) + 1
            given = self._given[label, value] = f"[{label}_{number}]"
        return given


class Scanner:
    """Applies rules to texts. ``clock`` (seconds) bounds the time of the rules of one's own.

    ``recognise`` finds further spans with their labels, such as names of people.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        custom: Sequence[tuple[str, re.Pattern[str]]] = (),
        *,
        clock: Callable[[], float],
        recognise: Callable[[str], Iterable[tuple[int, int, str]]] | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self._custom = custom
        self._clock = clock
        self._recognise = recognise

    @property
    def active(self) -> bool:
        """Whether there is any rule."""
        return bool(self.rules or self._custom or self._recognise)

    def may_match(self, text: str, *, harmless: re.Pattern[str] | None = None) -> bool:
        """Say whether a text could hold anything: cheap, and only a "no" is certain.

        ``harmless`` matches places whose digits are known to be no phone, card or account.
        """
        if self._custom or self._recognise is not None:
            return True
        if len(text) < _SHORTEST:
            return False
        if "\\u00" in text or has_literals(text):
            return True
        if not has_digits(text):
            return False
        return harmless is None or has_digits(harmless.sub("", text))

    def edits(self, text: str, placeholders: Placeholders) -> list[Edit]:
        """Return the edits of a text, in order and apart from each other. Raises `Withheld`."""
        if len(text) > _OPAQUE and _BASE64.fullmatch(text):
            return []
        if not self.may_match(text):
            return []
        if "\\u00" in text:
            plain = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
            found = self._edits(plain, placeholders)
            if found and not self._edits(text, placeholders):
                return [(0, len(text), applied(plain, found))]
        return self._edits(text, placeholders)

    def _edits(self, text: str, placeholders: Placeholders) -> list[Edit]:
        edits: list[Edit] = []
        work = text
        for rule in self.rules:
            try:
                spans = _apart(rule.find(work))
            except NumberInTheWay:
                raise Withheld("number") from None
            work = self._take(work, spans, rule.name, rule.label, edits, placeholders)
        for name, pattern in self._custom:
            spans = _apart(self._custom_spans(pattern, work, placeholders))
            work = self._take(work, spans, name, name.upper(), edits, placeholders)
        if self._recognise is not None and " " in text:  # prose, and no name of a model or role
            for start, end, label in self._recognise(work):
                if start < end and "\0" not in work[start:end]:
                    span = Span(start, end, work[start:end].casefold())
                    work = self._take(work, [span], "presidio", label, edits, placeholders)
        edits.sort()
        return edits

    def _custom_spans(
        self, pattern: re.Pattern[str], text: str, placeholders: Placeholders
    ) -> Iterator[Span]:
        began = self._clock()
        for match in windows(pattern, text):
            if match is not None and "\0" not in match[0]:
                yield Span(match.start(), match.end(), match[0])
            if placeholders.spent_s + self._clock() - began > MAX_CUSTOM_S:
                raise Withheld("too_slow")
        placeholders.spent_s += self._clock() - began

    @staticmethod
    def _take(
        work: str,
        spans: Sequence[Span],
        rule: str,
        label: str,
        edits: list[Edit],
        placeholders: Placeholders,
    ) -> str:
        """Add edits for the spans, and return the text without them, for the rules that follow."""
        if not spans:
            return work
        new = [(s.start, s.end, placeholders.of(rule, label, s.value)) for s in spans]
        edits += new
        return applied(work, [(start, end, "\0" * (end - start)) for start, end, _ in new])


def _apart(spans: Iterable[Span]) -> list[Span]:
    kept: list[Span] = []
    last = 0
    for span in sorted(spans):
        if span.start >= last:
            kept.append(span)
            last = span.end
    return kept


def applied(text: str, edits: Sequence[Edit]) -> str:
    """Return a text with its edits made."""
    parts: list[str] = []
    position = 0
    for start, end, new in edits:
        parts += (text[position:start], new)
        position = end
    parts.append(text[position:])
    return "".join(parts)


def spread(pieces: Sequence[str], edits: Sequence[Edit]) -> list[str]:
    """Return the pieces of a text with the edits of the joined text made.

    What is new stands in the piece in which the old began; the rest of the old is taken away.
    """
    changed: list[str] = []
    begin = index = 0
    for piece in pieces:
        end = begin + len(piece)
        parts: list[str] = []
        position = begin
        while index < len(edits) and edits[index][0] < end:
            start, stop, new = edits[index]
            if start >= begin:
                parts += (piece[position - begin : start - begin], new)
            position = min(max(stop, position), end)
            if stop > end:
                break
            index += 1
        parts.append(piece[position - begin :])
        changed.append("".join(parts))
        begin = end
    return changed
