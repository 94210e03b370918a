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

_QUOTING = ("`", '"', ">", " '", "\u201c", "\u201e", "\u00ab", "\u300c", "\u2014", "\n'")
_NOT_OWN = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|`[^`\n]*`"
    r"|^[ \t]*>[^\n]*$"  # a quoted line
    r"|^[ \t]*\u2014[^\n]*$"  # somebody speaks, as novels write it in many languages
    r'|"[^"\n]{0,400}"|\u201c[^\u201d\n]{0,400}\u201d|\u201e[^\u201c\u201d\n]{0,400}[\u201c\u201d]'
    r"|\u00ab[^\u00bb\n]{0,400}\u00bb|\u300c[^\u300d\n]{0,400}\u300d"
    r"|(?<!\w)'(?:[^'\n]|(?<=\w)'(?=\w)){3,400}'(?!\w)",
    re.DOTALL | re.MULTILINE,
)
_DECORATION = re.compile(r"[*_#\s]+")


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
        """Return the first match."""
        if not any(hint in text for hint in self.hints):
            return None
        if self.also and not any(hint in text for hint in self.also):
            return None
        return self.pattern.search(text)


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
        return _own(shown)
    return f"{_own(shown[:_EDGE_CHARS])} \n {_own(shown[-_EDGE_CHARS:])}"


def squeezed(text: str) -> str:
    """Return text in lower case with straight apostrophes and single spaces."""
    return " ".join(text.translate(_APOSTROPHES).lower().split())


def _own(text: str) -> str:
    if not text.isascii():
        text = text.translate(_APOSTROPHES)
    if text.startswith("'") or any(sign in text for sign in _QUOTING):
        text = _NOT_OWN.sub(" ", text)
    return f" {_DECORATION.sub(' ', text).lower()}"
