"""Two orders, one comparison: what a verdict given twice, sides exchanged, is worth; or once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

Order = Literal["AB", "BA"]
"""AB: the baseline stood first, as answer A. BA: the candidate did."""

Side = Literal["A", "B", "tie"]
Result = Literal["win", "lean_win", "tie", "inconsistent", "lean_loss", "loss"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidate's result. `score` runs from -1 (loss) to 1 (win).

    An inconsistent pair scores 0 like a tie, and is kept apart from ties everywhere.
    """

    result: Result
    score: float

    def swapped(self) -> Comparison:
        """Return the comparison as it would be with the arms exchanged."""
        return Comparison(_MIRRORED[self.result], -self.score if self.score else 0.0)


_MIRRORED: dict[Result, Result] = {
    "win": "loss",
    "lean_win": "lean_loss",
    "tie": "tie",
    "inconsistent": "inconsistent",
    "lean_loss": "lean_win",
    "loss": "win",
}

_RESULTS: dict[tuple[int, int], Comparison] = {
    (1, 1): Comparison("win", 1.0),
    (1, 0): Comparison("lean_win", 0.5),
    (0, 1): Comparison("lean_win", 0.5),
    (0, 0): Comparison("tie", 0.0),
    (1, -1): Comparison("inconsistent", 0.0),
    (-1, 1): Comparison("inconsistent", 0.0),
    (0, -1): Comparison("lean_loss", -0.5),
    (-1, 0): Comparison("lean_loss", -0.5),
    (-1, -1): Comparison("loss", -1.0),
}


def for_candidate(order: Order, verdict: Side) -> int:
    """Return 1 where the verdict favours the candidate, -1 the baseline, 0 neither."""
    if verdict == "tie":
        return 0
    candidate: Side = "B" if order == "AB" else "A"
    return 1 if verdict == candidate else -1


def combine(ab: Side, ba: Side) -> Comparison:
    """Combine the verdicts of both orders (`ab`: baseline first, `ba`: candidate first).

    The same winner twice is a win or a loss, two ties are a tie, a win and a tie are a lean of
    half a point, opposite winners are inconsistent.
    """
    return _RESULTS[for_candidate("AB", ab), for_candidate("BA", ba)]


@dataclass(frozen=True, slots=True)
class OrderPolicy:
    """In which orders a pair is asked: both, or a single random one and an audited share in both.

    A single verdict in a random order has the same expectation as the mean of both orders, whatever
    the judge's liking for a place, so both kinds of pairs estimate one win rate without bias.
    """

    single: bool = False
    audit: float = 0.2

    def draw(self, rng: Random) -> tuple[Order, ...]:
        """Return the orders of one pair."""
        if not self.single or rng.random() < self.audit:
            return ("AB", "BA")
        return ("AB",) if rng.random() < 0.5 else ("BA",)


def compared(verdicts: Mapping[Order, Side]) -> Comparison:
    """Return what the verdicts of one order or of both come to.

    One order alone is a win, a tie or a loss. Raises `ValueError` where there is none at all.
    """
    if not verdicts:
        raise ValueError("without a verdict there is no comparison")
    if len(verdicts) == 2:
        return combine(verdicts["AB"], verdicts["BA"])
    ((order, verdict),) = verdicts.items()
    won = for_candidate(order, verdict)
    return _RESULTS[won, won]


def position_bias(ab: Side, ba: Side) -> float:
    """Return this pair's share of P(first wins) - P(second wins), between -1 and 1."""
    return sum({"A": 1, "B": -1, "tie": 0}[verdict] for verdict in (ab, ba)) / 2
