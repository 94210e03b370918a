"""What the judge favours besides the better answer, measured on its live verdicts. Pure.

- Position: P(first wins) - P(second wins) over both orders, with a normal 95% interval.
- Length: Spearman's rank correlation of the score with log(candidate's / baseline's tokens), with
  the interval of Fisher's z at a standard error of 1.03/sqrt(n - 3) (Fieller, Hartley and Pearson
  1957, Biometrika 44). A better answer may well be the longer one: it is a reason to read samples.
- Inconsistent: share of pairs whose winner turns with the order, with Wilson's 95% interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import atanh, log, sqrt, tanh

from shadow.judge.pairwise import Side, combine, position_bias

__all__ = ["Biases", "Estimate", "JudgedPair", "measure", "rank_correlation"]

_Z95 = 1.959964
_LEAST_FOR_LENGTH = 10


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One pair as judged in both orders. Tokens are those of baseline and candidate."""

    segment: str | None
    ab: Side
    ba: Side
    tokens: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval; ``value`` is None where too little is known."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Biases:
    """The biases over some pairs; ``segment`` is None for all of them."""

    segment: str | None
    position: Estimate
    length: Estimate
    inconsistent: Estimate


def measure(pairs: Sequence[JudgedPair], *, most_segments: int = 12) -> tuple[Biases, ...]:
    """Return the biases over all pairs, and for each of the largest segments."""
    counts: dict[str, int] = {}
    for pair in pairs:
        if pair.segment is not None:
            counts[pair.segment] = counts.get(pair.segment, 0) + 1
    largest = sorted(counts, key=lambda name: (-counts[name], name))[:most_segments]
    return (
        _measure(None, pairs),
        *(_measure(name, [p for p in pairs if p.segment == name]) for name in sorted(largest)),
    )


def _measure(segment: str | None, pairs: Sequence[JudgedPair]) -> Biases:
    compared = [combine(pair.ab, pair.ba) for pair in pairs]
    lengths = [
        (each.score, log(pair.tokens[1] / pair.tokens[0]))
        for pair, each in zip(pairs, compared, strict=True)
        if pair.tokens is not None and min(pair.tokens) > 0
    ]
    return Biases(
        segment,
        _mean([position_bias(pair.ab, pair.ba) for pair in pairs]),
        _correlation(lengths),
        _share(sum(each.result == "inconsistent" for each in compared), len(compared)),
    )


def _mean(values: Sequence[float]) -> Estimate:
    n = len(values)
    if not n:
        return Estimate(None, None, None, 0)
    mean = sum(values) / n
    if n == 1:
        return Estimate(mean, -1.0, 1.0, 1)
    half = _Z95 * sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return Estimate(mean, max(-1.0, mean - half), min(1.0, mean + half), n)


def _share(count: int, n: int) -> Estimate:
    if not n:
        return Estimate(None, None, None, 0)
    share, square = count / n, _Z95**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = _Z95 / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), n)


def _correlation(points: Sequence[tuple[float, float]]) -> Estimate:
    n = len(points)
    rho = rank_correlation(points) if n >= _LEAST_FOR_LENGTH else None
    if rho is None:
        return Estimate(None, None, None, n)
    half, middle = _Z95 * 1.03 / sqrt(n - 3), atanh(max(-0.999999, min(0.999999, rho)))
    return Estimate(rho, tanh(middle - half), tanh(middle + half), n)


def rank_correlation(points: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rho with mean ranks for ties; None where either side never varies."""
    first, second = (_ranks([point[side] for point in points]) for side in (0, 1))
    middle = (len(points) + 1) / 2
    covariance = sum((a - middle) * (b - middle) for a, b in zip(first, second, strict=True))
    spread = sqrt(_squares(first, middle) * _squares(second, middle))
    return covariance / spread if spread else None


def _squares(ranks: Iterable[float], middle: float) -> float:
    return sum((rank - middle) ** 2 for rank in ranks)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            ranks[place] = (start + end) / 2 + 1
        start = end + 1
    return ranks
