"""A shortest-possible text for a regular expression, as JSON Schemas use them.

Understands literals, escapes, classes, groups, alternatives, quantifiers and anchors. What it does
not understand (look-around, back-references) makes the text miss; the caller checks.
"""

from __future__ import annotations

import re

__all__ = ["sample"]

_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_CONTROL = {"n": "\n", "t": "\t", "r": "\r"}
_COUNT = re.compile(r"\{(\d*)(?:,\d*)?\}")
_MOST = 10_000


def sample(pattern: str) -> str | None:
    """Return a text that ``pattern`` is found in, or ``None`` where none could be made."""
    try:
        text = _Sampler(pattern).alternatives()
        return text if len(text) <= _MOST and re.search(pattern, text) else None
    except (IndexError, RecursionError, re.error):
        return None


class _Sampler:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def _next(self) -> str:
        char = self._pattern[self._at]
        self._at += 1
        return char

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def alternatives(self) -> str:
        """Return a text for the first alternative, and read past the others."""
        chosen = self._sequence()
        while self._peek() == "|":
            self._at += 1
            self._sequence()
        return chosen

    def _sequence(self) -> str:
        parts = []
        while self._peek() not in {"", "|", ")"}:
            part = self._atom()
            parts.append(part * min(self._repeats(), _MOST))
        return "".join(parts)

    def _atom(self) -> str:
        char = self._next()
        if char in "^$":
            return ""
        if char == ".":
            return "a"
        if char == "[":
            return self._member()
        if char == "\\":
            return self._escaped()
        if char == "(":
            if self._pattern.startswith("?:", self._at):
                self._at += 2
            elif self._pattern.startswith("?P<", self._at):
                self._at = self._pattern.index(">", self._at) + 1
            inner = self.alternatives()
            self._at += 1
            return inner
        return char

    def _escaped(self) -> str:
        char = self._next()
        if char in "bBAZz":
            return ""
        return _CLASSES.get(char) or _CONTROL.get(char) or char

    def _member(self) -> str:
        """Return a member of a class; of a negated one, any character that is not in it."""
        start = self._at - 1
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        first = self._next()
        first = self._escaped() if first == "\\" else first
        while self._peek() != "]":
            if self._next() == "\\":
                self._at += 1
        self._at += 1
        if not negated:
            return first
        whole = re.compile(self._pattern[start : self._at])
        return next((char for char in "aA0-_ .~é" if whole.match(char)), "")

    def _repeats(self) -> int:
        mark = self._peek()
        count = 1
        if mark in {"*", "?"} and mark:
            self._at, count = self._at + 1, 0
        elif mark == "+":
            self._at += 1
        elif mark == "{" and (match := _COUNT.match(self._pattern, self._at)):
            self._at, count = match.end(), int(match[1] or 0)
        else:
            return 1
        if self._peek() in {"?", "+"} and self._peek():
            self._at += 1
        return count
