"""What is decided without a judge, and what a pair adds to the evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shadow.answer import Answer, Choice, ToolCall
from shadow.checks import run_checks
from shadow.compare import Decision, decide_by_checks, decide_by_judge
from shadow.evidence import live_payload, pair_payload
from shadow.judge.judge import Judged
from shadow.pair import Arm, Pair
from shadow.prices import Prices

Build = Callable[..., Any]
JSON = {"response_format": {"type": "json_object"}}
BROKEN = Arm(Answer(error="status 500: x"), 500)
TIMED_OUT = Arm(Answer(error="no response"), None, latency_s=60.0, timed_out=True)


def decide(pair: Pair) -> Decision | None:
    """Run the checks and decide."""
    return decide_by_checks(pair, run_checks(pair))


def test_a_hard_check_that_one_arm_fails_decides(pair: Build) -> None:
    """The judge is not asked; the arm that kept the contract wins."""
    lost, won = decide(pair("{}", "no", **JSON)), decide(pair("no", "{}", **JSON))
    assert lost
    assert won
    assert (lost.outcome, lost.judge, lost.score) == ("compared", "not_needed", -1.0)
    assert lost.failed == {"candidate": ["format_valid"]}
    assert won.score == 1.0


def test_both_arms_failing_favours_nobody(pair: Build) -> None:
    """A route on which the baseline breaks the contract too gives no win."""
    both = decide(pair("no", "neither", **JSON))
    assert both
    assert both.score == 0.0


def test_a_candidate_without_an_answer_loses_and_is_counted_so(pair: Build) -> None:
    """Errors and timeouts of the candidate are outcomes, not dropped pairs."""
    made = pair()
    for arm in (BROKEN, TIMED_OUT):
        lost = decide(Pair(made.prompt, made.baseline, arm, made.contract))
        assert lost
        assert (lost.outcome, lost.score) == ("candidate_failed", -1.0)
    both = decide(Pair(made.prompt, BROKEN, BROKEN, made.contract))
    assert both
    assert (both.outcome, both.score) == ("candidate_failed", None)


def test_the_same_answer_is_a_free_tie(pair: Build) -> None:
    """Line ends, blank lines, Unicode form and the order of parallel calls make no difference."""
    same = decide(pair("caf\u00e9 \r\n\n\n  line ", "\u200bcafe\u0301\n  line"))
    assert same
    assert (same.decided_by, same.score) == ("identical", 0.0)
    calls = (ToolCall("a", '{"x": 1, "y": 2}'), ToolCall("b", "{}"))
    turned = (ToolCall("b", "{}"), ToolCall("a", '{"y":2,"x":1}'))
    tool = {"type": "function", "function": {"name": "a"}}
    other = {"type": "function", "function": {"name": "b"}}
    one = Answer((Choice(tool_calls=calls, finish_reason="tool_calls"),))
    two = Answer((Choice(tool_calls=turned, finish_reason="tool_calls"),))
    made = decide(pair(one, two, tools=[tool, other]))
    assert made
    assert made.decided_by == "identical"
    assert decide(pair("yes", "no")) is None
    assert decide(pair("if x:\n  y\nz", "if x:\n  y\n  z")) is None


def test_a_refusal_or_a_cut_answer_is_left_to_the_judge(pair: Build, chat: Build) -> None:
    """Declining may be right, and a cut answer may be the better one."""
    assert decide(pair("Sure, here it is.", "I'm sorry, but I can't help with that.")) is None
    assert decide(pair("text", chat("longer text", finish_reason="length"))) is None


def test_missing_verdicts_have_no_score() -> None:
    """An error is never a tie, a loss or a zero."""
    for status, word in {
        "judge_error": "error",
        "budget_exhausted": "budget_exhausted",
        "unjudgeable": "unjudgeable",
    }.items():
        decision = decide_by_judge(Judged(status, reason="why"))  # type: ignore[arg-type]
        assert (decision.outcome, decision.judge, decision.score) == (status, word, None)


def test_the_evidence_of_a_pair(pair: Build) -> None:
    """Baseline first, candidate second, None where a check does not apply."""
    made = pair("{}", "no", **JSON)
    timed = Pair(made.prompt, made.baseline, TIMED_OUT, made.contract, 4.0)
    checks = run_checks(timed)
    decision = decide_by_checks(timed, checks)
    assert decision
    payload = pair_payload(
        pair_id=7, capture_id="c", cluster="k", pair=timed, checks=checks, decision=decision
    )
    assert payload["failures"] == {
        "error_rate": [0, 1],
        "timeout_rate": [0, 1],
        "empty_rate": [0, None],
        "format_valid": [0, None],
        "tool_contract": [None, None],
        "refusal_rate": [0, None],
        "truncation_rate": [0, None],
        "latency": [None, 1],
        "escalation_rate": [0, None],
        "abstention_rate": [0, None],
        "citation_valid": [None, None],
        "tool_call_rate": [None, None],
    }
    assert payload["values"]["latency"] == [None, 60.0]
    assert (payload["judge"], payload["score"], payload["cluster"]) == ("not_needed", -1.0, "k")
    assert payload["values"]["output_tokens"] == [2.0, None]
    assert payload["values"]["cost"] == [None, None]


def test_times_of_tokens_are_those_of_streams(pair: Build) -> None:
    """What came at once has no first token; what has one token has no pace; a failure neither."""
    made = pair()
    text = Choice("one two three", finish_reason="stop")

    def values(arm: Arm) -> tuple[Any, Any, Any]:
        timed = Pair(made.prompt, None, arm, made.contract)
        payload = live_payload(
            capture_id="c", variant="candidate", weight_bp=500, arm=arm, checks=run_checks(timed)
        )
        found = payload["values"]
        return found["latency"], found["ttft"], found["inter_token"]

    streamed = Arm(Answer((text,), streamed=True), latency_s=1.0, ttft_s=0.4)
    assert values(streamed) == (1.0, 0.4, pytest.approx(0.3))
    assert values(Arm(Answer((text,)), latency_s=1.0, ttft_s=0.4)) == (1.0, None, None)
    one = Answer((Choice("one", finish_reason="stop"),), streamed=True)
    assert values(Arm(one, latency_s=1.0, ttft_s=0.4)) == (1.0, 0.4, None)
    assert values(Arm(Answer((text,), streamed=True), ttft_s=0.4)) == (None, 0.4, None)
    late = Answer(error="no response", streamed=True)
    assert values(Arm(late, None, 60.0, 0.4, timed_out=True)) == (60.0, None, None)


def test_cost_is_what_was_billed(pair: Build, chat: Build) -> None:
    """Reported usage at each deployment's own prices; unknown usage or prices are not zero."""
    made = pair()
    cheap, dear = Prices(1.0, 2.0), Prices(10.0, 20.0)
    unbilled = Answer((Choice("x", finish_reason="stop"),))

    def cost(baseline: Arm, candidate: Arm) -> Any:
        priced = Pair(made.prompt, baseline, candidate, made.contract)
        payload = pair_payload(
            pair_id=7, capture_id="c", cluster=None, pair=priced, checks=run_checks(priced),
            decision=Decision("compared", "tie", 0.0),
        )  # fmt: skip
        assert "cost" not in payload["failures"]
        return payload["values"]["cost"]

    answered = chat("hello")  # 5 tokens read, 7 written
    assert cost(Arm(answered, prices=cheap), Arm(answered, prices=dear)) == [
        pytest.approx(19e-6),
        pytest.approx(190e-6),
    ]
    assert cost(Arm(answered), Arm(unbilled, prices=dear)) == [None, None]
    assert cost(Arm(answered, prices=Prices()), Arm(Answer(error="x"), 500, prices=dear)) == [
        0.0,
        None,
    ]


def test_the_evidence_of_a_live_answer(pair: Build) -> None:
    """One arm, the weight at which it was served, one value a check."""
    made = pair("x", "no", **JSON)
    live = Pair(made.prompt, None, made.candidate, made.contract)
    payload = live_payload(
        capture_id="c", variant="candidate", weight_bp=500, arm=live.candidate or BROKEN,
        checks=run_checks(live),
    )  # fmt: skip
    assert payload["failures"]["format_valid"] == 1
    assert payload["failures"]["error_rate"] == 0
    assert (payload["variant"], payload["weight_bp"]) == ("candidate", 500)
    assert payload["values"] == {
        "latency": None, "ttft": None, "inter_token": None, "output_tokens": 1.0, "cost": None,
    }  # fmt: skip
