"""Evidence where there is no concurrent baseline: a limit on one arm's failure rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from rollout.statistics.bets import RATE_RATIO_WEIGHTS, RATE_RATIOS, checked, tilt_mixture
from rollout.statistics.combine import log_threshold
from rollout.statistics.confidence import rate_bounds


@dataclass(frozen=True)
class RateLimitState:
    """E-process on the failures of a single arm, H0 "the rate is at most `limit`".

    At a weight of 100% nothing runs beside the candidate, so it is held against a limit from the
    past, such as twice the baseline's earlier rate (`limit_from`). The capital
    `r^x / (1 + limit·(r - 1))` a request, x = 1 for a failure, bets on odds r times those of the
    limit, for r in 1.25 … 50 (`RATE_RATIOS`). Counts are sufficient.

    Domain: limit in (0, 1); the rate may drift as long as it stays below the limit under H0.
    Source: arXiv 2010.09686.
    """

    limit: float
    requests: int = 0
    failures: int = 0

    @classmethod
    def start(cls, *, limit: float) -> Self:
        """State without evidence. Raises ValueError for a limit outside (0, 1)."""
        return cls(limit=checked("limit", limit, 0.0, 1.0))

    @staticmethod
    def limit_from(*, requests: int, failures: int, ratio: float = 2.0) -> float:
        """Limit of `ratio` times an earlier rate, such as the baseline's, kept inside (0, 1).

        Half a failure in one more request is added to the counts (Krichevsky and Trofimov), so
        that a baseline without failures leaves the candidate some.

        Raises ValueError for impossible counts or a ratio that is not positive.
        """
        if not 0 <= failures <= requests:
            raise ValueError(f"{failures} failures of {requests} requests are impossible")
        checked("ratio", ratio, 0.0, float("inf"))
        return min(0.99, ratio * (failures + 0.5) / (requests + 1))

    def update(self, *, requests: int, failures: int) -> Self:
        """State after more requests. Raises ValueError for impossible counts."""
        if not 0 <= failures <= requests:
            raise ValueError(f"{failures} failures of {requests} requests are impossible")
        return replace(self, requests=self.requests + requests, failures=self.failures + failures)

    @cached_property
    def log_e_harm(self) -> float:
        """Natural log of the e-value against "the rate is at most the limit"."""
        return tilt_mixture(
            [(self.failures, self.requests, self.limit)], RATE_RATIOS, RATE_RATIO_WEIGHTS
        )

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
        """Document that `from_json` turns into an equal state."""
        return {"limit": self.limit, "requests": self.requests, "failures": self.failures}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        return cls.start(limit=float(document["limit"])).update(
            requests=int(document["requests"]), failures=int(document["failures"])
        )
