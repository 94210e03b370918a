"""The cases: how often each arm fails at what, and from when on the candidate is worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "FAILURE_RATES",
    "HEALTHY_SCORES",
    "LOSING_SCORES",
    "PHASES",
    "SCORES",
    "SEGMENTS",
    "WORLDS",
    "Phase",
    "World",
]

Phase = Literal["shadow", "live", "full"]
"""How a candidate is used: mirrored only, beside the baseline, or by (nearly) everybody."""

PHASES: tuple[Phase, ...] = ("shadow", "live", "full")

FAILURE_RATES: dict[str, float] = {
    "format_valid": 0.01,
    "tool_contract": 0.005,
    "refusal_rate": 0.01,
    "truncation_rate": 0.003,
    "empty_rate": 0.001,
    "error_rate": 0.002,
    "timeout_rate": 0.001,
    "latency": 0.05,
}
"""How often the baseline fails, by metric (latency: is slower than its own 95th percentile)."""

OTHER_RATE = 0.002
"""The same for binary guardrails that are not named above."""

SCORES: tuple[float, ...] = (1.0, 0.5, 0.0, -0.5, -1.0)
"""The judge's scores in both orders: a win, a win in one order and a tie in the other, …"""

HEALTHY_SCORES: tuple[float, ...] = (0.17, 0.16, 0.34, 0.16, 0.17)
"""Probabilities of the scores for an equal candidate; a third ties or turns with the order."""

LOSING_SCORES: tuple[float, ...] = (0.13, 0.14, 0.34, 0.18, 0.21)
"""The same for a candidate with a win rate of 0.45."""

SEGMENTS: tuple[float, ...] = (0.4, 0.25, 0.15, 0.1, 0.1)
"""Shares of the segments of traffic. A regression in one segment is one in the last."""


@dataclass(frozen=True, slots=True)
class World:
    """One case.

    ``candidate`` holds the failure rates in which the candidate differs from the baseline,
    ``scores`` its judge scores, both from the phase ``since`` on. ``metric`` is what a rule looks
    at that has one metric only: the one that is worse, so no rule is blind to a regression for
    want of a metric, but for the judge's. ``in_segment`` confines the regression to the last
    segment. ``drift`` is the amplitude of the failure rates of both arms over a day of which
    every run starts at another hour, relative to their mean. ``latency_shared`` is the part of
    the log latency's variance that the request explains, equally on both arms. ``rate`` is
    requests a second.
    """

    name: str
    metric: str
    baseline: Mapping[str, float] = field(default_factory=lambda: FAILURE_RATES)
    candidate: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[float, ...] = HEALTHY_SCORES
    since: Phase = "shadow"
    in_segment: bool = False
    drift: float = 0.0
    latency_shared: float = 0.5
    rate: int = 10

    @property
    def healthy(self) -> bool:
        """Whether the candidate is as good as the baseline."""
        return not self.candidate and self.scores == HEALTHY_SCORES

    def rates(self, metric: str, phase: Phase) -> tuple[float, float]:
        """Return how often baseline and candidate fail while the candidate is used so."""
        baseline = self.baseline.get(metric, OTHER_RATE)
        worse = PHASES.index(phase) >= PHASES.index(self.since)
        return baseline, self.candidate.get(metric, baseline) if worse else baseline

    def judged(self, phase: Phase) -> tuple[float, ...]:
        """Return the probabilities of the judge's scores while the candidate is used so."""
        worse = PHASES.index(phase) >= PHASES.index(self.since)
        return self.scores if worse else HEALTHY_SCORES


def _all_at(rate: float) -> dict[str, float]:
    return dict.fromkeys(FAILURE_RATES, rate)


WORLDS: dict[str, World] = {
    world.name: world
    for world in (
        World("A/A at 0.5%", "format_valid", _all_at(0.005)),
        World("A/A at 1%", "format_valid", _all_at(0.01)),
        World("healthy", "format_valid"),
        World("drift with the time of day", "format_valid", drift=0.5, rate=1),
        World("format 99 to 97", "format_valid", candidate={"format_valid": 0.03}),
        World("format 99 to 90", "format_valid", candidate={"format_valid": 0.10}),
        World("refusal 1 to 4%", "refusal_rate", candidate={"refusal_rate": 0.04}),
        World("win rate 0.45", "judge_win_rate", scores=LOSING_SCORES),
        World("latency tail x2", "latency", candidate={"latency": 0.10}),
        World("latency tail x2, arms independent", "latency", candidate={"latency": 0.10},
              latency_shared=0.0),
        World("errors 0.2 to 5%", "error_rate", candidate={"error_rate": 0.05}),
        World(
            "format 99 to 80 in a segment of 10%",
            "format_valid",
            candidate={"format_valid": 0.20},
            in_segment=True,
        ),
        World("live only: errors 0.2 to 5%", "error_rate", candidate={"error_rate": 0.05},
              since="live"),
        World("live only: format 99 to 97", "format_valid", candidate={"format_valid": 0.03},
              since="live"),
        World("only at 100%: errors 0.2 to 5%", "error_rate", candidate={"error_rate": 0.05},
              since="full"),
        World("only at 100%: format 99 to 97", "format_valid", candidate={"format_valid": 0.03},
              since="full"),
    )
}  # fmt: skip
"""All cases, by name."""
