"""Single keys from a terminal, or lines where there is none."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["END", "ReadKey", "keys"]

ReadKey = Callable[[], str]
"""Waits for a key and returns it: a character, ``left``, ``right``, or :data:`END`."""

END = "end"
"""There will be no more keys."""

_ESCAPE = "\x1b"
_ARROWS = {"[D": "left", "OD": "left", "[C": "right", "OC": "right"}
_SEQUENCE_S = 0.05


@contextmanager
def keys(stream: TextIO | None = None) -> Iterator[ReadKey]:
    """Read single keys while the context lasts, and give the terminal back as it was.

    Where ``stream`` (default: standard input) is no terminal, each line is one key, so that
    verdicts can be piped in.
    """
    source = sys.stdin if stream is None else stream
    if not source.isatty():
        yield lambda: _line(source)
        return
    import termios
    import tty

    descriptor = source.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)  # Ctrl-C still interrupts
    try:
        yield lambda: _key(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _line(source: TextIO) -> str:
    line = source.readline()
    return line.strip() or " " if line else END


def _key(descriptor: int) -> str:
    first = os.read(descriptor, 1).decode(errors="replace")
    if not first or first == "\x04":
        return END
    if first != _ESCAPE:
        return first
    rest = ""
    while len(rest) < 2 and select.select([descriptor], [], [], _SEQUENCE_S)[0]:
        rest += os.read(descriptor, 1).decode(errors="replace")
    return _ARROWS.get(rest, _ESCAPE)
