"""Whether a failure of the past is back."""

from __future__ import annotations

from gateway.settings import KnownFailure, Must
from shadow.answer import Choice
from shadow.checks.refusal_rate import examine as declined
from shadow.checks.result import CheckResult, Finding, both
from shadow.checks.schema import BadSchema, violations
from shadow.checks.wording import squeezed
from shadow.fingerprint import fingerprint
from shadow.pair import Arm, Pair

NAME = "known_failure_rate"

_NOT_KNOWN = Finding("not_applicable", "not a request that failed before")


def check(pair: Pair) -> CheckResult:
    """Fail where the answer to a request that once failed breaks what was asserted since.

    Cases are the route's (`routes.NAME.known_failures`) and known by the fingerprint of the
    request's messages; each has its own assertion, and the finding names number and version. Does
    not catch: the same failure on a request that is worded differently.
    """
    cases = pair.known.get(fingerprint(pair.prompt.messages), ()) if pair.known else ()

    def examine(arm: Arm) -> Finding:
        if not cases:
            return _NOT_KNOWN
        try:
            broken = [f"case {c.number} v{c.version}: {r}" for c in cases for r in _broken(c, arm)]
        except BadSchema as error:
            return Finding("error", str(error))
        if broken:
            return Finding("fail", "; ".join(broken)[:500])
        return Finding("pass", flags=tuple(f"case_{case.number}" for case in cases))

    return both(NAME, pair, examine)


def _broken(case: KnownFailure, arm: Arm) -> list[str]:
    """Return how an arm's answer breaks a case; every choice has to satisfy it."""
    must = case.must
    reasons = [reason for choice in arm.answer.choices for reason in _of_choice(must, choice)]
    if must.refuses is not None and declined(arm).failed != must.refuses:
        reasons.append("declines" if must.refuses is False else "does not decline")
    return list(dict.fromkeys(reasons))


def _of_choice(must: Must, choice: Choice) -> list[str]:
    text = squeezed(choice.text) if must.contains or must.excludes else ""
    reasons = []
    missing = sum(squeezed(words) not in text for words in must.contains)
    if missing:
        reasons.append(f"{missing} of {len(must.contains)} required phrases are missing")
    present = sum(squeezed(words) in text for words in must.excludes)
    if present:
        reasons.append(f"{present} of {len(must.excludes)} excluded phrases are there")
    if must.regex and violations({"type": "string", "pattern": must.regex}, choice.text):
        reasons.append("does not match its regex")
    called = {call.name for call in choice.tool_calls}
    if must.calls is not None and must.calls not in called:
        reasons.append(f"does not call {must.calls}")
    if must.calls_not is not None and must.calls_not in called:
        reasons.append(f"calls {must.calls_not}")
    return reasons
