"""What keeps a plan from concluding, and what would do instead. Pure.

A warning blocks where an equal candidate would in most runs end inconclusive, or wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isfinite, log

import numpy as np
from numpy.typing import NDArray

from rollout.forecast import MOST_PAIRS, Forecast
from rollout.spec import MetricSpec
from rollout.statistics import power
from rollout.steps import Step

__all__ = ["Caution", "cautions", "seconds_of"]

_DAY_S = 86_400.0
_LIKELY = 0.8
_EVEN = 0.5
_MARGIN_FACTORS = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)
_SAMPLE_FACTORS = (1.5, 2, 3, 5, 8, 12, 20)
_PROOF_RUNS = 300
_LONGER = 30
_MOST_REQUESTS = 30_000_000


@dataclass(frozen=True, slots=True)
class Caution:
    """What is wrong with a plan. ``field`` of the spec would change it; ``blocking``: it must."""

    field: str
    message: str
    blocking: bool


def cautions(forecast: Forecast) -> tuple[Caution, ...]:
    """Return what is wrong with a plan, what blocks first."""
    found = [
        *_judge(forecast),
        *_shadow(forecast),
        *_steps(forecast),
        *_power(forecast),
        *_live_proof(forecast),
        *_sources(forecast),
    ]
    if forecast.assumptions.requests_per_second is None:
        message = (
            "traffic on the route is not known, so there are no hours: say how many requests a "
            "second are eligible"
        )
        found.append(Caution("requests_per_second", message, blocking=False))
    return tuple(sorted(found, key=lambda each: not each.blocking))


def seconds_of(
    forecast: Forecast, step: Step, pairs: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return how long it takes to gather ``pairs`` in a step, the judge's budget included.

    ``None`` where traffic is not known.
    """
    rate = forecast.pairs_per_second(step)
    if rate is None:
        return None
    if not rate:
        return np.full_like(pairs, np.inf)
    seconds = np.maximum(pairs / rate, step.min_duration)
    judged = judged_per_day(forecast)
    if judged is None:
        return seconds
    metric = forecast.spec.metric("judge_win_rate")
    if metric is None or not metric.is_guardrail:
        return seconds
    if not judged:
        return np.full_like(pairs, np.inf)
    # The budget is a day's: what is spent within an hour comes back the next day.
    wanted = forecast.proof_time(metric)
    return np.maximum(seconds, np.ceil(wanted / judged - 1) * _DAY_S)


def judged_per_day(forecast: Forecast) -> float | None:
    """Return how many pairs the judge's budget is enough for on a day; ``None``: no limit."""
    budget, judge = forecast.spec.mirror.budget, forecast.assumptions.judge
    if judge is None or forecast.spec.metric("judge_win_rate") is None:
        return None
    limits = []
    if budget.calls_per_day is not None and judge.calls:
        limits.append(budget.calls_per_day / judge.calls)
    if budget.usd_per_day is not None and (judge.calls * judge.dollars or not budget.usd_per_day):
        a_pair = judge.calls * judge.dollars
        limits.append(budget.usd_per_day / a_pair if a_pair else 0.0)
    return min(limits) if limits else None


def _judge(forecast: Forecast) -> Iterator[Caution]:
    metric = forecast.spec.metric("judge_win_rate")
    if metric is None or not metric.is_guardrail:
        return
    if forecast.assumptions.judge is None:
        message = (
            "judge_win_rate is a guardrail but no judge is set, so it can't be proven: set judge "
            "in the settings, or leave the metric out"
        )
        yield Caution("analysis.metrics", message, blocking=True)
    if metric.min_human_labels:
        message = f"a person must label {metric.min_human_labels} pairs before the first weight"
        yield Caution("analysis.metrics", message, blocking=False)
    judged, judge = judged_per_day(forecast), forecast.assumptions.judge
    median, _ = power.quantiles(forecast.proof_time(metric))
    if judged is not None and judge is not None and isfinite(median) and judged < median:
        days = "never enough" if not judged else f"about {ceil(median / judged)} days"
        wanted = ceil(median * judge.calls)
        message = (
            f"the judge's budget is enough for {judged:,.0f} pairs a day and the proof needs "
            f"{median:,.0f}: {days}; {wanted:,} calls a day would do it in one"
        )
        yield Caution("mirror.budget", message, blocking=not judged)


def _shadow(forecast: Forecast) -> Iterator[Caution]:
    step = next(each for each in forecast.steps if each.compares)
    place, limit = f"steps.{step.index + 1}", float(MOST_PAIRS)
    rate = forecast.pairs_per_second(step)
    if rate == 0:
        yield Caution(place, "no pair would ever arrive: there is no traffic", blocking=True)
        return
    wanted = np.maximum(forecast.pairs, step.min_pairs)
    median, most = power.quantiles(wanted)
    if step.max_pairs is not None:
        limit = min(limit, step.max_pairs)
        chance = float(np.mean(wanted <= step.max_pairs))
        if chance < _LIKELY:
            message = (
                f"max_pairs is {step.max_pairs:,} and an equal candidate is proven within them in "
                f"{chance:.0%} of runs; {_pairs(most)}"
            )
            yield Caution(f"{place}.max_pairs", message, blocking=chance < _EVEN)
    if rate is not None and step.max_duration is not None:
        limit = min(limit, rate * step.max_duration)
        yield from _too_short(forecast, step, wanted, rate)
    if not isfinite(most):
        message = f"not every guardrail is proven within {MOST_PAIRS:,} pairs in 80% of runs"
        yield Caution("analysis.metrics", message, blocking=not isfinite(median))
    yield from _margins(forecast, limit)


def _too_short(
    forecast: Forecast, step: Step, wanted: NDArray[np.float64], rate: float
) -> Iterator[Caution]:
    seconds = seconds_of(forecast, step, wanted)
    if seconds is None or step.max_duration is None:
        return
    chance = float(np.mean(seconds <= step.max_duration))
    if chance >= _LIKELY:
        return
    _, longest = power.quantiles(seconds)
    would = f"; {_duration(longest)} would do" if isfinite(longest) else ""
    mirror = forecast.spec.mirror
    if mirror.adaptive and rate * mirror.target_duration >= 0.99 * step.min_pairs:
        would += ", or a shorter mirror.target_duration"
    message = (
        f"max_duration is {_duration(step.max_duration)}, in which about "
        f"{rate * step.max_duration:,.0f} pairs arrive: an equal candidate is proven in "
        f"{chance:.0%} of runs{would}"
    )
    place = f"steps.{step.index + 1}.max_duration"
    yield Caution(place, message, blocking=chance < _EVEN)


def _margins(forecast: Forecast, limit: float) -> Iterator[Caution]:
    """Say which margins are smaller than what so many pairs can prove, and which would do."""
    for metric in forecast.spec.guardrails:
        if metric.source is not None:
            continue
        chance = float(np.mean(forecast.proof_time(metric) <= limit))
        if chance >= _LIKELY:
            continue
        would = ""
        for factor in _MARGIN_FACTORS:
            margin = float(f"{metric.margin * factor:.2g}")
            if margin >= (0.5 if metric.name == "judge_win_rate" else 1.0):
                break
            wider = metric.model_copy(update={"margin": margin})
            if np.mean(forecast.proof_time(wider) <= limit) >= _LIKELY:
                would = f"; a margin of {margin:g} would do"
                break
        message = (
            f"a margin of {metric.margin:g} is proven within {limit:,.0f} pairs in {chance:.0%} "
            f"of runs{would}"
        )
        yield Caution(f"analysis.metrics.{metric.name}.margin", message, blocking=False)


def _steps(forecast: Forecast) -> Iterator[Caution]:
    traffic = forecast.assumptions.requests_per_second
    if not traffic:
        return
    for step in forecast.steps:
        share = step.weight_bp / 10_000
        if step.kind not in {"analysis", "bake"} or not share or step.max_duration is None:
            continue
        samples = forecast.samples(step)
        seconds = samples / (traffic * share)
        if seconds <= step.max_duration:
            continue
        fits = int(traffic * share * step.max_duration)
        needed = 100 * samples / (traffic * step.max_duration)
        weight = f", or a weight of {needed:.2g}%" if needed < 100 else ""
        message = (
            f"at {100 * share:g}% of {traffic:g} requests a second, {samples:,} candidate "
            f"requests take {_duration(seconds)}, but max_duration is "
            f"{_duration(step.max_duration)}: that duration, {fits:,} samples{weight} would do"
        )
        yield Caution(f"steps.{step.index + 1}", message, blocking=True)


def _power(forecast: Forecast) -> Iterator[Caution]:
    """Say where the steps' samples are too few to find a regression that only users meet."""
    told: set[tuple[float | None, float]] = set()
    for need in forecast.metrics:
        metric = forecast.spec.metric(need.name)
        alike = (need.failure_rate, need.margin)
        if metric is None or not metric.is_guardrail or need.live_detected is None:
            continue
        if need.live_detected >= _EVEN or alike in told:
            continue
        told.add(alike)
        message = (
            f"if only users met it, {metric.name} worse by {need.regression:g} would be found "
            f"before 100% in {need.live_detected:.0%} of runs{_samples(forecast, metric)}"
        )
        yield Caution("analysis.min_samples", message, blocking=False)


def _samples(forecast: Forecast, metric: MetricSpec) -> str:
    least = forecast.spec.analysis.min_samples
    for factor in _SAMPLE_FACTORS:
        samples = ceil(least * factor)
        times, _ = forecast.live_found(metric, samples)
        if np.mean(np.isfinite(times)) >= _LIKELY:
            return f"; min_samples of {samples:,} would do"
    return ""


def _live_proof(forecast: Forecast) -> Iterator[Caution]:
    traffic = forecast.assumptions.requests_per_second
    if not forecast.spec.analysis.require_live_proof or not traffic:
        return
    step = next((e for e in forecast.steps if e.kind == "analysis" and e.weight_bp < 10_000), None)
    if step is None or step.max_duration is None:
        return
    requests = int(traffic * step.max_duration)
    if requests < 1:
        return
    threshold = log(1 / forecast.spec.analysis.error_budget.promote)
    window = power.Window(step.weight_bp / 10_000, min(_MOST_REQUESTS, _LONGER * requests))
    for need in forecast.metrics:
        if need.role != "guardrail" or need.kind != "binary" or need.failure_rate is None:
            continue
        log_e, at = power.live_proof(
            forecast.rng, window, rate=need.failure_rate, margin=need.margin, runs=_PROOF_RUNS
        )
        times = power.first_reach(log_e, at, threshold)
        chance = float(np.mean(times <= requests))
        if chance < _LIKELY:
            _, most = power.quantiles(times)
            would = f"a max_duration of {_duration(most / traffic)}, " if isfinite(most) else ""
            message = (
                f"at {step.weight_bp / 100:g}%, {requests:,} requests arrive within max_duration "
                f"and prove {need.name} live in {chance:.0%} of runs; {would}a larger first weight "
                "or a wider margin would do"
            )
            yield Caution("analysis.require_live_proof", message, blocking=chance < _EVEN)


def _sources(forecast: Forecast) -> Iterator[Caution]:
    for metric in forecast.spec.guardrails:
        source = metric.source
        if source is not None and source.outcome and metric.name not in forecast.assumptions.known:
            message = (
                f"nobody has posted the outcome {source.outcome!r} on this route yet; without "
                "it the first weight waits: post it to /api/v1/outcomes"
            )
            yield Caution(f"analysis.metrics.{metric.name}", message, blocking=False)


def _pairs(most: float) -> str:
    return f"{most:,.0f} would do" if isfinite(most) else "more would not do either"


def _duration(seconds: float) -> str:
    for unit, size in (("d", _DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
