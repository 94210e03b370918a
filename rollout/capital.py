"""The guardrails' capital on harm: after every fact it is moved to the evidence that has grown.

Pure. A family of e-processes e_j is fixed by the spec and the step: every guardrail's pairs, live
requests and limit, each half over all and half over its segments, with the metric's weight w_j on
each. The capital starts at 1 and is

    K_t = K_{t-1} · (f_0 + Σ_j f_j · e_j(t) / e_j(t-1)),   f_j ∝ w_j · e_j(t-1)^η / n_j(t-1)^κ,

a portfolio whose shares f, which add up to 1, are known before the fact that they bet on. n_j is
the same pairs' e-value for non-inferiority, 1 for other kinds: what is being proven sound is not
bet on. f_0 is cash, held with the weight c. Each ratio is at most 1 on average, given the past,
where its guardrail is not worse, and so is their mean: K is an e-process again whatever the
dependence between the e_j, which reaches 1/alpha with probability alpha. With η = 1 and κ = 0 it is
the fixed weighted mean (arXiv 1912.06116), of which a single worse guardrail gets no more than its
weight; otherwise capital leaves what does not grow, for what does or for cash. Bets that are
predictable and adapt: arXiv 2010.09686; portfolios: Cover 1991, Mathematical Finance 1(1).

Cash keeps what a sound shadow would bet away, where every guardrail's e_j falls and n_j grows, for
what only live requests show. Live evidence is counted from 1 at its start, and once there is some,
most of a guardrail's weight lies on it.

The segment of a request is known before it is answered, so one that is seen for the first time
takes a slot that was kept for it, at the value with which its evidence starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, fsum, log

from rollout.assessment import assess, harm_weight, is_segmented, mean_harm, noise_alarm
from rollout.evidence import MAX_SEGMENTS, OVERALL, EvidenceState, MetricEvidence
from rollout.shares import live_states, towards_harm
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import LiveState, PairedState

__all__ = ["CASH", "DOUBT", "LIVE_PARTS", "POWER", "Shared", "reallocated"]

POWER = 2.0
"""η: how strongly capital follows evidence of harm."""

DOUBT = 0.7
"""κ: how strongly it leaves what is being proven sound."""

CASH = 0.3
"""c: the weight of cash, as a share of that of all guardrails together."""

LIVE_PARTS = 8.0
"""Weight on a guardrail's live requests, and on its limit, for one on its pairs."""

_Stream = tuple[float, float, float, float]
"""A share of the weight, the log e-values before and after the fact, and κ·log n before it."""

_Kind = tuple[float, list[_Stream]]


Shared = dict[str, list[_Stream]]
"""What is bet on, by metric, for who works out the same fact's capital on two views of it."""


def reallocated(
    before: EvidenceState,
    after: EvidenceState,
    spec: RolloutSpec,
    shared: Shared | None = None,
) -> EvidenceState:
    """Return ``after``, which is ``before`` and one fact more, with its capital on harm.

    When baseline against baseline begins to contradict a metric's pairs, what they have earned is
    given back: no more capital is left than the weighted mean of the evidence still trusted.
    Metrics in ``shared`` are taken from there, the others are put in.
    """
    if after.metrics is before.metrics:
        return after
    streams = _streams(before, after, spec, {} if shared is None else shared)
    log_harm = before.log_harm + _growth(streams)
    if after.noise_pairs != before.noise_pairs and any(
        noise_alarm(after, spec, metric) and not noise_alarm(before, spec, metric)
        for metric in spec.analysis.metrics
    ):
        log_harm = min(log_harm, mean_harm(assess(after, spec)))
    return after if log_harm == before.log_harm else after.evolve(log_harm=log_harm)


def _growth(streams: list[_Stream]) -> float:
    """Return the log of f_0 + Σ f·e(t)/e(t-1); the sums do not depend on the streams' order."""
    if all(was == now for _, was, now, _ in streams):
        return 0.0
    cash = CASH * fsum([weight for weight, *_ in streams])
    held = max(0.0, *(POWER * was - doubt for _, was, _, doubt in streams))
    moved = max(held, *(POWER * was - doubt + now - was for _, was, now, doubt in streams))
    base, grown = [cash * exp(-held)], [cash * exp(-moved)]
    for weight, was, now, doubt in streams:
        base.append(weight * exp(POWER * was - doubt - held))
        grown.append(weight * exp(POWER * was - doubt + now - was - moved))
    return moved + log(fsum(grown)) - (held + log(fsum(base)))


def _streams(
    before: EvidenceState, after: EvidenceState, spec: RolloutSpec, shared: Shared
) -> list[_Stream]:
    """Return what is bet on: of every guardrail each kind of its evidence."""
    found: list[_Stream] = []
    for metric in spec.analysis.metrics:
        if metric.name not in shared:
            shared[metric.name] = _guardrail(before, after, spec, metric)
        found += shared[metric.name]
    return found


def _guardrail(
    before: EvidenceState, after: EvidenceState, spec: RolloutSpec, metric: MetricSpec
) -> list[_Stream]:
    """Return what is bet on of one metric; nothing of a signal."""
    weight = harm_weight(metric)
    if not weight:
        return []
    declared = MAX_SEGMENTS if spec.analysis.segments else 0
    was, now = before.metrics[metric.name], after.metrics[metric.name]
    kinds: list[_Kind] = []
    if metric.source is None and not noise_alarm(before, spec, metric):
        pairs = _spread(was.paired, now.paired, declared)
        if now.reverse:
            pairs += _spread(was.reverse, now.reverse, declared)
        kinds.append((1.0, pairs))
    live = _live(before, after, spec, metric, declared if is_segmented(metric) else 0)
    if live:
        kinds.append((LIVE_PARTS, live))
    if now.limit is not None:
        kinds.append((LIVE_PARTS, [(1.0, _limit(was), now.limit.log_e_harm, 0.0)]))
    parts = fsum([part for part, _ in kinds])
    found: list[_Stream] = []
    for part, kind in kinds:
        share = weight * part / parts / fsum([each[0] for each in kind])
        found.extend([(share * own, e_was, e_now, doubt) for own, e_was, e_now, doubt in kind])
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
        old, doubt = was.get(name), 0.0
        if isinstance(state, LiveState):
            e_now = state.log_e_harm - state.start_log_e
            e_was = old.log_e_harm - old.start_log_e if isinstance(old, LiveState) else 0.0
        else:
            e_now = state.log_e_harm
            e_was = old.log_e_harm if old is not None else 0.0
            doubt = DOUBT * old.log_e_non_inferior if isinstance(old, PairedState) else 0.0
        found.append((share, e_was, e_now, doubt))
    if declared:
        found.append((slot * (declared + 1 - len(now)), 0.0, 0.0, 0.0))
    return found


def _limit(known: MetricEvidence) -> float:
    return known.limit.log_e_harm if known.limit is not None else 0.0
