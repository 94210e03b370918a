"""Two independent samples, as live answers of both arms are: intervals that hold at one look.

Unlike the confidence sequences of :mod:`rollout.statistics.confidence` they do not hold at all
times together: they are for a look by a person, and decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, log, sqrt
from statistics import NormalDist

from rollout.statistics.bets import checked

__all__ = ["LogMoments", "newcombe_bounds", "ratio_change_bounds", "wilson_bounds"]


def wilson_bounds(hits: int, trials: int, alpha: float) -> tuple[float, float]:
    """Score interval of a probability, with a coverage of about 1 - alpha.

    Without trials: (0, 1). Source: E. B. Wilson, JASA 22 (1927). Raises ValueError unless
    0 < alpha < 1.
    """
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(1 - checked("alpha", alpha, 0.0, 1.0) / 2)
    rate, squared = hits / trials, z * z
    middle = (rate + squared / (2 * trials)) / (1 + squared / trials)
    half = z * sqrt(rate * (1 - rate) / trials + squared / (4 * trials * trials))
    half /= 1 + squared / trials
    return max(0.0, middle - half), min(1.0, middle + half)


def newcombe_bounds(
    hits: tuple[int, int], trials: tuple[int, int], alpha: float
) -> tuple[float, float]:
    """Interval of the second probability minus the first, of independent samples.

    Without trials on either side: (-1, 1). Source: R. G. Newcombe, Statistics in Medicine 17
    (1998), method 10. Raises ValueError unless 0 < alpha < 1.
    """
    if not all(trials):
        return -1.0, 1.0
    first, second = hits[0] / trials[0], hits[1] / trials[1]
    low_1, high_1 = wilson_bounds(hits[0], trials[0], alpha)
    low_2, high_2 = wilson_bounds(hits[1], trials[1], alpha)
    difference = second - first
    return (
        difference - sqrt((second - low_2) ** 2 + (high_1 - first) ** 2),
        difference + sqrt((high_2 - second) ** 2 + (first - low_1) ** 2),
    )


@dataclass(frozen=True, slots=True)
class LogMoments:
    """Number, mean and sum of squared deviations of the logs of amounts above 0 (Welford)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def added(self, amount: float) -> LogMoments:
        """Return the moments with one more amount. Raises ValueError unless it is above 0."""
        value = log(amount)
        n = self.n + 1
        mean = self.mean + (value - self.mean) / n
        return LogMoments(n, mean, self.squares + (value - self.mean) * (value - mean))


def ratio_change_bounds(
    first: LogMoments, second: LogMoments, alpha: float
) -> tuple[float, float, float] | None:
    """Change of the geometric mean from the first sample to the second: low, estimate, high.

    0.25 is a quarter more. The normal interval of the difference of log means (Welch); `None` with
    fewer than two amounts on either side. Raises ValueError unless 0 < alpha < 1.
    """
    if first.n < 2 or second.n < 2:
        return None
    z = NormalDist().inv_cdf(1 - checked("alpha", alpha, 0.0, 1.0) / 2)
    variance = sum(each.squares / (each.n - 1) / each.n for each in (first, second))
    difference, half = second.mean - first.mean, z * sqrt(variance)
    return exp(difference - half) - 1, expm1(difference), exp(difference + half) - 1
