"""Whether there is anything in the answer at all."""

from __future__ import annotations

from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "empty_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where a choice has no visible text, no tool call and no refusal.

    Reasoning alone is empty: the reader gets nothing. White space and zero-width characters are
    not visible. Does not catch: filler such as "OK." or an answer of punctuation.
    """

    def examine(arm: Arm) -> Finding:
        empty = sum(choice.empty for choice in arm.answer.choices)
        if empty:
            return Finding("fail", "nothing visible in the answer")
        return PASS

    return both(NAME, pair, examine)
