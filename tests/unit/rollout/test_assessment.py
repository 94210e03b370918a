"""How the evidence on a metric is reduced to what decides, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import pytest

from gateway.store.evidence import Evidence
from rollout.assessment import assess, combined_harm
from rollout.evidence import OVERALL
from rollout.measuring import measurements
from rollout.policy import decide
from rollout.shares import swapped
from rollout.statistics import LiveState
from rollout.verdicts import verdicts

NOW = 10_000.0
Make = Callable[..., Any]
LIMITS = {"min_samples": 100, "min_duration": "10s", "max_duration": "30m"}
ERRORS = {"name": "error_rate", "margin": 0.05}


def _case(case: Make, *metrics: dict[str, Any], **analysis: Any) -> Any:
    return case(analysis={"metrics": list(metrics), **LIMITS, **analysis})


def _decide(c: Any) -> Any:
    return decide(c.evidence, c.spec, c.status, NOW)


def _label(label: float, judge: float, probability: float = 1.0) -> Evidence:
    payload = {"pair_id": 1, "label": label, "judge": judge, "probability": probability}
    return Evidence("label", NOW - 1, payload)


@pytest.mark.parametrize("bits", [[0, 1], [1, 0]])
def test_either_direction_is_harm_where_both_are(case: Make, bits: list[int]) -> None:
    """A model that refuses much more or much less is rolled back."""
    c = _case(case, {"name": "refusal_rate", "direction": "both", "margin": 0.05})
    c.add(*(c.pair(failures={"refusal_rate": bits}) for _ in range(30)))
    assert _decide(c).action == "rollback"


def test_both_directions_must_be_proven(case: Make) -> None:
    """The smaller of the two proofs counts, so fewer refusals are no proof of no change."""
    metric = {"name": "refusal_rate", "direction": "both", "margin": 0.05}
    c = _case(case, metric)
    c.add(*(c.pair(failures={"refusal_rate": [int(n % 12 == 0), 0]}) for n in range(200)))
    both = assess(c.evidence, c.spec)[0]
    known = c.evidence.metrics["refusal_rate"]
    assert known.paired[OVERALL].log_e_non_inferior > log(20)
    assert both.log_e_non_inferior == known.reverse[OVERALL].log_e_non_inferior < log(20)
    assert not both.proven(c.spec)
    c = _case(case, metric)
    c.add(*(c.pair(failures={"refusal_rate": [0, 0]}) for _ in range(200)))
    assert assess(c.evidence, c.spec)[0].proven(c.spec)
    assert _decide(c).action == "advance"


@pytest.mark.parametrize("direction", ["decrease", "both"])
def test_fewer_refusals_of_live_answers_are_harm_too(case: Make, direction: str) -> None:
    """A drop from 10% to none is found by the baseline's refusals, and their rise is no harm."""
    metric = {"name": "refusal_rate", "direction": direction, "margin": 0.05}
    c = _case(case, metric)
    c.enter(1)
    for n in range(300):
        c.add(_checked(c, "candidate", 0), _checked(c, "baseline", int(n % 10 == 0)))
    assert _decide(c).action == "rollback"
    assert measurements(c.evidence, c.spec)[0]["live"]["baseline_rate"] == pytest.approx(0.1)
    c = _case(case, metric)
    c.enter(1)
    for n in range(300):
        c.add(_checked(c, "candidate", int(n % 10 == 0)), _checked(c, "baseline", 0))
    assert (_decide(c).action == "rollback") is (direction == "both")


def _checked(c: Any, variant: str, refused: int) -> Evidence:
    payload = {**c.check(variant).payload, "weight_bp": 5000}
    return Evidence("live", NOW, {**payload, "failures": {"refusal_rate": refused}}, epoch=1)


def test_swapped_live_evidence_is_that_of_the_arms_changed_about() -> None:
    """It equals what would have been counted with the arms' names exchanged."""
    live = LiveState.start(margin=0.02).update(
        candidate_failures=3, failures=10, share=0.25, candidate_requests=50, requests=200
    )
    other = LiveState.start(margin=0.02).update(
        candidate_failures=7, failures=10, share=0.75, candidate_requests=150, requests=200
    )
    assert swapped(live) == other


@pytest.mark.parametrize("live", [False, True])
def test_worst_segment_stops_a_rollout_by_itself(case: Make, live: bool) -> None:
    """One bad segment among eleven sound ones is enough, on pairs and on live answers."""
    metrics: list[dict[str, Any]] = [
        {"name": "format_valid", "margin": 0.05},
        ERRORS,
        {"name": "refusal_rate"},
    ]
    c = _case(case, *metrics, segments=["category"])
    if live:
        c.enter(1)
    for _ in range(60):
        for n in range(12):
            segment, bad = f"s{n:02}", int(n == 7)
            if live:
                checks = [c.check(failed=bad), c.check("baseline", failed=0)]
                weight = {"weight_bp": 5000}
                c.add(
                    *(
                        Evidence("live", NOW, {**each.payload, **weight}, segment, 1)
                        for each in checks
                    )
                )
            else:
                c.add(c.pair(segment=segment, failures={"format_valid": [0, bad]}))
    decision = _decide(c)
    assert (decision.action, decision.metric) == ("rollback", "format_valid")
    found = {each.segment for each in decision.verdicts if each.verdict == "fail"}
    assert found == {None, "s07"}


def test_labels_are_needed_and_then_decide(case: Make) -> None:
    """The judge's own proof is not enough; the reason names what people say and what is missing."""
    judge = {"name": "judge_win_rate", "margin": 0.1, "min_human_labels": 40}
    c = _case(case, judge)
    c.prove()
    c.add(*(_label(0.5, 0.5) for _ in range(30)))
    decision = _decide(c)
    assert decision.action == "hold"
    reason = decision.verdicts[0].reason
    assert decision.verdicts[0].verdict == "inconclusive"
    assert "30 of 40 human labels, corrected win rate 0.500, at least 0." in reason
    assert "more labels" in reason
    c.add(*(_label(1.0, 0.5) for _ in range(150)))
    decision = _decide(c)
    assert decision.action == "advance"
    assert decision.verdicts[0].verdict == "pass"
    assert decision.verdicts[0].log_e_non_inferior > log(20)


def test_people_who_disagree_with_the_judge_keep_it_from_passing(case: Make) -> None:
    """A judge that loves the candidate proves nothing where people prefer the baseline."""
    judge = {"name": "judge_win_rate", "margin": 0.1, "min_human_labels": 40}
    c = _case(case, judge)
    c.add(*(c.pair(score=1.0, judge="win") for _ in range(300)))
    assert c.evidence.metrics["judge_win_rate"].paired[OVERALL].log_e_non_inferior > log(20)
    c.add(*(_label(0.0, 1.0) for _ in range(100)))
    verdict = verdicts(c.evidence, c.spec)[0]
    assert verdict.verdict == "inconclusive"
    assert "the labels do not point to a proof" in verdict.reason
    assert _decide(c).action == "hold"


def test_labels_without_a_minimum_are_shown_and_do_not_decide(case: Make) -> None:
    """Reviews made beside a rollout inform; only min_human_labels makes them a condition."""
    c = _case(case, {"name": "judge_win_rate", "margin": 0.1})
    c.prove()
    c.add(*(_label(0.0, 0.5) for _ in range(5)))
    assert _decide(c).action == "advance"
    assert measurements(c.evidence, c.spec)[0]["labels"]["n"] == 5


def test_limit_takes_no_part_in_the_error_budget(case: Make) -> None:
    """A metric that can't prove harm does not dilute those that can."""
    limit = {"name": "cache", "source": {"prometheus": {"query": "x", "max": 1}}}
    plain, more = _case(case, ERRORS), _case(case, ERRORS, limit)
    for c in (plain, more):
        c.add(*(c.pair(failures={"error_rate": [0, 1]}) for _ in range(10)))
    harms = [combined_harm(c.evidence, assess(c.evidence, c.spec))[0] for c in (plain, more)]
    assert harms[0] == harms[1]
