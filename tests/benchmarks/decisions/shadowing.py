"""Our engine on pairs, for many runs at once: numpy twins of the product's states.

`tests/unit/benchmarks/test_bench_decisions.py` shows that they decide as the product does, at the
same pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, log

import numpy as np
from decisions.design import Design, Guardrail
from decisions.streams import Bools, Floats, Requests
from decisions.worlds import SEGMENTS, Phase
from decisions_targets import first_reach, mixture, paired_twin
from numpy.typing import NDArray

from rollout.capital import CASH, DOUBT, POWER
from rollout.spec import MetricSpec
from rollout.statistics import QuantileState

__all__ = ["NEVER", "PairEvidence", "Shadow", "Stream", "capital", "gather", "grown", "watch"]

NEVER = 10**9
"""The number of a pair that never came."""

_GROWTH = 1.02


Stream = tuple[float, Floats, Floats]
"""A share, and logs of e-values for harm and for non-inferiority."""


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """The evidence of many runs after each pair, runs by pairs, by guardrail.

    ``harm`` holds what is bet on: shares of the guardrail's paired evidence, with the e-values of
    each for harm and for non-inferiority, those over all segments first. They and ``proof`` are
    natural logs of e-values; ``failed``
    counts the baseline's failures and ``applied`` the pairs that said anything, both so far.
    """

    harm: dict[str, list[Stream]]
    proof: dict[str, Floats]
    failed: dict[str, Floats]
    applied: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Shadow:
    """For each run the pair at which harm is proven and at which the shadow has passed.

    Both may be ``NEVER``; the smaller one happened. Harm goes first where both fall on one pair.
    """

    harmed: NDArray[np.int64]
    passed: NDArray[np.int64]


def gather(
    design: Design, pairs: Requests, *, proofs: bool = True, full_from: int | None = None
) -> PairEvidence:
    """Return the evidence of pairs that arrive one by one; without ``proofs`` it never passes.

    From the pair ``full_from`` on the candidate serves everybody but a holdback.
    """
    found = PairEvidence({}, {}, {}, {})
    members: list[Bools] = []
    if design.segments:
        members = [pairs.segment == number for number in range(len(SEGMENTS))]
    for each in design.guardrails:
        skip, worse, baseline = _differences(each, pairs)
        if full_from is not None:
            _, later, after = _differences(each, pairs, "full")
            worse[:, full_from:], baseline[:, full_from:] = (
                later[:, full_from:],
                after[:, full_from:],
            )
        harm, proof = paired_twin(worse[:, skip:], each.margin, each.bets)
        harm, proof = _padded(harm, skip), _padded(proof, skip)
        found.harm[each.name] = [(1.0, harm, proof)]
        if design.segments:
            slot = 0.5 / design.segments
            parts = [_within(worse, member, each, skip) for member in members]
            untaken = np.broadcast_to(0.0, harm.shape)
            found.harm[each.name] = [
                (0.5, harm, proof),
                *((slot, *part) for part in parts),
                (0.5 - slot * len(parts), untaken, untaken),
            ]
        if proofs:
            found.proof[each.name] = proof
        found.failed[each.name] = np.cumsum(baseline, axis=1, dtype=np.float64)
        looks = np.arange(1.0, worse.shape[1] + 1) - skip
        found.applied[each.name] = np.broadcast_to(np.maximum(looks, 0.0), worse.shape)
    return found


def grown(streams: Iterable[Stream]) -> Floats:
    """Return by how much each look has made capital grow that is moved to what has grown (log).

    Looks come last, and the first is where the capital starts. A part is kept as cash, and what is
    being proven sound is left, as the product does.
    """
    held = list(streams)
    idle = np.broadcast_to(0.0, held[0][1].shape)
    held.append((CASH * sum(weight for weight, _, _ in held), idle, idle))
    weights = tuple(weight for weight, _, _ in held)
    moved = []
    for _, harm, proof in held:
        trust = POWER * harm[..., :-1] - DOUBT * proof[..., :-1]
        moved.append((trust, trust + np.diff(harm)))
    before, after = (mixture(list(each), weights) for each in zip(*moved, strict=True))
    result: Floats = after - before
    return result


def capital(design: Design, evidence: PairEvidence, row: int | None = None) -> Floats:
    """Return the capital on harm after each pair before anybody is served (log).

    Of one run, or of all, runs by pairs.
    """
    rows = slice(None) if row is None else slice(row, row + 1)
    start = ((0, 0), (1, 0))
    streams = [
        (each.weight * share, np.pad(harm[rows], start), np.pad(proof[rows], start))
        for each in design.guardrails
        for share, harm, proof in evidence.harm[each.name]
    ]
    result: Floats = np.cumsum(grown(streams), axis=1)
    return result if row is None else result[0]


def watch(design: Design, evidence: PairEvidence) -> Shadow:
    """Return where shadow, the first step of the plan, ends in each run."""
    names = [each.name for each in design.guardrails]
    log_e = capital(design, evidence)
    looks = np.broadcast_to(np.arange(1.0, log_e.shape[1] + 1), log_e.shape)
    harmed = first_reach(log_e, looks, design.harm_at)
    passed = np.full(len(harmed), inf)
    if evidence.proof:
        proven = np.minimum.reduce([evidence.proof[name] for name in names])
        proven = np.where(looks >= design.steps[0].min_pairs, proven, -inf)
        passed = first_reach(proven, looks, design.proof_at)
    return Shadow(
        *(np.where(np.isfinite(each), each, NEVER).astype(int) for each in (harmed, passed))
    )


def _differences(
    each: Guardrail, pairs: Requests, phase: Phase = "shadow"
) -> tuple[int, Floats, Bools]:
    """Return how many pairs say nothing at first, what the others say, the baseline's failures."""
    if each.judged:
        return 0, -pairs.scores(phase), np.zeros(pairs.shape, dtype=bool)
    if each.name == "latency":
        return _latency(pairs, phase)
    baseline, candidate = pairs.failed(each.name, phase)
    return 0, candidate.astype(float) - baseline, baseline.copy()


def _latency(pairs: Requests, phase: Phase) -> tuple[int, Floats, Bools]:
    """Compare with the running 95th percentile of the pairs before, as the fold does."""
    first, second = pairs.latencies(phase)
    quantile = float(MetricSpec.model_validate({"name": "latency"}).quantile)
    skip = QuantileState.start(quantile=quantile).min_observations
    buckets = np.ceil(np.log(np.maximum(first, 1e-6)) / log(_GROWTH)).astype(int)
    lowest = int(buckets.min())
    runs, looks = first.shape
    counts = np.zeros((runs, int(buckets.max()) - lowest + 1))
    limits = np.full(first.shape, inf)
    rows = np.arange(runs)
    for look in range(looks):
        if look >= skip:
            reached = counts.cumsum(axis=1) >= quantile * look
            limits[:, look] = _GROWTH ** (reached.argmax(axis=1) + float(lowest))
        counts[rows, buckets[:, look] - lowest] += 1
    slow = first > limits
    return skip, (second > limits).astype(float) - slow, slow


def _within(worse: Floats, member: Bools, each: Guardrail, skip: int) -> tuple[Floats, Floats]:
    """Return harm and proof of the pairs of one segment after each pair of any."""
    member = member.copy()
    member[:, :skip] = False
    counts = np.cumsum(member, axis=1, dtype=np.int64)
    longest = int(counts[:, -1].max())
    if not longest:
        return np.zeros(worse.shape), np.zeros(worse.shape)
    order = np.argsort(~member, axis=1, kind="stable")[:, :longest]
    ordered = np.take_along_axis(worse, order, axis=1)
    harm, proof = paired_twin(ordered, each.margin, each.bets)
    return (
        np.take_along_axis(_padded(harm, 1), counts, axis=1),
        np.take_along_axis(_padded(proof, 1), counts, axis=1),
    )


def _padded(log_e: Floats, skip: int) -> Floats:
    return np.pad(log_e, ((0, 0), (skip, 0))) if skip else log_e
