"""Whether the answer ended where the model meant it to end."""

from __future__ import annotations

from shadow.answer import Choice
from shadow.checks.format_valid import worst
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "truncation_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where `finish_reason` is length, content_filter or missing.

    Does not catch: an answer that stops in the middle of a sentence with `finish_reason: stop`,
    and says nothing about who set the limit (a client's small `max_tokens` cuts both arms).
    """

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice) -> Finding:
    reason = choice.finish_reason
    if reason is None:
        return Finding("fail", "finish_reason is missing")
    if reason in ("length", "content_filter", "max_output_tokens"):
        return Finding("fail", f"finish_reason is {reason}")
    return PASS
