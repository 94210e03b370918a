"""Evidence from pairs: both arms answered the same request, as in shadow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import exp, floor, log, log1p, sqrt
from typing import Any, Literal, NamedTuple, Self, get_args

from rollout.statistics.bets import MAX_STAKE, checked
from rollout.statistics.combine import log_threshold
from rollout.statistics.confidence import mean_bounds

Kind = Literal["binary", "score", "mean"]

_LATTICE = 64
EFFECTS = (0.5, 1.0, 2.0)
"""Effects, in margins, that the design bets hope for, with the capital on each below."""

NON_INFERIOR_WEIGHTS = (0.1, 0.8, 0.1)
PRIOR_SQUARES = 0.25
"""Second moment that the design bets know before the first pair, as the sum over one pair."""


class HarmBets(NamedTuple):
    """Capital on harm: on fixed ``stakes``, and by ``design`` on each of :data:`EFFECTS`."""

    stakes: tuple[float, ...]
    weights: tuple[float, ...]
    design: tuple[float, float, float]


FAILURE_BETS = HarmBets((0.3, 0.5, 0.8), (0.15, 0.4, 0.35), (0.03, 0.03, 0.04))
"""For failures. They are rare and mostly on one arm, whatever the rate: of d = 1 with p and d = -1
with q the growth-optimal stake is (p - q)/(p + q), 0.33 where failures have doubled and no two fall
on the same pair, 0.5 where they have trebled, towards 1 for a candidate that is broken."""

AMOUNT_BETS = HarmBets((0.2, 0.4, 0.7), (1 / 6, 1 / 6, 1 / 6), (0.0, 0.25, 0.25))
"""For scores and scaled amounts, whose second moment is of order one: a small effect asks for the
small stakes of a design bet."""

HARM_BETS: dict[Kind, HarmBets] = {
    "binary": FAILURE_BETS,
    "score": AMOUNT_BETS,
    "mean": AMOUNT_BETS,
}

_LOGS: dict[tuple[float, ...], dict[float, tuple[float, ...]]] = {
    bets.stakes: {
        index / _LATTICE: tuple(log1p(bet * index / _LATTICE) for bet in bets.stakes)
        for index in range(-_LATTICE, _LATTICE + 1)
    }
    for bets in (FAILURE_BETS, AMOUNT_BETS)
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

    - harm, H0 `E[d | past] <= 0`: z = d, with fixed stakes and design bets for effects of m/2, m
      and 2m, for failures mostly the former (`FAILURE_BETS`), otherwise half of each
      (`AMOUNT_BETS`);
    - non-inferiority, H0 `E[d | past] >= m`: z = (m - d)/(1 + m), design bets for m/2, m and 2m,
      mostly m, which is the truth of an equal candidate.

    A design bet (see `bets.design_bet`) knows the second moment of the past differences only,
    counting a quarter of an observation of 1 before the first. Capital on fixed stakes and bounds
    are functions of counts of values on a lattice of 1/64; a value between two points is divided
    linearly over them, which by concavity of the logarithm only lowers the capital and leaves the
    mean as it is.

    Domain: differences in [-1, 1], any dependence between them as long as the null hypothesis
    holds given the past. Source: arXiv 2010.09686. About 3 µs an update.
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
        # Written out for speed: every pair comes here once a metric and segment. The stakes are
        # those of `bets.design_bet`.
        sign, margin, (four_1, two_1), (four_2, two_2), (four_3, two_3) = _design(
            self.kind, self.margin
        )
        worse = sign * checked("difference", difference, -1.0, 1.0, closed=True)
        n = self.n + 1
        moment = (self.squares + PRIOR_SQUARES) / n
        square = moment * moment
        stake_1 = min((sqrt(square + four_1) - moment) / two_1, MAX_STAKE)
        stake_2 = min((sqrt(square + four_2) - moment) / two_2, MAX_STAKE)
        stake_3 = min((sqrt(square + four_3) - moment) / two_3, MAX_STAKE)
        harm = self.harm_bets
        if worse:  # a bet on harm neither wins nor loses where the arms agree
            harm = (
                harm[0] + log1p(stake_1 * worse),
                harm[1] + log1p(stake_2 * worse),
                harm[2] + log1p(stake_3 * worse),
            )
        proof, gain = self.non_inferior_bets, margin - worse
        changed = object.__new__(type(self))
        changed.__dict__.update(
            kind=self.kind,
            margin=self.margin,
            n=n,
            total=self.total + worse,
            squares=self.squares + worse * worse,
            counts=_counted(self.counts, worse),
            harm_bets=harm,
            non_inferior_bets=(
                proof[0] + log1p(stake_1 * gain),
                proof[1] + log1p(stake_2 * gain),
                proof[2] + log1p(stake_3 * gain),
            ),
        )
        if not worse and "log_e_harm" in self.__dict__:
            changed.__dict__["log_e_harm"] = self.__dict__["log_e_harm"]
        return changed

    def update_many(self, differences: Iterable[float]) -> Self:
        """State after several pairs in this order: the same as one `update` after the other."""
        state = self
        for difference in differences:
            state = state.update(difference)
        return state

    @cached_property
    def log_e_harm(self) -> float:
        """Natural log of the e-value against "the candidate is not worse"."""
        bets = HARM_BETS[self.kind]
        of_value = _LOGS[bets.stakes]
        first = second = third = 0.0
        for value, count in self.counts:
            one, two, three = of_value[value]
            first += count * one
            second += count * two
            third += count * three
        logs = (first, second, third, *self.harm_bets)
        return _log_mean(logs, (*bets.weights, *bets.design))

    @cached_property
    def log_e_non_inferior(self) -> float:
        """Natural log of the e-value against "the candidate is worse by the margin or more"."""
        return _log_mean(self.non_inferior_bets, NON_INFERIOR_WEIGHTS)

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


def _log_mean(logs: tuple[float, ...], shares: tuple[float, ...]) -> float:
    """`bets.log_mean_exp` for what needs no check: every pair comes here twice a metric."""
    top = max(logs)
    mean = sum([share * exp(each - top) for share, each in zip(shares, logs, strict=True)])
    return top + log(mean / sum(shares))


_Effect = tuple[float, float]


@lru_cache(maxsize=256)
def _design(kind: Kind, margin: float) -> tuple[float, float, _Effect, _Effect, _Effect]:
    """Return the sign, the scaled margin, and of each effect 4·effect² and 2·effect."""
    state = PairedState(kind, margin)
    scaled = state._scaled_margin  # noqa: SLF001 - its own class's
    first, second, third = (
        (4 * effect * effect, 2 * effect) for effect in (scaled * factor for factor in EFFECTS)
    )
    return state._sign, scaled, first, second, third  # noqa: SLF001


def _counted(
    counts: tuple[tuple[float, float], ...], value: float
) -> tuple[tuple[float, float], ...]:
    """Return counts on the lattice with one value more, divided linearly over its neighbours."""
    position = value * _LATTICE
    below = floor(position)
    upper = position - below
    if upper > 0.0:
        return _added(_added(counts, below / _LATTICE, 1.0 - upper), (below + 1) / _LATTICE, upper)
    return _added(counts, below / _LATTICE, 1.0)


def _added(
    counts: tuple[tuple[float, float], ...], point: float, weight: float
) -> tuple[tuple[float, float], ...]:
    """Return sorted counts with so much more on one point of the lattice."""
    place = bisect_left(counts, (point,))
    if place < len(counts) and counts[place][0] == point:
        if len(counts) == 1:
            return ((point, counts[0][1] + weight),)
        return (*counts[:place], (point, counts[place][1] + weight), *counts[place + 1 :])
    return (*counts[:place], (point, weight), *counts[place:])
