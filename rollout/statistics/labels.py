"""Evidence from people: the win rate by blind labels, with the judge as a helper."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import ceil, log, log1p, sqrt
from typing import Any, NamedTuple, Self

from msgspec import Struct
from msgspec.structs import replace

from rollout.statistics.bets import checked, design_bet, log_mean_exp
from rollout.statistics.combine import log_threshold
from rollout.statistics.corrected import NO_LABELS, Labels
from rollout.statistics.weighted import NO_INCREMENTS, WeightedSequence

FIRST_LOOK = 60
"""Labels at the first pre-registered look. With 30 the coverage of PPI++ falls to 91-93%."""

_EFFECTS = (0.5, 1.0, 2.0)
_WEIGHTS = (0.1, 0.7, 0.2)
_MAX_STAKE = 0.9
_MAX_DISPLAY_STAKE = 0.75
_DISPLAY_REACH = 2 * log(40)
_PREDICTING_LABELS = 10
_TIE = 0.5


class Look(NamedTuple):
    """What a pre-registered look saw: its number from 1, and the sums at that moment."""

    number: int
    labels: Labels


class LabelState(Struct, frozen=True, dict=True):
    """E-process on the win rate by people, H0 "E[Y | past] <= 1/2 - margin", and intervals.

    Y in {0, ½, 1} is a person's verdict on a pair, 1 where the candidate is better; f in [0, 1] the
    judge's score on the same scale, ½ where there is none. A pair is drawn for labelling with a
    known probability π.

    **The gate is `log_e_non_inferior`**, valid however often someone looks. Each pair counts with
    the increment ξ = g + 1{labelled}/π·(Y - g), whose mean given the past is that of Y for every g
    that depends on the past and on f only. It is bet on as `∏ (1 + κ(ξ - θ))` with θ = ½ - margin,
    design bets κ for effects of ½, 1 and 2 margins from the past only, κ·(ξ - θ) >= -0.9.

    - Labels only (the default): g = θ, so a pair without a label leaves the capital as it is, and
      nothing needs to be known about it. Give `judged` every pair as it is judged, and `labelled`
      its label whenever one arrives. The judge's scores then serve the intervals alone.
    - `assisted`: g is the regression of past labels on past scores, at f. Variance falls to that of
      what the judge cannot foresee, as in PPI++ (arXiv 2311.01453). Each pair is given **once**,
      when its draw is known: by `labelled`, or by `judged` with the probability with which it
      could have been drawn and was not. Leaving undrawn pairs out would bias this form.

    Domain: pairs that may be drawn, and no others, are given; each has a probability of at least
    `min_probability`, also those that no draw has met; the draw, and the order in which labels
    arrive, depend on Y through nothing but what was known before (f, segment, disagreement), and
    drawn pairs that nobody labels are missing at random. Sources: inverse probability weighting
    with betting, arXiv 2010.09686 and 2103.06476. O(1) an update.
    """

    margin: float
    min_probability: float = 0.05
    assisted: bool = False
    labels: Labels = NO_LABELS
    look: Look | None = None
    pairs: int = 0
    weights: float = 0.0
    noise: float = 0.0
    residuals: float = 0.0
    bets: tuple[float, ...] = (0.0, 0.0, 0.0)
    display: WeightedSequence = NO_INCREMENTS

    @classmethod
    def start(cls, *, margin: float, min_probability: float = 0.05, assisted: bool = False) -> Self:
        """State without evidence; `margin` is on the win-rate scale (0.05 = a win rate of 0.45).

        A `min_probability` far below the true ones makes for small bets and more labels.

        Raises ValueError for a margin outside (0, 0.5) or a probability outside (0, 1].
        """
        checked("margin", margin, 0.0, 0.5)
        _probability("min_probability", min_probability, 0.0)
        return cls(float(margin), float(min_probability), assisted)

    def judged(self, score: float | None, probability: float | None = None) -> Self:
        """State after one judged pair; None is a pair without a verdict and counts as ½.

        Raises ValueError for a score outside [0, 1], and where the judge assists for a probability
        that is missing or outside [min_probability, 1].
        """
        value = _score(score)
        labels = self.labels.with_score(value)
        if not self.assisted:
            return replace(self, labels=labels)
        if probability is None:
            raise ValueError("probability must be given for a pair that was not drawn")
        _probability("probability", probability, self.min_probability)
        return replace(self._bet(self._guess(value), 1.0, 1 / probability), labels=labels)

    def labelled(self, label: float, score: float | None, probability: float) -> Self:
        """State after one label of a pair that was drawn with `probability`.

        Raises ValueError for a label other than 0, ½ and 1, a score outside [0, 1], or a
        probability outside [min_probability, 1].
        """
        if label not in (0, _TIE, 1):
            raise ValueError(f"label must be 0, 0.5 or 1, not {label!r}")
        value = _score(score)
        _probability("probability", probability, self.min_probability)
        weight = 1 / probability
        if self.assisted:
            guess = self._guess(value)
            bet = self._bet(guess + weight * (label - guess), 1.0, weight)
            labels = self.labels.with_score(value)
        else:
            guess = self._null
            bet = self._bet(weight * label, weight, weight * weight)
            labels = self.labels
        labels = labels.with_label(label, value, probability)
        look = self.look
        if labels.n == FIRST_LOOK * 2 ** (look.number if look else 0):
            look = Look(look.number + 1 if look else 1, labels)
        residuals = self.residuals + (label - guess) ** 2
        return replace(bet, labels=labels, look=look, residuals=residuals)

    @cached_property
    def log_e_non_inferior(self) -> float:
        """Natural log of the e-value against "the win rate is at most ½ - margin": the gate."""
        return log_mean_exp(self.bets, _WEIGHTS)

    @property
    def n(self) -> int:
        """Labels so far."""
        return self.labels.n

    @property
    def judged_n(self) -> int:
        """Judged pairs so far, labelled or not."""
        return self.labels.judged[0]

    @property
    def estimate(self) -> float | None:
        """Win rate by people, corrected with the judge's scores (PPI++); None below 3 labels."""
        if self.n < 3:
            return None
        return min(1.0, max(0.0, self.labels.corrected().mean))

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence on the win rate: holds at all times with probability 1 - alpha.

        A closed form of the same bets (see `WeightedSequence`), a little wider than the gate.

        Raises ValueError unless 0 < alpha < 1.
        """
        return self.display.bounds(log_threshold(alpha, 2))

    def fixed_bounds(self, alpha: float) -> tuple[float, float]:
        """PPI++ interval with alpha/2 on each side, for display; no gate when looked at often.

        Raises ValueError unless 0 < alpha < 1.
        """
        checked("alpha", alpha, 0.0, 1.0)
        return self.labels.interval(alpha / 2)

    def looks_bound(self, alpha: float) -> float | None:
        """Lower PPI++ bound of the last pre-registered look; None before the first.

        Looks are at 60, 120, 240, … labels; the k-th spends alpha/2^k, so that all together fail
        with a probability of at most alpha (asymptotically in the labels; not the gate). Between
        looks the last one stands.

        Raises ValueError unless 0 < alpha < 1.
        """
        checked("alpha", alpha, 0.0, 1.0)
        if self.look is None:
            return None
        return self.look.labels.interval(alpha / 2**self.look.number)[0]

    def needed(self, alpha: float) -> int | None:
        """Labels still needed until the gate opens, if the win rate is the present estimate.

        0 when it is open, None when the estimate does not exceed ½ - margin or there are fewer
        than 3 labels. The fastest of the bets at its present stake: log(1 + x) ≈ x - x²/2.

        Raises ValueError unless 0 < alpha < 1.
        """
        threshold = log_threshold(alpha)
        if self.log_e_non_inferior >= threshold:
            return 0
        if self.estimate is None or self.estimate <= self._null:
            return None
        drift = (self.estimate - self._null) * self.weights / self.pairs
        spread = self._spread() + drift * drift
        missing = []
        for capital, share, stake in zip(self.bets, _WEIGHTS, self._stakes(), strict=True):
            growth = stake * drift - stake * stake * spread / 2
            if growth > 0:
                missing.append((threshold - capital - log(share)) / growth)
        return ceil(min(missing) * self.n / self.pairs) if missing else None

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state."""
        return {
            "margin": self.margin,
            "min_probability": self.min_probability,
            "assisted": self.assisted,
            "labels": self.labels.to_json(),
            "look": [self.look.number, self.look.labels.to_json()] if self.look else None,
            "pairs": self.pairs,
            "weights": self.weights,
            "noise": self.noise,
            "residuals": self.residuals,
            "bets": list(self.bets),
            "display": list(self.display),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        empty = cls.start(
            margin=document["margin"],
            min_probability=document["min_probability"],
            assisted=bool(document["assisted"]),
        )
        look = document["look"]
        return replace(
            empty,
            labels=Labels.from_json(document["labels"]),
            look=Look(int(look[0]), Labels.from_json(look[1])) if look else None,
            pairs=int(document["pairs"]),
            weights=float(document["weights"]),
            noise=float(document["noise"]),
            residuals=float(document["residuals"]),
            bets=tuple(map(float, document["bets"])),
            display=WeightedSequence(*map(float, document["display"])),
        )

    @property
    def _null(self) -> float:
        return 0.5 - self.margin

    def _bet(self, gain: float, weight: float, noise: float) -> Self:
        """Bet on ξ - m = gain - weight·m, at m = θ for the gate and at every m for display."""
        excess = gain - weight * self._null
        bets = zip(self.bets, self._stakes(), strict=True)
        return replace(
            self,
            pairs=self.pairs + 1,
            weights=self.weights + weight,
            noise=self.noise + noise,
            bets=tuple(capital + log1p(stake * excess) for capital, stake in bets),
            display=self.display.update(
                gain, weight, stake=self._display_stake(), scale=self.min_probability
            ),
        )

    def _stakes(self) -> tuple[float, ...]:
        """Stakes on ξ - θ from the past: none before the first pair, whose weight is unknown."""
        if not self.pairs:
            return (0.0, 0.0, 0.0)
        null, most = self._null, 1 / self.min_probability
        limit = _MAX_STAKE / (most - 1 + null if self.assisted else most * null)
        effect, spread = self.margin * self.weights / self.pairs, self._spread()
        root = sqrt(spread)
        return tuple(
            min(limit, design_bet(factor * effect / root, 1.0) / root) for factor in _EFFECTS
        )

    def _display_stake(self) -> float:
        """Stake on ξ - m in units of 1/min_probability, for bounds that shrink at all times."""
        if not self.pairs:
            return 0.0
        time = (self.pairs + 1) * log(self.pairs + 2)
        stake = sqrt(_DISPLAY_REACH / (self._spread() * time)) / self.min_probability
        return min(_MAX_DISPLAY_STAKE, stake)

    def _spread(self) -> float:
        """Second moment of ξ - θ as the past lets expect, with one label of ¼ before the first."""
        return self.noise / self.pairs * (self.residuals + 0.25) / (self.n + 1)

    def _guess(self, score: float) -> float:
        """Label to expect of a pair with this score, by the labels so far."""
        if self.n < _PREDICTING_LABELS:
            return _TIE
        label, beside = self.labels.means
        slope = min(1.0, max(0.0, self.labels.slope))
        return min(1.0, max(0.0, label + slope * (score - beside)))


def _score(score: float | None) -> float:
    return _TIE if score is None else checked("score", score, 0.0, 1.0, closed=True)


def _probability(name: str, value: float, low: float) -> None:
    if not (value > 0 and low <= value <= 1):
        between = f"[{low}, 1]" if low else "(0, 1]"
        raise ValueError(f"{name} must lie in {between}, not {value!r}")
