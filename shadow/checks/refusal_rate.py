"""Whether the model declined to answer."""

from __future__ import annotations

from shadow.answer import Choice
from shadow.checks.format_valid import worst
from shadow.checks.result import CheckResult, Finding, both
from shadow.checks.stance import Stance, stance
from shadow.pair import Arm, Pair

NAME = "refusal_rate"

__all__ = ["NAME", "Stance", "check", "stance"]


def check(pair: Pair) -> CheckResult:
    return both(NAME, pair, lambda arm: worst([_examine(choice) for choice in arm.answer.choices]))


def _examine(choice: Choice) -> Finding:
    if choice.refusal:
        return Finding("fail", "message.refusal is set")
    if choice.finish_reason == "content_filter":
        return Finding("fail", "finish_reason is content_filter")
    if choice.tool_calls:
        return Finding("pass", "called a tool")
    found = stance(choice.text)
    if found == "empty":
        return Finding("not_applicable", "empty")
    if found == "refused":
        return Finding("fail", "a refusing phrase")
    return Finding("pass", flags=() if found == "complied" else (found,))
