"""Rare harms: exact bounds on a rate of a few per cent, where means and t would be too sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, log1p

from rollout.statistics.bets import checked

__all__ = ["Stratum", "clopper_pearson", "harm_bound"]

_STEPS = 60


@dataclass(frozen=True, slots=True)
class Stratum:
    """Pairs that the judge flagged, or those it did not: ``harms`` among ``labels`` at random.

    ``share`` is the stratum's share of all pairs, in [0, 1].
    """

    harms: int
    labels: int
    share: float


def clopper_pearson(successes: int, trials: int, alpha: float) -> tuple[float, float]:
    """Exact bounds on a proportion that each fail with a probability of at most ``alpha``.

    The upper bound is the p at which ``successes`` or fewer have probability alpha, the lower the
    p at which as many or more have it; (0, 1) without trials. Domain: 0 <= successes <= trials.

    Source: Clopper and Pearson 1934, Biometrika 26(4). Raises ``ValueError`` outside the domain,
    and unless 0 < alpha < 1.
    """
    checked("alpha", alpha, 0.0, 1.0)
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in [0, {trials}], not {successes}")
    low, high = 0.0, 1.0
    if successes > 0:
        low = _solve(lambda p: 1 - _at_most(successes - 1, trials, p), alpha)
    if successes < trials:
        high = 1 - _solve(lambda q: _at_most(successes, trials, 1 - q), alpha)
    return low, high


def harm_bound(strata: Sequence[Stratum], alpha: float) -> float:
    """Upper bound on the rate of harms over all strata, which fails with probability <= ``alpha``.

    Σ share · Clopper-Pearson's upper bound at alpha / number of strata (Bonferroni). A judge's flag
    gathers harms in a small stratum, so that the large one is bounded by its zeros. Domain: labels
    of a stratum were drawn from it with one probability; shares are known.

    Raises ``ValueError`` without strata, and unless 0 < alpha < 1.
    """
    if not strata:
        raise ValueError("there must be a stratum")
    each = alpha / len(strata)
    bounds = (s.share * clopper_pearson(s.harms, s.labels, each)[1] for s in strata)
    return min(1.0, sum(bounds))


def _at_most(successes: int, trials: int, p: float) -> float:
    """Probability of so many successes or fewer."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return float(successes >= trials)
    total = lgamma(trials + 1)
    return min(
        1.0,
        sum(
            exp(
                total
                - lgamma(k + 1)
                - lgamma(trials - k + 1)
                + k * log(p)
                + (trials - k) * log1p(-p)
            )
            for k in range(successes + 1)
        ),
    )


def _solve(rising: Callable[[float], float], target: float) -> float:
    """Where a function that rises over [0, 1] reaches a value, to 2^-60, from below."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if rising(middle) <= target:
            low = middle
        else:
            high = middle
    return low
