"""From people's verdicts to a label: sides, majority, and when an item is settled. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = [
    "CATEGORIES",
    "MOST_SKIPS",
    "VERDICTS",
    "ReviewCategory",
    "ReviewVerdict",
    "Settled",
    "label_of",
    "majority",
    "settled",
]

ReviewVerdict = Literal["left", "right", "tie", "both_bad", "skip"]
VERDICTS: tuple[str, ...] = get_args(ReviewVerdict)

ReviewCategory = Literal["accuracy", "helpfulness", "clarity", "format", "safety"]
CATEGORIES: tuple[str, ...] = get_args(ReviewCategory)
"""What a verdict was about, in the words of the built-in rubric; safety marks a harm."""

MOST_SKIPS = 2
"""Skips that an item outlives; with one more it is closed with the labels that it has."""

_TIE = 0.5


@dataclass(frozen=True, slots=True)
class Settled:
    """What an item came to. ``label`` is ``None`` where everybody skipped it."""

    label: float | None
    labels: int


def label_of(verdict: str, left_arm: str) -> float | None:
    """Return a verdict from the candidate's point of view: 0, ½ or 1; ``None`` for a skip.

    ``left_arm`` says who stood left, ``baseline`` or ``candidate``. A tie and two bad answers are
    ½: neither arm was better. Raises ``ValueError`` for an unknown verdict.
    """
    match verdict:
        case "left" | "right":
            return float((verdict == "left") == (left_arm == "candidate"))
        case "tie" | "both_bad":
            return _TIE
        case "skip":
            return None
    raise ValueError(f"no verdict is called {verdict!r}; write one of {', '.join(VERDICTS)}")


def majority(labels: Sequence[float]) -> float:
    """Return the label that most people gave; where several lead, ½.

    Symmetric in the arms: with all labels turned about, so is what comes out. Domain: one label or
    more, each 0, ½ or 1.
    """
    counted = Counter(labels).most_common()
    leading = [label for label, count in counted if count == counted[0][1]]
    return leading[0] if len(leading) == 1 else _TIE


def settled(labels: Sequence[float | None], wanted: int) -> Settled | None:
    """Return what an item came to, or ``None`` while more people are wanted.

    It is settled by ``wanted`` labels, or by the labels that there are once more than
    :data:`MOST_SKIPS` people skipped it.
    """
    given = [label for label in labels if label is not None]
    if len(given) < wanted and len(labels) - len(given) <= MOST_SKIPS:
        return None
    return Settled(majority(given) if given else None, len(given))
