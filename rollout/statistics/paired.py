"""Evidence from pairs: both arms answered the same request, as in shadow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import floor, log1p
from typing import Any, Literal, Self, get_args

from rollout.statistics.bets import LINEAR_BETS, checked, design_bet, log_mean_exp
from rollout.statistics.combine import log_threshold
from rollout.statistics.confidence import mean_bounds

Kind = Literal["binary", "score", "mean"]

_LATTICE = 64
_EFFECTS = (0.5, 1.0, 2.0)
_HARM_WEIGHTS = (0.2, 0.4, 0.4)
_NON_INFERIOR_WEIGHTS = (0.1, 0.8, 0.1)
_LINEAR_LOGS: dict[float, tuple[float, ...]] = {
    index / _LATTICE: tuple(log1p(bet * index / _LATTICE) for bet in LINEAR_BETS)
    for index in range(-_LATTICE, _LATTICE + 1)
}


@dataclass(frozen=True)
class PairedState:
    """Two e-processes on the mean of paired differences: harm and non-inferiority.

    Kinds of difference:

    - `binary`: d = candidate failed - baseline failed, in {-1, 0, 1}; the margin δ is absolute
      (0.01 = one percentage point).
    - `score`: the judge's s in [-1, 1] from the candidate's point of view; δ on the win-rate scale
      (0.05 = a win rate of 0.45), so the margin on the mean of s is 2δ.
    - `mean`: a difference scaled to [-1, 1], positive when the candidate is worse; δ absolute.

    A mean over a cluster (one conversation) may stand for a single difference in every kind.

    With d = -s for scores and m the margin on the mean of d, the bets are

    - harm, H0 `E[d | past] <= 0`: z = d, half the capital on the linear grid λ in
      {.05, .15, …, .95}, half on design bets for effects of m/2, m and 2m;
    - non-inferiority, H0 `E[d | past] >= m`: z = (m - d)/(1 + m), design bets for m/2, m and 2m,
      mostly m, which is the truth of an equal candidate.

    A design bet (see `bets.design_bet`) knows the second moment of the past differences only,
    counting half an observation of 1 before the first. The grid and the bounds are functions of
    counts of values on a lattice of 1/64; a value between two points is divided linearly over
    them, which by concavity of the logarithm only lowers the capital and leaves the mean as it is.

    Domain: differences in [-1, 1], any dependence between them as long as the null hypothesis
    holds given the past. Source: arXiv 2010.09686. About 5 µs an update.
    """

    kind: Kind
    margin: float
    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    counts: tuple[tuple[float, float], ...] = ()
    harm_bets: tuple[float, ...] = (0.0, 0.0, 0.0)
    non_inferior_bets: tuple[float, ...] = (0.0, 0.0, 0.0)

    @classmethod
    def start(cls, *, kind: Kind, margin: float) -> Self:
        """State without evidence.

        Raises ValueError for an unknown kind, or a margin outside (0, 1), for scores (0, 0.5).
        """
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be binary, score or mean, not {kind!r}")
        checked("margin", margin, 0.0, 0.5 if kind == "score" else 1.0)
        return cls(kind=kind, margin=float(margin))

    def update(self, difference: float) -> Self:
        """State after one more pair. Raises ValueError for a difference outside [-1, 1]."""
        return self.update_many((difference,))

    def update_many(self, differences: Iterable[float]) -> Self:
        """State after several pairs in this order: the same as one `update` after the other."""
        n, total, squares = self.n, self.total, self.squares
        counts = dict(self.counts)
        harm, proof = list(self.harm_bets), list(self.non_inferior_bets)
        margin, sign = self._scaled_margin, self._sign
        effects = [(index, margin * factor) for index, factor in enumerate(_EFFECTS)]
        for difference in differences:
            worse = sign * checked("difference", difference, -1.0, 1.0, closed=True)
            second_moment = (squares + 0.5) / (n + 1)
            for index, effect in effects:
                stake = design_bet(effect, second_moment)
                harm[index] += log1p(stake * worse)
                proof[index] += log1p(stake * (margin - worse))
            n += 1
            total += worse
            squares += worse * worse
            _count(counts, worse)
        return replace(
            self,
            n=n,
            total=total,
            squares=squares,
            counts=tuple(sorted(counts.items())),
            harm_bets=tuple(harm),
            non_inferior_bets=tuple(proof),
        )

    @cached_property
    def log_e_harm(self) -> float:
        """Natural log of the e-value against "the candidate is not worse"."""
        grid = [0.0] * len(LINEAR_BETS)
        for value, count in self.counts:
            for index, capital in enumerate(_LINEAR_LOGS[value]):
                grid[index] += count * capital
        design = log_mean_exp(self.harm_bets, _HARM_WEIGHTS)
        return log_mean_exp((log_mean_exp(grid), design))

    @cached_property
    def log_e_non_inferior(self) -> float:
        """Natural log of the e-value against "the candidate is worse by the margin or more"."""
        return log_mean_exp(self.non_inferior_bets, _NON_INFERIOR_WEIGHTS)

    @property
    def mean(self) -> float:
        """Mean of the differences as they were given; 0 without any."""
        return self._sign * self.total / self.n if self.n else 0.0

    @property
    def estimate(self) -> float:
        """Point estimate on the scale of `bounds`: the win rate for scores, else the mean."""
        return (1 + self.mean) / 2 if self.kind == "score" else self.mean

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence: holds the truth at all times together with probability 1 - alpha.

        On the win-rate scale (1 + mean)/2 for scores, otherwise on the mean difference. About a
        millisecond; meant for display. The bets are two-sided and tuned to no margin, so a bound
        crosses 0 a little later than an e-process reaches 1/alpha.

        Raises ValueError unless 0 < alpha < 1.
        """
        low, high = mean_bounds(self.counts, log_threshold(alpha, 2))
        if self.kind == "score":
            return (1 - high) / 2, (1 - low) / 2
        return low, high

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state."""
        return {
            "kind": self.kind,
            "margin": self.margin,
            "n": self.n,
            "total": self.total,
            "squares": self.squares,
            "counts": [list(item) for item in self.counts],
            "harm_bets": list(self.harm_bets),
            "non_inferior_bets": list(self.non_inferior_bets),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        return replace(
            cls.start(kind=document["kind"], margin=document["margin"]),
            n=int(document["n"]),
            total=float(document["total"]),
            squares=float(document["squares"]),
            counts=tuple((float(value), float(count)) for value, count in document["counts"]),
            harm_bets=tuple(map(float, document["harm_bets"])),
            non_inferior_bets=tuple(map(float, document["non_inferior_bets"])),
        )

    @property
    def _sign(self) -> float:
        return -1.0 if self.kind == "score" else 1.0

    @property
    def _scaled_margin(self) -> float:
        return 2 * self.margin if self.kind == "score" else self.margin


def _count(counts: dict[float, float], value: float) -> None:
    """Add one value to counts on the lattice, divided linearly over its two neighbours."""
    position = value * _LATTICE
    below = floor(position)
    upper = position - below
    low = below / _LATTICE
    counts[low] = counts.get(low, 0.0) + (1.0 - upper)
    if upper > 0.0:
        high = (below + 1) / _LATTICE
        counts[high] = counts.get(high, 0.0) + upper
