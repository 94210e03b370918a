"""Whether the deployment answered at all."""

from __future__ import annotations

from shadow.checks.result import ABSENT, PASS, CheckResult, Finding
from shadow.pair import Arm, Pair

NAME = "error_rate"


def check(pair: Pair) -> CheckResult:
    """Fail on an error status, a refused connection, a broken or cut answer, and on a timeout.

    Does not catch: an apology for an internal error that is sent as an ordinary answer.
    """
    return CheckResult(NAME, _examine(pair.baseline), _examine(pair.candidate))


def _examine(arm: Arm | None) -> Finding:
    if arm is None:
        return ABSENT
    if arm.failed:
        return Finding("fail", arm.answer.error or "timed out")
    return PASS
