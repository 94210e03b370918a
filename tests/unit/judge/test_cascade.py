"""Two stages as one judge: when the second is asked, what is recorded, and what the audit gives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from shadow.answer import Answer, Choice
from shadow.judge import Cascade, Escalation, Judged, Judgment, Situation
from shadow.judge.outcome import LocalVerdict, Stage
from shadow.judge.pairwise import Side, compared
from shadow.pair import Arm, Pair, Prompt

NO_BUDGET: Any = None  # a budget that no stage here asks
PAIR = Pair(Prompt("x"), Arm(Answer((Choice("one"),))), Arm(Answer((Choice("two"),))))


class Scripted:
    """A stage that says what it is told, and counts how often it was asked."""

    def __init__(self, *judged: Judged) -> None:
        self._judged = judged
        self.asked = 0

    async def compare(
        self,
        pair: Pair,
        spending: object,
        situation: Situation = Situation(),  # noqa: B008 - frozen
    ) -> Judged:
        """Return the next of the scripted results, the last one for ever."""
        judged = self._judged[min(self.asked, len(self._judged) - 1)]
        self.asked += 1
        return judged

    async def close(self) -> None:
        """Nothing to close."""


def said(stage: Stage, ab: Side, ba: Side, severity: str = "none") -> Judged:
    """Return what a stage says in both orders."""
    judgments = tuple(
        Judgment(order, "m", verdict=LocalVerdict(side, "e", severity=severity), stage=stage)  # type: ignore[arg-type]
        for order, side in (("AB", ab), ("BA", ba))
    )
    return Judged("judged", judgments, compared({"AB": ab, "BA": ba}), stage=stage)


def run(
    first: Judged,
    final: Judged = said("final", "A", "B"),  # noqa: B008 - frozen
    *,
    audit: float = 0.0,
    situation: Situation = Situation(),  # noqa: B008 - frozen
) -> tuple[Judged, int]:
    """Judge one pair; return what came of it and how often the final stage was asked."""
    strong = Scripted(final)
    cascade = Cascade(
        Scripted(first),
        strong,
        escalation=Escalation(
            audit=audit, segments=frozenset({"legal"}), risks=frozenset({"high"})
        ),
        rng=Random(1),
    )
    return asyncio.run(cascade.compare(PAIR, NO_BUDGET, situation)), strong.asked


def test_a_clear_first_verdict_stands_alone() -> None:
    """Without a reason and without the audit's draw nobody else is asked."""
    judged, asked = run(said("first", "B", "A"))
    assert asked == 0
    assert judged.comparison is not None
    assert judged.comparison.result == "win"
    assert [each.stage for each in judged.judgments] == ["first", "first"]


@pytest.mark.parametrize(
    ("first", "situation", "reason"),
    [
        (said("first", "tie", "tie"), Situation(), "tie"),
        (said("first", "A", "A"), Situation(), "inconsistent"),
        (said("first", "A", "tie"), Situation(), "inconsistent"),
        (said("first", "A", "B", "major"), Situation(), "severity"),
        (said("first", "A", "B"), Situation(segment="legal"), "segment"),
        (said("first", "A", "B"), Situation(risk="high"), "risk"),
        (Judged("judge_error", stage="first"), Situation(), "error"),
        (Judged("unjudgeable", stage="first"), Situation(), "unscored"),
    ],
)
def test_the_final_stage_is_asked_where_it_is_called_for(
    first: Judged, situation: Situation, reason: str
) -> None:
    """Each reason calls it for certain, its verdict counts, and the reason is recorded."""
    judged, asked = run(first, said("final", "B", "A"), situation=situation)
    assert asked == 1
    assert judged.comparison is not None
    assert (judged.stage, judged.asked, judged.comparison.result) == ("final", reason, "win")
    final = [each for each in judged.judgments if each.stage == "final"]
    assert [(each.asked, each.probability) for each in final] == [(reason, 1.0)] * 2
    assert judged.judgments[: len(first.judgments)] == first.judgments


def test_an_audit_is_recorded_with_its_probability() -> None:
    """What was drawn at random says so, and its verdict counts."""
    judged, asked = run(said("first", "B", "A"), said("final", "A", "B"), audit=0.2)
    assert asked == 1  # the first draw of Random(1) is 0.13
    assert judged.comparison is not None
    assert (judged.stage, judged.asked, judged.comparison.result) == ("final", "audit", "loss")
    assert {each.probability for each in judged.judgments if each.stage == "final"} == {0.2}


@pytest.mark.parametrize("status", ["judge_error", "budget_exhausted"])
def test_an_audit_without_a_verdict_leaves_the_first_one(status: str) -> None:
    """The pair needed no second opinion; an escalated one without a verdict has none."""
    broken = Judged(status, reason="gone")  # type: ignore[arg-type]
    judged, _ = run(said("first", "B", "A"), broken, audit=1.0)
    assert judged.comparison is not None
    assert (judged.status, judged.stage) == ("judged", "first")
    escalated, _ = run(said("first", "tie", "tie"), broken)
    assert (escalated.status, escalated.comparison) == (status, None)


def test_an_exhausted_budget_ends_it() -> None:
    """Where the first stage can't be paid, the dearer one is not asked."""
    judged, asked = run(Judged("budget_exhausted", stage="first"))
    assert (judged.status, asked) == ("budget_exhausted", 0)


def _disagreeing(truth: Random) -> tuple[Judged, Judged, bool]:
    """Return what two stages say of one pair that differ in 30% of clear cases."""
    first: Side = truth.choice(("A", "B"))
    differs = truth.random() < 0.3
    final: Side = first if not differs else ("B" if first == "A" else "A")
    other: Callable[[Side], Side] = lambda side: "B" if side == "A" else "A"  # noqa: E731
    return said("first", first, other(first)), said("final", final, other(final)), differs


def test_the_audit_estimates_agreement_without_bias() -> None:
    """Audited pairs are a random share of the clear ones: their disagreement is the truth's."""
    truth, rng = Random(5), Random(6)
    audited: Counter[bool] = Counter()
    for _ in range(8000):
        first, final, differs = _disagreeing(truth)
        cascade = Cascade(
            Scripted(first), Scripted(final), escalation=Escalation(audit=0.1), rng=rng
        )
        judged = asyncio.run(cascade.compare(PAIR, NO_BUDGET))
        if judged.asked == "audit":
            audited[differs] += 1
    total = audited.total()
    assert total / 8000 == pytest.approx(0.1, abs=0.015)
    assert audited[True] / total == pytest.approx(0.3, abs=0.06)  # four standard errors


def test_reasons_and_probabilities_reach_every_judgment() -> None:
    """A judgment keeps what it said when the reason for asking is added."""
    judged = said("final", "A", "B").asked_because("audit", 0.1)
    assert [(each.asked, each.probability) for each in judged.judgments] == [("audit", 0.1)] * 2
    assert (
        replace(judged.judgments[0], asked="always", probability=1.0)
        == said("final", "A", "B").judgments[0]
    )
