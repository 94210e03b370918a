"""Reading lists of names from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

__all__ = ["names"]


def names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a reader of names with commas, or ``none``, that refuses unknown ones."""

    def read(text: str) -> list[str]:
        found = [] if text == "none" else text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {name!r} among {', '.join(known)}")
        return found

    return read
