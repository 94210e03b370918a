"""How long the answer is, by one ruler for both arms."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shadow.answer import Answer
from shadow.checks.result import CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "output_tokens"

_ASCII_TOKEN = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|[^\sA-Za-z0-9]")  # the same, and faster
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_DIGITS, _LETTERS = re.compile(r"\d"), re.compile(r"[^\W\d_]")
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # CJK: one character, one token
    r"|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,6}|\d{1,3}|[^\w\s]|_"
)


def check(pair: Pair) -> CheckResult:
    """Count tokens of text, refusals and tool calls, summed over the choices; never fails.

    Tokens that the upstreams report come from the models' own tokenizers and can't be compared
    between models, so both arms are measured with `count_tokens`. Does not catch: hidden
    reasoning, which costs money and time but is no part of the answer.
    """

    def examine(arm: Arm) -> Finding:
        return Finding("not_applicable", "a measurement", value=float(measure(arm.answer)))

    return both(NAME, pair, examine)


def measure(answer: Answer) -> int:
    """Return the length of an answer in tokens of `count_tokens`."""
    total = 0
    for choice in answer.choices:
        total += count_tokens(choice.text) + count_tokens(choice.refusal or "")
        total += sum(count_tokens(f"{call.name} {call.arguments}") for call in choice.tool_calls)
    return total


def count_tokens(text: str) -> int:
    """Count pieces of words (up to 6 letters or 3 digits), punctuation and CJK characters.

    A fixed stand-in for a tokenizer: for English prose within some 15% of common BPE vocabularies,
    and the same for every model.
    """
    if len(text) < _LONG_CHARS:
        return len((_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text))
    if text.isascii():
        return _count_runs(_ascii_kinds()[np.frombuffer(text.encode("ascii"), np.uint8)])
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if points.max() >= _PLANE:
        return len(_TOKEN.findall(text))
    return _count_runs(_plane_kinds()[points])


_LONG_CHARS = 200
"""Above this, runs are counted in an array: the same number, some ten times faster."""

_PLANE = 0x10000
_SPACE, _LETTER, _DIGIT, _SINGLE = range(4)
_LONGEST = np.array([1, 6, 3, 1], np.int64)
"""The longest piece of each kind, in characters."""


def _count_runs(kinds: NDArray[np.uint8]) -> int:
    stops = np.flatnonzero(kinds[1:] != kinds[:-1])
    ends = np.empty(stops.size + 2, np.int64)
    ends[0], ends[1:-1], ends[-1] = -1, stops, kinds.size - 1
    of = kinds[ends[1:]]
    pieces = (ends[1:] - ends[:-1] + _LONGEST[of] - 1) // _LONGEST[of]
    return int(pieces[of != _SPACE].sum())


@lru_cache(maxsize=1)
def _ascii_kinds() -> NDArray[np.uint8]:
    return np.array([_kind(chr(point)) for point in range(128)], np.uint8)


@lru_cache(maxsize=1)
def _plane_kinds() -> NDArray[np.uint8]:
    """Return the kind of each character of the basic plane; made once, in some 50 ms."""
    return np.array([_kind(chr(point)) for point in range(_PLANE)], np.uint8)


def _kind(char: str) -> int:
    if _CJK.match(char):
        return _SINGLE
    if _DIGITS.match(char):
        return _DIGIT
    if _LETTERS.match(char):
        return _LETTER
    return _SINGLE if _TOKEN.match(char) else _SPACE
