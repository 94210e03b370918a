"""One test for every branch of the decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.store.evidence import Evidence
from rollout.policy import decide
from rollout.states import ACTIVE, Phase
from rollout.statistics.subset import SubsetState

NOW = 10_000.0
Make = Callable[..., Any]
BROKEN = {"format_valid": [0, 1]}


def _decide(case: Any) -> Any:
    return decide(case.evidence, case.spec, case.status, NOW)


def _verdicts(decision: Any) -> dict[tuple[str, str | None], str]:
    return {(each.metric, each.segment): each.verdict for each in decision.verdicts}


def test_proven_candidate_advances(case: Make) -> None:
    """Every guardrail proven, enough pairs and time: next step."""
    c = case()
    c.prove()
    decision = _decide(c)
    assert decision.action == "advance"
    assert set(_verdicts(decision).values()) == {"pass"}


def test_harm_on_one_guardrail_rolls_back_at_once(case: Make) -> None:
    """Proven harm acts before the step's minimum is reached, and names its metric."""
    c = case()
    c.enter(0, ago=0.0)
    c.add(*(c.pair(failures=BROKEN) for _ in range(30)))
    decision = _decide(c)
    assert decision.action == "rollback"
    assert decision.metric == "format_valid"
    assert "format_valid" in decision.reason
    assert _verdicts(decision)["format_valid", None] == "fail"


def test_harm_rolls_back_a_paused_rollout_too(case: Make) -> None:
    """A pause does not shield users from proven harm."""
    c = case()
    c.add(*(c.pair(failures=BROKEN) for _ in range(30)))
    c.paused()
    assert _decide(c).action == "rollback"


def test_harm_pauses_where_the_spec_says_so(case: Make) -> None:
    """on_failure: pause stops the automation instead of rolling back, once."""
    c = case(on_failure="pause")
    c.add(*(c.pair(failures=BROKEN) for _ in range(30)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "failure")
    c.paused()
    assert _decide(c).action == "hold"


def test_harm_in_one_segment_rolls_back(case: Make) -> None:
    """A regression confined to a small segment is found although the others are sound."""
    c = case(analysis={**_analysis(case), "segments": ["category"]})
    for _ in range(60):
        c.add(*(c.pair(segment=f"s{index}") for index in range(9)))
        c.add(c.pair(segment="bad", failures=BROKEN))
    decision = _decide(c)
    assert decision.action == "rollback"
    assert _verdicts(decision)["format_valid", "bad"] == "fail"
    assert _verdicts(decision)["format_valid", "s1"] != "fail"


def test_harm_in_a_signal_only_warns(case: Make) -> None:
    """Answers three times as long fail the signal's verdict and change nothing else."""
    c = case()
    c.add(*(c.pair(tokens=(100, 300)) for _ in range(200)))
    decision = _decide(c)
    assert _verdicts(decision)["output_tokens", None] == "fail"
    assert decision.action == "advance"


def test_judge_losses_roll_back(case: Make) -> None:
    """A candidate that loses most pairs is rolled back on the judge alone."""
    c = case()
    c.add(*(c.pair(judge="loss", score=-1.0) for _ in range(40)))
    decision = _decide(c)
    assert (decision.action, decision.metric) == ("rollback", "judge_win_rate")


def test_too_few_pairs_hold(case: Make) -> None:
    """Below min_pairs nothing advances, and the reason counts them."""
    c = case()
    c.add(*(c.pair() for _ in range(20)))
    decision = _decide(c)
    assert decision.action == "hold"
    assert "20 of 50 pairs" in decision.reason


def test_minimum_duration_holds(case: Make) -> None:
    """Proof within the first seconds still waits for the minimum duration."""
    c = case()
    c.prove()
    c.status = replace(c.status, step_started_at=NOW - 4)
    decision = _decide(c)
    assert decision.action == "hold"
    assert "6 s to go" in decision.reason


def test_unproven_guardrail_holds_and_then_pauses(case: Make) -> None:
    """Without proof the step holds; when its time is spent it pauses as inconclusive."""
    c = case()
    c.add(*_undecided(c))
    assert _decide(c).action == "hold"
    c.status = replace(c.status, step_started_at=NOW - 3600)
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "inconclusive")
    assert "budget is spent" in decision.reason
    assert "judge_win_rate" in decision.reason


def test_spent_pairs_pause_as_inconclusive(case: Make) -> None:
    """max_pairs is a budget like time."""
    c = case(steps=[{"mirror": {"min_pairs": 50, "max_pairs": 60}}, {"set_weight": 10}])
    c.add(*_undecided(c))
    assert _decide(c).pause_reason == "inconclusive"


def test_inconclusive_may_roll_back_by_the_spec(case: Make) -> None:
    """on_inconclusive: rollback gives up instead of waiting for a person."""
    c = case(on_inconclusive="rollback")
    c.add(*_undecided(c))
    c.status = replace(c.status, step_started_at=NOW - 3600)
    assert _decide(c).action == "rollback"


def test_proof_that_was_taken_back_is_no_proof(case: Make) -> None:
    """Nothing latches: losses after the proof hold the step again."""
    c = case()
    c.prove()
    assert _decide(c).action == "advance"
    c.add(*(c.pair(judge="loss", score=-1.0 if i % 2 else 0.0) for i in range(60)))
    assert _decide(c).action != "advance"


def test_no_data_holds_then_pauses(case: Make) -> None:
    """Silence holds first and pauses after the time that the spec gives it."""
    c = case(on_no_data={"action": "hold", "after": "60s", "then": "pause"})
    c.enter(0, ago=30)
    assert _decide(c).action == "hold"
    c.enter(0, ago=90)
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "no_data")


def test_no_data_may_hold_forever(case: Make) -> None:
    """then: hold never pauses, and never advances either."""
    c = case(on_no_data={"action": "hold", "after": "60s", "then": "hold"})
    c.enter(0, ago=90)
    assert _decide(c).action == "hold"


def test_metric_without_data_blocks_although_pairs_arrive(case: Make) -> None:
    """A guardrail that no pair speaks about keeps the step where it is."""
    c = case()
    c.add(*(c.pair(failures={"format_valid": [None, None]}) for _ in range(200)))
    decision = _decide(c)
    assert decision.action == "hold"
    assert "format_valid" in decision.reason
    assert _verdicts(decision)["format_valid", None] == "no_data"


def test_metric_that_never_applies_does_not_block_where_allowed(case: Make) -> None:
    """must_have_data: false lets a check without a subject pass, and only then."""
    metrics = [dict(each) for each in _analysis(case)["metrics"]]
    metrics[1]["must_have_data"] = False
    c = case(analysis={**_analysis(case), "metrics": metrics})
    c.add(*(c.pair(failures={"format_valid": [None, None]}) for _ in range(200)))
    assert _decide(c).action == "advance"
    c.add(c.pair())
    assert _decide(c).action == "hold"


def test_consecutive_judge_errors_pause(case: Make) -> None:
    """A dead judge pauses the rollout, although every check is proven."""
    c = case()
    c.prove()
    c.add(*(c.pair(judge="error", score=None) for _ in range(4)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "evaluator_error")


def test_evaluator_errors_may_hold_by_the_spec(case: Make) -> None:
    """then: hold waits for the judge to come back."""
    c = case(on_evaluator_error={"consecutive_error_limit": 2, "then": "hold"})
    c.prove()
    c.add(*(c.pair(judge="error", score=None) for _ in range(2)))
    assert _decide(c).action == "hold"


def test_many_scattered_judge_errors_hold(case: Make) -> None:
    """More than 5% missing verdicts are inconclusive even without a run of errors."""
    c = case()
    c.prove()
    for _ in range(7):
        c.add(c.pair(judge="error", score=None), c.pair(), c.pair())
    decision = _decide(c)
    assert decision.action == "hold"
    assert "judge failed on" in decision.reason


def test_exhausted_judge_budget_holds(case: Make) -> None:
    """Without money for the judge nothing is promoted."""
    c = case()
    c.prove()
    c.add(c.pair(judge="budget_exhausted", score=None))
    decision = _decide(c)
    assert decision.action == "hold"
    assert "budget" in decision.reason


def test_self_contradicting_judge_pauses(case: Make) -> None:
    """Ties by contradiction are no proof."""
    c = case()
    c.add(*(c.pair(judge="inconsistent", score=0.0) for _ in range(200)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "evaluator_error")
    assert "contradicts itself" in decision.reason


def test_noise_alarm_pauses_and_does_not_roll_back(case: Make) -> None:
    """When the baseline differs from itself, pairs that look terrible are not believed."""
    c = case()
    c.add(*(c.pair(kind="noise", failures=BROKEN) for _ in range(40)))
    c.add(*(c.pair(failures=BROKEN) for _ in range(40)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "evaluator_error")
    assert _verdicts(decision)["format_valid", None] == "error"


def test_noise_alarm_in_the_other_direction_counts_too(case: Make) -> None:
    """A mirror that makes answers look better is as wrong as one that makes them look worse."""
    c = case()
    c.prove()
    c.add(*(c.pair(kind="noise", failures={"format_valid": [1, 0]}) for _ in range(40)))
    assert _decide(c).pause_reason == "evaluator_error"


def test_human_labels_that_nobody_can_give_stay_inconclusive(case: Make) -> None:
    """min_human_labels is never taken as proven, and the verdict says what to do."""
    metrics = [{"name": "judge_win_rate", "margin": 0.1, "min_human_labels": 60}]
    c = case(analysis={**_analysis(case), "metrics": metrics})
    c.prove()
    decision = _decide(c)
    assert decision.action == "hold"
    verdict = decision.verdicts[0]
    assert verdict.verdict == "inconclusive"
    assert "60 human labels" in verdict.reason


def test_live_step_needs_candidate_requests_and_checks(case: Make) -> None:
    """At a weight the proof from shadow alone does not widen."""
    c = case()
    c.prove()
    c.enter(1)
    assert "0 of 100 candidate requests" in _decide(c).reason
    c.add(c.window(candidate=100, baseline=900))
    decision = _decide(c)
    assert decision.action == "hold"
    assert "checked candidate answers" in decision.reason
    c.add(*(c.check() for _ in range(100)))
    assert "pairs while live" in _decide(c).reason
    c.add(*(c.pair() for _ in range(60)))
    assert _decide(c).action == "advance"


def test_live_harm_rolls_back(case: Make) -> None:
    """Errors that only live traffic shows roll back, however good the pairs were."""
    c = case()
    c.prove()
    c.enter(1)
    for _ in range(10):
        c.add(c.window(candidate=10, baseline=90, errors=3))
    decision = _decide(c)
    assert (decision.action, decision.metric) == ("rollback", "error_rate")


def test_live_format_failures_roll_back(case: Make) -> None:
    """Checked live answers count as evidence of their own."""
    c = case()
    c.prove()
    c.enter(1)
    for _ in range(10):
        c.add(*(c.check("baseline") for _ in range(9)), c.check(failed=1))
    assert _decide(c).metric == "format_valid"
    assert _decide(c).action == "rollback"


def test_busier_users_on_the_candidate_are_no_harm(case: Make) -> None:
    """Equal failure rates are no harm where sticky users give the candidate twice its weight."""
    c = case()
    c.prove()
    c.enter(1)
    for _ in range(50):
        c.add(c.window(candidate=18, baseline=82, errors=1, base_errors=4))
    assert _decide(c).action != "rollback"


def test_live_silence_pauses(case: Make) -> None:
    """A live step in which no request is counted is a step without data."""
    c = case(on_no_data={"action": "hold", "after": "60s", "then": "pause"})
    c.prove()
    c.enter(1, ago=90)
    c.add(*(c.pair() for _ in range(60)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "no_data")
    assert "live" in decision.reason


def test_lost_sample_ratio_holds(case: Make) -> None:
    """A split that is not realised as declared can't be compared, so nothing widens."""
    c = case()
    c.prove()
    c.enter(1)
    c.add(*(c.pair() for _ in range(60)))
    c.add(c.window(candidate=300, baseline=700))
    c.add(*(c.check() for _ in range(300)))
    decision = _decide(c)
    assert decision.action == "hold"
    assert "instead of 10.0%" in decision.reason


@pytest.mark.parametrize(("setting", "action"), [("hold", "hold"), ("pause", "pause")])
def test_pairs_that_were_lost_unfairly_hold_or_pause(case: Make, setting: str, action: str) -> None:
    """A proven candidate goes no further while one segment's pairs are lost more than others'."""
    c = case(on_sample_ratio_mismatch=setting)
    c.prove()
    lost = {"a": {"expired": 4}, "b": {"expired": 4}}
    fair = SubsetState().update("a", compared=600).update("b", compared=60)
    c.evidence = c.evidence.evolve(subset=fair)
    c.add(Evidence("dropped", NOW, {"segments": lost}))
    assert _decide(c).action == "advance"
    c.add(Evidence("dropped", NOW, {"segments": {"b": {"over_size": 60}}}))
    decision = _decide(c)
    assert decision.action == action
    assert decision.pause_reason == ("sample_ratio" if action == "pause" else None)
    assert "segment 'b' is 9.1% of the pairs that were compared and 17.0%" in decision.reason


def test_a_loss_that_is_proven_but_small_does_not_hold(case: Make) -> None:
    """A few per cent of one segment's pairs change no mix that anybody would notice."""
    c = case()
    c.prove()
    subset = SubsetState().update("a", compared=50_000).update("b", compared=4900, dropped=100)
    assert subset.log_e > 7
    c.evidence = c.evidence.evolve(subset=subset)
    assert _decide(c).action == "advance"


def test_lost_sample_ratio_pauses_by_the_spec(case: Make) -> None:
    """on_sample_ratio_mismatch: pause calls a person."""
    c = case(on_sample_ratio_mismatch="pause")
    c.prove()
    c.enter(1)
    c.add(*(c.pair() for _ in range(60)), c.window(candidate=300, baseline=700))
    assert _decide(c).pause_reason == "sample_ratio"


def test_small_departure_of_the_ratio_is_tolerated(case: Make) -> None:
    """Few sticky users make 12% out of 10% and that is no fault."""
    c = case()
    c.prove()
    c.enter(1)
    c.add(*(c.pair() for _ in range(200)), c.window(candidate=1200, baseline=8800))
    c.add(*(c.check() for _ in range(100)))
    assert c.evidence.sample_ratio.log_e > 7
    assert _decide(c).action == "advance"


def test_open_breaker_holds(case: Make) -> None:
    """While a gateway's breaker is open the candidate is not widened."""
    c = case()
    c.prove()
    c.enter(1)
    c.serve()
    c.add(*(c.pair() for _ in range(100)))
    assert _decide(c).action == "advance"
    state = {"replica": "g1", "state": "open", "failures": 5, "of": 20}
    c.add(Evidence("breaker", NOW, state, epoch=1))
    assert "breaker of g1 is open" in _decide(c).reason
    c.add(Evidence("breaker", NOW, {**state, "state": "closed"}, epoch=1))
    assert _decide(c).action == "advance"


def test_required_live_proof_is_waited_for(case: Make) -> None:
    """require_live_proof holds until live evidence rules the margin out by itself."""
    c = case(analysis={**_analysis(case), "require_live_proof": True})
    c.prove()
    c.enter(1)
    c.serve()
    c.add(*(c.pair() for _ in range(100)))
    assert _decide(c).action == "hold"
    for _ in range(40):
        c.serve()
        c.add(*(c.pair() for _ in range(60)))
    assert _decide(c).action == "advance"


def test_pause_step_waits_for_its_approval(case: Make) -> None:
    """A pause with approval pauses, and once approved still needs the proof."""
    c = case()
    c.prove()
    c.enter(2)
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "approval")
    c.status = replace(c.status, approved=True)
    assert _decide(c).action == "advance"
    unproven = case()
    unproven.add(*_undecided(unproven))
    unproven.enter(2)
    unproven.status = replace(unproven.status, approved=True)
    assert "not proven" in _decide(unproven).reason


def test_pause_step_waits_for_its_duration(case: Make) -> None:
    """A timed pause holds for as long as it says."""
    c = case(steps=[{"mirror": {"min_pairs": 50}}, {"pause": {"duration": "5m"}}])
    c.prove()
    c.enter(1, ago=100)
    assert "200 s more" in _decide(c).reason
    c.enter(1, ago=301)
    assert _decide(c).action == "pause"  # the plan ends there, below 100%


def test_preflight_pauses_until_approved(case: Make) -> None:
    """No offline report means no start, and the reason says how to go on."""
    c = case(steps=[{"preflight": {"eval_set": "s1"}}, {"mirror": {}}])
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "preflight")
    assert "s1" in decision.reason
    c.status = replace(c.status, approved=True)
    assert _decide(c).action == "advance"


def test_bake_succeeds_after_its_duration(case: Make) -> None:
    """The last step ends in success only after its time and with requests seen."""
    c = case()
    c.prove()
    c.enter(3, ago=30)
    c.add(c.window(candidate=980, baseline=20), *(c.check() for _ in range(100)))
    assert _decide(c).action == "hold"
    c.status = replace(c.status, step_started_at=NOW - 61)
    assert _decide(c).action == "succeed"


def test_failure_that_starts_without_a_baseline_beside_it_rolls_back(case: Make) -> None:
    """In the bake the candidate is held to twice the baseline's earlier rate."""
    c = case()
    c.prove()
    c.enter(1)
    c.add(c.window(candidate=200, baseline=1800, errors=2, base_errors=18))
    c.enter(3)
    for _ in range(10):
        c.add(c.window(candidate=100, baseline=0, errors=6))
    decision = _decide(c)
    assert (decision.action, decision.metric) == ("rollback", "error_rate")


def test_plan_that_ends_below_100_percent_waits_for_a_person(case: Make) -> None:
    """A spec that stops at 10% is never promoted by the automation."""
    c = case(steps=[{"mirror": {"min_pairs": 50}}, {"set_weight": 10}])
    c.prove()
    c.enter(1)
    c.serve()
    c.add(*(c.pair() for _ in range(100)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "steps_done")


def test_paused_rollout_holds_whatever_is_proven(case: Make) -> None:
    """Only a person ends a pause."""
    c = case()
    c.prove()
    c.paused()
    assert _decide(c).action == "hold"


@pytest.mark.parametrize("phase", sorted(set(Phase) - ACTIVE))
def test_nothing_is_decided_outside_active_phases(case: Make, phase: Phase) -> None:
    """Latched: after a rollback, an abort or a success no evidence moves anything."""
    c = case()
    c.prove()
    c.status = replace(c.status, phase=phase)
    assert _decide(c).action == "hold"
    c.add(*(c.pair(failures=BROKEN) for _ in range(100)))
    assert _decide(c).action == "hold"


def test_guardrail_without_data_for_long_pauses(case: Make) -> None:
    """Pairs that never speak of a guardrail are no data, and in the end call a person."""
    c = case(on_no_data={"action": "hold", "after": "60s", "then": "pause"})
    c.enter(0, ago=90)
    c.add(*(c.pair(failures={"format_valid": [None, None]}) for _ in range(100)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "no_data")
    assert "format_valid" in decision.reason


def test_no_data_may_pause_first(case: Make) -> None:
    """action: pause is as good as then: pause."""
    c = case(on_no_data={"action": "pause", "after": "60s", "then": "hold"})
    c.enter(0, ago=90)
    assert _decide(c).pause_reason == "no_data"


def test_bake_needs_no_pairs(case: Make) -> None:
    """At 98% hardly anybody is left to be mirrored; that is not silence."""
    c = case(on_no_data={"action": "hold", "after": "60s", "then": "pause"})
    c.prove()
    c.enter(3, ago=59)
    c.status = replace(c.status, step_started_at=NOW - 61)
    c.evidence = c.evidence.evolve(last_pair_at=NOW - 500)
    c.add(c.window(candidate=980, baseline=20), *(c.check() for _ in range(100)))
    assert _decide(c).action == "succeed"


def test_last_weight_of_100_percent_succeeds_without_a_bake(case: Make) -> None:
    """A spec may end at 100% itself."""
    c = case(steps=[{"mirror": {"min_pairs": 50}}, {"set_weight": 100}])
    c.prove()
    c.enter(1)
    c.add(c.window(candidate=1000, baseline=0), *(c.check() for _ in range(100)))
    assert _decide(c).action == "succeed"


def test_noise_alarm_in_a_signal_does_not_pause(case: Make) -> None:
    """What acts on nothing need not be trusted either."""
    metrics = [dict(each) for each in _analysis(case)["metrics"]]
    metrics[1] |= {"role": "signal", "critical": False}
    c = case(analysis={**_analysis(case), "metrics": metrics})
    c.prove()
    c.add(*(c.pair(kind="noise", failures=BROKEN) for _ in range(40)))
    assert _decide(c).action == "advance"


@pytest.mark.parametrize("role", [None, "signal"])
def test_judge_that_guards_nothing_may_fail(case: Make, role: str | None) -> None:
    """Judge errors hold nobody where no guardrail rests on the judge."""
    judge = [{"name": "judge_win_rate", "role": role}] if role else []
    metrics = [*judge, {"name": "format_valid", "margin": 0.05}]
    c = case(analysis={**_analysis(case), "metrics": metrics})
    c.add(*(c.pair(judge="error", score=None) for _ in range(200)))
    assert _decide(c).action == "advance"


def test_self_contradicting_judge_may_hold_by_the_spec(case: Make) -> None:
    """then: hold waits here too, and does not widen."""
    c = case(on_evaluator_error={"then": "hold"})
    c.add(*(c.pair(judge="inconsistent", score=0.0) for _ in range(200)))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("hold", None)
    assert "contradicts itself" in decision.reason


def test_few_judgments_are_not_judged(case: Make) -> None:
    """Two errors among the first twenty are no share of anything yet."""
    c = case(steps=[{"mirror": {"min_pairs": 50}}, {"set_weight": 10}])
    for index in range(19):
        bad = index in {3, 7}
        c.add(c.pair(judge="error" if bad else "tie", score=None if bad else 0.0))
    assert "judge failed" not in _decide(c).reason
    c.add(c.pair())
    assert "judge failed" in _decide(c).reason


def test_approved_pause_that_stays_unproven_ends_inconclusive(case: Make) -> None:
    """An approval is no proof; without any the step's budget runs out in the end."""
    c = case(steps=[{"mirror": {"min_pairs": 50}}, {"pause": {"approval": True}}])
    c.add(*_undecided(c))
    c.enter(1, ago=1799)
    c.status = replace(c.status, approved=True)
    assert _decide(c).action == "hold"
    c.status = replace(c.status, step_started_at=NOW - 1801)
    assert _decide(c).pause_reason == "inconclusive"


def test_controllers_clock_ahead_of_the_facts_does_not_widen(case: Make) -> None:
    """A step lasts as long as both clocks say: that of the controller and that of the facts."""
    c = case()
    c.add(*(c.pair(at=NOW - 6) for _ in range(200)))
    early = replace(c.status, step_started_at=NOW - 8)
    for ahead in (3.0, 3000.0):
        decision = decide(c.evidence, c.spec, early, NOW + ahead)
        assert decision.action == "hold"
        assert "3 s to go" in decision.reason
    c.add(c.pair(at=NOW))
    assert decide(c.evidence, c.spec, early, NOW + 3.0).action == "advance"


def test_facts_ahead_of_the_controllers_clock_do_not_widen(case: Make) -> None:
    """One gateway with a wrong clock shortens no step."""
    c = case()
    c.add(*(c.pair(at=NOW + 3600) for _ in range(200)))
    c.status = replace(c.status, step_started_at=NOW - 4)
    decision = _decide(c)
    assert decision.action == "hold"
    assert "6 s to go" in decision.reason


def test_timed_pause_needs_no_facts_to_pass(case: Make) -> None:
    """A step that compares nothing goes by the controller's clock alone."""
    steps = [{"mirror": {}}, {"pause": {"duration": "5m"}}, {"set_weight": 10}]
    c = case(steps=steps)
    c.prove()
    c.enter(1, ago=301)
    c.evidence = c.evidence.evolve(clock=NOW - 300)
    assert _decide(c).action == "advance"


def test_reason_counts_what_is_lacking_at_once(case: Make) -> None:
    """Whoever reads the note sees everything that is still to come, not the first of it."""
    c = case()
    c.add(*_undecided(c)[:10])
    c.status = replace(c.status, step_started_at=NOW - 4)
    reason = _decide(c).reason
    for part in ("s to go", "10 of 50 pairs", "not proven"):
        assert part in reason


def _undecided(case: Any) -> list[Evidence]:
    return [
        case.pair(judge="win" if index % 2 else "loss", score=1.0 if index % 2 else -1.0)
        for index in range(60)
    ]


def _analysis(case: Make) -> dict[str, Any]:
    document = case().spec.to_document()["analysis"]
    return dict(document)
