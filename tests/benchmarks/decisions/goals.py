"""The goals of the simulation, each held against the noise of as many runs as there were."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from decisions.streams import Floats
from decisions_targets import NOISE, quantile, result

__all__ = ["ALPHA", "PAIRS", "SEGMENTED", "at_most", "seldom"]

ALPHA = 0.05

PAIRS: dict[str, float | None] = {
    "format 99 to 97": 730,
    "format 99 to 90": 105,
    "refusal 1 to 4%": 395,
    "win rate 0.45": 415,
    "latency tail x2": 520,
    "latency tail x2, arms independent": None,
    "errors 0.2 to 5%": 200,
}
"""Median pairs until harm is proven, by case; ``None``: reported only."""

SEGMENTED = 1.15
"""By how much segments may raise them."""


def at_most(
    name: str, values: Floats, level: float, goal: float | None, unit: str
) -> dict[str, Any]:
    """Return the row of a quantile that is to be at most ``goal``."""
    value, low, high = quantile(values, level)
    return result(name, unit, value, (low, high), goal, runs=len(values))


def seldom(name: str, happened: Floats, goal: float) -> dict[str, Any]:
    """Return the row of what is to happen in at most ``goal`` of the runs."""
    rate, runs = float(np.mean(happened)), len(happened)
    noise = NOISE * sqrt(max(rate, 1 / runs) * (1 - min(rate, 1 - 1 / runs)) / runs)
    spread = (max(0.0, rate - noise), min(1.0, rate + noise))
    return result(name, "share of runs", rate, spread, goal, runs=runs)
