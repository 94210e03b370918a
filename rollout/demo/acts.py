"""The three acts: each a candidate, what is announced of it, and its rollout's spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rollout.demo.scene import ROUTE, Pace
from rollout.states import Phase

__all__ = ["Act", "Outcome", "acts", "unexpected"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an act ended: the last phase, and whether any user was served by the candidate."""

    phase: Phase
    users_served: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Act:
    """One candidate. ``caught`` says where it is announced to be stopped, if it is."""

    title: str
    story: str
    spec: dict[str, Any]
    phase: Phase
    caught: Literal["shadow", "live"] | None

    @property
    def rollout(self) -> str:
        """The name of the act's rollout."""
        return str(self.spec["name"])


def unexpected(act: Act, outcome: Outcome) -> str | None:
    """Return what differs from the announcement, or ``None`` where nothing does."""
    if outcome.phase is not act.phase:
        return f"announced {act.phase.value}, but it ended {outcome.phase.value}: {outcome.reason}"
    if act.caught == "shadow" and outcome.users_served:
        return "announced to be caught in shadow, but users had been served by it"
    if act.caught == "live" and not outcome.users_served:
        return "announced to fail under live traffic, but it was stopped before"
    return None


def acts(pace: Pace) -> tuple[Act, ...]:
    """Return the three acts in order; the first one's candidate is the others' baseline."""
    return (
        Act(
            "A good candidate",
            "support-v7 answers a little better. It is shadowed, judged, and widened to everybody.",
            _spec("support-v7", pace),
            Phase.SUCCEEDED,
            None,
        ),
        Act(
            "A candidate that sounds better and breaks JSON",
            "support-v8 breaks 6% of its JSON and is 30% longer. No user should ever meet it.",
            _spec("support-v8", pace),
            Phase.ROLLED_BACK,
            "shadow",
        ),
        Act(
            "A candidate that fails only under live traffic",
            "support-v9 fails on users' sessions, which mirrored requests do not have.",
            _spec("support-v9", pace),
            Phase.ROLLED_BACK,
            "live",
        ),
    )


def _spec(deployment: str, pace: Pace) -> dict[str, Any]:
    samples = {"min_samples": pace.min_samples, "min_duration": 1, "max_duration": "2m"}
    return {
        "kind": "Rollout",
        "name": deployment,
        "route": ROUTE,
        "candidate": {"deployment": deployment},
        "mirror": {
            "percentage": 40,
            "adaptive": False,
            "max_concurrency": 16,
            "timeout": "10s",
            "noise_probe": "5%",
        },
        "steps": [
            {"mirror": {"min_pairs": pace.min_pairs, "min_duration": 1, "max_duration": "2m"}},
            {"set_weight": 10},
            {"analysis": samples},
            {"set_weight": 50},
            {"analysis": samples},
            {"set_weight": 100},
            {"bake": {"duration": pace.bake_s, "holdback": 2, "max_rate_ratio": 4}},
        ],
        "analysis": {
            "min_samples": pace.min_samples,
            "metrics": [
                {"name": "judge_win_rate", "margin": 0.05},
                {"name": "format_valid", "margin": 0.03, "critical": True},
                {"name": "tool_contract", "margin": 0.1, "must_have_data": False},
                {"name": "refusal_rate", "margin": 0.02},
                {"name": "error_rate", "margin": 0.02, "critical": True},
                {"name": "timeout_rate", "margin": 0.02},
                {"name": "latency", "slo": "2s", "margin": 0.03},
                {"name": "output_tokens", "role": "signal", "margin": "25%"},
            ],
        },
    }
