"""Whether the answer came within the time limit."""

from __future__ import annotations

from shadow.checks.result import ABSENT, PASS, CheckResult, Finding
from shadow.pair import Arm, Pair

NAME = "timeout_rate"


def check(pair: Pair) -> CheckResult:
    """Fail where no whole answer came within the limit; an error that came in time passes.

    Does not catch: answers that are slow but inside the limit (see `latency`).
    """
    return CheckResult(NAME, _examine(pair.baseline), _examine(pair.candidate))


def _examine(arm: Arm | None) -> Finding:
    if arm is None:
        return ABSENT
    return Finding("fail", "timed out") if arm.timed_out else PASS
