"""Whether the answer claims more certainty than words can carry."""

from __future__ import annotations

from shadow.answer import Choice
from shadow.checks.format_valid import worst
from shadow.checks.manner_phrases import OVERCONFIDENT
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.checks.wording import edges
from shadow.pair import Arm, Pair

NAME = "overconfidence_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where an answer vouches for itself: "I am 100% certain", "there is no doubt whatsoever".

    "Fail" only means that such a phrase is there: it may be right. A rate that moves is a reason to
    read samples. Looked for at the start and the end of a long answer, outside of quotations and
    code, in English, German, French and Spanish. Does not catch: a wrong claim in plain words,
    which is the common kind, and other languages.
    """

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice) -> Finding:
    if choice.empty:
        return Finding("not_applicable", "empty")
    found = OVERCONFIDENT.search(edges(choice.text)) is not None
    return Finding("fail", "claims certainty") if found else PASS
