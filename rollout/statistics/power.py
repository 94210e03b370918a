"""How much evidence a decision will need: sample sizes of our own e-processes, by simulation.

A normal approximation is wrong by a factor of two where failures are rare, and the bets adapt to
what they have seen, so the processes themselves are run: many streams at once, in blocks that grow
by 4% and over which a stake is held. A block is short beside the time that has passed, so the
times are within a few percent of those of :class:`rollout.statistics.PairedState` and
:class:`rollout.statistics.LiveState`, observation by observation. Formulas: see those two; sources
as there (arXiv 2010.09686, 2011.03567). Randomness is the caller's: the same ``rng``, the same
figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rollout.statistics.bets import LINEAR_BETS, MAX_STAKE, RATE_RATIO_WEIGHTS, RATE_RATIOS
from rollout.statistics.paired import (
    EFFECTS,
    HARM_BETS,
    NON_INFERIOR_WEIGHTS,
    PRIOR_SQUARES,
    Kind,
)

__all__ = [
    "Differences",
    "Window",
    "first_reach",
    "live_harm",
    "live_proof",
    "looks",
    "paired_harm",
    "paired_proof",
    "quantiles",
]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_GROWTH = 1.04
_SINGLE = 25
_LOOKS_A_WINDOW = 20


@dataclass(frozen=True, slots=True)
class Differences:
    """The truth about paired differences: they are ``size``, ``-size`` or 0.

    ``worse`` is the probability of ``size`` (the candidate is worse), ``better`` that of the
    reverse. Failures have a size of 1; a pair that a judge calls a tie has a difference of 0.
    """

    worse: float
    better: float
    size: float = 1.0

    def __post_init__(self) -> None:
        """Check that these are probabilities. Raises ``ValueError``."""
        if not (self.worse >= 0 and self.better >= 0 and self.worse + self.better <= 1 + 1e-9):
            raise ValueError(f"no probabilities: {self.worse} worse and {self.better} better")


@dataclass(frozen=True, slots=True)
class Window:
    """Live traffic at one weight: ``share`` of ``requests`` of both arms go to the candidate."""

    share: float
    requests: int


def looks(most: int) -> Counts:
    """Return the observation counts that are looked at, up to ``most``.

    Each of the first 25, then in steps of 4%.
    """
    counts = [*range(1, min(most, _SINGLE) + 1)]
    while counts[-1] < most:
        counts.append(min(most, max(counts[-1] + 1, round(counts[-1] * _GROWTH))))
    return np.array(counts)


def paired_proof(
    rng: np.random.Generator, truth: Differences, margin: float, at: Counts, runs: int
) -> Floats:
    """Return ``log_e_non_inferior`` of `PairedState` at the counts ``at``: runs by looks.

    ``margin`` is the one on the mean difference: 2δ for scores.
    """
    drawn = _drawn(rng, truth, at, runs)
    capitals = []
    for stake in _stakes(drawn, truth.size, margin):
        capital = drawn.worse * np.log1p(stake * (margin - truth.size))
        capital += drawn.better * np.log1p(stake * (margin + truth.size))
        capital += (drawn.lengths - drawn.worse - drawn.better) * np.log1p(stake * margin)
        capitals.append(np.cumsum(capital, axis=1))
    return _mixture(capitals, NON_INFERIOR_WEIGHTS)


def paired_harm(
    rng: np.random.Generator,
    truth: Differences,
    margin: float,
    at: Counts,
    runs: int,
    *,
    kind: Kind = "binary",
) -> Floats:
    """Return ``log_e_harm`` of `PairedState` at the counts ``at``: runs by looks.

    ``margin`` is the one on the mean difference: 2δ for scores. ``kind`` says which bets are made.
    """
    drawn = _drawn(rng, truth, at, runs)
    design = []
    for stake in _stakes(drawn, truth.size, margin):
        capital = drawn.worse * np.log1p(stake * truth.size)
        capital += drawn.better * np.log1p(-stake * truth.size)
        design.append(np.cumsum(capital, axis=1))
    worse, better = np.cumsum(drawn.worse, axis=1), np.cumsum(drawn.better, axis=1)
    grid = [
        worse * np.log1p(bet * truth.size) + better * np.log1p(-bet * truth.size)
        for bet in HARM_BETS[kind].stakes
    ]
    return _mixture([*grid, *design], (*HARM_BETS[kind].weights, *HARM_BETS[kind].design))


def live_harm(
    rng: np.random.Generator,
    windows: Sequence[Window],
    *,
    baseline: float,
    candidate: float,
    runs: int,
) -> tuple[Floats, Floats]:
    """Return ``log_e_harm`` of `LiveState` along ``windows``, and the candidate's requests then.

    ``baseline`` and ``candidate`` are failure rates. Carried capital is left out: it starts at 1.
    """
    capitals = [np.zeros((runs, 0)) for _ in RATE_RATIOS]
    served: list[float] = []
    for window in windows:
        edges = np.unique(np.linspace(0, window.requests, _LOOKS_A_WINDOW + 1).round()).astype(int)
        of_candidate = np.diff((edges * window.share).round().astype(int))
        of_baseline = np.diff(edges) - of_candidate
        hits = np.cumsum(rng.binomial(of_candidate, candidate, (runs, len(of_candidate))), axis=1)
        failures = hits + np.cumsum(
            rng.binomial(of_baseline, baseline, (runs, len(of_baseline))), axis=1
        )
        for index, ratio in enumerate(RATE_RATIOS):
            before = capitals[index][:, -1:] if served else np.zeros((runs, 1))
            grown = hits * log(ratio) - failures * np.log1p(window.share * (ratio - 1))
            capitals[index] = np.concatenate([capitals[index], before + grown], axis=1)
        start = served[-1] if served else 0.0
        served += (start + np.cumsum(of_candidate)).tolist()
    return _mixture(capitals, RATE_RATIO_WEIGHTS), np.array(served)


def live_proof(
    rng: np.random.Generator, window: Window, *, rate: float, margin: float, runs: int
) -> tuple[Floats, Counts]:
    """Return ``log_e_non_inferior`` of `LiveState` (absolute margin), and the requests then.

    Both arms fail at ``rate``; the requests are of both arms, up to those of ``window``.
    """
    at = looks(window.requests)
    lengths = np.diff(at, prepend=0)
    share = window.share
    of_candidate = np.diff((at * share).round().astype(int), prepend=0)
    shape = (runs, len(at))
    hits = np.cumsum(rng.binomial(of_candidate, rate, shape), axis=1)
    misses = np.cumsum(rng.binomial(lengths - of_candidate, rate, shape), axis=1)
    scale = 1 / (1 / share - margin)
    capitals = [
        (at - hits - misses) * np.log1p(bet * scale * margin)
        + misses * np.log1p(bet * scale * (1 / (1 - share) + margin))
        + hits * np.log1p(-bet)
        for bet in LINEAR_BETS
    ]
    return _mixture(capitals), at


def first_reach(log_e: Floats, at: NDArray[np.generic], threshold: float) -> Floats:
    """Return when each run first reaches ``threshold``, between looks in proportion; inf: never."""
    reached = log_e >= threshold
    last = reached.argmax(axis=1)
    rows = np.arange(len(log_e))
    before = np.maximum(last - 1, 0)
    low, high = log_e[rows, before], log_e[rows, last]
    start = np.where(last > 0, at[before].astype(float), 0.0)
    low = np.where(last > 0, low, 0.0)
    rise = np.maximum(high - low, 1e-12)
    part = np.clip((threshold - low) / rise, 0.0, 1.0)
    found: Floats = np.where(reached.any(axis=1), start + part * (at[last] - start), np.inf)
    return found


def quantiles(times: Floats, levels: Sequence[float] = (0.5, 0.8)) -> tuple[float, ...]:
    """Return the times by which these shares of the runs are done; infinite: fewer ever are."""
    ordered = np.sort(times)
    places = [max(0, ceil(level * len(ordered)) - 1) for level in levels]
    return tuple(float(ordered[place]) for place in places)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Pairs by block: how many, how many of them worse and better, and what came before."""

    lengths: Counts
    worse: Counts
    better: Counts


def _drawn(rng: np.random.Generator, truth: Differences, at: Counts, runs: int) -> _Drawn:
    lengths = np.diff(at, prepend=0)
    worse = rng.binomial(lengths, truth.worse, (runs, len(at)))
    left = 1 - truth.worse
    better = rng.binomial(lengths - worse, min(1.0, truth.better / left) if left > 0 else 0.0)
    return _Drawn(lengths, worse, better)


def _stakes(drawn: _Drawn, size: float, margin: float) -> list[Floats]:
    """Return the design bets of each block (see :func:`rollout.statistics.bets.design_bet`)."""
    moved = drawn.worse + drawn.better
    past = (np.cumsum(moved, axis=1) - moved) * size * size
    moment = (past + PRIOR_SQUARES) / (np.cumsum(drawn.lengths) - drawn.lengths + 1)
    return [
        np.minimum(
            (np.sqrt(moment * moment + 4 * effect * effect) - moment) / (2 * effect), MAX_STAKE
        )
        for effect in (factor * margin for factor in EFFECTS)
    ]


def _mixture(capitals: Sequence[NDArray[Any]], weights: Sequence[float] | None = None) -> Floats:
    """Return the log of the weighted mean of capitals given as logs, element by element."""
    shares = np.array([1.0] * len(capitals) if weights is None else weights)
    top = np.maximum.reduce(list(capitals))
    mean = np.zeros_like(top)
    for capital, share in zip(capitals, shares / shares.sum(), strict=True):
        mean += share * np.exp(capital - top)
    mixed: Floats = top + np.log(mean)
    return mixed
