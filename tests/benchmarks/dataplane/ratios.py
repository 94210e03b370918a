"""The pure part of the isolation benchmark: baseline traffic with trouble and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from dataplane.goals import summary

__all__ = ["AGAIN", "LIMIT", "Sides", "isolation_report"]

Sides = Mapping[str, Mapping[str, float]]
"""One round of one case: the metrics ``without`` and ``with``."""

LIMIT = 1.05
"""The most that trouble in the shadow may do to a quantile of baseline traffic's latency."""

AGAIN = "without again"
"""The case whose two sides are the same: what its ratio differs from 1 by is noise."""

_METRICS = ("latency_p50_us", "latency_p99_us")


def isolation_report(
    cases: Mapping[str, Sequence[Sides]], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the benchmark's JSON document.

    A ratio is that of the medians over the rounds of both sides. Its spread is that of the rounds'
    own ratios: (largest - smallest) / median.
    """
    goals: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    for case, rounds in cases.items():
        goals += [_ratio(case, metric, rounds) for metric in _METRICS]
        for side in ("without", "with"):
            for metric in rounds[0][side]:
                values = [one[side][metric] for one in rounds]
                unit = "µs" if metric.endswith("_us") else "count"
                row = {"name": f"{case}: {side}: {metric}", "value": None, "unit": unit}
                measured.append(row | {"goal": None, "met": None} | summary(values))
    return {"environment": dict(environment), "results": goals + measured}


def _ratio(case: str, metric: str, rounds: Sequence[Sides]) -> dict[str, Any]:
    ratios = [one["with"][metric] / one["without"][metric] for one in rounds]
    value = median(one["with"][metric] for one in rounds)
    value /= median(one["without"][metric] for one in rounds)
    noise = case == AGAIN
    return {
        "name": f"{metric}: {case} / without",
        "unit": "ratio",
        "goal": None if noise else f"<= {LIMIT:g}",
        "met": None if noise else value <= LIMIT,
        **summary(ratios),
        "value": round(value, 4),
        **({"note": "the noise of this run"} if noise else {}),
    }
