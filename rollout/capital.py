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
from functools import lru_cache
from math import exp, fsum, log

from rollout.assessment import assess, is_segmented, mean_harm, noise_alarm
from rollout.evidence import MAX_SEGMENTS, OVERALL, EvidenceState
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

_Stream = tuple[float, float, float]
"""A share of the weight, η·log e - κ·log n before the fact, and by what log e has grown with it."""

_Shares = tuple[float, float, float]

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
    if not any(grown for _, _, grown in streams):
        return 0.0
    highest = max([0.0, *[leaning for _, leaning, _ in streams]])
    cash = CASH * fsum([weight for weight, _, _ in streams])
    still: list[float] = [cash * exp(-highest)]
    parts: list[tuple[float, float]] = []
    for weight, leaning, grown in streams:
        part = weight * exp(leaning - highest)
        if grown and part:  # what is too small for a float has no capital that could grow
            parts.append((part, grown))
        else:
            still.append(part)
    if kept := fsum(still):
        parts.append((kept, 0.0))
    top = max([grown for _, grown in parts])
    after = fsum([part * exp(grown - top) for part, grown in parts])
    return top + log(after) - log(fsum([part for part, _ in parts]))


def _streams(
    before: EvidenceState, after: EvidenceState, spec: RolloutSpec, shared: Shared
) -> list[_Stream]:
    """Return what is bet on: of every guardrail each kind of its evidence."""
    found: list[_Stream] = []
    for metric in spec.analysis.metrics:
        streams = shared.get(metric.name)
        if streams is None:
            streams = shared[metric.name] = _guardrail(before, after, spec, metric)
        found += streams
    return found


def _guardrail(
    before: EvidenceState, after: EvidenceState, spec: RolloutSpec, metric: MetricSpec
) -> list[_Stream]:
    """Return what is bet on of one metric; nothing of a signal."""
    weight = metric.harm_weight
    if not weight:
        return []
    declared = MAX_SEGMENTS if spec.analysis.segments else 0
    was, now = before.metrics[metric.name], after.metrics[metric.name]
    pairs = metric.source is None and not (was.noise and noise_alarm(before, spec, metric))
    live = _live(before, after, spec, metric) if now.live else []
    limited = now.limit is not None
    parts = pairs + LIVE_PARTS * (bool(live) + limited)
    found: list[_Stream] = []
    if pairs:
        ways = 2 if now.reverse else 1
        shares = _shares(weight / parts, ways, declared, len(now.paired))
        _spread(found, was.paired, now.paired, shares)
        if now.reverse:
            _spread(found, was.reverse, now.reverse, shares)
    if live:
        own = declared if is_segmented(metric) else 0
        shares = _shares(weight * LIVE_PARTS / parts, len(live), own, len(now.live))
        for way_was, way_now in live:
            _spread_live(found, way_was, way_now, shares)
    if now.limit is not None:
        e_was = was.limit.log_e_harm if was.limit is not None else 0.0
        grown = now.limit.log_e_harm - e_was
        found.append((weight * LIVE_PARTS / parts, POWER * e_was, grown))
    return found


@lru_cache(maxsize=1024)
def _shares(weight: float, ways: int, declared: int, known: int) -> _Shares:
    """Divide a kind's weight over the streams of each of its ways: half on all, half on segments.

    Those on all, on each segment, and on the slots that no segment has taken, which keep their 1.
    """
    if not declared:
        return weight / ways, 0.0, 0.0
    slot = 0.5 / declared
    rest = slot * (declared + 1 - known)
    share = weight / (ways * fsum([0.5, *[slot] * (known - 1), rest]))
    return share * 0.5, share * slot, share * rest


def _live(
    before: EvidenceState, after: EvidenceState, spec: RolloutSpec, metric: MetricSpec
) -> list[tuple[dict[str, LiveState], dict[str, LiveState]]]:
    """Return the live evidence of a guardrail, before and after, in each direction that is harm."""
    now = {name: towards_harm(e, metric) for name, e in live_states(after, spec, metric).items()}
    states = live_states(before, spec, metric)
    was = {name: towards_harm(state, metric) for name, state in states.items()}
    return [
        (
            {name: ways[way] for name, ways in was.items()},
            {name: ways[way] for name, ways in now.items()},
        )
        for way in range(len(now[OVERALL]))
    ]


def _spread(
    found: list[_Stream],
    was: Mapping[str, PairedState],
    now: Mapping[str, PairedState],
    shares: _Shares,
) -> None:
    """Add the streams of one way of the pairs."""
    overall, slot, rest = shares
    for name, state in now.items():
        share = overall if name == OVERALL else slot
        old = was.get(name)
        if old is None:
            found.append((share, 0.0, state.log_e_harm))
        else:
            e_was = old.log_e_harm
            leaning = POWER * e_was - DOUBT * old.log_e_non_inferior
            found.append((share, leaning, state.log_e_harm - e_was))
    if slot:
        found.append((rest, 0.0, 0.0))


def _spread_live(
    found: list[_Stream],
    was: Mapping[str, LiveState],
    now: Mapping[str, LiveState],
    shares: _Shares,
) -> None:
    """Add the streams of one way of the live evidence, which counts from 1 at its start."""
    overall, slot, rest = shares
    for name, state in now.items():
        old = was.get(name)
        e_was = old.log_e_harm - old.start_log_e if old is not None else 0.0
        e_now = state.log_e_harm - state.start_log_e
        found.append((overall if name == OVERALL else slot, POWER * e_was, e_now - e_was))
    if slot:
        found.append((rest, 0.0, 0.0))
