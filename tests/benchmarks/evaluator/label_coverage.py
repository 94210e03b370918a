"""Coverage of the win rate by people, simulated: a biased judge, corrected and taken at its word.

A seeded simulation on the product's own sums and bounds. :func:`coverage` is what the benchmark and
the heavy tests report: the share of runs in which a 95% bound holds the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from rollout.statistics.corrected import Labels

__all__ = [
    "BIAS",
    "JUDGED",
    "LOOKS",
    "OFTEN",
    "SELDOM",
    "TRUTH",
    "coverage",
    "drawn",
    "pairs",
    "sums",
]

Scores = NDArray[np.float64]

LOOKS = (60, 120, 240)
"""Labels at which the bound is looked at."""

JUDGED = 2000
TRUTH = 0.5
BIAS = 0.066
"""What the judge adds to the truth: it says 0.566 where people say 0.500."""

OFTEN, SELDOM = 0.3, 0.1
"""Probability of drawing a pair that judges disagree on, and another."""


def pairs(rng: np.random.Generator, count: int, truth: float) -> tuple[Scores, Scores]:
    """Labels with 30% ties and the scores of a judge that adds 0.066 to a win rate of 0.500.

    The judge sees the label in 70% of pairs and something at random in the others, and then calls
    13% of all pairs wins.
    """
    edges = (0.85 - truth, 1.15 - truth)
    labels, noise = np.digitize(rng.random((2, count)), edges) / 2
    scores = np.where(rng.random(count) < 0.7, labels, noise)
    return labels, np.where(rng.random(count) < BIAS / (1 - truth), 1.0, scores)


def drawn(rng: np.random.Generator, scores: Scores) -> tuple[NDArray[np.bool_], Scores]:
    """Which pairs are drawn for labelling: unclear ones three times as often."""
    chances = np.where(scores == 0.5, OFTEN, SELDOM)
    return rng.random(len(scores)) < chances, chances


def sums(labels: Scores, scores: Scores, judged: Scores, chances: Scores | None = None) -> Labels:
    """Sums over pairs as `Labels.with_label` and `with_score` would add them one by one."""
    weights = 1 / (np.full(len(labels), 0.1) if chances is None else chances)
    rows = np.stack((labels**0, labels, scores, labels**2, labels * scores, scores**2))
    document = (
        len(labels),
        (rows * weights).sum(axis=1).tolist(),
        (rows * weights**2).sum(axis=1).tolist(),
        (len(judged), judged.sum(), (judged**2).sum()),
    )
    return Labels.from_json(document)


def coverage(runs: int, *, seed: int = 20261121, looks: Sequence[int] = LOOKS) -> dict[str, float]:
    """Shares of runs in which a 95% lower bound or interval holds the truth.

    By name: each number of ``looks`` (corrected lower bound from so many labels), ``looks`` (all
    pre-registered looks together), ``two-sided`` and ``weighted`` (labels drawn with unequal
    probability), and ``judge`` (the judge's own two-sided interval).
    """
    rng = np.random.default_rng(seed)
    held = dict.fromkeys((*map(str, looks), "looks", "two-sided", "weighted", "judge"), 0)
    for _ in range(runs):
        labels, scores = pairs(rng, JUDGED, TRUTH)
        lows = []
        for number, n in enumerate(looks, 1):
            known = sums(labels[:n], scores[:n], scores)
            held[str(n)] += known.interval(0.05)[0] <= TRUTH
            lows.append(known.interval(0.05 / 2**number)[0])
        held["looks"] += max(lows) <= TRUTH
        low, high = known.interval(0.025)
        held["two-sided"] += low <= TRUTH <= high
        chosen, chances = drawn(rng, scores)
        weighted = sums(labels[chosen], scores[chosen], scores, chances[chosen])
        held["weighted"] += weighted.interval(0.05)[0] <= TRUTH
        reach = 1.96 * scores.std() / sqrt(JUDGED)
        held["judge"] += bool(abs(scores.mean() - TRUTH) <= reach)
    return {name: count / runs for name, count in held.items()}
