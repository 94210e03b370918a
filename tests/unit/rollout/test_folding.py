"""Folding facts into evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.store.evidence import Evidence
from rollout.clustering import WINDOW
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


def test_limit_at_full_weight_follows_the_baseline_within_the_step(case: Make) -> None:
    """Holdback and pairs of the step move it; a window is held against what was known before."""
    c = case()
    c.add(c.pair(failures={"format_valid": [0, 0]}))
    c.enter(1)
    c.add(c.window(candidate=100, baseline=998, base_errors=9))
    c.enter(3)
    first = c.evidence.metrics["error_rate"].limit
    assert first.limit == pytest.approx(2 * 9.5 / 1000)
    c.add(c.window(candidate=900, baseline=450, errors=20, base_errors=4))
    c.add(*(c.pair(failures={"error_rate": [1, 0]}) for _ in range(10)))
    c.add(*(c.pair() for _ in range(39)), c.pair(failures={"error_rate": [None, 0]}))
    before = c.evidence.metrics["error_rate"].limit
    assert before == first.update(requests=900, failures=20).update_baseline(
        requests=499, failures=14
    )
    assert before.limit == first.limit
    c.add(c.window(candidate=100, baseline=1, errors=10))
    after = c.evidence.metrics["error_rate"].limit
    assert after.capitals == before.update(requests=100, failures=10).capitals
    assert after.limit == pytest.approx(2 * 14 / 500)
    late = c.window(candidate=10, baseline=500, base_errors=400, epoch=0)
    c.add(late, c.check("baseline", failed=1), c.check(failed=1))
    assert c.evidence.metrics["error_rate"].limit == after
    checked = c.evidence.metrics["format_valid"].limit
    assert (checked.baseline_requests, checked.baseline_failures) == (51, 1)
    assert (checked.requests, checked.failures) == (1, 1)
    c.enter(3)
    assert c.evidence.metrics["error_rate"].limit.baseline_requests == 0


def _values(c: Any, **values: Any) -> Evidence:
    pair: Evidence = c.pair()
    return replace(pair, payload={**pair.payload, "values": values})


def _of(c: Any, user: str | None, score: float, *, segment: str | None = None) -> Evidence:
    pair: Evidence = c.pair(score=score, segment=segment)
    return replace(pair, payload={**pair.payload, "cluster": user})


@pytest.mark.parametrize(
    ("name", "key"), [("ttft", "ttft"), ("inter_token_latency", "inter_token")]
)
def test_times_are_held_to_their_slo_or_to_the_baselines_quantile(
    case: Make, name: str, key: str
) -> None:
    """Time to first token and pace are compared like latency, with their own values."""
    c = case(analysis={"metrics": [{"name": name, "slo": "50ms"}]})
    c.add(_values(c, **{key: [0.01, 0.06]}), _values(c, **{key: [None, 0.06]}))
    paired = c.evidence.metrics[name].paired[OVERALL]
    assert (paired.n, paired.mean) == (1, 1)
    c = case(analysis={"metrics": [{"name": name}]})
    c.add(*(_values(c, **{key: [0.01, 0.06]}) for _ in range(51)))
    paired = c.evidence.metrics[name].paired[OVERALL]
    assert (paired.n, paired.mean) == (1, 1)


def test_slow_first_token_of_a_live_answer_is_a_failure(case: Make) -> None:
    """Checked answers are held to the limit that gateways do not count."""
    c = case(analysis={"metrics": [{"name": "ttft", "slo": "50ms"}]})
    c.enter(1)
    check = c.check()
    c.add(replace(check, payload={**check.payload, "values": {"ttft": 0.08}}))
    assert c.evidence.metrics["ttft"].live[OVERALL].candidate_failures == 1


def test_cost_is_a_paired_relative_difference(case: Make) -> None:
    """A request that costs three times as much is +0.5 of both arms' cost together."""
    c = case(analysis={"metrics": [{"name": "error_rate"}, {"name": "cost", "role": "signal"}]})
    c.add(_values(c, cost=[0.001, 0.003]), _values(c, cost=[None, 0.003]), _values(c))
    paired = c.evidence.metrics["cost"].paired[OVERALL]
    assert (paired.n, paired.mean) == (1, 0.5)
    assert c.evidence.metrics["cost"].live == {}


@pytest.mark.parametrize(
    "name",
    ["escalation_rate", "abstention_rate", "citation_valid", "known_failure_rate",
     "over_refusal_rate", "under_refusal_rate", "repetition_rate", "language_match"],
)  # fmt: skip
def test_further_checks_are_compared_where_they_apply(case: Make, name: str) -> None:
    """Their failures come from the checks of the same name, on pairs and on live answers."""
    c = case(analysis={"metrics": [{"name": name}]})
    c.add(c.pair(failures={name: [0, 1]}), c.pair(failures={name: [None, None]}))
    assert c.evidence.metrics[name].paired[OVERALL].n == 1
    assert c.evidence.metrics[name].not_applicable == 1
    c.enter(1)
    check = c.check()
    c.add(replace(check, payload={**check.payload, "failures": {name: 1}}))
    assert c.evidence.metrics[name].live[OVERALL].candidate_failures == 1


def test_both_directions_are_kept_apart(case: Make) -> None:
    """direction: both has a process for more refusals and one for fewer."""
    c = case(analysis={"metrics": [{"name": "refusal_rate", "direction": "both"}]})
    c.add(*(c.pair(failures={"refusal_rate": [1, 0]}) for _ in range(30)))
    known = c.evidence.metrics["refusal_rate"]
    assert known.paired[OVERALL].log_e_harm < 0
    assert known.reverse[OVERALL].log_e_harm > 3
    assert known.worst[0][0] == 1.0


def test_repeated_pairs_of_one_user_are_one(case: Make) -> None:
    """Their mean counts once, after the window, and a later visit counts anew."""
    c = case()
    c.add(*(_of(c, "u1", -1.0) for _ in range(3)), _of(c, "u1", 1.0))
    assert c.evidence.metrics["judge_win_rate"].paired[OVERALL].n == 0
    c.add(*(_of(c, None, 0.0) for _ in range(WINDOW - 4)))
    paired = c.evidence.metrics["judge_win_rate"].paired[OVERALL]
    assert paired.n == WINDOW - 4 + 1
    assert paired.mean * paired.n == pytest.approx(-0.5)
    assert c.evidence.pairs == WINDOW
    assert c.evidence.open == ()
    c.add(_of(c, "u1", -1.0))
    assert len(c.evidence.open) == 1


def test_different_users_are_delayed_and_not_merged(case: Make) -> None:
    """Everybody counts as one, at most the window later."""
    c = case()
    c.add(*(_of(c, f"u{n}", 1.0) for n in range(100)))
    assert c.evidence.metrics["judge_win_rate"].paired[OVERALL].n == 100 - (WINDOW - 1)


def test_pairs_without_a_user_count_at_once(case: Make) -> None:
    """Where nobody is known nothing is merged and nothing is delayed."""
    c = case()
    c.add(*(_of(c, None, 1.0) for _ in range(5)))
    assert c.evidence.metrics["judge_win_rate"].paired[OVERALL].n == 5


def test_users_of_several_segments_count_in_each(case: Make) -> None:
    """A mean never mixes segments, and segments stay bounded when several close at once."""
    analysis = {**case().spec.to_document()["analysis"], "segments": ["category"]}
    c = case(analysis=analysis)
    c.add(_of(c, "u", -1.0, segment="a"), _of(c, "u", 1.0, segment="b"))
    c.add(*(_of(c, None, 0.0, segment="a") for _ in range(WINDOW)))
    paired = c.evidence.metrics["judge_win_rate"].paired
    assert paired["b"].mean == 1
    assert paired["a"].total == 1  # a loss is +1 on the side of harm
    c.add(*(_of(c, "u", 0.0, segment=f"s{n:02}") for n in range(MAX_SEGMENTS * 2)))
    c.add(*(_of(c, None, 0.0) for _ in range(WINDOW)))
    assert len(c.evidence.segments()) == MAX_SEGMENTS


def test_first_pair_of_a_user_can_stand_for_the_user(case: Make) -> None:
    """clusters: first counts one pair a user, without delay."""
    analysis = {**case().spec.to_document()["analysis"], "clusters": "first"}
    c = case(analysis=analysis)
    c.add(_of(c, "u1", -1.0), _of(c, "u1", 1.0), _of(c, "u2", -1.0), _of(c, None, -1.0))
    paired = c.evidence.metrics["judge_win_rate"].paired[OVERALL]
    assert (paired.n, paired.mean) == (3, -1.0)
    assert c.evidence.pairs == 4


def test_every_pair_counts_where_the_spec_says_so(case: Make) -> None:
    """clusters: none takes pairs of one user as independent."""
    analysis = {**case().spec.to_document()["analysis"], "clusters": "none"}
    c = case(analysis=analysis)
    c.add(*(_of(c, "u1", -1.0) for _ in range(4)))
    assert c.evidence.metrics["judge_win_rate"].paired[OVERALL].n == 4


def test_labels_and_every_judged_pair_reach_the_corrected_win_rate(case: Make) -> None:
    """People's verdicts are counted beside all of the judge's, a pair without one as a tie."""
    c = case()
    c.add(c.pair(score=1.0, judge="win"), c.pair(score=None, judge="error"))
    label = {"pair_id": 1, "label": 0.5, "judge": 1.0, "probability": 0.5}
    c.add(Evidence("label", NOW, label), Evidence("label", NOW, {**label, "label": 0.4}))
    labels = c.evidence.metrics["judge_win_rate"].labels
    assert (labels.n, labels.judged_n) == (1, 2)
    assert c.evidence.unreadable == 1


def test_drawn_pairs_are_counted_by_segment_whatever_became_of_them(case: Make) -> None:
    """Compared pairs, pairs without a verdict, and what never became a pair."""
    c = case()

    def pair(segment: str, *, kept: bool) -> Evidence:
        made = c.pair(segment=segment)
        return replace(made, payload={**made.payload, "kept": kept})

    lost = {"segments": {"a": {"shed": 3, "over_size": 1}, "b": {"expired": 2}}}
    c.add(c.pair(segment="old"))
    assert c.evidence.subset is None
    c.add(pair("a", kept=True), pair("b", kept=False), Evidence("dropped", NOW, lost))
    assert c.evidence.subset.counts == (("a", 1, 4), ("b", 0, 3))
    assert (c.evidence.pairs, c.evidence.unreadable) == (3, 0)
    assert EvidenceState.from_json(json.loads(json.dumps(c.evidence.to_json()))) == c.evidence
    c.add(Evidence("dropped", NOW, {"segments": {"a": {"shed": -1}}}))
    assert c.evidence.unreadable == 1


def test_pairs_that_people_could_not_be_asked_about_stand_beside_no_label(
    case: Callable[..., Any],
) -> None:
    """Where people are asked, only pairs that could be drawn count beside their labels."""
    c = case()
    asked = c.pair(score=1.0, judge="win")
    for chance in (0.1, None, 0.6):
        c.add(replace(asked, payload={**asked.payload, "review_probability": chance}))
    known = c.evidence.metrics["judge_win_rate"]
    assert known.labels.judged_n == 2
    assert known.paired[""].n == 3
