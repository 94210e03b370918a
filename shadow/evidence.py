"""The facts that a finished pair adds to its rollout, as the controller reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shadow.checks import CheckResult
from shadow.compare import Decision
from shadow.pair import Arm, Pair

_MEASURES = frozenset({"output_tokens", "words", "cost"})
"""Checks that never fail: they bring a value, and no bit."""
_DELIVERY = frozenset(
    {"error_rate", "timeout_rate", "latency", "ttft", "inter_token", "inter_token_latency"}
)


_KEPT = frozenset({"compared", "candidate_failed"})
"""Outcomes of pairs that say something; whatever else ends a pair loses it."""


def pair_payload(
    *,
    pair_id: int,
    capture_id: str,
    cluster: str | None,
    pair: Pair,
    checks: Sequence[CheckResult],
    decision: Decision,
) -> dict[str, Any]:
    """Return the payload of kinds `pair` and `noise`: baseline first, candidate second."""
    tokens, cost = _measured(checks, "output_tokens"), _measured(checks, "cost")
    return {
        "pair_id": pair_id,
        "capture_id": capture_id,
        "cluster": cluster,
        "kept": decision.outcome in _KEPT,
        "judge": decision.judge,
        "score": decision.score,
        "failures": {
            check.name: [check.baseline.bit(), check.candidate.bit()]
            for check in checks
            if check.name not in _MEASURES
        },
        "values": {
            "latency": [_latency(pair.baseline), _latency(pair.candidate)],
            "ttft": [_ttft(pair.baseline), _ttft(pair.candidate)],
            "inter_token": [
                _inter_token(pair.baseline, tokens[0]),
                _inter_token(pair.candidate, tokens[1]),
            ],
            "output_tokens": tokens,
            "words": _measured(checks, "words"),
            "cost": cost,
        },
    }


def without_delivery(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of a pair whose captured answer is the candidate's, without its delivery.

    Only answers that arrived are captured, so such a pair would never see the candidate fail or
    time out, and would speak for it. Gateways count both on every request. What is left compares
    answers, given that there is one.
    """
    return {
        **payload,
        "failures": {
            name: [None, None] if name in _DELIVERY else both
            for name, both in payload["failures"].items()
        },
        "values": {
            name: [None, None] if name in _DELIVERY else both
            for name, both in payload["values"].items()
        },
    }


def live_payload(
    *,
    capture_id: str,
    variant: str,
    weight_bp: int,
    arm: Arm,
    checks: Sequence[CheckResult],
) -> dict[str, Any]:
    """Return the payload of kind `live`: the checks on one captured answer of one arm."""
    side = 1 if variant == "candidate" else 0
    tokens = _measured(checks, "output_tokens")[side]
    return {
        "capture_id": capture_id,
        "variant": variant,
        "weight_bp": weight_bp,
        "failures": {
            check.name: (check.candidate if side else check.baseline).bit()
            for check in checks
            if check.name not in _MEASURES
        },
        "values": {
            "latency": _latency(arm),
            "ttft": _ttft(arm),
            "inter_token": _inter_token(arm, tokens),
            "output_tokens": tokens,
            "words": _measured(checks, "words")[side],
            "cost": _measured(checks, "cost")[side],
        },
    }


def _latency(arm: Arm | None) -> float | None:
    if arm is None or (arm.failed and not arm.timed_out):
        return None
    return arm.latency_s


def _ttft(arm: Arm | None) -> float | None:
    """Seconds to the first token; an answer that came whole has none of its own."""
    if arm is None or arm.failed or not arm.answer.streamed:
        return None
    return arm.ttft_s


def _inter_token(arm: Arm | None, tokens: float | None) -> float | None:
    """Seconds for each token of a stream after the first, by the fixed ruler of `output_tokens`."""
    first = _ttft(arm)
    if arm is None or first is None or arm.latency_s is None or tokens is None or tokens < 2:
        return None
    return max(0.0, arm.latency_s - first) / (tokens - 1)


def _measured(checks: Sequence[CheckResult], name: str) -> list[float | None]:
    for check in checks:
        if check.name == name:
            return [check.baseline.value, check.candidate.value]
    return [None, None]
