"""Whether judges disagree about a pair, so that people should be asked more often. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["WIDE_GAP", "View", "judges_disagree", "score_gap"]

WIDE_GAP = 3.0
"""Points (of ten) by which an arm's lead must differ between two orders to be a wide gap."""

_SIGN = {("AB", "B"): 1, ("AB", "A"): -1, ("BA", "A"): 1, ("BA", "B"): -1}


class View(Protocol):
    """One judgment: which model saw the pair in which order, and what it said."""

    @property
    def model(self) -> str:
        """The judge."""

    @property
    def order(self) -> str:
        """AB: the baseline stood first. BA: the candidate did."""

    @property
    def verdict(self) -> str | None:
        """A, B or tie; None where there is none."""

    @property
    def scores(self) -> Mapping[str, float] | None:
        """Scores of A and B, 1 to 10."""


def judges_disagree(views: Sequence[View]) -> bool:
    """Say whether the verdicts on one pair do not fit together.

    They don't where the two orders of one judge name different winners, or only one of them names
    one; where two stages of a cascade favour different arms; where the candidate's lead in scores
    differs by `WIDE_GAP` points or more between orders; or where a verdict names an arm to which
    the same judgment gave the lower score.
    """
    signs: defaultdict[str, set[int]] = defaultdict(set)
    gaps: defaultdict[str, list[float]] = defaultdict(list)
    for view in views:
        if view.verdict is None:
            continue
        sign = _SIGN.get((view.order, view.verdict), 0)
        signs[view.model].add(sign)
        gap = score_gap(view)
        if gap is not None:
            gaps[view.model].append(gap)
            if sign * gap < 0:
                return True
    if any(len(said) > 1 for said in signs.values()):
        return True
    if {-1, 1} <= {sign for said in signs.values() for sign in said}:
        return True
    return any(max(each) - min(each) >= WIDE_GAP for each in gaps.values())


def score_gap(view: View) -> float | None:
    """Return the candidate's score minus the baseline's, or `None` where there are no scores."""
    scores = view.scores
    if scores is None or "A" not in scores or "B" not in scores:
        return None
    lead = float(scores["B"]) - float(scores["A"])
    return lead if view.order == "AB" else -lead
