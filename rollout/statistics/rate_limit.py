"""Evidence where there is hardly a concurrent baseline: a limit on one arm's failure rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from rollout.statistics.bets import (
    RATE_RATIO_WEIGHTS,
    RATE_RATIOS,
    checked,
    log_mean_exp,
    tilt_capital,
)
from rollout.statistics.combine import log_threshold
from rollout.statistics.confidence import rate_bounds

_NONE = (0.0,) * len(RATE_RATIOS)


@dataclass(frozen=True)
class RateLimitState:
    """E-process on the failures of a single arm, H0 "given the past, its rate is at most `limit`".

    At a weight near 100% hardly anything runs beside the candidate, so it is held against a limit
    from the past, such as twice the baseline's earlier rate (`limit_from`). A request, with x = 1
    for a failure, multiplies the capital by `r^x / (1 + L_t·(r - 1))`: a bet (`tilt_capital`) that
    the odds are r times those of the limit in force, for r in 1.25 … 50 (`RATE_RATIOS`).

    Rates that change for both arms, as over a day, must not count against the candidate. So, given
    a `ratio`, `L_t = max(floor, ratio·rate of the baseline since the start)`, once that rate is one
    of `LEAST_BASELINE` requests (`update_baseline`). L_t is made of the past only: given the past,
    a factor has a mean of at most 1 under H0, and the product remains a supermartingale wherever
    the limit moves. Requests at different limits can't be added up, so what is kept is the log
    capital on each ratio, `Σ failures·log r - Σ requests·log(1 + L_t·(r - 1))`.

    Domain: floor in (0, 1), limits up to `MOST`; the rate may drift as long as it stays below the
    limit under H0. The mean since the start lags behind a rate that rises: an equal candidate is
    within the limit as long as the present rate is below `ratio` times that mean. Where a mirrored
    pair counts before the candidate's own answer to the same request, the limit knows one request
    too many, which moves the mean by 1/n at most. Source: predictable bets on bounded means, arXiv
    2010.09686.
    """

    LEAST_BASELINE: ClassVar[int] = 500
    """Requests of the baseline before its rate since the start moves the limit.

    A rate of fewer is noisy, and found a small regression later (`make bench-decisions`).
    """

    MOST: ClassVar[float] = 0.99
    """The highest limit there is."""

    floor: float
    ratio: float | None = None
    requests: int = 0
    failures: int = 0
    baseline_requests: int = 0
    baseline_failures: int = 0
    capitals: tuple[float, ...] = _NONE

    @classmethod
    def start(cls, *, limit: float, ratio: float | None = None) -> Self:
        """State without evidence, at its lowest limit; it moves when there is a `ratio`.

        Raises ValueError for a limit outside (0, 1) or a ratio that is not positive.
        """
        if ratio is not None:
            checked("ratio", ratio, 0.0, float("inf"))
        return cls(floor=checked("limit", limit, 0.0, 1.0), ratio=ratio)

    @staticmethod
    def limit_from(*, requests: int, failures: int, ratio: float = 2.0) -> float:
        """Limit of `ratio` times an earlier rate, such as the baseline's, kept inside (0, 1).

        Half a failure in one more request is added to the counts (Krichevsky and Trofimov), so
        that a baseline without failures leaves the candidate some.

        Raises ValueError for impossible counts or a ratio that is not positive.
        """
        _check_counts(requests, failures)
        checked("ratio", ratio, 0.0, float("inf"))
        return min(RateLimitState.MOST, ratio * (failures + 0.5) / (requests + 1))

    @cached_property
    def limit(self) -> float:
        """The limit in force: the next request is held against it."""
        if self.ratio is None or self.baseline_requests < self.LEAST_BASELINE:
            return self.floor
        rate = self.baseline_failures / self.baseline_requests
        return max(self.floor, min(self.MOST, self.ratio * rate))

    def update(self, *, requests: int, failures: int) -> Self:
        """State after more requests of the arm, at the limit in force.

        Raises ValueError for impossible counts.
        """
        _check_counts(requests, failures)
        limit = self.limit
        return replace(
            self,
            requests=self.requests + requests,
            failures=self.failures + failures,
            capitals=tuple(
                capital + tilt_capital(failures, requests, limit, ratio)
                for capital, ratio in zip(self.capitals, RATE_RATIOS, strict=True)
            ),
        )

    def update_baseline(self, *, requests: int, failures: int) -> Self:
        """State after more requests of the baseline, which move the limit for what comes next.

        Raises ValueError for impossible counts.
        """
        _check_counts(requests, failures)
        return replace(
            self,
            baseline_requests=self.baseline_requests + requests,
            baseline_failures=self.baseline_failures + failures,
        )

    @cached_property
    def log_e_harm(self) -> float:
        """Natural log of the e-value against "the rate is at most the limit"."""
        return log_mean_exp(self.capitals, RATE_RATIO_WEIGHTS)

    @property
    def n(self) -> int:
        """Requests so far."""
        return self.requests

    @property
    def rate(self) -> float:
        """Failure rate so far; 0 without requests."""
        return self.failures / self.requests if self.requests else 0.0

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence on the failure rate. Raises ValueError unless 0 < alpha < 1."""
        return rate_bounds(self.failures, self.requests, log_threshold(alpha, 2))

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state; `limit` is the one in force."""
        return {
            "limit": self.limit,
            "floor": self.floor,
            "ratio": self.ratio,
            "requests": self.requests,
            "failures": self.failures,
            "baseline_requests": self.baseline_requests,
            "baseline_failures": self.baseline_failures,
            "capitals": list(self.capitals),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`.

        A document of an older version has counts at one limit, which stays where it is. Raises
        KeyError when a field is missing and ValueError for capitals on other ratios.
        """
        requests, failures = int(document["requests"]), int(document["failures"])
        if "capitals" not in document:
            fixed = cls.start(limit=float(document["limit"]))
            return fixed.update(requests=requests, failures=failures)
        capitals = tuple(map(float, document["capitals"]))
        if len(capitals) != len(RATE_RATIOS):
            raise ValueError(f"capitals must hold {len(RATE_RATIOS)} values, not {len(capitals)}")
        return replace(
            cls.start(limit=float(document["floor"]), ratio=document["ratio"]),
            requests=requests,
            failures=failures,
            baseline_requests=int(document["baseline_requests"]),
            baseline_failures=int(document["baseline_failures"]),
            capitals=capitals,
        )


def _check_counts(requests: int, failures: int) -> None:
    if not 0 <= failures <= requests:
        raise ValueError(f"{failures} failures of {requests} requests are impossible")
