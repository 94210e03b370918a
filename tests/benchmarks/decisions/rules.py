"""What the rules of other tools have in common: they look at live traffic, and one may end it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from decisions.streams import Bools, Requests
from decisions.worlds import Phase, World

__all__ = ["HORIZON", "Fate", "Rule", "Traffic", "metrics_of"]

HORIZON = 120_000
"""Live requests that there are for a rule that takes its time."""

_HEALTHY = ("format_valid", "refusal_rate", "tool_contract")


class Fate(NamedTuple):
    """How a rule ended a canary: after which live request, and how many the candidate served."""

    rolled_back: bool
    requests: int
    served: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule by name; ``decide`` returns ``None`` where the rule has no metric for the case."""

    name: str
    decide: Callable[[Requests], Fate | None]


def metrics_of(world: World) -> tuple[str, str, str]:
    """Return the three metrics of a rule that looks at several: the one in question comes first."""
    others = [name for name in _HEALTHY if name != world.metric]
    return world.metric, others[0], others[1]


class Traffic:
    """Live requests, walked through at the weights that a rule sets."""

    def __init__(self, live: Requests) -> None:
        self.live = live
        self.at = 0
        self.served = 0

    def arm(self, count: int, weight: float) -> Bools:
        """Return which of the next ``count`` requests the candidate serves."""
        candidate: Bools = self.live.uniform("arm")[self.at : self.at + count] < weight
        return candidate

    def failed(self, metric: str, count: int, phase: Phase = "live") -> tuple[Bools, Bools]:
        """Return which of the next ``count`` requests would fail on baseline and candidate."""
        baseline, candidate = self.live.failed(metric, phase)
        here = slice(self.at, self.at + count)
        return baseline[here], candidate[here]

    def pass_by(self, candidate: Bools) -> None:
        """Let these requests be served."""
        self.at += len(candidate)
        self.served += int(np.count_nonzero(candidate))

    def end(self, *, rolled_back: bool) -> Fate:
        """Return how it ended here."""
        return Fate(rolled_back, self.at, self.served)
