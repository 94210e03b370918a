"""Whether the answer calls a tool, where that was the model's own choice."""

from __future__ import annotations

from shadow.answer import Choice
from shadow.checks.format_valid import worst
from shadow.checks.result import CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "tool_call_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where the answer calls a tool although it could have answered by itself.

    "Fail" only means that it did: a model that learns to call where it used to answer, or to answer
    where it used to call, is a reason to read samples. Applies where tools were on offer and the
    client left the choice to the model (`tool_choice: auto`). Does not catch: whether the call was
    needed, or the right one (see `tool_contract`).
    """
    prompt = pair.prompt
    chosen = bool(prompt.raw_tools) and prompt.tool_choice == "auto"

    def examine(arm: Arm) -> Finding:
        if not chosen:
            return Finding("not_applicable", "no tool was the model's choice")
        return worst([_examine(choice) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice) -> Finding:
    if choice.empty:
        return Finding("not_applicable", "empty")
    count = len(choice.tool_calls)
    return Finding("fail", f"called {count} tool(s)") if count else Finding("pass")
