"""What a rollout will take before anything is started: pairs, hours, judge calls, dollars.

And whether it can conclude: a plan that can't is told what would do, a margin, a sample or a
duration. Pure: the assumptions are measured elsewhere (:mod:`rollout.plan_inputs`), randomness is
the caller's. About a second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rollout.forecast import Forecast
from rollout.plan_types import Assumptions, MetricNeed, Need
from rollout.plan_warnings import Caution, cautions, seconds_of
from rollout.spec import RolloutSpec
from rollout.steps import Step

__all__ = ["Plan", "ShadowNeed", "StepNeed", "Total", "plan_rollout"]

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class ShadowNeed:
    """What it takes until every guardrail is proven, and no user was served by the candidate.

    ``requests`` pass on the route meanwhile, ``mirrored`` of them go to the candidate too.
    ``concluded`` is the share of runs that prove it within the step's limits.
    """

    pairs: Need
    hours: Need
    requests: Need
    mirrored: Need
    judge_calls: Need
    dollars: Need
    concluded: float


@dataclass(frozen=True, slots=True)
class StepNeed:
    """What one step takes at the median. ``requests`` are of both arms; weights are percent.

    ``hours`` is ``None`` where traffic is not known, and for a step that waits for a person.
    """

    number: int
    kind: str
    label: str
    weight: float
    pairs: float
    candidate_requests: float
    requests: float
    hours: float | None


@dataclass(frozen=True, slots=True)
class Total:
    """Everything until the candidate serves everybody, the bake not counted; at the median."""

    requests: float | None
    candidate_requests: float
    hours: float | None
    judge_calls: float | None
    dollars: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollout will take. ``can_conclude`` is false where a blocking warning is among them.

    That speaks of an equal candidate: it would end inconclusive, or never end.
    """

    name: str
    route: str
    candidate: str
    assumptions: Assumptions
    metrics: tuple[MetricNeed, ...]
    shadow: ShadowNeed
    steps: tuple[StepNeed, ...]
    total: Total
    warnings: tuple[Caution, ...]

    @property
    def can_conclude(self) -> bool:
        """Whether nothing is in the way of an equal candidate's promotion."""
        return not any(each.blocking for each in self.warnings)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {**asdict(self), "can_conclude": self.can_conclude}


def plan_rollout(spec: RolloutSpec, assumptions: Assumptions, rng: np.random.Generator) -> Plan:
    """Return what a rollout of ``spec`` will take, on these assumptions."""
    forecast = Forecast(spec, assumptions, rng)
    shadow = _shadow(forecast)
    steps = tuple(_step(forecast, step, shadow) for step in forecast.steps)
    return Plan(
        name=spec.name,
        route=spec.route,
        candidate=spec.candidate.deployment,
        assumptions=assumptions,
        metrics=forecast.metrics,
        shadow=shadow,
        steps=steps,
        total=_total(forecast, steps, shadow),
        warnings=cautions(forecast),
    )


def _shadow(forecast: Forecast) -> ShadowNeed:
    step = _mirror(forecast)
    wanted = np.maximum(forecast.pairs, step.min_pairs)
    per_request = forecast.pairs_per_request(step)
    a_request = 1 / per_request if per_request else None
    calls, dollars = _judging(forecast)
    limit = step.max_pairs if step.max_pairs is not None else np.inf
    seconds = seconds_of(forecast, step, wanted)
    share = forecast.assumptions.paired_share
    in_time = True if seconds is None else seconds <= (step.max_duration or np.inf)
    return ShadowNeed(
        pairs=Need.of(wanted),
        hours=Need(None, None) if seconds is None else Need.of(seconds, scale=1 / _HOUR_S),
        requests=Need.of(wanted, scale=a_request),
        mirrored=Need.of(wanted, scale=1 / share if share else None),
        judge_calls=Need.of(wanted, scale=calls),
        dollars=Need.of(wanted, scale=dollars),
        concluded=float(np.mean((wanted <= limit) & np.isfinite(wanted) & in_time)),
    )


def _mirror(forecast: Forecast) -> Step:
    """Return the step in which the proof is gathered: the first that compares."""
    return next(each for each in forecast.steps if each.compares)


def _judging(forecast: Forecast) -> tuple[float | None, float | None]:
    """Return judge calls and dollars a pair; 0 where nothing is judged."""
    judge = forecast.assumptions.judge
    if judge is None or forecast.spec.metric("judge_win_rate") is None:
        return 0.0, 0.0
    return judge.calls, judge.calls * judge.dollars


def _step(forecast: Forecast, step: Step, shadow: ShadowNeed) -> StepNeed:
    traffic = forecast.assumptions.requests_per_second
    share = step.weight_bp / 10_000
    requests = forecast.samples(step) / share if share else 0.0
    seconds: float | None = step.min_duration
    if step is _mirror(forecast):
        requests = shadow.requests.median or 0.0
        hours, pairs = shadow.hours.median, shadow.pairs.median or 0.0
    else:
        if requests and traffic:
            seconds = max(step.min_duration, requests / traffic)
            requests = max(requests, seconds * traffic)
        elif (requests and traffic is None) or step.approval:
            seconds = None
        hours = None if seconds is None else seconds / _HOUR_S
        pairs = forecast.pairs_in(step, requests, seconds)
    return StepNeed(
        number=step.index + 1,
        kind=step.kind,
        label=step.label,
        weight=step.weight_bp / 100,
        pairs=pairs,
        candidate_requests=requests * share,
        requests=requests,
        hours=hours,
    )


def _total(forecast: Forecast, steps: tuple[StepNeed, ...], shadow: ShadowNeed) -> Total:
    counted = [each for each in steps if each.kind != "bake"]
    calls, dollars = _judging(forecast)
    pairs = sum(each.pairs for each in counted)
    known = shadow.pairs.median is not None
    hours = [each.hours for each in counted if each.kind not in {"pause", "preflight"}]
    return Total(
        requests=sum(each.requests for each in counted) if known else None,
        candidate_requests=sum(each.candidate_requests for each in counted),
        hours=None if None in hours else sum(each for each in hours if each is not None),
        judge_calls=pairs * calls if known and calls is not None else None,
        dollars=pairs * dollars if known and dollars is not None else None,
    )
