"""What a plan assumes, and what it says that a metric needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rollout.statistics import power

__all__ = ["Assumptions", "JudgeCost", "Known", "MetricNeed", "Need"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier rollouts on the route showed of one metric.

    ``failure_rate`` is the baseline's; ``differing`` the share of pairs in which the arms differ
    (of scores: those that are no tie); ``applies`` the share of pairs that the metric applies to.
    """

    failure_rate: float | None
    differing: float | None
    applies: float = 1.0


@dataclass(frozen=True, slots=True)
class JudgeCost:
    """What judging one pair takes: calls, and dollars a call."""

    calls: float = 2.0
    dollars: float = 0.0


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a forecast rests on. ``requests_per_second`` are the route's eligible ones.

    ``failure_rate`` and ``tie_share`` stand in where nothing is ``known`` of a metric. Of a
    baseline's failures an equal candidate is taken to share half, as two samples of one model
    about do. ``paired_share`` of the mirrored requests become pairs. ``judge`` is ``None`` where
    no judge is set.
    """

    requests_per_second: float | None = None
    failure_rate: float = 0.01
    tie_share: float = 0.3
    paired_share: float = 1.0
    judge: JudgeCost | None = field(default_factory=JudgeCost)
    known: Mapping[str, Known] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Need:
    """How much is needed in half of all runs, and in 80%; ``None``: never, for all one can tell."""

    median: float | None
    most: float | None

    @classmethod
    def of(cls, times: Floats, *, scale: float | None = 1.0) -> Need:
        """Return the quantiles of ``times``, multiplied by ``scale`` (``None``: not known)."""
        if scale is None:
            return cls(None, None)
        median, most = power.quantiles(times)
        return cls(
            median * scale if isfinite(median) else None, most * scale if isfinite(most) else None
        )


@dataclass(frozen=True, slots=True)
class MetricNeed:
    """What one metric needs, in pairs.

    ``prove`` is for an equal candidate, ``detect`` for one that is worse by ``regression``, twice
    the margin (each ``None`` where pairs say nothing about the metric). ``live_detected`` is the
    share of runs in which such a regression, were it only live, is found before the candidate has
    all traffic, and ``live_users`` how many requests it has served by then at the median.
    """

    name: str
    role: str
    kind: Literal["binary", "score", "mean", "live", "limit"]
    margin: float
    basis: Literal["assumed", "measured"]
    failure_rate: float | None
    differing: float | None
    regression: float
    prove: Need | None
    detect: Need | None
    live_detected: float | None
    live_users: float | None
    human_labels: int
