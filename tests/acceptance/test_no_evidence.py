"""Without evidence nothing widens, and the reason is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

_MODELS: dict[str, Any] = {
    "support-v6": {"sampling": "per_request"},
    "support-v7": {"sampling": "per_request"},
}
_SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "blind",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "mirror": {"percentage": 100, "adaptive": False, "timeout": "5s", "noise_probe": 0},
    "steps": [{"mirror": {"min_pairs": 1, "max_duration": "1h"}}, {"set_weight": 50}],
    "analysis": {
        "metrics": [
            {"name": "judge_win_rate", "margin": 0.2},
            {"name": "error_rate", "margin": 0.3},
        ]
    },
}


def _never_widened(system: Any) -> None:
    transitions = system.api.get("/rollouts/blind/transitions").json()["transitions"]
    assert transitions
    assert all(each["weight_after"] == 0 for each in transitions)
    route = system.api.get("/routes/support-bot").json()
    assert route["weight"] == 0


def test_without_data_it_pauses_and_says_so(start_system: Callable[..., Any]) -> None:
    """A route without traffic is never promoted on nothing."""
    system = start_system(simulator={"models": {**_MODELS, "judge": {"role": "judge"}}})
    system.apply({**_SPEC, "on_no_data": {"action": "hold", "after": "1s", "then": "pause"}})
    status = system.wait_for("blind", lambda each: each["phase"] == "paused")
    assert status["paused"]["reason"] == "no_data"
    assert status["why"]
    _never_widened(system)


@pytest.mark.parametrize(
    ("judge", "word"),
    [({"error_rate": 1.0}, "judge"), ({"nonsense_rate": 1.0}, "judge")],
    ids=["dead", "nonsense"],
)
def test_without_a_judge_it_pauses_and_says_so(
    start_system: Callable[..., Any], users: Callable[..., Any], judge: dict[str, Any], word: str
) -> None:
    """A judge that fails or answers nonsense gives no verdicts, and no verdicts widen nothing."""
    system = start_system(simulator={"models": {**_MODELS, "judge": {"role": "judge", **judge}}})
    system.apply(_SPEC)
    with users(system) as traffic:
        status = system.wait_for("blind", lambda each: each["phase"] == "paused")
    assert traffic.tally.failed == 0
    assert status["paused"]["reason"] == "evaluator_error"
    assert word in status["why"]
    funnel = system.api.get("/rollouts/blind/funnel").json()
    assert funnel["streams"]["mirror"]["judge_error"] >= 4
    assert funnel["reconciles"]
    _never_widened(system)
