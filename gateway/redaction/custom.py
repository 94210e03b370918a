"""Rules of one's own: which regular expressions are accepted, and how they are run in bounded time.

Python's engine backtracks, and some expressions need exponential time on some texts. Those that
are accepted can't: nothing repeats a repeat, and from one place in a text an expression has at most
:data:`MAX_PATHS` ways to go on, as it sees no more than :data:`WINDOW` characters at a time. After
each window the time spent on the capture is looked at (see :mod:`gateway.redaction.text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

__all__ = ["MAX_PATHS", "MAX_PATTERN", "WINDOW", "check_pattern", "windows"]

MAX_PATTERN = 300
"""Characters of an expression."""
MAX_PATHS = 1024
"""Ways that an expression may have to go on from one place."""
WINDOW = 256
"""Characters seen at a time; a match of up to half of it is found whole."""

_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_REFUSED = {
    ops.GROUPREF: "refers back to a group",
    ops.GROUPREF_EXISTS: "depends on a group",
    ops.ASSERT: "looks ahead or behind",
    ops.ASSERT_NOT: "looks ahead or behind",
}


def check_pattern(pattern: str) -> re.Pattern[str]:
    """Compile an expression. Raises ``ValueError`` that says what would be right."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"is longer than {MAX_PATTERN} characters; make several rules of it")
    try:
        compiled = re.compile(pattern)
        parsed = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    paths = _paths(parsed, inside=False)
    if paths > MAX_PATHS:
        raise ValueError(
            "can take too long on some texts; repeat at most one part without a limit, and others "
            r"with small ones, as in \d{4,8}"
        )
    if compiled.match("") is not None:
        raise ValueError("matches nothing at all; write what at least has to be there")
    return compiled


def _paths(parsed: Any, *, inside: bool) -> int:
    """Return an upper bound of the ways on from one place."""
    total = 1
    for op, argument in parsed:
        if op in _REFUSED:
            raise ValueError(f"{_REFUSED[op]}, which takes no bounded time; write it without")
        if op in _REPEATS:
            low, high, part = argument
            varies = low != high
            if varies and inside:
                raise ValueError("repeats a repeat; write it with one of them")
            within = _paths(part, inside=inside or high > 1)
            width = min(int(high), WINDOW)
            choices = width - min(int(low), width) + 1 if varies else 1
            total *= min(within**width, MAX_PATHS + 1) * choices
        elif op is ops.BRANCH:
            total *= sum(_paths(each, inside=inside) for each in argument[1])
        elif op is ops.SUBPATTERN:
            total *= _paths(argument[3], inside=inside)
        elif op is ops.ATOMIC_GROUP:
            total *= _paths(argument, inside=inside)
        total = min(total, MAX_PATHS + 1)
    return total


def windows(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str] | None]:
    """Yield the matches in ``text``, and ``None`` after each window: a unit of work.

    Windows overlap by half, so that no match is missed at an edge.
    """
    position, half = 0, WINDOW // 2
    while position < len(text):
        end = position + WINDOW
        found = pattern.search(text, position, end)
        if found is not None and (found.start() < position + half or end >= len(text)):
            yield found
            position = found.end() if found.end() > found.start() else found.start() + 1
        else:
            position = found.start() if found is not None else position + half
        yield None
