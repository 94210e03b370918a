"""How long the answer is in words, and whether the candidate is clearly longer."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log

from shadow.checks import kinds
from shadow.checks.result import CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "words"

LIMIT = 1.25
"""A candidate this many times as long as the baseline is flagged, or as short the other way."""

_MANY = 20
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def check(pair: Pair) -> CheckResult:
    """Count words of text, summed over the choices; never fails.

    The paired log-ratio ln(candidate / baseline) is flagged on the candidate as `longer` above
    ln 1.25 and as `shorter` below its negative, where the longer of the two has 20 words. The
    metric compares (c - b) / (c + b), which is tanh of half that log-ratio: 1/9 is 1.25 times. Does
    not catch: whether the length is wanted; a longer answer that wins more is no warning.
    """

    def examine(arm: Arm) -> Finding:
        total = sum(count_words(choice.text) for choice in arm.answer.choices)
        return Finding("not_applicable", "a measurement", value=float(total))

    found = both(NAME, pair, examine)
    flag = _flag(found.baseline.value, found.candidate.value)
    return replace(found, candidate=replace(found.candidate, flags=(flag,))) if flag else found


def count_words(text: str) -> int:
    """Count words between white space; in Chinese, Japanese and Korean each character is one."""
    if len(text) < kinds.LONG_CHARS:
        others, characters = _CJK.subn(" ", text)
        return len(others.split()) + characters
    return kinds.count_words(text)


def _flag(baseline: float | None, candidate: float | None) -> str | None:
    if not baseline or not candidate or max(baseline, candidate) < _MANY:
        return None
    ratio = log(candidate / baseline)
    if abs(ratio) <= log(LIMIT):
        return None
    return "longer" if ratio > 0 else "shorter"
