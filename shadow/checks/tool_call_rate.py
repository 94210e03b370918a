"""Whether the answer called a tool."""

from __future__ import annotations

from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "tool_call_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where a tool was called, of requests that offer tools and leave the choice free.

    "Fail" only means that it did: a rate that moves either way is a reason to read samples. Calls
    that are broken count too; whether they could be executed is `tool_contract`'s matter. Does not
    catch: calling the wrong tool, or the right one for nothing.
    """
    free = bool(pair.prompt.raw_tools) and pair.prompt.tool_choice == "auto"

    def examine(arm: Arm) -> Finding:
        if not free:
            return Finding("not_applicable", "no free choice of a tool")
        called = any(choice.tool_calls for choice in arm.answer.choices)
        return Finding("fail", "called a tool") if called else PASS

    return both(NAME, pair, examine)
