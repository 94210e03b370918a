"""How long the answer took, and whether that is within the objective."""

from __future__ import annotations

from shadow.checks.result import ABSENT, CheckResult, Finding
from shadow.pair import Arm, Pair

NAME = "latency"


def check(pair: Pair) -> CheckResult:
    """Measure total seconds; fail above `slo_s` where an objective is set.

    A timeout counts as over the limit, whatever the limit. An error that came fast is no latency.
    Does not catch: interference (mirroring loads a shared engine and slows both arms), and the
    difference between a slow network and a slow model.
    """
    limit = pair.slo_s
    return CheckResult(NAME, _examine(pair.baseline, limit), _examine(pair.candidate, limit))


def _examine(arm: Arm | None, slo_s: float | None) -> Finding:
    if arm is None:
        return ABSENT
    value = arm.latency_s
    if value is None or (arm.failed and not arm.timed_out):
        return Finding("not_applicable", "no duration is known")
    if slo_s is None:
        return Finding("not_applicable", "no objective is set", value=value)
    if arm.timed_out or value > slo_s:
        return Finding("fail", f"over {slo_s:g} s", value=value)
    return Finding("pass", value=value)
