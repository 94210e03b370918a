"""An answer's own words, as phrase rules look at them: without quotations, code and decoration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from shadow.answer import visible

SHORT_CHARS = 900
"""An answer up to this long is looked at whole; a longer one does more than what a phrase says."""

_EDGE_CHARS = 450

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00a0": " "})

_QUOTED = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|`[^`\n]*`"
    r'|"[^"\n]{0,400}"|\u201c[^\u201d\n]{0,400}\u201d|\u201e[^\u201c\u201d\n]{0,400}[\u201c\u201d]'
    r"|\u00ab[^\u00bb\n]{0,400}\u00bb|\u300c[^\u300d\n]{0,400}\u300d",
    re.DOTALL,
)
_SINGLE_QUOTED = re.compile(r"(?<!\w)'(?=[^'\n]{3})[^'\n]*(?:(?<=\w)'(?=\w)[^'\n]*)*'(?!\w)")
_QUOTED_LINE = re.compile(
    r"^[ \t]*[>\u2014][^\n]*$",  # of a mail, or speech as novels write it in many languages
    re.MULTILINE,
)
_SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f]+")
_SHORT_SENTENCE_CHARS = 25
_DECORATION = str.maketrans("*_#", "   ")


@dataclass(frozen=True, slots=True)
class Group:
    """Phrases of which every match holds one of `hints` and, where there are any, one of `also`.

    Both are plain words, and looking for those is much faster than a regular expression with many
    branches; most texts have none of them.
    """

    hints: tuple[str, ...]
    also: tuple[str, ...]
    pattern: re.Pattern[str]

    def search(self, text: str) -> re.Match[str] | None:
        """Return the first match that stands in one sentence with a hint of each kind."""
        if not _any(self.hints, text) or (self.also and not _any(self.also, text)):
            return None
        for start, stop in _sentences(text):
            if _has(self.hints, text, start, stop) and self._also(text, start, stop):
                found = self.pattern.search(text, start, stop)
                if found is not None:
                    return found
        return None

    def _also(self, text: str, start: int, stop: int) -> bool:
        return not self.also or _has(self.also, text, start, stop)


def _any(hints: tuple[str, ...], text: str) -> bool:
    for hint in hints:  # a loop: any() over a generator takes twice as long  # noqa: SIM110
        if hint in text:
            return True
    return False


def _has(hints: tuple[str, ...], text: str, start: int, stop: int) -> bool:
    return any(text.find(hint, start, stop) >= 0 for hint in hints)


@lru_cache(maxsize=8)
def _sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Return where sentences begin and end; what is as short as "No." belongs to the next one."""
    spans = []
    start = 0
    for stop in _SENTENCE.finditer(text):
        if stop.end() - start >= _SHORT_SENTENCE_CHARS:
            spans.append((start, stop.end()))
            start = stop.end()
    if start < len(text):
        spans.append((start, len(text)))
    return tuple(spans)


@dataclass(frozen=True, slots=True)
class Phrases:
    """Groups of phrases; texts are in lower case and begin with a space (`opening`, `edges`)."""

    groups: tuple[Group, ...]

    def search(self, text: str) -> re.Match[str] | None:
        """Return the match of the first group that has one."""
        for group in self.groups:
            if (found := group.search(text)) is not None:
                return found
        return None


def grouped(*groups: tuple[str, Iterable[str]] | tuple[str, str, Iterable[str]]) -> Phrases:
    """Compile groups of phrases, each after its hints, and what else has to be there.

    Hints are divided by `|`.
    """
    made = []
    for hints, *also, phrases in groups:
        other = tuple(str(also[0]).split("|")) if also else ()
        made.append(Group(tuple(str(hints).split("|")), other, any_of(*phrases)))
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


@lru_cache(maxsize=8)
def spaced(text: str) -> tuple[str, ...]:
    """Return what stands between white space."""
    return tuple(text.split())


def squeezed(text: str) -> str:
    """Return text in lower case with straight apostrophes and single spaces."""
    return " ".join(text.translate(_APOSTROPHES).lower().split())


def _own(text: str) -> str:
    if not text.isascii():
        text = text.translate(_APOSTROPHES)
    if ">" in text or "\u2014" in text:
        text = _QUOTED_LINE.sub(" ", text)
    text = _QUOTED.sub(" ", text)
    if "'" in text:
        text = _SINGLE_QUOTED.sub(" ", text)
    return f" {' '.join(text.translate(_DECORATION).split())}".lower()
