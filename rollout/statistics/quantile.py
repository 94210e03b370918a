"""A threshold for latency where no objective is declared: the baseline's running quantile."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from math import ceil, inf, log
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

from rollout.statistics.bets import DISPLAY_RATIOS, checked, tilt_mixture
from rollout.statistics.combine import log_threshold

_GROWTH = 1.02
_LOG_GROWTH = log(_GROWTH)
_SMALLEST = 1e-6
_INVERSE_RATIOS = tuple(1 / ratio for ratio in DISPLAY_RATIOS)


class QuantileState(Struct, frozen=True, dict=True):
    """Running quantile of non-negative values, such as latencies in seconds, in bounded space.

    Values are counted in buckets that grow by 2%, so the quantile is right within 2% (the idea of
    DDSketch, arXiv 1908.10693). Ask `exceeds` about both arms of a pair *before* updating with the
    pair's baseline: then the threshold comes from the past only and "the candidate exceeds it no
    more often than the baseline" is a sound null hypothesis for `PairedState`, whatever the error
    of the quantile. Quantiles under continuous monitoring: Howard and Ramdas, arXiv 1906.09712.
    """

    quantile: float
    min_observations: int = 50
    n: int = 0
    buckets: tuple[tuple[int, int], ...] = ()

    @classmethod
    def start(cls, *, quantile: float, min_observations: int = 50) -> Self:
        """State without values; the threshold appears after `min_observations` of them.

        Raises ValueError for a quantile outside (0, 1) or fewer than one minimum observation.
        """
        checked("quantile", quantile, 0.0, 1.0)
        checked("min_observations", min_observations, 1, inf, closed=True)
        return cls(quantile=quantile, min_observations=min_observations)

    def update(self, value: float) -> Self:
        """State after one more value. Raises ValueError for one that is negative or not finite."""
        if not 0 <= value < inf:
            raise ValueError(f"value must be finite and not negative, not {value!r}")
        bucket = ceil(log(max(value, _SMALLEST)) / _LOG_GROWTH)
        buckets = self.buckets
        place = after = bisect_left(buckets, (bucket,))
        count = 1
        if place < len(buckets) and buckets[place][0] == bucket:
            count, after = buckets[place][1] + 1, place + 1
        buckets = (*buckets[:place], (bucket, count), *buckets[after:])
        return type(self)(self.quantile, self.min_observations, self.n + 1, buckets)

    @cached_property
    def threshold(self) -> float | None:
        """The quantile of the values so far, or None while there are too few."""
        if self.n < self.min_observations:
            return None
        # The lowest bucket up to which there are enough: from above, as quantiles of time are high.
        rank, enough, place = self.n, self.quantile * self.n, len(self.buckets)
        while rank >= enough:
            place -= 1
            rank -= self.buckets[place][1]
        return float(_GROWTH ** self.buckets[place][0])

    def exceeds(self, value: float) -> bool | None:
        """Tell whether the value lies above the threshold; None while there is no threshold."""
        return None if self.threshold is None else value > self.threshold

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence on the quantile, for display; from 0 to infinity without values.

        The share of values below the true quantile is a mean of coin tosses with that probability,
        so every edge is ruled out whose share of values is incompatible with the quantile.

        Raises ValueError unless 0 < alpha < 1.
        """
        threshold = log_threshold(alpha, 2)
        low, high = 0.0, inf
        below = 0
        for bucket, count in self.buckets:
            below += count
            window = [(below, self.n, self.quantile)]
            if tilt_mixture(window, _INVERSE_RATIOS) >= threshold:
                low = _GROWTH**bucket
            elif tilt_mixture(window, DISPLAY_RATIOS) >= threshold:
                high = _GROWTH**bucket
                break
        return low, high

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state."""
        return {
            "quantile": self.quantile,
            "min_observations": self.min_observations,
            "n": self.n,
            "buckets": [list(bucket) for bucket in self.buckets],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        return replace(
            cls.start(
                quantile=float(document["quantile"]),
                min_observations=int(document["min_observations"]),
            ),
            n=int(document["n"]),
            buckets=tuple((int(bucket), int(count)) for bucket, count in document["buckets"]),
        )
