"""Whether the answer says that it does not know."""

from __future__ import annotations

from shadow.answer import Choice, visible
from shadow.checks.abstention_phrases import ABSTAINS, NOT_ABSTAINING
from shadow.checks.format_valid import worst
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.checks.wording import SHORT_CHARS, opening
from shadow.pair import Arm, Pair

NAME = "abstention_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where the answer says that it does not know or can't tell from what it was given.

    "Fail" only means that it did: abstaining may be right, and a rate that moves either way is a
    reason to read samples. Phrases are known in the languages of `refusal_rate`; quotations and
    code are not the answer's own words. A long answer that opens so and goes on to help passes,
    flagged `partial`. Does not catch: guesses that should have been abstentions, vague answers,
    other words and languages, and takes a translated "I don't know" without quotation marks for the
    answer's own.
    """

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice) -> Finding:
    if choice.empty:
        return Finding("not_applicable", "empty")
    if choice.tool_calls or choice.refusal or not abstains(choice.text):
        return PASS
    if len(visible(choice.text)) > SHORT_CHARS:
        return Finding("pass", flags=("partial",))
    return Finding("fail", "says that it does not know")


def abstains(text: str) -> bool:
    """Say whether a text says, or a long one opens with, that its writer does not know."""
    words = opening(text)
    if ABSTAINS.search(words) is None:
        return False
    return ABSTAINS.search(NOT_ABSTAINING.sub(" ", words)) is not None
