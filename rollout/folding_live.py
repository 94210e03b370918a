"""Folding live facts: requests of both arms that were assigned at random, and what became of them.

All of it is of one assignment epoch. A fact of an epoch that has ended tells how the baseline does
and nothing else; within the epoch it counts with the weight that it names.
"""

from __future__ import annotations

from gateway.split import BASIS_POINTS
from gateway.store.evidence import Evidence
from rollout.evidence import MAX_SEGMENTS, OVERALL, EvidenceState, MetricEvidence, start_live
from rollout.observations import (
    count_of,
    counted_in_windows,
    live_failure,
    with_live_latency,
    with_reading,
)
from rollout.spec import MetricSpec, RolloutSpec

__all__ = ["live", "outcome", "query", "segments_of", "window"]


def live(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    """Return the state after the checks on one live answer."""
    payload = fact.payload
    variant = payload["variant"]
    if variant not in {"baseline", "candidate"}:
        raise ValueError(f"no variant is called {variant!r}")
    is_candidate = variant == "candidate"
    present = fact.epoch == state.epoch
    segments = segments_of(state, fact.segment, spec)
    metrics = dict(state.metrics)
    for metric in spec.analysis.metrics:
        if metric.source is not None or counted_in_windows(metric):
            continue
        known = state.metrics[metric.name]
        failed = live_failure(metric, known, payload)
        if not is_candidate:
            known = with_live_latency(known, metric, payload)
        if failed is not None:
            counts = _Counts.of_one(failed, is_candidate=is_candidate)
            known = _with_baseline(known, counts)
            if present:
                known = _with_live(known, counts, payload["weight_bp"], segments, metric)
        metrics[metric.name] = known
    checked = present and is_candidate and payload["weight_bp"] == state.weight_bp
    return state.evolve(
        metrics=metrics,
        step_checked=state.step_checked + int(checked),
        last_live_at=max(state.last_live_at, fact.at) if present else state.last_live_at,
    )


def window(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    """Return the state after a gateway's counts of all requests of some seconds."""
    arms = fact.payload["arms"]
    baseline, candidate = arms.get("baseline") or {}, arms.get("candidate") or {}
    baseline_requests, candidate_requests = (
        count_of(baseline, "requests"),
        count_of(candidate, "requests"),
    )
    weight_bp = fact.payload["weight_bp"]
    present = fact.epoch == state.epoch
    metrics = dict(state.metrics)
    for metric in spec.analysis.metrics:
        if not counted_in_windows(metric):
            continue
        if metric.name not in baseline and metric.name not in candidate:
            continue
        counts = _Counts(
            candidate=candidate_requests,
            baseline=baseline_requests,
            candidate_failures=count_of(candidate, metric.name),
            baseline_failures=count_of(baseline, metric.name),
        )
        known = _with_baseline(state.metrics[metric.name], counts)
        if present:
            known = _with_live(known, counts, weight_bp, (OVERALL,), metric)
        metrics[metric.name] = known
    if not present:
        return state.evolve(metrics=metrics)
    ratio = state.sample_ratio
    total = baseline_requests + candidate_requests
    if ratio is not None and total and 0 < weight_bp < BASIS_POINTS:
        ratio = ratio.update(
            candidate=candidate_requests, total=total, share=weight_bp / BASIS_POINTS
        )
    in_step = weight_bp == state.weight_bp
    return state.evolve(
        metrics=metrics,
        sample_ratio=ratio,
        step_baseline=state.step_baseline + (baseline_requests if in_step else 0),
        step_candidate=state.step_candidate + (candidate_requests if in_step else 0),
        last_live_at=max(state.last_live_at, fact.at) if total else state.last_live_at,
    )


def outcome(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    """Return the state after a posted outcome: one live request of the metrics that name it.

    It may come days later: what belongs to an epoch that has ended is of no assignment any more,
    and only tells how the baseline does.
    """
    payload = fact.payload
    variant, failure = payload["variant"], payload["failure"]
    if variant not in {"baseline", "candidate"} or failure not in (0, 1):
        raise ValueError("an outcome names baseline or candidate, and whether it failed")
    counts = _Counts.of_one(int(failure), is_candidate=variant == "candidate")
    segments = segments_of(state, fact.segment, spec)
    metrics = dict(state.metrics)
    for metric in spec.analysis.metrics:
        if metric.source is None or metric.source.outcome != payload["name"]:
            continue
        known = _with_baseline(state.metrics[metric.name], counts)
        if fact.epoch == state.epoch:
            known = _with_live(known, counts, payload["weight_bp"], segments, metric)
        metrics[metric.name] = known
    return state.evolve(metrics=metrics)


def query(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    """Return the state after what Prometheus said: counts of both arms, or a value with a limit."""
    payload = fact.payload
    metric = spec.metric(payload["metric"])
    if metric is None or metric.source is None or metric.source.prometheus is None:
        raise ValueError(f"no metric from Prometheus is called {payload['metric']!r}")
    known = state.metrics[metric.name]
    if metric.is_threshold:
        known = with_reading(known, payload, at=fact.at)
        return state.evolve(metrics={**state.metrics, metric.name: known})
    arms = payload["arms"]
    baseline, candidate = arms.get("baseline") or {}, arms.get("candidate") or {}
    counts = _Counts(
        candidate=count_of(candidate, "requests"),
        baseline=count_of(baseline, "requests"),
        candidate_failures=count_of(candidate, "failures"),
        baseline_failures=count_of(baseline, "failures"),
    )
    known = _with_baseline(known, counts)
    if fact.epoch == state.epoch:
        known = _with_live(known, counts, payload["weight_bp"], (OVERALL,), metric)
    return state.evolve(metrics={**state.metrics, metric.name: known})


class _Counts:
    """Requests and failures by arm, of one window or one checked answer."""

    __slots__ = ("baseline", "baseline_failures", "candidate", "candidate_failures")

    def __init__(
        self, *, candidate: int, baseline: int, candidate_failures: int, baseline_failures: int
    ) -> None:
        if candidate_failures > candidate or baseline_failures > baseline:
            raise ValueError("more failures than requests")
        self.candidate = candidate
        self.baseline = baseline
        self.candidate_failures = candidate_failures
        self.baseline_failures = baseline_failures

    @classmethod
    def of_one(cls, failed: int, *, is_candidate: bool) -> _Counts:
        """Return the counts of one request of one arm."""
        return cls(
            candidate=int(is_candidate),
            baseline=int(not is_candidate),
            candidate_failures=failed if is_candidate else 0,
            baseline_failures=0 if is_candidate else failed,
        )


def _with_baseline(known: MetricEvidence, counts: _Counts) -> MetricEvidence:
    if not counts.baseline:
        return known
    requests, failures = known.baseline
    baseline = (requests + counts.baseline, failures + counts.baseline_failures)
    return known.evolve(baseline=baseline)


def _with_live(
    known: MetricEvidence,
    counts: _Counts,
    weight_bp: int,
    segments: tuple[str, ...],
    metric: MetricSpec,
) -> MetricEvidence:
    requests = counts.candidate + counts.baseline
    if not requests or not weight_bp:
        return known
    live = dict(known.live)
    for segment in segments:
        live[segment] = (live.get(segment) or start_live(known, metric, segment)).update(
            candidate_failures=counts.candidate_failures,
            failures=counts.candidate_failures + counts.baseline_failures,
            share=weight_bp / BASIS_POINTS,
            candidate_requests=counts.candidate,
            requests=requests,
        )
    limit = known.limit
    if limit is not None and counts.candidate:
        limit = limit.update(requests=counts.candidate, failures=counts.candidate_failures)
    if limit is not None and counts.baseline:  # after the candidate: a limit is of the past only
        limit = limit.update_baseline(requests=counts.baseline, failures=counts.baseline_failures)
    return known.evolve(live=live, limit=limit)


def segments_of(state: EvidenceState, segment: str | None, spec: RolloutSpec) -> tuple[str, ...]:
    """Return the segments that a fact counts in: overall first, and its own where that is told."""
    if not spec.analysis.segments or not segment:
        return (OVERALL,)
    for metric in state.metrics.values():
        if segment in metric.paired or segment in metric.live:
            return (OVERALL, segment)
    return (OVERALL,) if len(state.segments()) >= MAX_SEGMENTS else (OVERALL, segment)
