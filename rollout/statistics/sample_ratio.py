"""Evidence on the randomisation itself: whether the realised split is the declared one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import lgamma, log
from typing import Any, Self

from rollout.statistics.bets import checked

_CONCENTRATION = 100.0


@dataclass(frozen=True)
class SampleRatioState:
    """Sequential test of the sample ratio, H0 "a unit goes to the candidate with the given share".

    The e-value is the Bayes factor of a Beta(100π, 100(1 - π)) prior on the realised share against
    the declared share π: `B(100π + c, 100(1 - π) + n - c) / B(100π, 100(1 - π)) / π^c / (1 - π)^(n
    - c)`, multiplied over the shares that were in force. It is a martingale under H0, two-sided,
    and a function of counts. Source: Lindon and Malek, arXiv 2011.03567, for two arms.

    Domain: independent units. With sticky assignment these are the keys at their first request: a
    single busy key would unbalance the requests of a sound split. Also used for the judged subset
    against all eligible traffic.
    """

    share: float
    counts: tuple[tuple[float, int, int], ...] = ()

    @classmethod
    def start(cls, *, share: float) -> Self:
        """State without evidence. Raises ValueError for a share outside [0, 1]."""
        return cls(share=checked("share", share, 0.0, 1.0, closed=True))

    def update(self, candidate: int, total: int, share: float | None = None) -> Self:
        """State after `total` more units, `candidate` of them in the candidate's arm.

        `share` is the one in force for these units, from now on the default.

        Raises ValueError for impossible counts, also for units in an arm that the share gives none.
        """
        now = self.share if share is None else checked("share", share, 0.0, 1.0, closed=True)
        if not 0 <= candidate <= total:
            raise ValueError(f"{candidate} candidate units of {total} are impossible")
        if (now == 0 and candidate) or (now == 1 and candidate != total):
            raise ValueError(
                f"{candidate} candidate units of {total} are impossible at a share of {now:g}"
            )
        merged = {key: (old_candidate, old_total) for key, old_candidate, old_total in self.counts}
        old_candidate, old_total = merged.get(now, (0, 0))
        merged[now] = (old_candidate + candidate, old_total + total)
        counts = tuple((key, *merged[key]) for key in sorted(merged))
        return replace(self, share=now, counts=counts)

    @cached_property
    def log_e(self) -> float:
        """Natural log of the e-value against "the realised shares are as declared"."""
        return sum(_log_bayes_factor(*window) for window in self.counts)

    @property
    def n(self) -> int:
        """Units so far."""
        return sum(total for _, _, total in self.counts)

    @property
    def observed(self) -> float:
        """Realised share of the candidate over all units; 0 without any."""
        return sum(candidate for _, candidate, _ in self.counts) / self.n if self.n else 0.0

    @property
    def expected(self) -> float:
        """Declared share over the same units; 0 without any."""
        return sum(share * total for share, _, total in self.counts) / self.n if self.n else 0.0

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state."""
        return {"share": self.share, "counts": [list(window) for window in self.counts]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        return replace(
            cls.start(share=float(document["share"])),
            counts=tuple(
                (float(share), int(candidate), int(total))
                for share, candidate, total in document["counts"]
            ),
        )


def _log_bayes_factor(share: float, candidate: int, total: int) -> float:
    if not 0 < share < 1:
        return 0.0
    prior, rest, other = _CONCENTRATION * share, _CONCENTRATION * (1 - share), total - candidate
    return (
        _log_beta(prior + candidate, rest + other)
        - _log_beta(prior, rest)
        - candidate * log(share)
        - other * log(1 - share)
    )


def _log_beta(first: float, second: float) -> float:
    return lgamma(first) + lgamma(second) - lgamma(first + second)
