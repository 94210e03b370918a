"""Missing verdicts never widen: too many, or by arm or segment, and nothing is concluded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from rollout.api.judging import missing_report
from rollout.assessment import assess
from rollout.evidence import OVERALL, EvidenceState
from rollout.policy import decide
from rollout.verdicts import verdicts

NOW = 10_000.0
Make = Callable[..., Any]


def _win_rate(c: Any) -> Any:
    return next(v for v in verdicts(c.evidence, c.spec) if v.metric == "judge_win_rate")


def _judge_recovered(c: Any) -> None:
    """Let the errors be long ago, so that nothing but the missing verdicts can hold."""
    c.evidence = c.evidence.evolve(recent="v" * 100)


def test_few_missing_verdicts_change_nothing(case: Make) -> None:
    """At 4%, missing alike, proven stays proven."""
    c = case()
    c.add(*(c.pair(score=None if n % 25 == 0 else 0.0, judge="error" if n % 25 == 0 else "tie")
            for n in range(1, 301)))  # fmt: skip
    _judge_recovered(c)
    assert c.evidence.metrics["judge_win_rate"].asked[OVERALL].missing == 12
    assert _win_rate(c).verdict == "pass"
    assert decide(c.evidence, c.spec, c.status, NOW).action == "advance"


def test_too_many_missing_verdicts_are_inconclusive(case: Make) -> None:
    """At 10% the proof on the rest counts for nothing; the bounds are said."""
    c = case()
    c.add(*(c.pair(score=None if n % 10 == 0 else 0.0, judge="error" if n % 10 == 0 else "tie")
            for n in range(1, 401)))  # fmt: skip
    _judge_recovered(c)
    verdict = _win_rate(c)
    assert verdict.verdict == "inconclusive"
    assert "10.0% of verdicts are missing (40 of 400)" in verdict.reason
    assert "lost the win rate is 0.450, with all won 0.550" in verdict.reason
    decision = decide(c.evidence, c.spec, c.status, NOW)
    assert decision.action == "hold"
    assert "verdicts are missing" in decision.reason


def test_long_answers_that_go_unjudged_count_as_missing(case: Make) -> None:
    """Unjudged because of the candidate's length: under 5% in all, and still by arm."""
    c = case()
    c.add(*(c.pair(tokens=(100, 90)) for _ in range(300)))
    c.add(*(c.pair(tokens=(100, 110)) for _ in range(300)))
    c.add(*(c.pair(score=None, judge="unjudgeable", tokens=(100, 9000)) for _ in range(20)))
    assert c.evidence.metrics["judge_win_rate"].asked[OVERALL].share < 0.05
    assert "by arm" in _win_rate(c).reason
    assert decide(c.evidence, c.spec, c.status, NOW).action == "hold"


def test_a_segment_whose_verdicts_are_missing_is_named(case: Make) -> None:
    """Few in all, a third of one segment: inconclusive, and it says where."""
    c = case(
        analysis={
            "metrics": [{"name": "judge_win_rate", "margin": 0.1}],
            "segments": ["category"],
            "min_samples": 100, "min_duration": "10s", "max_duration": "30m",
        }
    )  # fmt: skip
    c.add(*(c.pair(segment="billing") for _ in range(700)))
    c.add(*(c.pair(segment="legal", score=None if n % 3 == 0 else 0.0,
                   judge="error" if n % 3 == 0 else "tie") for n in range(60)))  # fmt: skip
    _judge_recovered(c)
    assert "'legal'" in _win_rate(c).reason
    assert decide(c.evidence, c.spec, c.status, NOW).action == "hold"


@pytest.mark.parametrize(
    ("judge", "tokens"), [("budget_exhausted", (100, 100)), ("unjudgeable", (None, None))]
)
def test_what_was_not_asked_is_not_missing(case: Make, judge: str, tokens: Any) -> None:
    """A used-up budget holds by itself; a pair without two answers has no verdict to miss."""
    c = case()
    c.prove()
    c.add(*(c.pair(score=None, judge=judge, tokens=tokens) for _ in range(50)))
    assert c.evidence.metrics["judge_win_rate"].asked[OVERALL].missing == 0


def test_harm_acts_in_spite_of_missing_verdicts(case: Make) -> None:
    """What is missing never widens, and never shields a candidate that is proven worse."""
    c = case()
    c.add(*(c.pair(score=None, judge="error") for _ in range(3)))
    c.add(*(c.pair(score=-1.0, judge="loss") for _ in range(40)))
    assert assess(c.evidence, c.spec)[0].incomplete(c.spec) is not None
    assert decide(c.evidence, c.spec, c.status, NOW).action == "rollback"


def test_the_counts_survive_storage_and_older_documents(case: Make) -> None:
    """State goes to JSON and back; one that was stored before has none, and loads."""
    c = case()
    c.add(c.pair(score=None, judge="error"), c.pair())
    document = json.loads(json.dumps(c.evidence.to_json()))
    assert EvidenceState.from_json(document) == c.evidence
    del document["metrics"]["judge_win_rate"]["asked"]
    older = EvidenceState.from_json(document)
    assert older.metrics["judge_win_rate"].asked == {}
    assert assess(older, c.spec)[0].incomplete(c.spec) is None


def test_the_api_shows_the_bounds_that_decide(case: Make) -> None:
    """The report's counts are the evidence's own, overall first and then by segment."""
    c = case(
        analysis={
            "metrics": [{"name": "judge_win_rate", "margin": 0.1}],
            "segments": ["category"],
            "min_samples": 100, "min_duration": "10s", "max_duration": "30m",
        }
    )  # fmt: skip
    c.add(*(c.pair(segment="billing", score=1.0, judge="win") for _ in range(8)))
    c.add(*(c.pair(segment="legal", score=None, judge="error") for _ in range(2)))
    report = missing_report(c.evidence, c.spec)
    assert report is not None
    assert [(each.segment, each.given, each.missing) for each in report.counts] == [
        (None, 8, 2),
        ("billing", 8, 0),
        ("legal", 0, 2),
    ]
    overall = report.counts[0]
    assert (overall.share, overall.win_rate) == (0.2, 1.0)
    assert (overall.worst, overall.best) == (pytest.approx(0.8), 1.0)
    assert report.inconclusive is not None
