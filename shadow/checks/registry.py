"""Which checks there are, in the order of the funnel: can it be served, then is it well formed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shadow.checks import (
    abstention_rate,
    citation_valid,
    cost,
    empty_rate,
    error_rate,
    escalation_rate,
    format_valid,
    latency,
    output_tokens,
    refusal_rate,
    timeout_rate,
    tool_call_rate,
    tool_contract,
    truncation_rate,
)
from shadow.checks.result import CheckResult, Finding
from shadow.pair import Pair


@dataclass(frozen=True, slots=True)
class Check:
    """A check by name. A pair of which an arm fails a `hard` one is decided without a judge.

    Refusals, truncation, latency and what moves with style (escalation, abstention, citations) are
    not hard: a refusal may be right and a cut answer may be the better one, so they have guardrails
    of their own and the judge still compares.
    """

    name: str
    run: Callable[[Pair], CheckResult]
    hard: bool = False


CHECKS: tuple[Check, ...] = (
    Check(error_rate.NAME, error_rate.check, hard=True),
    Check(timeout_rate.NAME, timeout_rate.check, hard=True),
    Check(empty_rate.NAME, empty_rate.check, hard=True),
    Check(format_valid.NAME, format_valid.check, hard=True),
    Check(tool_contract.NAME, tool_contract.check, hard=True),
    Check(refusal_rate.NAME, refusal_rate.check),
    Check(truncation_rate.NAME, truncation_rate.check),
    Check(latency.NAME, latency.check),
    Check(output_tokens.NAME, output_tokens.check),
    Check(cost.NAME, cost.check),
    Check(escalation_rate.NAME, escalation_rate.check),
    Check(abstention_rate.NAME, abstention_rate.check),
    Check(citation_valid.NAME, citation_valid.check),
    Check(tool_call_rate.NAME, tool_call_rate.check),
)

HARD: frozenset[str] = frozenset(check.name for check in CHECKS if check.hard)
"""Names of the checks that veto."""


def run_checks(pair: Pair, checks: Sequence[Check] = CHECKS) -> tuple[CheckResult, ...]:
    """Run every check. One that breaks has the outcome `error`: never a pass, never a failure."""
    return tuple(_run(check, pair) for check in checks)


def _run(check: Check, pair: Pair) -> CheckResult:
    try:
        return check.run(pair)
    except Exception as error:  # noqa: BLE001 - one broken check must not lose the pair
        broken = Finding("error", f"the check broke: {type(error).__name__}")
        return CheckResult(check.name, broken, broken)
