"""What is to be known about the judge of a rollout: bias, agreement of its stages, trends.

Pure: figures over judged pairs that the caller has read. None of them decides anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

from rollout.statistics.length_control import LengthControlled, length_controlled
from shadow.judge.pairwise import Comparison, Order, Side, compared, position_bias

__all__ = [
    "Agreement",
    "Judgment",
    "PairJudged",
    "Position",
    "ScorePoint",
    "agreement",
    "length_control",
    "positions",
    "score_trend",
    "wilson",
]

_Z95 = 1.959963984540054
TREND_POINTS = 12
"""Stretches of time, alike in length, that the scores of the pairs are averaged over."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """One judgment as it is stored; ``scores`` are those of answers A and B."""

    stage: str
    order: Order
    verdict: Side | None
    scores: tuple[int, int] | None = None
    asked: str = "always"
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class PairJudged:
    """One pair: its score (None: no verdict), its lengths in tokens, and all judgments on it.

    ``at`` is when it was finished, in Unix seconds.
    """

    at: float
    segment: str | None
    score: float | None
    judge: str
    tokens: tuple[float, float] | None = None
    judgments: Sequence[Judgment] = field(default=())

    def by_stage(self, stage: str) -> dict[Order, Side]:
        """Return the verdicts of a stage by order; empty where one of them is missing."""
        own = [each for each in self.judgments if each.stage == stage]
        if any(each.verdict is None for each in own):
            return {}
        return {each.order: each.verdict for each in own if each.verdict is not None}


@dataclass(frozen=True, slots=True)
class Position:
    """How a stage treats places, over pairs that it judged in both orders.

    ``bias`` is P(first wins) - P(second wins); ``inconsistent`` the share of pairs whose winner
    changed with the order.
    """

    stage: str
    segment: str | None
    pairs: int
    first_wins: float
    second_wins: float
    bias: float
    inconsistent: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often both stages name the same winner.

    ``audited`` pairs are a random share of those that the first stage decides alone; ``agreed`` is
    the share of them on which both say the same, with its 95% Wilson bounds. ``overall`` weighs
    every pair that both saw by the inverse of the probability with which it was shown to the final
    stage (Horvitz and Thompson 1952, as a ratio), so that it speaks of all pairs.
    """

    audited: int
    agreed: float | None
    low: float | None
    high: float | None
    overall: float | None
    both: int


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """Mean points of 1 to 10 of both arms' answers, over one stretch of time."""

    from_at: float
    to_at: float
    segment: str | None
    stage: str
    baseline: float
    candidate: float
    pairs: int


def positions(pairs: Sequence[PairJudged]) -> list[Position]:
    """Return position bias and inconsistency by stage, overall first and then by segment."""
    found = []
    for stage in sorted({each.stage for pair in pairs for each in pair.judgments}):
        for segment, group in _by_segment(pairs):
            both = [v for pair in group if len(v := pair.by_stage(stage)) == 2]
            if not both:
                continue
            sides = Counter(side for verdicts in both for side in verdicts.values())
            turned = sum(compared(v).result == "inconsistent" for v in both)
            found.append(
                Position(
                    stage=stage,
                    segment=segment,
                    pairs=len(both),
                    first_wins=sides["A"] / (2 * len(both)),
                    second_wins=sides["B"] / (2 * len(both)),
                    bias=sum(position_bias(v["AB"], v["BA"]) for v in both) / len(both),
                    inconsistent=turned / len(both),
                )
            )
    return found


def agreement(pairs: Iterable[PairJudged]) -> Agreement | None:
    """Return how the stages agree; None where there is no pair that both have judged."""
    audited, both = [], []
    for pair in pairs:
        first, final = pair.by_stage("first"), pair.by_stage("final")
        if not first or not final:
            continue
        same = _winner(compared(first)) == _winner(compared(final))
        asked = next(each for each in pair.judgments if each.stage == "final")
        both.append((same, 1 / asked.probability))
        if asked.asked == "audit":
            audited.append(same)
    if not both:
        return None
    low, high = wilson(sum(audited), len(audited)) if audited else (None, None)
    total = sum(weight for _, weight in both)
    return Agreement(
        audited=len(audited),
        agreed=sum(audited) / len(audited) if audited else None,
        low=low,
        high=high,
        # Without an audit only the doubtful ones were shown to both, which says nothing of all.
        overall=sum(weight for same, weight in both if same) / total if audited else None,
        both=len(both),
    )


def score_trend(pairs: Sequence[PairJudged]) -> list[ScorePoint]:
    """Return mean scores of both arms over time, by stage, overall first and then by segment."""
    if not pairs:
        return []
    first, last = min(pair.at for pair in pairs), max(pair.at for pair in pairs)
    width = max(last - first, 1.0) / TREND_POINTS
    edges = [first + width * number for number in range(TREND_POINTS + 1)]
    points = []
    for stage in sorted({each.stage for pair in pairs for each in pair.judgments}):
        for segment, group in _by_segment(pairs):
            for number, (start, end) in enumerate(pairwise(edges)):
                last_one = number == TREND_POINTS - 1
                within = [p for p in group if start <= p.at and (p.at < end or last_one)]
                means = [m for pair in within if (m := _mean_scores(pair, stage)) is not None]
                if means:
                    baseline, candidate = (sum(m[i] for m in means) / len(means) for i in (0, 1))
                    points.append(
                        ScorePoint(start, end, segment, stage, baseline, candidate, len(means))
                    )
    return points


def length_control(pairs: Iterable[PairJudged]) -> LengthControlled | None:
    """Return the win rate at equal length, over the pairs that a judge decided."""
    known = [
        (pair.score, *pair.tokens)
        for pair in pairs
        if pair.score is not None and pair.tokens is not None and pair.judge != "not_needed"
    ]
    if not known:
        return None
    scores, baseline, candidate = zip(*known, strict=True)
    return length_controlled(scores, baseline, candidate)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95% score interval of a share (Wilson 1927); ``n`` is at least 1."""
    p, z2 = successes / n, _Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _winner(comparison: Comparison) -> int:
    return (comparison.score > 0) - (comparison.score < 0)


def _mean_scores(pair: PairJudged, stage: str) -> tuple[float, float] | None:
    """Return the mean points of baseline and candidate over the orders of one stage."""
    arms: tuple[list[int], list[int]] = ([], [])
    for each in pair.judgments:
        if each.stage == stage and each.scores is not None:
            first, second = each.scores if each.order == "AB" else each.scores[::-1]
            arms[0].append(first)
            arms[1].append(second)
    if not arms[0]:
        return None
    return sum(arms[0]) / len(arms[0]), sum(arms[1]) / len(arms[1])


def _by_segment(
    pairs: Sequence[PairJudged],
) -> list[tuple[str | None, Sequence[PairJudged]]]:
    groups: Mapping[str, list[PairJudged]] = _grouped(pairs, lambda pair: pair.segment)
    return [(None, pairs), *((name, groups[name]) for name in sorted(groups))]


def _grouped(
    pairs: Iterable[PairJudged], key: Callable[[PairJudged], str | None]
) -> dict[str, list[PairJudged]]:
    groups: dict[str, list[PairJudged]] = {}
    for pair in pairs:
        name = key(pair)
        if name is not None:
            groups.setdefault(name, []).append(pair)
    return groups
