"""What the answer cost, by the deployment's prices."""

from __future__ import annotations

from shadow.checks.result import CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "cost"

_NO_PRICES = Finding("not_applicable", "the deployment has no prices")


def check(pair: Pair) -> CheckResult:
    """Compute the dollars of one answer from the tokens that the upstream billed; never fails.

    Tokens are those of the upstream's own `usage`, hidden reasoning included, because that is what
    is paid for: an answer whose usage is not known has no cost, and neither has one of a deployment
    without prices. Does not catch: discounts for cached or batched tokens, prices of tools, and
    what a failed answer cost.
    """
    return both(NAME, pair, _examine)


def _examine(arm: Arm) -> Finding:
    if arm.prices is None:
        return _NO_PRICES
    usage = arm.answer.usage
    if usage.input_tokens is None or usage.output_tokens is None:
        return Finding("not_applicable", "the upstream reported no usage")
    dollars = arm.prices.dollars(usage.input_tokens, usage.output_tokens)
    return Finding("not_applicable", "a measurement", value=dollars)
