"""A confidence sequence on a mean of weighted observations, in closed form."""

from __future__ import annotations

from math import log1p, sqrt
from typing import NamedTuple


class WeightedSequence(NamedTuple):
    """Sums over increments ξ(m) = gain - weight·m, whose mean at the true m is 0 given the past.

    For scaled increments x = s·ξ >= -1 and a stake κ in [0, 1) from the past,
    log(1 + κx) >= κx - ψ(κ)x² with ψ(κ) = -log(1 - κ) - κ (Fan et al. 2015, as used in arXiv
    2010.09686). The log capital against any m is thus at least a quadratic in m, kept as the sums
    of κs·gain, κs·weight, ψs²·gain², ψs²·gain·weight and ψs²·weight². Its root is the bound.

    Domain: m in [0, 1], |ξ(m)| <= 1/s for those, any weights >= 0.
    """

    gain: float = 0.0
    weight: float = 0.0
    gains2: float = 0.0
    product: float = 0.0
    weights2: float = 0.0

    def update(self, gain: float, weight: float, *, stake: float, scale: float) -> WeightedSequence:
        """State after one more increment, staked on both sides. Domain: stake in [0, 1)."""
        linear = stake * scale
        cost = (-log1p(-stake) - stake) * scale * scale
        return WeightedSequence(
            self.gain + linear * gain,
            self.weight + linear * weight,
            self.gains2 + cost * gain * gain,
            self.product + cost * gain * weight,
            self.weights2 + cost * weight * weight,
        )

    def bounds(self, threshold: float) -> tuple[float, float]:
        """Smallest and largest m in [0, 1] that neither side rejects at this log e-value."""
        mirrored = WeightedSequence(
            self.weight - self.gain,
            self.weight,
            self.gains2 - 2 * self.product + self.weights2,
            self.weights2 - self.product,
            self.weights2,
        )
        return _largest_rejected(self, threshold), 1 - _largest_rejected(mirrored, threshold)


NO_INCREMENTS = WeightedSequence()


def _largest_rejected(sums: WeightedSequence, threshold: float) -> float:
    """Largest m at which the capital against "the mean is at most m" reaches the threshold.

    That capital falls in m, so every smaller m is rejected too; 0 where nothing is.
    """
    if sums.weights2 <= 0:
        return 0.0
    slope = sums.weight - 2 * sums.product
    discriminant = slope * slope - 4 * sums.weights2 * (sums.gains2 + threshold - sums.gain)
    if discriminant < 0:
        return 0.0
    return min(1.0, max(0.0, (sqrt(discriminant) - slope) / (2 * sums.weights2)))
