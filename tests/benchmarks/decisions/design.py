"""What of a spec the simulation needs, read from the product's own reading of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

from rollout.assessment import assess
from rollout.evidence import MAX_SEGMENTS, start_evidence, start_paired
from rollout.spec import RolloutSpec, load_spec
from rollout.statistics.paired import AMOUNT_BETS, FAILURE_BETS, HarmBets
from rollout.steps import Step, plan

__all__ = ["Design", "Guardrail", "default_spec", "design_of"]


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that acts: its margin on the mean of d (for scores 2δ) and its weight."""

    name: str
    margin: float
    weight: float

    @property
    def bets(self) -> HarmBets:
        """What its pairs are bet on with."""
        return AMOUNT_BETS if self.judged else FAILURE_BETS

    @property
    def judged(self) -> bool:
        """Whether it is the judge's, which has no live evidence."""
        return self.name == "judge_win_rate"


@dataclass(frozen=True, slots=True)
class Design:
    """How a spec decides. Thresholds are natural logs; ``segments`` are those declared, 0: none."""

    guardrails: tuple[Guardrail, ...]
    harm_at: float
    proof_at: float
    segments: int
    steps: tuple[Step, ...]
    mirror_share: float
    live_sample: float

    @property
    def weights(self) -> tuple[float, ...]:
        """The guardrails' weights in the decision to roll back."""
        return tuple(each.weight for each in self.guardrails)


def default_spec(**changes: Any) -> RolloutSpec:
    """Return the spec of somebody who names route and candidate, and ``changes``."""
    document: Mapping[str, Any] = {
        "name": "simulated",
        "route": "bot",
        "candidate": {"deployment": "new"},
        **changes,
    }
    return load_spec(document)


def design_of(spec: RolloutSpec) -> Design:
    """Return how ``spec`` decides. Raises ValueError for a guardrail that can't be simulated."""
    guardrails = []
    for each in assess(start_evidence(spec), spec):
        if not each.weight:
            continue
        state = start_paired(each.metric)
        if state.kind == "mean":
            raise ValueError(f"{each.metric.name} is not simulated as a guardrail")
        margin = 2 * state.margin if state.kind == "score" else state.margin
        guardrails.append(Guardrail(each.metric.name, margin, each.weight))
    budget = spec.analysis.error_budget
    return Design(
        guardrails=tuple(guardrails),
        harm_at=log(1 / budget.rollback),
        proof_at=log(1 / budget.promote),
        segments=MAX_SEGMENTS if spec.analysis.segments else 0,
        steps=plan(spec),
        mirror_share=spec.mirror.percentage / 100,
        live_sample=spec.analysis.live_sample,
    )
