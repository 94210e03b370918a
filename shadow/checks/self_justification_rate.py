"""Whether the answer praises or defends itself instead of answering."""

from __future__ import annotations

from shadow.answer import Choice
from shadow.checks.format_valid import worst
from shadow.checks.manner_phrases import SELF_JUSTIFIES
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.checks.wording import edges
from shadow.pair import Arm, Pair

NAME = "self_justification_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where an answer speaks for itself, such as "this answer is complete and accurate".

    Another kind is "I made sure to follow all of your instructions". "Fail" only means that it did:
    such words please judges more than users, and a rate that moves is a reason to read samples.
    Looked for at the start and the end of a long answer, outside of quotations and code, in
    English, German, French and Spanish. Does not catch: other languages, and justification in other
    words.
    """

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice) -> Finding:
    if choice.empty:
        return Finding("not_applicable", "empty")
    found = SELF_JUSTIFIES.search(edges(choice.text)) is not None
    return Finding("fail", "speaks for itself") if found else PASS
