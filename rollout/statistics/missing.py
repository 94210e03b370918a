"""Verdicts that are missing: how many, what they could be worth at most, and whether at random.

A missing verdict is never a tie, a loss or a zero. What it could have been bounds the mean score
(Manski 1990, worst-case bounds under nonresponse): with all missing pairs lost, and with all won.
Whether verdicts are missing alike in two groups is asked by Fisher's exact test (two-sided: the sum
of all tables with the same margins that are no likelier than the one seen).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, lgamma
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple, replace

__all__ = ["VerdictCounts", "fisher_exact", "missing_differently"]

ALPHA = 0.001
"""Level of the tests for a difference. They are looked at again and again, so it is small: a false
alarm holds a rollout, it never decides one."""


class VerdictCounts(Struct, frozen=True):
    """Pairs with a verdict and without, of those that were to have one.

    ``score`` is the sum of the given scores, each in [-1, 1]. ``longer_given`` and
    ``shorter_given`` count those in which the candidate's answer was the longer or the shorter one
    (equal ones are in neither), ``longer_missing`` and ``shorter_missing`` the same of the others.
    """

    given: int = 0
    missing: int = 0
    score: float = 0.0
    longer_given: int = 0
    shorter_given: int = 0
    longer_missing: int = 0
    shorter_missing: int = 0

    def add(self, score: float | None, *, longer: int = 0) -> VerdictCounts:
        """Return the counts with one more pair; ``longer`` is 1, -1, or 0 for neither."""
        up, down = int(longer > 0), int(longer < 0)
        if score is None:
            return replace(
                self,
                missing=self.missing + 1,
                longer_missing=self.longer_missing + up,
                shorter_missing=self.shorter_missing + down,
            )
        return replace(
            self,
            given=self.given + 1,
            score=self.score + score,
            longer_given=self.longer_given + up,
            shorter_given=self.shorter_given + down,
        )

    @property
    def share(self) -> float:
        """Share of verdicts that are missing, 0 where there is no pair."""
        total = self.given + self.missing
        return self.missing / total if total else 0.0

    @property
    def win_rate(self) -> float | None:
        """Win rate over the given verdicts, a tie counted as one half."""
        return (1 + self.score / self.given) / 2 if self.given else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The win rate with all missing pairs lost, and with all won; None without a pair."""
        total = self.given + self.missing
        if not total:
            return None
        low, high = self.score - self.missing, self.score + self.missing
        return (1 + low / total) / 2, (1 + high / total) / 2

    def to_json(self) -> list[Any]:
        """Return the fields in their order; :meth:`from_json` is its inverse."""
        return list(astuple(self))

    @classmethod
    def from_json(cls, document: list[Any]) -> VerdictCounts:
        """Build the counts from their JSON."""
        return cls(*document)


def fisher_exact(a: int, b: int, c: int, d: int) -> float:
    """Return the two-sided p-value of Fisher's exact test on the table [[a, b], [c, d]].

    All four are counts, at least 0; a table with an empty margin says nothing and gives 1.
    """
    row, other, column = a + b, c + d, a + c
    least, most = max(0, column - other), min(row, column)
    if least == most:
        return 1.0

    def log_chance(k: int) -> float:
        return _log_choose(row, k) + _log_choose(other, column - k)

    total = _log_choose(row + other, column)
    seen = log_chance(a)
    # Tables as likely as the one seen are counted in, also where rounding would part them.
    chances = (log_chance(k) for k in range(least, most + 1))
    return min(1.0, sum(exp(each - total) for each in chances if each <= seen + 1e-7))


def missing_differently(
    overall: VerdictCounts, segments: Mapping[str, VerdictCounts]
) -> str | None:
    """Say in which way verdicts are missing otherwise than at random, or None where they are not.

    By arm: as a rule it is a long answer that can't be judged, so the arm is the one that wrote the
    longer answer. By segment: each against all others, at a level shared among them (Bonferroni).
    """
    if not overall.missing:
        return None
    p = fisher_exact(
        overall.longer_missing,
        overall.shorter_missing,
        overall.longer_given,
        overall.shorter_given,
    )
    if p < ALPHA:
        lost = overall.longer_missing + overall.shorter_missing
        kept = overall.longer_given + overall.shorter_given
        return (
            "verdicts are missing by arm: the candidate's answer is the longer one in "
            f"{overall.longer_missing / lost:.0%} of the pairs without and in "
            f"{overall.longer_given / kept:.0%} of those with a verdict"
        )
    # Most missing first: with two segments both differ, and that one is to be named.
    for name, each in sorted(segments.items(), key=lambda item: (-item[1].share, item[0])):
        rest = (overall.missing - each.missing, overall.given - each.given)
        if fisher_exact(each.missing, each.given, *rest) < ALPHA / len(segments):
            return (
                f"verdicts are missing by segment: {each.share:.1%} in {name!r}, "
                f"{rest[0] / sum(rest):.1%} elsewhere"
            )
    return None


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
