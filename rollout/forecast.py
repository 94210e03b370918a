"""How many pairs a spec's metrics need, by runs of our own e-processes.

Per metric the pairs that prove an equal candidate not worse, and those that find one which is worse
by twice the margin; for the whole the pairs until every guardrail is proven at the same moment. On
assumptions that are either measured on the route or said (see :mod:`rollout.plan_inputs`). Pure:
``rng`` is the caller's. Formulas: :mod:`rollout.statistics.power`.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil, inf, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rollout.assessment import samples_needed
from rollout.evidence import start_paired
from rollout.plan_types import Assumptions, MetricNeed, Need
from rollout.sampling import FLOOR, LIVE_PAIRS
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import power
from rollout.steps import Step, plan

__all__ = ["MOST_PAIRS", "Forecast"]

Floats = NDArray[np.float64]

MOST_PAIRS = 200_000
"""Pairs beyond which nothing is computed: more are as good as never."""

_RUNS = 600
_SHARED_FAILURES = 0.5
_SPREAD = 0.2
_ENOUGH = 0.999


class Forecast:
    """The runs of one plan, and what is read from them. Not to be shared between threads."""

    def __init__(
        self, spec: RolloutSpec, assumptions: Assumptions, rng: np.random.Generator
    ) -> None:
        self.spec = spec
        self.assumptions = assumptions
        self.steps = plan(spec)
        self.rng = rng
        self._at = power.looks(MOST_PAIRS)
        self._paths: dict[Any, Floats] = {}

    @cached_property
    def metrics(self) -> tuple[MetricNeed, ...]:
        """Every metric of the spec, in its order."""
        return tuple(self.metric(each) for each in self.spec.analysis.metrics)

    def metric(self, metric: MetricSpec) -> MetricNeed:
        """Return what a metric needs."""
        known = self.assumptions.known.get(metric.name)
        kind: Any = start_paired(metric).kind
        if metric.source is not None:
            kind = "limit" if metric.is_threshold else "live"
        prove, detect = None, None
        if metric.source is None:
            threshold = log(1 / self.spec.analysis.error_budget.promote)
            prove = Need.of(power.first_reach(self._proof(metric), self._at, threshold))
            detect = Need.of(
                power.first_reach(self._harm(metric), self._at, self._harm_threshold(metric))
            )
        found, users = self._live(metric) if kind in {"binary", "live"} else (None, None)
        rated = kind in {"binary", "live"}
        return MetricNeed(
            name=metric.name,
            role=metric.role,
            kind=kind,
            margin=metric.margin,
            basis="measured" if known is not None else "assumed",
            failure_rate=self._failure_rate(metric) if rated else None,
            differing=_differing(self._equal(metric)) if metric.source is None else None,
            regression=2 * metric.margin,
            prove=prove,
            detect=detect,
            live_detected=found,
            live_users=users,
            human_labels=metric.min_human_labels,
        )

    @cached_property
    def pairs(self) -> Floats:
        """Pairs until every guardrail is proven at the same moment, one figure a run."""
        threshold = log(1 / self.spec.analysis.error_budget.promote)
        least: Floats | None = None
        for number, metric in enumerate(self.spec.guardrails):
            if metric.source is not None:
                continue
            # The same runs in another order are as good as other runs: metrics are independent.
            path = np.roll(self._proof(metric), 37 * number, axis=0)
            least = path if least is None else np.minimum(least, path)
        if least is None:
            return np.zeros(_RUNS)
        return power.first_reach(least, self._at, threshold)

    def concluded(self, pairs: float) -> float:
        """Return the share of runs in which everything is proven within so many pairs."""
        return float(np.mean(self.pairs <= pairs))

    def proof_time(self, metric: MetricSpec) -> Floats:
        """Return the pairs that prove a metric of an equal candidate, one figure a run."""
        threshold = log(1 / self.spec.analysis.error_budget.promote)
        return power.first_reach(self._proof(metric), self._at, threshold)

    def pairs_per_second(self, step: Step) -> float | None:
        """Return how many pairs arrive during a mirror step; ``None``: traffic is not known.

        An adaptive mirror samples no more than the step's pace (:mod:`rollout.sampling`).
        """
        traffic = self.assumptions.requests_per_second
        if traffic is None:
            return None
        mirror = self.spec.mirror
        most = traffic * self._most_mirrored(step)
        if not mirror.adaptive:
            return most
        pace = step.min_pairs / max(mirror.target_duration, step.min_duration)
        return min(most, max(FLOOR, pace))

    def pairs_per_request(self, step: Step) -> float:
        """Return pairs per request of users during a mirror step."""
        traffic = self.assumptions.requests_per_second
        rate = self.pairs_per_second(step)
        return rate / traffic if rate is not None and traffic else self._most_mirrored(step)

    def pairs_in(self, step: Step, requests: float, seconds: float | None) -> float:
        """Return the pairs that go on arriving in a live step of so many requests."""
        most = requests * self._most_mirrored(step)
        if not self.spec.mirror.adaptive:
            return most
        wanted = LIVE_PAIRS if step.kind == "analysis" else 0
        return min(most, wanted + FLOOR * (seconds or 0.0))

    def samples(self, step: Step) -> int:
        """Return the candidate's requests that a step takes.

        What is the user's own has to show no harm over a number of its own before the second
        weight.
        """
        first = next((each for each in self.steps if each.kind == "analysis"), None)
        if step is not first:
            return step.min_samples
        own = [
            samples_needed(metric, self.spec)
            for metric in self.spec.guardrails
            if metric.is_live_only
        ]
        return max([step.min_samples, *own])

    def _most_mirrored(self, step: Step) -> float:
        served = 1.0 if step.direction == "both" else 1 - step.weight_bp / 10_000
        return served * self.spec.mirror.percentage / 100 * self.assumptions.paired_share

    def live_found(self, metric: MetricSpec, samples: int | None = None) -> tuple[Floats, Floats]:
        """Return when, in candidate requests, a live regression of twice the margin is found.

        ``samples`` replaces every step's ``min_samples``. The second are all requests that the
        candidate serves before it has all traffic.
        """
        windows = [
            power.Window(share, ceil((samples or self.samples(step)) / share))
            for step in self.steps
            if (share := step.weight_bp / 10_000) and share < 1 and step.kind == "analysis"
        ]
        if not windows:
            return np.full(_RUNS, inf), np.zeros(1)
        rate = self._failure_rate(metric)
        log_e, served = power.live_harm(
            self.rng,
            windows,
            baseline=rate,
            candidate=min(1.0, rate + 2 * metric.margin),
            runs=_RUNS,
        )
        # Half of the capital stands on pairs, and what shadow carried over counts as nothing.
        threshold = self._harm_threshold(metric) + log(2)
        if metric.source is None:
            threshold += log(2)
        return power.first_reach(log_e, served, threshold), served[-1:]

    def _live(self, metric: MetricSpec) -> tuple[float | None, float | None]:
        times, served = self.live_found(metric)
        if not served[-1]:
            return None, None
        found = times[np.isfinite(times)]
        return float(len(found) / len(times)), float(np.median(found)) if len(found) else None

    def _harm_threshold(self, metric: MetricSpec) -> float:
        """Return the log e-value at which one guardrail alone carries the combined decision."""
        analysis = self.spec.analysis
        weights = {each.name: each.harm_weight for each in self.spec.guardrails}
        own = weights.get(metric.name)
        parts = sum(weights.values()) / own if own else 1.0
        return log(parts / analysis.error_budget.rollback) + (log(2) if analysis.segments else 0.0)

    def _proof(self, metric: MetricSpec) -> Floats:
        return self._path(metric, self._equal(metric), prove=True)

    def _harm(self, metric: MetricSpec) -> Floats:
        return self._path(metric, self._worse(metric), prove=False)

    def _path(self, metric: MetricSpec, truth: power.Differences, *, prove: bool) -> Floats:
        known = self.assumptions.known.get(metric.name)
        applies = 1.0 if known is None else max(0.001, known.applies)
        margin = _margin(metric)
        key = (truth, margin, applies, prove, start_paired(metric).kind)
        if key not in self._paths:
            at = np.floor(self._at * applies).astype(int)
            if prove:
                self._paths[key] = power.paired_proof(self.rng, truth, margin, at, _RUNS)
            else:
                kind = start_paired(metric).kind
                self._paths[key] = power.paired_harm(self.rng, truth, margin, at, _RUNS, kind=kind)
        return self._paths[key]

    def _failure_rate(self, metric: MetricSpec) -> float:
        known = self.assumptions.known.get(metric.name)
        if known is not None and known.failure_rate is not None:
            return min(0.99, known.failure_rate)
        if metric.slo is None and start_paired(metric).kind == "binary" and _is_time(metric):
            return 1 - metric.quantile
        return self.assumptions.failure_rate

    def _equal(self, metric: MetricSpec) -> power.Differences:
        """Return the truth of a candidate that is as good as the baseline."""
        known = self.assumptions.known.get(metric.name)
        differing = known.differing if known is not None else None
        match start_paired(metric).kind:
            case "mean":
                return power.Differences(0.5, 0.5, _SPREAD)
            case "score":
                differing = 1 - self.assumptions.tie_share if differing is None else differing
            case _:
                if differing is None:
                    differing = 2 * self._failure_rate(metric) * (1 - _SHARED_FAILURES)
        half = min(_ENOUGH, differing) / 2
        return power.Differences(half, half)

    def _worse(self, metric: MetricSpec) -> power.Differences:
        """Return the truth of a candidate that is worse by twice the margin."""
        equal, shift = self._equal(metric), min(1.0, 2 * _margin(metric))
        match start_paired(metric).kind:
            case "binary":
                worse = min(1 - equal.better, equal.worse + shift)
                return power.Differences(worse, equal.better)
            case "score" if equal.better < shift / 2:
                return power.Differences(max(shift, equal.worse), 0.0)
            case _:
                size = max(equal.size, shift)
                half = shift / (2 * size)
                return power.Differences(equal.worse + half, max(0.0, equal.better - half), size)


def _margin(metric: MetricSpec) -> float:
    """Return the margin on the mean of differences."""
    state = start_paired(metric)
    return 2 * state.margin if state.kind == "score" else state.margin


def _differing(truth: power.Differences) -> float:
    return truth.worse + truth.better


def _is_time(metric: MetricSpec) -> bool:
    return metric.name in {"latency", "ttft", "inter_token_latency"}
