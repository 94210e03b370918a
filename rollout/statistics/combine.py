"""E-values of several guardrails and segments made into one."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from rollout.statistics.bets import log_mean_exp


def combine_mean(log_es: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Log of the weighted mean of e-values, given as natural logs.

    A mean of e-processes is one again whatever their dependence, and comparing it with 1/alpha is
    never worse than Bonferroni's correction. Source: Vovk and Wang, arXiv 1912.06116.
    Weights must be fixed in advance; they need not add up to 1. For rollback on any harm: one value
    a guardrail, larger weights for critical ones.

    Raises ValueError for no value, a NaN, or weights that are negative or all 0.
    """
    return log_mean_exp(log_es, weights)


def combine_segments(
    overall: float, segments: Sequence[float], *, declared: int | None = None
) -> float:
    """Log of ½ overall + ½ mean over segments, of one metric's e-values given as natural logs.

    The half on segments finds a regression that is confined to a few of them; it costs at most
    log 2 where there is none. The mean is over the segments `declared` in advance: one without
    evidence yet counts as an e-value of 1. When segments only become known as they appear, pass
    an upper limit as `declared`, because a mean over "those seen so far" is not an e-process.
    Without segments the result is `overall`.

    Raises ValueError when more segments are given than declared.
    """
    count = len(segments) if declared is None else declared
    if count < len(segments):
        raise ValueError(f"declared must be at least {len(segments)}, the number of segments given")
    if count == 0:
        return overall
    missing = count - len(segments)
    mean = log_mean_exp([*segments, 0.0], [*([1.0] * len(segments)), float(missing)])
    return log_mean_exp([overall, mean])


def log_threshold(alpha: float, parts: float = 1.0) -> float:
    """Natural log of `parts/alpha`, which an e-process reaches with probability alpha / parts.

    Raises ValueError unless 0 < alpha < 1 and parts >= 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), not {alpha!r}")
    if not parts >= 1:
        raise ValueError(f"parts must be at least 1, not {parts!r}")
    return log(parts / alpha)
