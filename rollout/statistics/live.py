"""Evidence from live arms: each request is answered by one arm, drawn at the weight in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Any, NamedTuple, Self

from rollout.statistics.bets import (
    LINEAR_BETS,
    RATE_RATIO_WEIGHTS,
    RATE_RATIOS,
    checked,
    difference_mixture,
    log_mean_exp,
    tilt_mixture,
    tilt_share,
)
from rollout.statistics.combine import log_threshold
from rollout.statistics.confidence import difference_bounds, ratio_bounds

_MARGIN_POWERS = (0.5, 1.0, 1.5, 2.0)
_MARGIN_WEIGHTS = (0.15, 0.6, 0.15, 0.1)


class ArmCounts(NamedTuple):
    """Requests and failures of both arms together, and of the candidate, at one share."""

    share: float
    requests: int
    candidate_requests: int
    failures: int
    candidate_failures: int


@dataclass(frozen=True)
class LiveState:
    """Two e-processes on unpaired failures of randomised arms: harm and non-inferiority.

    While the candidate is given a share π of the requests and its failure rate is rho times the
    baseline's, a failure is the candidate's with probability `π·rho/(π·rho + 1 - π)`, whatever the
    rates do over time. So only failures are bet on, with z = 1{candidate} - π, and the capital
    `(1 + λ(1 - π))^c · (1 - λπ)^(k - c)` consumes the counts of any number of replicas exactly:
    c failures of the candidate among k, at constant π. Shares are kept apart and multiplied.

    - harm, H0 "rate ratio <= 1": λ = (r - 1)/(1 + π(r - 1)) for r in 1.25 … 50 (`RATE_RATIOS`),
      multiplied by ½ + ½·e_shadow, which keeps a good shadow from delaying the alarm.
    - non-inferiority, H0 "worse by every margin that is set": against `margin_ratio` rho the same
      bets on failures with π tilted by rho and r = rho^-t for t in {½, 1, 1½, 2}, mostly 1, the
      truth of an equal candidate; against the absolute `margin` δ the bets of `difference_mixture`
      on all requests, which need no failures to prove a candidate that has none. With both margins
      the two e-values are averaged.

    Domain: each request (or, with sticky assignment, each key) goes to the candidate with
    probability `share`, independently of its outcome. Sources: Waudby-Smith and Ramdas,
    arXiv 2010.09686; the conditional binomial of arXiv 2011.03567.
    """

    margin_ratio: float | None
    margin: float | None = None
    start_log_e: float = 0.0
    windows: tuple[ArmCounts, ...] = ()

    @classmethod
    def start(
        cls,
        *,
        margin_ratio: float | None = None,
        margin: float | None = None,
        carried_log_e: float | None = None,
    ) -> Self:
        """State without live evidence.

        `margin_ratio` is the ratio of failure rates that counts as worse (1.5 = half as many
        again), `margin` the difference (0.01 = one percentage point); at least one is needed.
        `carried_log_e` is the natural log of the harm e-value of the same candidate revision in
        the phase before; harm starts at ½ + ½ of it.

        Raises ValueError for a ratio of 1 or less, a margin outside (0, 1), no margin, or a carried
        value that is not finite.
        """
        if margin_ratio is None and margin is None:
            raise ValueError("margin_ratio or margin must be given")
        if margin_ratio is not None:
            checked("margin_ratio", margin_ratio, 1.0, inf)
        if margin is not None:
            checked("margin", margin, 0.0, 1.0)
        carried = 0.0
        if carried_log_e is not None:
            carried = checked("carried_log_e", carried_log_e, -inf, inf)
        return cls(margin_ratio, margin, start_log_e=log_mean_exp((0.0, carried)))

    def update(
        self,
        *,
        candidate_failures: int,
        failures: int,
        share: float,
        candidate_requests: int,
        requests: int,
    ) -> Self:
        """State after a window at a constant share; `failures` and `requests` are of both arms.

        The order of windows does not matter, nor how they are cut.

        Raises ValueError for counts that are impossible, also for requests of an arm that the
        share gives none.
        """
        checked("share", share, 0.0, 1.0, closed=True)
        _check_counts("candidate", candidate_failures, candidate_requests, share)
        _check_counts(
            "baseline", failures - candidate_failures, requests - candidate_requests, 1 - share
        )
        merged = {window.share: window for window in self.windows}
        old = merged.get(share, ArmCounts(share, 0, 0, 0, 0))
        merged[share] = ArmCounts(
            share,
            old.requests + requests,
            old.candidate_requests + candidate_requests,
            old.failures + failures,
            old.candidate_failures + candidate_failures,
        )
        return replace(self, windows=tuple(sorted(merged.values())))

    @cached_property
    def log_e_harm(self) -> float:
        """Natural log of the e-value against "the candidate fails no more often"."""
        return self.start_log_e + tilt_mixture(
            self._failures_by_share(), RATE_RATIOS, RATE_RATIO_WEIGHTS
        )

    @cached_property
    def log_e_non_inferior(self) -> float:
        """Natural log of the e-value against "the candidate is worse by every margin set"."""
        logs = []
        if self.margin_ratio is not None:
            rho = self.margin_ratio
            tilted = [
                (hits, trials, tilt_share(share, rho))
                for hits, trials, share in self._failures_by_share()
            ]
            logs.append(
                tilt_mixture(tilted, [rho**-power for power in _MARGIN_POWERS], _MARGIN_WEIGHTS)
            )
        if self.margin is not None:
            mirrored = [
                (1 - share, requests, baseline, candidate)
                for share, requests, candidate, baseline in self._requests_by_share()
            ]
            logs.append(difference_mixture(mirrored, -self.margin, LINEAR_BETS))
        return log_mean_exp(logs)

    @property
    def n(self) -> int:
        """Requests of both arms."""
        return sum(window.requests for window in self.windows)

    @property
    def candidate_requests(self) -> int:
        """Requests of the candidate."""
        return sum(window.candidate_requests for window in self.windows)

    @property
    def failures(self) -> int:
        """Failures of both arms."""
        return sum(window.failures for window in self.windows)

    @property
    def candidate_failures(self) -> int:
        """Failures of the candidate."""
        return sum(window.candidate_failures for window in self.windows)

    @property
    def rates(self) -> tuple[float, float]:
        """Failure rates so far of baseline and candidate; 0 for an arm without requests."""
        candidate, requests = self.candidate_failures, self.candidate_requests
        baseline_requests = self.n - requests
        return (
            (self.failures - candidate) / baseline_requests if baseline_requests else 0.0,
            candidate / requests if requests else 0.0,
        )

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence on the candidate's failure rate minus the baseline's.

        For display, a few milliseconds. Raises ValueError unless 0 < alpha < 1.
        """
        return difference_bounds(self._requests_by_share(), log_threshold(alpha, 2))

    def ratio_bounds(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence on the candidate's failure rate over the baseline's.

        From 0 to infinity without failures. Raises ValueError unless 0 < alpha < 1.
        """
        return ratio_bounds(self._failures_by_share(), log_threshold(alpha, 2))

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state."""
        return {
            "margin_ratio": self.margin_ratio,
            "margin": self.margin,
            "start_log_e": self.start_log_e,
            "windows": [list(window) for window in self.windows],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        empty = cls.start(margin_ratio=document["margin_ratio"], margin=document["margin"])
        return replace(
            empty,
            start_log_e=float(document["start_log_e"]),
            windows=tuple(
                ArmCounts(float(share), *map(int, counts)) for share, *counts in document["windows"]
            ),
        )

    def _failures_by_share(self) -> list[tuple[int, int, float]]:
        return [
            (window.candidate_failures, window.failures, window.share) for window in self.windows
        ]

    def _requests_by_share(self) -> list[tuple[float, int, int, int]]:
        return [
            (
                window.share,
                window.requests,
                window.candidate_failures,
                window.failures - window.candidate_failures,
            )
            for window in self.windows
        ]


def _check_counts(arm: str, failures: int, requests: int, share: float) -> None:
    if not 0 <= failures <= requests:
        raise ValueError(f"{arm}: {failures} failures of {requests} requests are impossible")
    if requests and share == 0:
        raise ValueError(f"{arm}: {requests} requests are impossible, its share is 0")
