"""Whether the answer runs in a loop."""

from __future__ import annotations

import re
import zlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from shadow.answer import Choice
from shadow.checks.format_valid import worst
from shadow.checks.kinds import distinct_at_least, word_bounds
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "repetition_rate"

_SHORT_CHARS = 200
_DISTINCT = 0.3
"""A share of different words that an answer of some pages has without a loop; below, we look."""

_TAIL_CHARS, _TAIL_RATIO = 160, 2.0
"""How little zlib leaves of an answer's end where a model that can't stop is stuck in it."""

_LONGEST_PERIOD = 80
_TIMES = 4
_LOOP_UNITS = 24
"""A loop is the same run of words at least four times without a break, 24 words in all."""

_SENTENCE_CHARS = 20
_ENDS = ("! ", "? ", "\n", "\u3002", "\uff01", "\uff1f")
_LEAST_RETURNS = 6
_MIX = np.uint64(0x9E3779B1)
_MAX_UNITS = 6000
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_TABLE = re.compile(r"^\|.*$", re.MULTILINE)


def check(pair: Pair) -> CheckResult:
    """Fail where an answer says the same again and again.

    That is a sentence that stands at least four times and makes a quarter of the text, or a loop:
    up to 80 words that stand at least four times in a row, 24 words or more together. Code blocks
    and tables repeat by nature and are left out; short answers are not looked at. Does not catch:
    the same thought in other words, and what is the same in answers to different prompts
    (`boilerplate_rate`). A refrain that was asked for counts as a loop.
    """

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice) -> Finding:
    text = choice.text
    if len(text) < _SHORT_CHARS:
        return Finding("not_applicable", "too short to repeat itself")
    found = loops(text)
    return Finding("fail", found) if found else PASS


def loops(text: str) -> str:
    """Return what repeats in a text, as a sentence without its words; empty where nothing does."""
    own = text
    if "`" in own and "```" in own:
        own = _CODE.sub(" ", own)
    if "|" in own and ("\n|" in own or own.startswith("|")):
        own = _TABLE.sub(" ", own)
    if times := _most_common(own):
        return f"one sentence stands {times} times"
    count = word_bounds(own).size // 2
    if count * 12 > len(own) and _varied(own, count) and not _shrinks(own[-_TAIL_CHARS:]):
        return ""
    units = [unit.casefold() for unit in own.split()]
    if count * 12 < len(own):  # a script without spaces
        units = list(own)
    times = _longest_loop(units[-_MAX_UNITS:])
    return f"the same words stand {times} times in a row" if times else ""


def _varied(text: str, count: int) -> bool:
    """Whether enough of a text's `count` words are different ones."""
    least = _DISTINCT * count
    return distinct_at_least(text) > least or len(set(text.split())) > least


def _most_common(text: str) -> int:
    """Return how often the commonest sentence stands there, 0 where that is not too often."""
    if not _repeats(text):
        return 0
    counts = Counter(each for each in _sentences(text) if len(each) > _SENTENCE_CHARS)
    for sentence, times in counts.most_common(1):
        if times >= _TIMES and times * len(sentence) * 4 >= len(text):
            return times
    return 0


def _repeats(text: str) -> bool:
    """Whether pieces of sentences that stood before make an eighth of the text.

    They do wherever a sentence stands four times and makes a quarter: of its pieces all but the
    first of each are such, and of its first piece, with and without a space, all but two.
    """
    pieces = text
    for end in _ENDS:
        if end[0] in pieces:  # one character is found much faster than two
            pieces = pieces.replace(end[0], ".")
    distinct = set(pieces.split("."))
    return 8 * (len(text) + 1 - len(distinct) - sum(map(len, distinct))) >= len(text)


def _sentences(text: str) -> list[str]:
    """Split a text roughly into sentences and lines; much faster than by a regular expression."""
    for end in _ENDS:
        if end[0] in text:
            text = text.replace(end, ". ")
    return text.split(". ")


def _shrinks(text: str) -> bool:
    data = text.encode("utf-8", "surrogatepass")
    return len(data) >= _TAIL_RATIO * len(zlib.compress(data, 1))


def _longest_loop(units: list[str]) -> int:
    """Return how often the longest loop goes round; 0 where there is none."""
    codes = np.fromiter(map(hash, units), np.int64, len(units)).view(np.uint64)
    for period in _periods(codes):
        covered = _longest_run(codes[period:] == codes[:-period]) + period
        if covered >= _TIMES * period and covered >= _LOOP_UNITS:
            return int(covered // period)
    return 0


def _periods(codes: NDArray[np.uint64]) -> list[int]:
    """Return the distances at which three words come again that often that it may be a loop."""
    if codes.size < _LOOP_UNITS:
        return []
    three = codes[:-2] * _MIX + codes[1:-1] * (_MIX * _MIX) + codes[2:]  # modulo 2**64
    order = np.argsort(three, kind="stable")
    again = three[order]
    gaps = (order[1:] - order[:-1])[again[1:] == again[:-1]]
    counts = np.bincount(gaps[gaps <= _LONGEST_PERIOD], minlength=_LONGEST_PERIOD + 1)
    return [int(period) for period in np.flatnonzero(counts >= _LEAST_RETURNS)]


def _longest_run(same: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], same.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max()) if edges.size else 0
