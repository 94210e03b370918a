"""The facts that a finished pair adds to its rollout, as the controller reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shadow.checks import CheckResult
from shadow.compare import Decision
from shadow.pair import Arm, Pair

_MEASURES = frozenset({"output_tokens"})


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
    return {
        "pair_id": pair_id,
        "capture_id": capture_id,
        "cluster": cluster,
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
            "output_tokens": _tokens(checks),
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
    failures: dict[str, int | None] = {}
    tokens: float | None = None
    for check in checks:
        finding = check.candidate if variant == "candidate" else check.baseline
        if check.name in _MEASURES:
            tokens = finding.value
        else:
            failures[check.name] = finding.bit()
    return {
        "capture_id": capture_id,
        "variant": variant,
        "weight_bp": weight_bp,
        "failures": failures,
        "values": {"latency": _latency(arm), "ttft": _ttft(arm), "output_tokens": tokens},
    }


def _latency(arm: Arm | None) -> float | None:
    if arm is None or (arm.failed and not arm.timed_out):
        return None
    return arm.latency_s


def _ttft(arm: Arm | None) -> float | None:
    return None if arm is None or arm.failed else arm.ttft_s


def _tokens(checks: Sequence[CheckResult]) -> list[float | None]:
    for check in checks:
        if check.name == "output_tokens":
            return [check.baseline.value, check.candidate.value]
    return [None, None]
