"""What kinds of characters a text is made of, as an array: for counting words and tokens."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SPACE, CJK, SINGLE, LETTER, DIGIT = 0, 1, 2, 4, 8
"""Bits, so that `&` of two characters says whether they are of one kind.

`CJK` characters are words and tokens each; a `SINGLE` is punctuation or another sign.
"""

LONG_CHARS = 200
"""Above this a text is counted in arrays: the same numbers, some ten times faster."""

_PLANE = 0x10000
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_DIGIT, _LETTER, _SPACE = re.compile(r"\d"), re.compile(r"[^\W\d_]"), re.compile(r"\s")


@lru_cache(maxsize=8)  # tokens and words of the same two answers are counted one after the other
def kinds(text: str) -> NDArray[np.uint8]:
    """Return the kind of each character, with a space in front and one at the end."""
    closed = f" {text} "
    if closed.isascii():
        return np.frombuffer(closed.encode("ascii").translate(_ascii_kinds()), np.uint8)
    units = closed.encode("utf-16-le", "surrogatepass")
    if len(units) == 2 * len(closed):
        return _plane_kinds().take(np.frombuffer(units, "<u2"))
    points = np.frombuffer(closed.encode("utf-32-le", "surrogatepass"), "<u4")
    found = _plane_kinds().take(points % _PLANE)
    beyond = np.flatnonzero(points >= _PLANE)
    found[beyond] = [_kind(chr(point)) for point in points[beyond].tolist()]
    return found


def count_pieces(of: NDArray[np.uint8], letters: int, digits: int) -> int:
    """Count signs, CJK characters, and pieces of at most so many letters or digits."""
    follows = (of[1:] & of[:-1]) & (LETTER | DIGIT)  # all of a run but its first character
    runs = follows.tobytes()
    more = runs.count(bytes((LETTER,)) * letters) + runs.count(bytes((DIGIT,)) * digits)
    return int(np.count_nonzero(of) - np.count_nonzero(follows)) + more


def count_words(text: str) -> int:
    """Count CJK characters, and runs of what is neither such nor white space."""
    of = kinds(text)
    if CJK not in of.tobytes():
        return word_bounds(text).size // 2
    inside = of > CJK
    return int(np.count_nonzero(of == CJK) + np.count_nonzero(inside[1:] > inside[:-1]))


@lru_cache(maxsize=8)
def word_bounds(text: str) -> NDArray[np.intp]:
    """Return where each word of `text.split()` begins and ends, in turns."""
    inside = kinds(text) > SPACE
    return np.flatnonzero(inside[1:] != inside[:-1])


def distinct_at_least(text: str) -> int:
    """Return how many different first four characters the words of a text have.

    It has no fewer different words; to count those takes thrice as long. Beyond the basic plane
    nothing is counted.
    """
    bounds = word_bounds(text)
    units = f"{text}   ".encode("utf-16-le", "surrogatepass")  # the last word's four units, too
    if not bounds.size or len(units) != 2 * (len(text) + 3):
        return 0
    starts, stops = bounds[::2], bounds[1::2]
    four = np.ndarray(len(text), "<u8", units, strides=(2,))[starts]
    four <<= _BEHIND.take(stops - starts, mode="clip")
    four.sort()
    return 1 + int(np.count_nonzero(four[1:] != four[:-1]))


_BEHIND = np.array([64, 48, 32, 16, 0], np.uint64)
"""Bits of four units that are not of a word, by its length; what they say is shifted out."""


@lru_cache(maxsize=1)
def _ascii_kinds() -> bytes:
    return bytes(_kind(chr(point)) for point in range(256))


@lru_cache(maxsize=1)
def _plane_kinds() -> NDArray[np.uint8]:
    """Return the kind of each character of the basic plane; made once, in some 50 ms."""
    return np.array([_kind(chr(point)) for point in range(_PLANE)], np.uint8)


def _kind(char: str) -> int:
    if _CJK.match(char):
        return CJK
    if _DIGIT.match(char):
        return DIGIT
    if _LETTER.match(char):
        return LETTER
    return SPACE if _SPACE.match(char) else SINGLE
