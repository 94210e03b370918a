"""Folding facts into evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.store.evidence import Evidence
from rollout.evidence import MAX_SEGMENTS, OVERALL, EvidenceState
from rollout.folding import fold, update

NOW = 10_000.0
Make = Callable[..., Any]


def test_fact_seen_before_changes_nothing(case: Make) -> None:
    """A fact delivered twice is counted once."""
    c = case()
    c.add(c.pair(), c.pair())
    assert update(c.evidence, 2, c.pair(), c.spec) is c.evidence


def test_gap_in_the_sequence_is_refused(case: Make) -> None:
    """A lost fact is an error of the caller, not silence."""
    c = case()
    c.add(c.pair())
    with pytest.raises(ValueError, match="evidence 2 to 3 is missing"):
        update(c.evidence, 4, c.pair(), c.spec)


def test_fact_that_cannot_be_read_is_missing_data(case: Make) -> None:
    """Broken payloads are counted, and speak neither for nor against the candidate."""
    c = case()
    before = c.evidence
    pair = c.pair()
    c.add(
        Evidence("pair", NOW, {}),
        Evidence("window", NOW, {"arms": {"baseline": {"requests": "many"}}, "weight_bp": 0}),
        Evidence("pair", NOW, {**pair.payload, "judge": "maybe"}),
        Evidence("pair", NOW, {**pair.payload, "score": 7}),
        c.pair(failures={"format_valid": [0, 2]}),
        Evidence("live", NOW, {"variant": "other"}),
    )
    assert c.evidence.unreadable == 6
    assert c.evidence.metrics == before.metrics
    assert c.evidence.last_seq == 6


def test_state_goes_through_json_without_loss(case: Make) -> None:
    """Every part of the state survives the store, bit for bit."""
    analysis = case().spec.to_document()["analysis"]
    metrics = [*analysis["metrics"], {"name": "latency"}]
    c = case(analysis={**analysis, "metrics": metrics, "segments": ["category"]})
    for index in range(120):
        c.add(
            c.pair(
                score=[-1.0, 0.5, 0.0][index % 3],
                segment=f"s{index % 3}",
                tokens=(90 + index, 100),
                failures={"format_valid": [0, int(index % 40 == 0)]},
            )
        )
    c.add(c.pair(kind="noise"), c.pair(judge="error", score=None))
    c.enter(1)
    c.add(c.window(candidate=10, baseline=90, errors=1), c.check(), c.check("baseline", failed=1))
    c.enter(3)
    c.add(c.window(candidate=98, baseline=2, errors=3))
    state = {"replica": "g1", "state": "open", "failures": 5, "of": 20}
    c.add(Evidence("breaker", NOW, state))
    again = EvidenceState.from_json(json.loads(json.dumps(c.evidence.to_json())))
    assert again == c.evidence
    assert c.evidence.metrics["error_rate"].limit is not None


def test_one_by_one_is_the_same_as_all_at_once(case: Make) -> None:
    """Batches don't matter."""
    c = case()
    facts = [(i, c.pair(score=[-1.0, 1.0][i % 2])) for i in range(1, 41)]
    whole = fold(c.evidence, facts, c.spec)
    halves = fold(fold(c.evidence, facts[:13], c.spec), facts[13:], c.spec)
    assert whole == halves


def test_judge_score_and_checks_reach_their_metrics(case: Make) -> None:
    """A loss lowers the win rate, a candidate's failure raises the difference."""
    c = case()
    c.add(c.pair(judge="loss", score=-1.0, failures={"format_valid": [0, 1]}))
    metrics = c.evidence.metrics
    assert metrics["judge_win_rate"].paired[OVERALL].mean == -1
    assert metrics["format_valid"].paired[OVERALL].mean == 1
    assert metrics["error_rate"].paired[OVERALL].mean == 0
    assert metrics["format_valid"].worst == ((1.0, 1),)


def test_pair_without_a_verdict_says_nothing_about_the_judge(case: Make) -> None:
    """An error is never a tie, a loss or a zero."""
    c = case()
    c.add(c.pair(judge="error", score=None))
    assert c.evidence.metrics["judge_win_rate"].paired[OVERALL].n == 0
    assert c.evidence.metrics["format_valid"].paired[OVERALL].n == 1
    assert c.evidence.consecutive_judge_errors == 1
    c.add(c.pair())
    assert c.evidence.consecutive_judge_errors == 0


def test_refusals_that_should_rise_count_the_other_way(case: Make) -> None:
    """direction: decrease makes fewer refusals the harm."""
    metrics = [{"name": "refusal_rate", "direction": "decrease"}]
    c = case(analysis={"metrics": metrics})
    c.add(c.pair(failures={"refusal_rate": [1, 0]}))
    assert c.evidence.metrics["refusal_rate"].paired[OVERALL].mean == 1


def test_latency_over_the_slo_is_the_failure(case: Make) -> None:
    """With an SLO the values are compared with it, arm by arm."""
    c = case(analysis={"metrics": [{"name": "latency", "slo": "2s"}]})
    pair = c.pair()
    c.add(replace(pair, payload={**pair.payload, "values": {"latency": [1.0, 3.0]}}))
    assert c.evidence.metrics["latency"].paired[OVERALL].mean == 1


def test_latency_without_slo_waits_for_the_baselines_quantile(case: Make) -> None:
    """The limit is the baseline's own quantile of the past; before it is known nothing counts."""
    c = case(analysis={"metrics": [{"name": "latency"}]})
    pair = c.pair()
    slow = replace(pair, payload={**pair.payload, "values": {"latency": [1.0, 3.0]}})
    for _ in range(50):
        c.add(slow)
    assert c.evidence.metrics["latency"].paired[OVERALL].n == 0
    c.add(slow)
    assert c.evidence.metrics["latency"].paired[OVERALL].mean == 1


def test_segments_are_kept_apart_and_bounded(case: Make) -> None:
    """Each segment has its statistics; past the limit a new one counts overall only."""
    analysis = {**case().spec.to_document()["analysis"], "segments": ["category"]}
    c = case(analysis=analysis)
    for index in range(MAX_SEGMENTS + 5):
        c.add(c.pair(segment=f"s{index:02}"))
    assert len(c.evidence.segments()) == MAX_SEGMENTS
    assert c.evidence.metrics["format_valid"].paired[OVERALL].n == MAX_SEGMENTS + 5


def test_live_evidence_starts_with_half_of_shadows_capital(case: Make) -> None:
    """A good shadow does not delay the live alarm: the start is ½ + ½·e."""
    c = case()
    c.add(*(c.pair(failures={"format_valid": [int(i % 5 == 0), 0]}) for i in range(100)))
    shadow = c.evidence.metrics["format_valid"].paired[OVERALL].log_e_harm
    assert shadow < -1
    c.enter(1)
    live = c.evidence.metrics["format_valid"].live[OVERALL]
    assert -0.7 < live.log_e_harm < 0


def test_widening_keeps_live_evidence_and_a_new_epoch_drops_it(case: Make) -> None:
    """Only a new assignment starts the live evidence anew."""
    c = case()
    c.enter(1)
    c.add(c.window(candidate=10, baseline=90, errors=1))
    c.enter(3)
    assert c.evidence.metrics["error_rate"].live[OVERALL].n == 100
    c.enter(3, epoch=2)
    assert c.evidence.metrics["error_rate"].live[OVERALL].n == 0
    assert c.evidence.metrics["error_rate"].baseline == (90, 0)


def test_live_facts_of_a_former_epoch_are_not_evidence(case: Make) -> None:
    """A window of the assignment before does not count for the present one."""
    c = case()
    c.enter(1, epoch=5)
    c.add(c.window(candidate=10, baseline=90, errors=9, epoch=4), c.check(failed=1, epoch=4))
    assert c.evidence.metrics["error_rate"].live[OVERALL].n == 0
    assert c.evidence.step_candidate == 0
    assert c.evidence.step_checked == 0


def test_requests_at_another_weight_do_not_fill_the_step(case: Make) -> None:
    """A late window of the step before is evidence, but not of this step's minimum."""
    c = case()
    c.enter(1)
    c.enter(3)
    c.add(c.window(candidate=10, baseline=90, weight_bp=1000))
    assert c.evidence.step_candidate == 0
    assert c.evidence.metrics["error_rate"].live[OVERALL].n == 100
