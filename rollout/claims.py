"""What may be said about a candidate on the strength of people's labels, in one sentence. Pure."""

from __future__ import annotations

from math import log, sqrt
from statistics import NormalDist
from typing import Any

from msgspec.structs import replace

from rollout.statistics.labels import LabelState

__all__ = ["claim", "figures", "lower_bound", "report"]


def claim(labels: LabelState, *, required: int, alpha: float) -> str:
    """Say how the candidate compares with the baseline according to the reviewers.

    ``required`` labels are asked for; ``alpha`` is the error budget of a promotion. The claim is
    made once the gate is open, and then the bound is at least what the gate has proven, ½ - margin.
    """
    if not labels.n:
        return "no blind label yet: nobody has checked what the judge says"
    low = lower_bound(labels, alpha)
    count = f"{labels.n} blind label{'' if labels.n == 1 else 's'}"
    if labels.log_e_non_inferior >= log(1 / alpha) and labels.n >= required:
        low = max(low, 0.5 - labels.margin)
        grade = "better than the baseline" if low > 0.5 else _as_good(labels)
        return f"{grade} according to your reviewers, lower bound {low:.3f}, from {count}"
    said = f"not yet known to be as good as the baseline: lower bound {low:.3f}, from {count}"
    more = max(required - labels.n, labels.needed(alpha) or 0)
    if more > 0:
        return f"{said}; about {more} more would decide, if they are like these"
    if labels.estimate is None:
        return f"{said}; too few to say how many more would decide"
    return f"{said}; more labels like these would not show it"


def lower_bound(labels: LabelState, alpha: float) -> float:
    """Return the better of two lower bounds, which together fail with probability at most alpha.

    One holds at all times, the other (PPI++) at the pre-registered looks: each has alpha/2.
    """
    low, _ = labels.bounds(alpha)
    return max(low, labels.looks_bound(alpha / 2) or 0.0)


def figures(labels: LabelState, alpha: float) -> dict[str, float | None]:
    """Return what the judge alone and people alone say, beside the corrected win rate.

    Lower bounds fail with probability alpha/2 each at one look: the judge's by the normal
    distribution, taking every score as true; people's by t over labels weighed by 1/π.
    """
    count, total, squares = labels.labels.judged
    found: dict[str, float | None] = dict.fromkeys(
        ("judge_estimate", "judge_low", "people_estimate", "people_low")
    )
    if count > 1:
        mean = total / count
        error = sqrt(max(0.0, squares / count - mean * mean) / count)
        found["judge_estimate"] = mean
        found["judge_low"] = max(0.0, mean - NormalDist().inv_cdf(1 - alpha / 2) * error)
    if labels.n >= 3:
        alone = replace(labels.labels, judged=(0, 0.0, 0.0))
        found["people_estimate"] = alone.corrected().mean
        found["people_low"] = alone.interval(alpha / 2)[0]
    return found


def _as_good(labels: LabelState) -> str:
    return f"at least as good as the baseline (within {labels.margin:g})"


def report(labels: LabelState, *, required: int, alpha: float) -> dict[str, Any]:
    """Return the corrected win rate with all bounds, the figures beside it, and the claim."""
    low, high = labels.bounds(alpha) if labels.n else (None, None)
    fixed = labels.fixed_bounds(alpha) if labels.estimate is not None else (None, None)
    return {
        "n": labels.n,
        "required": required,
        "judged": labels.judged_n,
        "estimate": labels.estimate,
        "low": low,
        "high": high,
        "fixed_low": fixed[0],
        "fixed_high": fixed[1],
        **figures(labels, alpha),
        "log_e_non_inferior": labels.log_e_non_inferior,
        "needed": labels.needed(alpha),
        "lower_bound": lower_bound(labels, alpha) if labels.n else None,
        "claim": claim(labels, required=required, alpha=alpha),
    }
