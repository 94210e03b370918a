"""Evidence that the pairs that were compared are no fair sample of those that were drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import lgamma, log, pi
from typing import Any, Self

from msgspec import Struct

__all__ = ["SegmentShare", "SubsetState"]

_OTHER = ""
_LOG_BETA_HALF = log(pi)
"""Natural log of B(½, ½)."""


@dataclass(frozen=True, slots=True)
class SegmentShare:
    """A segment's share of the pairs that were drawn, and of those that were compared."""

    segment: str
    drawn: float
    compared: float

    @property
    def departure(self) -> float:
        """How far the shares are apart, relative to the smaller of the segment and the rest."""
        least = min(self.drawn, 1 - self.drawn)
        return abs(self.compared - self.drawn) / least if least else 0.0


class SubsetState(Struct, frozen=True, dict=True):
    """Sequential test of H0 "whether a drawn pair is dropped does not depend on its segment".

    ``counts`` holds ``(segment, compared, dropped)``, at most ``limit`` segments told apart and all
    others as one. The e-value is the likelihood of the drops with a rate for each segment, each
    mixed over a Beta(½, ½) prior, over the largest likelihood that one common rate can have:
    `prod_s B(½ + d_s, ½ + k_s) / B(½, ½) / ((D / n)^D (K / n)^K)`. For every common rate the
    numerator over that rate's likelihood is a martingale, and the denominator is never smaller, so
    it is valid at any time. Source: universal inference, Wasserman, Ramdas and Balakrishnan, PNAS
    2020, arXiv 1912.11436; the mixture is Krichevsky and Trofimov's.

    Domain: drops that are no more alike within a segment than chance makes them. Two segments at
    least: with one the value is below 1.
    """

    counts: tuple[tuple[str, int, int], ...] = ()
    limit: int = 12

    def update(self, segment: str | None, *, compared: int = 0, dropped: int = 0) -> Self:
        """State after so many more pairs of a segment. Raises ValueError for negative counts."""
        if compared < 0 or dropped < 0:
            raise ValueError(f"{compared} compared and {dropped} dropped pairs are impossible")
        known = {name: (kept, lost) for name, kept, lost in self.counts}
        name = segment or _OTHER
        if name not in known and len(known) >= self.limit:
            name = _OTHER
        kept, lost = known.get(name, (0, 0))
        known[name] = (kept + compared, lost + dropped)
        counts = tuple((each, *known[each]) for each in sorted(known))
        return type(self)(counts, self.limit)

    @property
    def compared(self) -> int:
        """Pairs that were compared."""
        return sum(kept for _, kept, _ in self.counts)

    @property
    def dropped(self) -> int:
        """Pairs that were drawn and not compared."""
        return sum(lost for _, _, lost in self.counts)

    @cached_property
    def log_e(self) -> float:
        """Natural log of the e-value against "drops do not depend on the segment"."""
        kept, lost = self.compared, self.dropped
        total = kept + lost
        common = sum(count * log(count / total) for count in (kept, lost) if count)
        apart = sum(_log_beta(own_lost, own_kept) for _, own_kept, own_lost in self.counts)
        return apart - common

    @property
    def shares(self) -> tuple[SegmentShare, ...]:
        """Each segment's shares, sorted by its name; none before a pair was compared."""
        kept = self.compared
        total = kept + self.dropped
        if not kept:
            return ()
        return tuple(
            SegmentShare(name, (own_kept + own_lost) / total, own_kept / kept)
            for name, own_kept, own_lost in self.counts
        )

    @property
    def worst(self) -> SegmentShare | None:
        """The segment whose shares are furthest apart."""
        return max(self.shares, key=lambda each: each.departure, default=None)

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state."""
        return {"counts": [list(each) for each in self.counts], "limit": self.limit}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        counts = tuple((str(name), int(k), int(d)) for name, k, d in document["counts"])
        return cls(counts, int(document["limit"]))


def _log_beta(lost: int, kept: int) -> float:
    """Return the log of the mixed likelihood of one segment's drops."""
    return lgamma(0.5 + lost) + lgamma(0.5 + kept) - lgamma(1.0 + lost + kept) - _LOG_BETA_HALF
