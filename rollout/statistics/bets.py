"""The bets that every e-process here is made of, as pure functions in log space.

A gambler starts with capital 1 and stakes a share λ on each observation z. Under the null
hypothesis `E[z | past] <= 0`, so the capital `∏ (1 + λ z)` is a non-negative supermartingale and,
by Ville's inequality, reaches 1/alpha with a probability of at most alpha however often someone
looks. A mean of such capitals is one again. Source: Waudby-Smith and Ramdas, arXiv 2010.09686.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import exp, inf, isfinite, isnan, log, log1p, sqrt

LINEAR_BETS: tuple[float, ...] = tuple((5 + 10 * step) / 100 for step in range(10))
"""Stakes 0.05, 0.15, …, 0.95 for observations in [-1, 1]."""

DISPLAY_BETS: tuple[float, ...] = tuple(0.95 * 0.5**step for step in range(11))
"""Stakes from 0.95 down to 0.001: bounds go on shrinking for about a million observations."""

RATE_RATIOS: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""Failure rates of the candidate, relative to the baseline, that a live bet hopes for."""

RATE_RATIO_WEIGHTS: tuple[float, ...] = (1.0, 2.0, 4.0, 5.0, 4.0, 2.0, 1.0, 1.0)
"""Capital on each rate ratio. A broken candidate is found within a few failures at any weight, and
a ratio near one within no step at any; most capital stands on those between."""

DISPLAY_RATIOS: tuple[float, ...] = (
    1.01, 1.02, 1.05, 1.1, 1.2, 1.4, 2.0, 3.0, 6.0, 15.0, 50.0,
)  # fmt: skip
"""Ratios for bounds on a rate or on a ratio of rates."""

MAX_STAKE = 0.9
"""No single observation ruins the gambler."""
_BISECTIONS = 40


def checked(name: str, value: float, low: float, high: float, *, closed: bool = False) -> float:
    """Give `value` back when it lies between `low` and `high`, by default strictly.

    Raises ValueError naming the argument otherwise, also for a NaN.
    """
    inside = low <= value <= high if closed else low < value < high
    if not inside:
        between = f"[{low}, {high}]" if closed else f"({low}, {high})"
        raise ValueError(f"{name} must lie in {between}, not {value!r}")
    return value


def log_mean_exp(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Log of the weighted mean of `exp(logs)`, without overflow; weights need not add up to 1.

    Raises ValueError for no value, a NaN, a negative weight, or weights that are all 0.
    """
    if not logs:
        raise ValueError("logs must hold at least one value")
    if any(map(isnan, logs)):
        raise ValueError("logs must not hold a NaN")
    if weights is None:  # by far the most frequent
        top = max(logs)
        if top in (inf, -inf):
            return top
        return top + log(sum([exp(value - top) for value in logs]) / len(logs))
    if len(weights) != len(logs):
        raise ValueError(f"weights must hold {len(logs)} values, not {len(weights)}")
    if not all(isfinite(share) and share >= 0 for share in weights) or sum(weights) <= 0:
        raise ValueError("weights must be finite, not negative, and not all 0")
    top = max(value for value, share in zip(logs, weights, strict=True) if share > 0)
    if top in (inf, -inf):
        return top
    total = sum(
        share * exp(value - top) for value, share in zip(logs, weights, strict=True) if share > 0
    )
    return top + log(total / sum(weights))


def design_bet(effect: float, second_moment: float) -> float:
    """Stake that grows fastest when the mean is `effect` away from the null hypothesis.

    For `z = effect - d` with d symmetric about 0 and of second moment v, the growth
    `λ·effect + v/2·log(1 - λ²)` is largest at `λ = (-v + sqrt(v² + 4·effect²)) / (2·effect)`,
    so the stake is log-optimal for that design (growth-optimal bets: arXiv 2010.09686). v must come
    from the past only, which makes the bet predictable and the capital a supermartingale.
    Capped at 0.9, so that no single observation ruins the gambler. Domain: effect > 0, v >= 0.
    """
    stake = (sqrt(second_moment * second_moment + 4 * effect * effect) - second_moment) / (
        2 * effect
    )
    return min(stake, MAX_STAKE)


def tilt_share(share: float, ratio: float) -> float:
    """Probability that a failure is the candidate's when its failure rate is `ratio` times.

    `π·rho / (π·rho + 1 - π)` for a candidate that is given a share π of the requests.
    """
    return share * ratio / (share * ratio + 1 - share)


def tilt_capital(hits: int, trials: int, share: float, ratio: float) -> float:
    """Log capital of a bet that odds of `share` are in truth `ratio` times as high.

    With the stake `λ = (r - 1) / (1 + π(r - 1))` the product form
    `(1 + λ(1 - π))^c · (1 - λπ)^(k - c)` of c hits in k trials is `c·log r - k·log(1 + π(r - 1))`:
    a likelihood ratio, which is a martingale when a trial is a hit with probability π, and for
    r > 1 (r < 1) a supermartingale when it is less (more) probable. Domain: share in [0, 1], r > 0.
    """
    return hits * log(ratio) - trials * log1p(share * (ratio - 1))


def last_rejected(
    log_e: Callable[[float], float], *, threshold: float, start: float, end: float
) -> float:
    """Bound of a confidence sequence: where `log_e` last reaches `threshold`, seen from `start`.

    A confidence sequence holds every value whose e-process stays below 1/alpha (arXiv
    2010.09686). `log_e` must be monotone, falling from `start` to `end`. Returns `start` when
    nothing is rejected; otherwise the rejected end of the last interval of a bisection, which
    errs to the wide side. 40 evaluations.
    """
    if log_e(start) < threshold:
        return start
    rejected, kept = start, end
    for _ in range(_BISECTIONS):
        middle = (rejected + kept) / 2
        if log_e(middle) >= threshold:
            rejected = middle
        else:
            kept = middle
    return rejected


def tilt_mixture(
    windows: Iterable[tuple[int, int, float]],
    ratios: Sequence[float],
    weights: Sequence[float] | None = None,
) -> float:
    """Log of the mean capital over `ratios`, each carried through all (hits, trials, share)."""
    rows = list(windows)
    return log_mean_exp(
        [
            sum(tilt_capital(hits, trials, share, ratio) for hits, trials, share in rows)
            for ratio in ratios
        ],
        weights,
    )


def difference_mixture(
    windows: Iterable[tuple[float, int, int, int]], bound: float, stakes: Sequence[float]
) -> float:
    """Log capital against "the candidate's rate exceeds the baseline's by at most `bound`".

    A window is (share, requests, candidate failures, baseline failures). With assignment at random,
    `x = 1{candidate fails}/π - 1{baseline fails}/(1 - π)` has the difference of the rates as its
    mean at every request, whatever the rates do over time (inverse probability weighting, as in
    arXiv 2103.06476). It is at least -1/(1 - π), so `z = (x - bound)/(1/(1 - π) + bound)` lies
    above -1 and the capital `∏ (1 + λ z)` is a function of counts. Windows at a share of 0 or 1
    compare nothing and are left out. Domain: bound in (-1, 1), stakes in (0, 1).
    """
    capitals = [0.0] * len(stakes)
    for share, requests, candidate, baseline in windows:
        if not 0 < share < 1:
            continue
        scale = 1 / (1 / (1 - share) + bound)
        neither = requests - candidate - baseline
        for index, stake in enumerate(stakes):
            capitals[index] += (
                neither * log1p(-stake * scale * bound)
                + candidate * log1p(stake * scale * (1 / share - bound))
                + baseline * log1p(-stake)
            )
    return log_mean_exp(capitals)
