"""The guardrails' capital on harm: after every fact it is moved to the evidence that has grown.

Pure. A family of e-processes e_j is fixed by the spec and the step: every guardrail's pairs, live
requests and limit, each half over all and half over its segments, with the metric's weight w_j on
each. The capital starts at 1 and is

    K_t = K_{t-1} · Σ_j f_j · e_j(t) / e_j(t-1)    with f_j ∝ w_j · e_j(t-1)^η, Σ_j f_j = 1,

a portfolio whose shares are known before the fact that they bet on. Each ratio is at most 1 on
average, given the past, where its guardrail is not worse, and so is their mean: K is an e-process
again whatever the dependence between the e_j, which reaches 1/alpha with probability alpha.
With η = 1 it is the fixed weighted mean (arXiv 1912.06116), of which a single worse guardrail gets
no more than its weight; with η > 1 the capital leaves what does not grow. Bets that are predictable
and adapt: arXiv 2010.09686; portfolios: Cover 1991, Mathematical Finance 1(1).

Until the first user is served a tenth of the capital stays in reserve, so that a sound shadow, in
which all bets on harm lose, does not delay the alarm on what only live requests show. That is
foreseen, too, and costs shadow a factor of 0.9.

The segment of a request is known before it is answered, so one that is seen for the first time
takes a slot that was kept for it, at the value with which its evidence starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import exp, fsum, log

from rollout.assessment import assess, harm_weight, is_segmented, mean_harm, noise_alarm
from rollout.evidence import MAX_SEGMENTS, OVERALL, EvidenceState, MetricEvidence
from rollout.shares import live_states, towards_harm
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import LiveState, PairedState
from rollout.statistics.bets import log_mean_exp

__all__ = ["POWER", "RESERVE", "reallocated"]

POWER = 3.0
"""η: how strongly capital follows evidence. 1 leaves it where it is."""

RESERVE = 0.1
"""Capital that is not bet before the first user is served."""

_Stream = tuple[float, float, float]
"""A share of the weight, and the log e-values before and after the fact."""


def reallocated(before: EvidenceState, after: EvidenceState, spec: RolloutSpec) -> EvidenceState:
    """Return ``after``, which is ``before`` and one fact more, with its capital on harm.

    When baseline against baseline begins to contradict a metric's pairs, what they have earned is
    given back: no more capital is left than the weighted mean of the evidence still trusted.
    """
    if after.metrics is before.metrics:
        return after
    growth = _growth(_streams(before, after, spec))
    reserve = 0.0 if before.epoch else RESERVE
    log_harm = _held(before.log_harm, growth, reserve) if growth else before.log_harm
    if after.noise_pairs != before.noise_pairs and any(
        noise_alarm(after, spec, metric) and not noise_alarm(before, spec, metric)
        for metric in spec.analysis.metrics
    ):
        log_harm = min(log_harm, _held(0.0, mean_harm(assess(after, spec)), reserve))
    return after if log_harm == before.log_harm else replace(after, log_harm=log_harm)


def _held(log_harm: float, growth: float, reserve: float) -> float:
    """Return the log of capital of which all but the reserve has grown (logs, and the reserve)."""
    kept = min(reserve * exp(min(-log_harm, 700.0)), 1.0)
    return log_harm + log_mean_exp((0.0, growth), (kept, 1.0 - kept))


def _growth(streams: list[_Stream]) -> float:
    """Return the log of Σ f·e(t)/e(t-1); the sums do not depend on the order of the streams."""
    if all(was == now for _, was, now in streams):
        return 0.0
    held = max(was for _, was, _ in streams)
    moved = max((POWER - 1) * was + now for _, was, now in streams)
    base = fsum([weight * exp(POWER * (was - held)) for weight, was, _ in streams])
    grown = fsum([weight * exp((POWER - 1) * was + now - moved) for weight, was, now in streams])
    return moved + log(grown) - (POWER * held + log(base))


def _streams(before: EvidenceState, after: EvidenceState, spec: RolloutSpec) -> list[_Stream]:
    """Return what is bet on: in every guardrail the same share on each kind of its evidence."""
    found: list[_Stream] = []
    declared = MAX_SEGMENTS if spec.analysis.segments else 0
    for metric in spec.analysis.metrics:
        weight = harm_weight(metric)
        if not weight:
            continue
        was, now = before.metrics[metric.name], after.metrics[metric.name]
        kinds: list[list[_Stream]] = []
        if metric.source is None and not noise_alarm(before, spec, metric):
            pairs = _spread(was.paired, now.paired, declared)
            if now.reverse:
                pairs += _spread(was.reverse, now.reverse, declared)
            kinds.append(pairs)
        live = _live(before, after, spec, metric, declared if is_segmented(metric) else 0)
        if live:
            kinds.append(live)
        if now.limit is not None:
            kinds.append([(1.0, _limit(was), now.limit.log_e_harm)])
        for kind in kinds:
            share = weight / len(kinds) / fsum([part for part, _, _ in kind])
            found.extend([(share * part, e_was, e_now) for part, e_was, e_now in kind])
    return found


def _live(
    before: EvidenceState,
    after: EvidenceState,
    spec: RolloutSpec,
    metric: MetricSpec,
    declared: int,
) -> list[_Stream]:
    """Return the live evidence of a guardrail in each direction that is harm."""
    if not after.metrics[metric.name].live:
        return []
    now = {name: towards_harm(e, metric) for name, e in live_states(after, spec, metric).items()}
    states = live_states(before, spec, metric)
    was = {name: towards_harm(state, metric) for name, state in states.items()}
    return [
        stream
        for way in range(len(now[OVERALL]))
        for stream in _spread(
            {name: ways[way] for name, ways in was.items()},
            {name: ways[way] for name, ways in now.items()},
            declared,
        )
    ]


def _spread(
    was: Mapping[str, PairedState] | Mapping[str, LiveState],
    now: Mapping[str, PairedState] | Mapping[str, LiveState],
    declared: int,
) -> list[_Stream]:
    """Return half on all and half on segments; slots that no segment has taken keep their 1."""
    found: list[_Stream] = []
    slot = 0.5 / declared if declared else 0.0
    for name, state in now.items():
        share = slot if name != OVERALL else 0.5 if declared else 1.0
        old = was.get(name)
        start = state.start_log_e if isinstance(state, LiveState) else 0.0
        e_now = state.log_e_harm
        e_was = e_now if old is state else old.log_e_harm if old is not None else start
        found.append((share, e_was, e_now))
    if declared:
        found.append((slot * (declared + 1 - len(now)), 0.0, 0.0))
    return found


def _limit(known: MetricEvidence) -> float:
    return known.limit.log_e_harm if known.limit is not None else 0.0
