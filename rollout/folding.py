"""Folding facts into the evidence: one fact after the other, by sequence number.

Facts are what gateways and workers appended (see :mod:`gateway.store.evidence`). A fact that was
folded before is ignored, a gap is refused, and one that can't be understood is counted and is
otherwise missing data. `make bench-evidence` measures what a pair costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.store.evidence import Evidence
from rollout.capital import Shared, reallocated
from rollout.clustering import Counted, counts_first, gathered
from rollout.evidence import (
    MAX_SEGMENTS,
    OVERALL,
    EvidenceState,
    MetricEvidence,
    Trusted,
    start_paired,
)
from rollout.folding_live import live, outcome, query, segments_of, window
from rollout.judge_health import JUDGE_METRIC
from rollout.observations import (
    count_of,
    difference_of,
    failures_of,
    judged,
    may_be_labelled,
    ranked_worst,
    verdict_of,
    with_latency,
)
from rollout.quarantine import (
    examined,
    health_of,
    is_on_trial,
    label_heard,
    on_trial,
    with_capital,
    without_verdict,
)
from rollout.spec import MetricSpec, RolloutSpec
from rollout.spec_metrics import RELATIVE_METRICS
from rollout.statistics import PairedState
from rollout.statistics.labels import LabelState
from rollout.statistics.missing import VerdictCounts
from rollout.statistics.subset import SubsetState

__all__ = ["fold", "update"]


def fold(
    state: EvidenceState, facts: Iterable[tuple[int, Evidence]], spec: RolloutSpec
) -> EvidenceState:
    """Return the state after these ``(sequence number, fact)`` in their order."""
    for seq, fact in facts:
        state = update(state, seq, fact, spec)
    return state


def update(state: EvidenceState, seq: int, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    """Return the state after one more fact; a number that was seen before changes nothing.

    Raises ``ValueError`` when a number was left out: facts have no gaps, so the caller has lost
    some.
    """
    if seq <= state.last_seq:
        return state
    if seq != state.last_seq + 1:
        raise ValueError(f"evidence {state.last_seq + 1} to {seq - 1} is missing")
    try:
        changed = _told(state, fact, spec)
    except (KeyError, TypeError, ValueError, IndexError):
        changed = state.evolve(unreadable=state.unreadable + 1)
    if fact.kind != "judge_health":  # what it takes back was no bet
        shared: Shared = {}
        changed = with_capital(state, reallocated(state, changed, spec, shared), spec, shared)
    return changed.evolve(last_seq=seq, clock=max(state.clock, fact.at))


def _told(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    """Return the state after a fact; where the judge is examined, with its word on trial."""
    if fact.kind == "judge_health":
        return examined(state, fact)
    health = health_of(state, fact)
    if health is None:
        return _KINDS[fact.kind](state, fact, spec)
    heard, bare, trusted = fact, fact, state.trusted
    if is_on_trial(fact, health):
        bare = without_verdict(fact)
        heard = bare if health.quarantined else fact
        trusted = None if health.quarantined else on_trial(state)
        health = health.with_verdict(int(fact.payload["pair_id"]))
    elif fact.kind == "label":
        heard = label_heard(fact, health, confirmed=False)
        bare = label_heard(fact, health, confirmed=True)
    changed = _KINDS[fact.kind](state, heard, spec)
    if trusted is not None and fact.kind in _TRUSTED:
        trusted = _TRUSTED[fact.kind](state, trusted, bare, spec)
    return changed.evolve(judge_health=health, trusted=trusted)


def _pair(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    payload = fact.payload
    metrics = dict(state.metrics)
    read = []
    differences: dict[str, float] = {}
    for metric in spec.analysis.metrics:
        if metric.source is not None:
            continue
        known = metrics[metric.name]
        arms = failures_of(metric, known, payload)
        difference = difference_of(metric, arms, payload)
        if difference is not None:
            if not -1 <= difference <= 1:
                raise ValueError(f"a difference lies in [-1, 1], not {difference!r}")
            differences[metric.name] = difference
        read.append((metric, known, arms, difference))
    own = segments_of(state, fact.segment, spec)
    state, counted = _one_a_cluster(state, fact, differences, spec)
    pairs = _in_segments(state, counted, spec)
    for metric, known, arms, difference in read:
        changed = _compared(known, metric, arms, difference, pairs, payload)
        if metric.name == "judge_win_rate":
            changed = _asked(changed, own, payload)
        if known.threshold is not None:
            changed = with_latency(changed, metric, payload)
        metrics[metric.name] = changed
    return state.evolve(
        metrics=metrics,
        pairs=state.pairs + 1,
        step_pairs=state.step_pairs + 1,
        last_pair_at=max(state.last_pair_at, fact.at),
        recent=judged(state.recent, payload["judge"]),
        subset=_with_pair(state.subset, fact),
    )


def _with_pair(subset: SubsetState | None, fact: Evidence) -> SubsetState | None:
    """Return what is known of the pairs' segments after a pair, which was compared or lost."""
    kept = fact.payload.get("kept")
    if kept is None:
        return subset  # of a version that did not say
    before = subset or SubsetState(limit=MAX_SEGMENTS)
    return before.update(fact.segment, compared=int(bool(kept)), dropped=int(not kept))


def _dropped(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:  # noqa: ARG001
    """Return the state after requests were drawn for the mirror that never became pairs."""
    subset = state.subset or SubsetState(limit=MAX_SEGMENTS)
    for segment, outcomes in sorted(fact.payload["segments"].items()):
        counts = [count_of(outcomes, outcome) for outcome in outcomes]
        subset = subset.update(segment, dropped=sum(counts))
    return state.evolve(subset=subset)


def _one_a_cluster(
    state: EvidenceState, fact: Evidence, differences: Mapping[str, float], spec: RolloutSpec
) -> tuple[EvidenceState, list[Counted]]:
    """Return what counts as one pair now that this pair has come: by default the pair itself."""
    pair = fact.segment, differences
    cluster = fact.payload.get("cluster")
    match spec.analysis.clusters:
        case "mean" if cluster is not None or state.open:
            number = state.pairs + 1
            held, counted = gathered(state.open, cluster=cluster, number=number, pair=pair)
            return state.evolve(open=held), counted
        case "first" if cluster is not None:
            seen, counted = counts_first(state.seen, cluster=cluster, pair=pair)
            return state.evolve(seen=seen), counted
        case _:
            return state, [pair]


def _in_segments(
    state: EvidenceState, counted: Sequence[Counted], spec: RolloutSpec
) -> list[tuple[tuple[str, ...], Mapping[str, float]]]:
    """Return what counts with the segments it counts in: new ones until there are too many."""
    if len(counted) == 1:
        segment, said = counted[0]
        return [(segments_of(state, segment, spec), said)]
    pairs: list[tuple[tuple[str, ...], Mapping[str, float]]] = []
    if not counted:
        return pairs
    known = {OVERALL, *state.segments()}
    for segment, said in counted:
        segments = segments_of(state, segment, spec)
        if len(known) > MAX_SEGMENTS:
            segments = tuple(each for each in segments if each in known)
        known.update(segments)
        pairs.append((segments, said))
    return pairs


def _compared(
    known: MetricEvidence,
    metric: MetricSpec,
    arms: tuple[int, int] | None,
    difference: float | None,
    pairs: Iterable[tuple[tuple[str, ...], Mapping[str, float]]],
    payload: Mapping[str, Any],
) -> MetricEvidence:
    """Return what is known of a metric after a pair, and after those that count now."""
    paired, reverse, labels, baseline = known.paired, known.reverse, known.labels, known.baseline
    limit = known.limit
    for segments, said in pairs:
        counted = said.get(metric.name)
        if counted is None:
            continue
        paired = _updated(paired, metric, segments, counted)
        if reverse:
            reverse = _updated(reverse, metric, segments, -counted)
    if labels is not None and may_be_labelled(payload):
        labels = labels.judged(None if difference is None else (1 + difference) / 2)
    if arms is not None and difference is not None:
        failed = 1 - arms[0] if metric.direction == "decrease" else arms[0]
        baseline = (baseline[0] + 1, baseline[1] + failed)
        if limit is not None:
            limit = limit.update_baseline(requests=1, failures=failed)
    worst = known.worst
    if difference:
        worst = ranked_worst(worst, metric, difference, payload["pair_id"])
    return MetricEvidence(
        paired=paired,
        live=known.live,
        limit=limit,
        noise=known.noise,
        threshold=known.threshold,
        baseline=baseline,
        not_applicable=known.not_applicable + (difference is None),
        worst=worst,
        reverse=reverse,
        labels=labels,
        reading=known.reading,
        asked=known.asked,
    )


def _asked(
    known: MetricEvidence, segments: tuple[str, ...], payload: Mapping[str, Any]
) -> MetricEvidence:
    """Return what is known after a pair that has a verdict, or was to have one."""
    said = verdict_of(payload)
    if said is None:
        return known
    score, longer = said
    asked = dict(known.asked)
    for segment in segments:
        asked[segment] = asked.get(segment, VerdictCounts()).add(score, longer=longer)
    return known.evolve(asked=asked)


def _updated(
    states: Mapping[str, PairedState],
    metric: MetricSpec,
    segments: tuple[str, ...],
    difference: float,
) -> dict[str, PairedState]:
    changed = dict(states)
    for segment in segments:
        changed[segment] = (changed.get(segment) or start_paired(metric)).update(difference)
    return changed


def _noise(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    metrics = dict(state.metrics)
    for metric in spec.analysis.metrics:
        if metric.source is not None or metric.name in RELATIVE_METRICS:
            continue
        known = state.metrics[metric.name]
        difference = difference_of(metric, failures_of(metric, known, fact.payload), fact.payload)
        if difference is None:
            continue
        metrics[metric.name] = _noisy(known, metric, difference)
    # In A/A pairs an order-dependent verdict is what an honest judge gives, too.
    judge = fact.payload["judge"]
    judge = "tie" if judge == "inconsistent" else judge
    return state.evolve(
        metrics=metrics,
        noise_pairs=state.noise_pairs + 1,
        recent=judged(state.recent, judge),
    )


def _noisy(known: MetricEvidence, metric: MetricSpec, difference: float) -> MetricEvidence:
    forward, reverse = known.noise or (start_paired(metric), start_paired(metric))
    return known.evolve(noise=(forward.update(difference), reverse.update(-difference)))


def _breaker(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:  # noqa: ARG001
    breakers = dict(state.breakers)
    if fact.payload["state"] == "open":
        breakers[str(fact.payload["replica"])] = (
            f"{fact.payload['failures']} of {fact.payload['of']} requests failed"
        )
    else:
        breakers.pop(str(fact.payload["replica"]), None)
    return state.evolve(breakers=breakers)


def _label(state: EvidenceState, fact: Evidence, spec: RolloutSpec) -> EvidenceState:
    """Return the state after a person's verdict on a pair, which corrects the judge's."""
    metric = spec.metric(JUDGE_METRIC)
    if metric is None:
        return state
    known = _labelled(state.metrics[metric.name], metric, fact.payload)
    return state.evolve(metrics={**state.metrics, metric.name: known})


def _labelled(
    known: MetricEvidence, metric: MetricSpec, payload: Mapping[str, Any]
) -> MetricEvidence:
    labels = known.labels or LabelState.start(margin=metric.margin)
    judge = payload["judge"]
    labels = labels.labelled(
        float(payload["label"]),
        None if judge is None else float(judge),
        float(payload["probability"]),
    )
    return known.evolve(labels=labels)


def _trusted_pair(
    state: EvidenceState, trusted: Trusted, bare: Evidence, spec: RolloutSpec
) -> Trusted:
    """Return what is trusted after a pair from which a verdict on trial was taken."""
    metric = _judges(spec)
    difference = difference_of(metric, None, bare.payload)
    said = {} if difference is None else {metric.name: difference}
    held, counted = _one_a_cluster(state.evolve(open=trusted.open), bare, said, spec)
    pairs = _in_segments(state, counted, spec)
    known = _compared(trusted.metric, metric, None, difference, pairs, bare.payload)
    return trusted.evolve(
        metric=_asked(known, segments_of(state, bare.segment, spec), bare.payload),
        open=held.open,
        recent=judged(trusted.recent, bare.payload["judge"]),
    )


def _trusted_noise(
    state: EvidenceState,  # noqa: ARG001
    trusted: Trusted,
    bare: Evidence,
    spec: RolloutSpec,
) -> Trusted:
    metric = _judges(spec)
    difference = difference_of(metric, None, bare.payload)
    recent = judged(trusted.recent, bare.payload["judge"])
    if difference is None:
        return trusted.evolve(recent=recent)
    return trusted.evolve(metric=_noisy(trusted.metric, metric, difference), recent=recent)


def _trusted_label(
    state: EvidenceState,  # noqa: ARG001
    trusted: Trusted,
    bare: Evidence,
    spec: RolloutSpec,
) -> Trusted:
    return trusted.evolve(metric=_labelled(trusted.metric, _judges(spec), bare.payload))


def _judges(spec: RolloutSpec) -> MetricSpec:
    """Return the judge's metric; where anything is trusted apart, the spec has one."""
    metric = spec.metric(JUDGE_METRIC)
    if metric is None:
        raise ValueError("the spec has no metric of the judge")
    return metric


_TRUSTED = {"pair": _trusted_pair, "noise": _trusted_noise, "label": _trusted_label}
_KINDS = {
    "pair": _pair,
    "noise": _noise,
    "live": live,
    "window": window,
    "breaker": _breaker,
    "outcome": outcome,
    "query": query,
    "label": _label,
    "dropped": _dropped,
}
