"""Evidence from pairs: both arms answered the same request, as in shadow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from math import exp, floor, log, log1p, sqrt
from typing import Any, Literal, NamedTuple, Self, get_args

from msgspec import Struct

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

    stakes: tuple[float, float, float]
    weights: tuple[float, float, float]
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

_OfValue = dict[float, tuple[float, float, float]]


def _harm(bets: HarmBets) -> tuple[_OfValue, float, float, float, float, float, float, float]:
    """Return the logs of what the stakes earn on each point of the lattice, the shares, their sum.

    The shares are those of the three stakes and of the three design bets.
    """
    low, middle, high = bets.stakes
    of_value = {
        index / _LATTICE: (
            log1p(low * index / _LATTICE),
            log1p(middle * index / _LATTICE),
            log1p(high * index / _LATTICE),
        )
        for index in range(-_LATTICE, _LATTICE + 1)
    }
    shares = (*bets.weights, *bets.design)
    return (of_value, *bets.weights, *bets.design, sum(shares))


_HARM = {kind: _harm(bets) for kind, bets in HARM_BETS.items()}


class PairedState(Struct, frozen=True, dict=True):
    """Two e-processes on the mean of paired differences: harm and non-inferiority.

    Kinds of difference:

    - `binary`: d = candidate failed - baseline failed, in {-1, 0, 1}; the margin δ is absolute
      (0.01 = one percentage point).
    - `score`: the judge's s in [-1, 1] from the candidate's point of view; δ on the win-rate scale
      (0.05 = a win rate of 0.45), so the margin on the mean of s is 2δ.
    - `mean`: a difference scaled to [-1, 1], positive when the candidate is worse; δ absolute.

    `differing` holds the weight on each point of a lattice but 0, sorted, `agreed` that on 0.

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
    holds given the past. Source: arXiv 2010.09686. `make bench-evidence` measures updates.
    """

    kind: Kind
    margin: float
    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    agreed: float = 0.0
    differing: tuple[tuple[float, float], ...] = ()
    harm_bets: tuple[float, float, float] = (0.0, 0.0, 0.0)
    non_inferior_bets: tuple[float, float, float] = (0.0, 0.0, 0.0)

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
        if not -1.0 <= difference <= 1.0:
            checked("difference", difference, -1.0, 1.0, closed=True)
        kind, margin = self.kind, self.margin
        sign, scaled, four_1, two_1, four_2, two_2, four_3, two_3 = _design(kind, margin)
        worse, n, squares, harm = sign * difference, self.n + 1, self.squares, self.harm_bets
        moment = (squares + PRIOR_SQUARES) / n
        square = moment * moment
        stake_1 = (sqrt(square + four_1) - moment) / two_1
        if stake_1 > MAX_STAKE:
            stake_1 = MAX_STAKE
        stake_2 = (sqrt(square + four_2) - moment) / two_2
        if stake_2 > MAX_STAKE:
            stake_2 = MAX_STAKE
        stake_3 = (sqrt(square + four_3) - moment) / two_3
        if stake_3 > MAX_STAKE:
            stake_3 = MAX_STAKE
        first, second, third = self.non_inferior_bets
        gain = scaled - worse
        proof = (
            first + log1p(stake_1 * gain),
            second + log1p(stake_2 * gain),
            third + log1p(stake_3 * gain),
        )
        if worse:
            first, second, third = harm
            harm = (
                first + log1p(stake_1 * worse),
                second + log1p(stake_2 * worse),
                third + log1p(stake_3 * worse),
            )
            total, squares = self.total + worse, squares + worse * worse
            agreed, differing = _counted(self.agreed, self.differing, worse)
            return type(self)(kind, margin, n, total, squares, agreed, differing, harm, proof)
        # A bet on harm neither wins nor loses where the arms agree.
        changed = type(self)(
            kind, margin, n, self.total, squares, self.agreed + 1.0, self.differing, harm, proof
        )
        known = self.__dict__.get("log_e_harm")
        if known is not None:
            changed.__dict__["log_e_harm"] = known
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
        of_value, one_s, two_s, three_s, half, whole, double, total = _HARM[self.kind]
        first = second = third = 0.0
        for value, count in self.differing:
            one, two, three = of_value[value]
            first += count * one
            second += count * two
            third += count * three
        of_half, of_whole, of_double = self.harm_bets
        top = max(first, second, third, of_half, of_whole, of_double)
        mean = (
            one_s * exp(first - top)
            + two_s * exp(second - top)
            + three_s * exp(third - top)
            + half * exp(of_half - top)
            + whole * exp(of_whole - top)
            + double * exp(of_double - top)
        )
        return top + log(mean / total)

    @property
    def log_e_non_inferior(self) -> float:
        """Natural log of the e-value against "the candidate is worse by the margin or more"."""
        # Written out, as `update` is.
        one, two, three = self.non_inferior_bets
        top = one if one > two else two
        if three > top:
            top = three
        of_one, of_two, of_three = NON_INFERIOR_WEIGHTS
        mean = of_one * exp(one - top) + of_two * exp(two - top) + of_three * exp(three - top)
        return top + log(mean)

    @property
    def counts(self) -> tuple[tuple[float, float], ...]:
        """How much lies on each point of the lattice, sorted: `differing`, and 0 with `agreed`."""
        return _added(self.differing, 0.0, self.agreed) if self.agreed else self.differing

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
        empty = cls.start(kind=document["kind"], margin=document["margin"])
        counts = [(float(value), float(count)) for value, count in document["counts"]]
        return cls(
            kind=empty.kind,
            margin=empty.margin,
            n=int(document["n"]),
            total=float(document["total"]),
            squares=float(document["squares"]),
            agreed=sum(count for value, count in counts if not value),
            differing=tuple(each for each in counts if each[0]),
            harm_bets=_three(document["harm_bets"]),
            non_inferior_bets=_three(document["non_inferior_bets"]),
        )

    @property
    def _sign(self) -> float:
        return -1.0 if self.kind == "score" else 1.0

    @property
    def _scaled_margin(self) -> float:
        return 2 * self.margin if self.kind == "score" else self.margin


@lru_cache(maxsize=256)
def _design(
    kind: Kind, margin: float
) -> tuple[float, float, float, float, float, float, float, float]:
    """Return the sign, the scaled margin, and of each effect 4·effect² and 2·effect."""
    state = PairedState(kind, margin)
    scaled = state._scaled_margin  # noqa: SLF001 - its own class's
    first, second, third = (scaled * factor for factor in EFFECTS)
    return (
        state._sign,  # noqa: SLF001
        scaled,
        *(4 * first * first, 2 * first),
        *(4 * second * second, 2 * second),
        *(4 * third * third, 2 * third),
    )


_Counts = tuple[tuple[float, float], ...]


def _counted(agreed: float, counts: _Counts, value: float) -> tuple[float, _Counts]:
    """Count one value more, other than 0, divided linearly over its neighbours on the lattice."""
    position = value * _LATTICE
    below = floor(position)
    upper = position - below
    if upper <= 0.0:
        return agreed, _added(counts, value, 1.0)
    low, high = below / _LATTICE, (below + 1) / _LATTICE
    if below == 0:
        return agreed + (1.0 - upper), _added(counts, high, upper)
    if below == -1:
        return agreed + upper, _added(counts, low, 1.0 - upper)
    place = bisect_left(counts, (low,))
    after = counts[place:]
    here = above = 0.0
    if after and after[0][0] == low:
        here, after = after[0][1], after[1:]
    if after and after[0][0] == high:
        above, after = after[0][1], after[1:]
    return agreed, (*counts[:place], (low, here + (1.0 - upper)), (high, above + upper), *after)


def _added(counts: _Counts, point: float, weight: float) -> _Counts:
    """Return sorted counts with so much more on one point of the lattice."""
    place = bisect_left(counts, (point,))
    if place < len(counts) and counts[place][0] == point:
        if len(counts) == 1:
            return ((point, counts[0][1] + weight),)
        return (*counts[:place], (point, counts[place][1] + weight), *counts[place + 1 :])
    return (*counts[:place], (point, weight), *counts[place:])


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    one, two, three = map(float, values)
    return one, two, three
