"""An answer's own words, as phrase rules look at them: without quotations, code and decoration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from shadow.answer import visible
from shadow.checks.hints import Hints

SHORT_CHARS = 900
"""An answer up to this long is looked at whole; a longer one does more than what a phrase says."""

_EDGE_CHARS = 450

_APOSTROPHES = (("\u2019", "'"), ("\u2018", "'"), ("\u02bc", "'"), ("\u00a0", " "))

_QUOTED = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|`[^`\n]*`"
    r'|"[^"\n]{0,400}"|\u201c[^\u201d\n]{0,400}\u201d|\u201e[^\u201c\u201d\n]{0,400}[\u201c\u201d]'
    r"|\u00ab[^\u00bb\n]{0,400}\u00bb|\u300c[^\u300d\n]{0,400}\u300d",
    re.DOTALL,
)
_QUOTES = '`"\u201c\u201e\u00ab\u300c'
"""What a quotation or code begins with; most answers' starts and ends have none."""

_SINGLE_QUOTED = re.compile(r"(?<!\w)'(?=[^'\n]{3})[^'\n]*(?:(?<=\w)'(?=\w)[^'\n]*)*'(?!\w)")
_QUOTED_LINE = re.compile(
    r"^[ \t]*[>\u2014][^\n]*$",  # of a mail, or speech as novels write it in many languages
    re.MULTILINE,
)
_SENTENCE = re.compile(r".{24}[^.!?\u3002\uff01\uff1f]*+[.!?\u3002\uff01\uff1f]++|.+", re.DOTALL)
"""A sentence, or what is left; one as short as "No." belongs to the next one."""

_DECORATION = (("*", " "), ("_", " "), ("#", " "))

_HINTS = Hints()
"""The hints of all groups, whoever made them: a text is looked through once for all."""


@dataclass(frozen=True, slots=True)
class Group:
    """Phrases of which every match holds one of `hints` and, where there are any, one of `also`.

    Both are plain words, and looking for those is much faster than a regular expression with many
    branches; most texts have none of them.
    """

    hints: frozenset[str]
    also: frozenset[str]
    pattern: re.Pattern[str]

    def search(self, text: str, end: int) -> re.Match[str] | None:
        """Return the first match that stands in one sentence with a hint of each kind."""
        held = _held(text)
        if self.hints.isdisjoint(held) or (self.also and self.also.isdisjoint(held)):
            return None
        hints, also = self.hints & held, self.also & held
        for start, stop in _sentences(text):
            if start >= end:
                return None
            cut = min(stop, end)
            if _has(hints, text, start, cut) and (not also or _has(also, text, start, cut)):
                found = self.pattern.search(text, start, cut)
                if found is not None:
                    return found
        return None


@lru_cache(maxsize=8)
def _held(text: str) -> frozenset[str]:
    """Return the hints, of whatever group, that stand in a text."""
    return _HINTS.found(text)


def _has(hints: frozenset[str], text: str, start: int, stop: int) -> bool:
    for hint in hints:  # a loop: any() over a generator takes twice as long  # noqa: SIM110
        if text.find(hint, start, stop) >= 0:
            return True
    return False


@lru_cache(maxsize=8)
def _sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Return where sentences begin and end."""
    return tuple(found.span() for found in _SENTENCE.finditer(text))


@dataclass(frozen=True, slots=True)
class Phrases:
    """Groups of phrases; texts are in lower case and begin with a space (`opening`, `edges`)."""

    groups: tuple[Group, ...]

    def search(self, text: str, end: int | None = None) -> re.Match[str] | None:
        """Return the match of the first group that has one, in all of a text or up to `end`."""
        stop = len(text) if end is None else end
        for group in self.groups:
            if (found := group.search(text, stop)) is not None:
                return found
        return None


def grouped(*groups: tuple[str, Iterable[str]] | tuple[str, str, Iterable[str]]) -> Phrases:
    """Compile groups of phrases, each after its hints, and what else has to be there.

    Hints are divided by `|`.
    """
    made = []
    for hints, *also, phrases in groups:
        other = frozenset(str(also[0]).split("|")) if also else frozenset()
        made.append(Group(frozenset(str(hints).split("|")), other, any_of(*phrases)))
        _HINTS.add(made[-1].hints | other)
    _held.cache_clear()
    return Phrases(tuple(made))


def any_of(*phrases: str) -> re.Pattern[str]:
    """Compile regular expressions into one that matches any of them."""
    return re.compile("|".join(f"(?:{phrase})" for phrase in phrases))


@lru_cache(maxsize=8)  # several checks look at the same two answers, one after the other
def opening(text: str) -> str:
    """Return where an answer says what it does with the request: all of a short one, or its start.

    In lower case, quotations and code taken out, white space and Markdown's marks single spaces,
    with a space in front.
    """
    shown = visible(text)
    return _own(shown if len(shown) <= SHORT_CHARS else shown[:_EDGE_CHARS])


@lru_cache(maxsize=8)
def edges(text: str) -> str:
    """Return all of a short answer, or start and end of a long one, as `opening` does."""
    shown = visible(text)
    if len(shown) <= SHORT_CHARS:
        return opening(text)
    return f"{opening(text)} \n{_own(shown[-_EDGE_CHARS:])}"


def squeezed(text: str) -> str:
    """Return text in lower case with straight apostrophes and single spaces."""
    return " ".join(_replaced(text, _APOSTROPHES).lower().split())


def _own(text: str) -> str:
    if not text.isascii():
        text = _replaced(text, _APOSTROPHES)
    if ">" in text or "\u2014" in text:
        text = _QUOTED_LINE.sub(" ", text)
    if any(mark in text for mark in _QUOTES):
        text = _QUOTED.sub(" ", text)
    if "'" in text:
        text = _SINGLE_QUOTED.sub(" ", text)
    return f" {' '.join(_replaced(text, _DECORATION).split())}".lower()


def _replaced(text: str, characters: tuple[tuple[str, str], ...]) -> str:
    """Replace a few characters; much faster than `str.translate` where a text is not ASCII."""
    for char, other in characters:
        text = text.replace(char, other)
    return text
