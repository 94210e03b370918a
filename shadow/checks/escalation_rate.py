"""Whether the answer hands the conversation over to a person."""

from __future__ import annotations

from gateway.settings import Escalation
from shadow.answer import Choice, ToolCall
from shadow.checks.escalation_phrases import HANDS_OVER, TOOL
from shadow.checks.format_valid import worst
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.checks.wording import edges, squeezed
from shadow.pair import Arm, Pair

NAME = "escalation_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where the answer hands over: by the route's declared tool or sentences, or by phrases.

    "Fail" only means that it did: a rate that moves either way is a reason to read samples. What
    the route's contract declares replaces the built-in phrases and names of tools; those know
    English, German, French, Spanish, Italian, Portuguese and Dutch, and look at the start and the
    end of a long answer. An offer to connect someone is no escalation, and neither is advice on
    whom to call. Does not catch: whether handing over was right, or happened at all (the words may
    be empty), and handing over in other words.
    """
    declared = pair.contract.escalation

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice, declared) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice, declared: Escalation | None) -> Finding:
    if choice.empty:
        return Finding("not_applicable", "empty")
    if any(_hands_over(call, declared) for call in choice.tool_calls):
        return Finding("fail", "called a tool that hands over")
    if declared is None:
        said = escalates(choice.text)
    else:
        words = squeezed(choice.text) if declared.phrases else ""
        said = any(squeezed(phrase) in words for phrase in declared.phrases)
    return Finding("fail", "says that a person takes over") if said else PASS


def escalates(text: str) -> bool:
    """Say whether a text tells its reader that a person takes over, by phrase rules."""
    return HANDS_OVER.search(edges(text)) is not None


def _hands_over(call: ToolCall, declared: Escalation | None) -> bool:
    if declared is None:
        return TOOL.search(call.name.lower().replace("-", "_")) is not None
    return declared.tool is not None and call.name == declared.tool
