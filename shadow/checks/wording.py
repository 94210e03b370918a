"""An answer's own words, as phrase rules look at them: without quotations, code and decoration."""

from __future__ import annotations

import re

from shadow.answer import visible

SHORT_CHARS = 900
"""An answer up to this long is looked at whole; a longer one does more than what a phrase says."""

_EDGE_CHARS = 450

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00a0": " "})

_NOT_OWN = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|`[^`\n]*`"
    r"|^[ \t]*>[^\n]*$"  # a quoted line
    r'|"[^"\n]{0,400}"|\u201c[^\u201d\n]{0,400}\u201d|\u201e[^\u201c\u201d\n]{0,400}[\u201c\u201d]'
    r"|\u00ab[^\u00bb\n]{0,400}\u00bb|\u300c[^\u300d\n]{0,400}\u300d",
    re.DOTALL | re.MULTILINE,
)
_DECORATION = re.compile(r"[*_#\s]+")


def any_of(*phrases: str) -> re.Pattern[str]:
    """Compile regular expressions into one that matches any of them."""
    return re.compile("|".join(f"(?:{phrase})" for phrase in phrases))


def opening(text: str) -> str:
    """Return where an answer says what it does with the request: all of a short one, or its start.

    In lower case, quotations and code taken out, white space and Markdown's marks single spaces.
    """
    shown = visible(text)
    return _own(shown if len(shown) <= SHORT_CHARS else shown[:_EDGE_CHARS])


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
    return _DECORATION.sub(" ", _NOT_OWN.sub(" ", text)).lower()
