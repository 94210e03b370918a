"""Each check, with the traps that it must not fall into."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.settings import Contract
from shadow.answer import Answer, Choice
from shadow.checks import (
    CHECKS,
    Check,
    CheckResult,
    empty_rate,
    error_rate,
    format_valid,
    latency,
    output_tokens,
    run_checks,
    timeout_rate,
    tool_call_rate,
    tool_contract,
    truncation_rate,
)
from shadow.pair import Arm, Pair, Prompt

Build = Callable[..., Any]

SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}}
TOOL = {
    "type": "function",
    "function": {
        "name": "refund",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "string"}, "amount": {"type": "number"}},
            "required": ["order"],
        },
    },
}


def call(name: str = "refund", arguments: Any = None) -> dict[str, Any]:
    """Build a tool call; text passes through as it is."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {"order": "1"})
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": text}}


def test_only_the_declared_schema_makes_json_valid(pair: Build) -> None:
    """A wrong type, a missing key and an extra key fail; the right object passes."""
    for content, outcome in {
        '{"id": 1}': "pass",
        ' \n{"id": 1}\n': "pass",
        '{"id": "1"}': "fail",
        "{}": "fail",
        '{"id": 1, "x": 2}': "fail",
        '{"id": 1} trailing': "fail",
        '{"id": NaN}': "fail",
        "": "fail",
    }.items():
        result = format_valid.check(pair("x", content, response_format=FORMAT))
        assert result.candidate.outcome == outcome, content


def test_json_in_a_code_fence_fails_and_is_reported_apart(pair: Build) -> None:
    """A client's parser does not strip fences; the report tells the two failures apart."""
    fenced = pair("no json", '```json\n{"id": 1}\n```', response_format=FORMAT)
    result = format_valid.check(fenced)
    assert (result.candidate.outcome, result.candidate.flags) == ("fail", ("json_after_fences",))
    assert (result.baseline.outcome, result.baseline.flags) == ("fail", ())


def test_json_object_means_an_object(pair: Build) -> None:
    """A bare list or number is JSON and still not what was asked for."""
    result = format_valid.check(pair("[1]", '{"a": 1}', response_format={"type": "json_object"}))
    assert (result.baseline.outcome, result.candidate.outcome) == ("fail", "pass")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "https://example.com/x#/y"}}},
        {"$schema": "http://127.0.0.1:1/meta"},
        {"type": "strin"},
        {"type": "string", "pattern": "(((("},
    ],
)
def test_a_schema_that_points_outside_or_is_broken_is_an_error(
    pair: Build, schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched, and an unusable schema is neither a pass nor the model's failure."""
    form = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    result = format_valid.check(pair("{}", "{}", response_format=form))
    assert result.candidate.outcome == "error"
    assert result.candidate.bit() is None


def test_a_deep_schema_or_answer_is_capped(pair: Build) -> None:
    """Nesting can't be used to exhaust the worker."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    form = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    assert format_valid.check(pair("1", "1", response_format=form)).candidate.outcome == "error"
    deep = "[" * 5000 + "]" * 5000
    form = {"type": "json_schema", "json_schema": {"name": "t", "schema": True}}
    assert format_valid.check(pair("1", deep, response_format=form)).candidate.outcome == "fail"


def test_a_huge_schema_is_capped(pair: Build) -> None:
    """Size is limited as well as depth."""
    schema = {"properties": {f"key{number}": {"type": "integer"} for number in range(20_000)}}
    form = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    assert format_valid.check(pair("{}", "{}", response_format=form)).candidate.outcome == "error"


def test_a_pattern_that_would_backtrack_forever_ends(pair: Build) -> None:
    """A hostile pattern costs a bounded number of steps."""
    schema = {"type": "string", "pattern": "^(a|b|ab)*(?=c)$"}
    form = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    answer = json.dumps("ab" * 2000 + "d")
    assert format_valid.check(pair('"c"', answer, response_format=form)).candidate.bit() is None


def test_reasons_do_not_quote_the_answer(pair: Build) -> None:
    """Reasons are shown and exported; what a customer wrote stays in the capture."""
    result = format_valid.check(pair("x", '{"id": "secret-4711"}', response_format=FORMAT))
    assert result.candidate.outcome == "fail"
    assert "secret" not in json.dumps(result.to_json())


def test_the_routes_contract_is_checked_too(pair: Build) -> None:
    """Regex, word limits and a required sentence hold for every answer of the route."""
    contract = Contract(regex=r"^Ticket \d+", max_words=4, required_text="Thanks")
    for content, outcome in {
        "Ticket 12 Thanks": "pass",
        "ticket 12 Thanks": "fail",
        "Ticket 12 a b Thanks": "fail",
        "Ticket 12": "fail",
    }.items():
        result = format_valid.check(pair("x", content, contract=contract))
        assert result.candidate.outcome == outcome, content


def test_a_schema_of_the_route_is_checked_without_a_response_format(pair: Build) -> None:
    """Clients that only prompt for JSON are covered by the route's contract."""
    result = format_valid.check(pair("{}", '{"id": 3}', contract=Contract(json_schema=SCHEMA)))
    assert (result.baseline.outcome, result.candidate.outcome) == ("fail", "pass")


def test_without_a_declared_format_there_is_nothing_to_check(pair: Build) -> None:
    """Prose is no format failure."""
    assert format_valid.check(pair()).candidate.outcome == "not_applicable"


def test_a_pure_tool_call_has_no_format(pair: Build, chat: Build) -> None:
    """An answer that only calls a tool is judged by the tool contract."""
    answer = chat(None, tool_calls=[call()], finish_reason="tool_calls")
    result = format_valid.check(pair(answer, answer, response_format=FORMAT, tools=[TOOL]))
    assert result.candidate.outcome == "not_applicable"


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (call(), "pass"),
        (call(arguments={"order": "1", "amount": 2.5}), "pass"),
        (call(name="refnud"), "fail"),
        (call(arguments='{"order": '), "fail"),
        (call(arguments='["1"]'), "fail"),
        (call(arguments={"amount": 1}), "fail"),
        (call(arguments={"order": 1}), "fail"),
        (call(arguments={"order": "1", "reason": "x"}), "fail"),
        (call(arguments=""), "fail"),
    ],
)
def test_a_call_must_be_executable(
    pair: Build, chat: Build, made: dict[str, Any], outcome: str
) -> None:
    """Existing tool, arguments that parse, required ones there, no unknown ones."""
    answer = chat(None, tool_calls=[made], finish_reason="tool_calls")
    assert tool_contract.check(pair("x", answer, tools=[TOOL])).candidate.outcome == outcome


def test_unknown_arguments_are_fine_where_the_schema_allows_them(pair: Build, chat: Build) -> None:
    """An explicit `additionalProperties` is a decision of the tool's author."""
    tool = {
        "type": "function",
        "function": {
            "name": "refund",
            "parameters": {"type": "object", "additionalProperties": True, "properties": {}},
        },
    }
    answer = chat(None, tool_calls=[call(arguments={"any": 1})])
    assert tool_contract.check(pair("x", answer, tools=[tool])).candidate.outcome == "pass"


def test_calling_where_none_is_allowed_is_told_apart(pair: Build, chat: Build) -> None:
    """A call against `tool_choice: none`, or without tools, is a failure of its own kind."""
    answer = chat(None, tool_calls=[call()])
    for request in ({"tools": [TOOL], "tool_choice": "none"}, {}):
        finding = tool_contract.check(pair("x", answer, **request)).candidate
        assert (finding.outcome, finding.flags) == ("fail", ("unwanted_call",))


def test_a_required_call_that_is_missing_fails(pair: Build, chat: Build) -> None:
    """Not calling is an abstention only where the model was free to abstain."""
    free = pair("x", "y", tools=[TOOL])
    assert tool_contract.check(free).candidate.outcome == "not_applicable"
    required = pair("x", "y", tools=[TOOL], tool_choice="required")
    assert tool_contract.check(required).candidate.flags == ("missing_call",)
    named = {"type": "function", "function": {"name": "other"}}
    wrong = pair("x", chat(None, tool_calls=[call()]), tools=[TOOL], tool_choice=named)
    assert tool_contract.check(wrong).candidate.outcome == "fail"


def test_parallel_calls_are_a_multiset(pair: Build, chat: Build) -> None:
    """Order does not count, number does, and key order inside arguments does not."""
    one = chat(None, tool_calls=[call(arguments={"order": "1", "amount": 2}), call()]).tool_calls
    two = chat(None, tool_calls=[call(), call(arguments='{"amount":2, "order":"1"}')]).tool_calls
    three = chat(None, tool_calls=[call(), call()]).tool_calls
    assert tool_contract.call_multiset(one) == tool_contract.call_multiset(two)
    assert tool_contract.call_multiset(one) != tool_contract.call_multiset(three)
    serial = pair(
        "x", chat(None, tool_calls=[call(), call()]), tools=[TOOL], parallel_tool_calls=False
    )
    assert tool_contract.check(serial).candidate.outcome == "fail"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("stop", "pass"), ("tool_calls", "pass"), ("length", "fail"), ("content_filter", "fail"),
     (None, "fail")],
)  # fmt: skip
def test_truncation_reads_the_finish_reason(
    pair: Build, chat: Build, reason: str | None, outcome: str
) -> None:
    """Length, content filter and no reason at all are truncated answers."""
    answer = chat("text", finish_reason=reason)
    assert truncation_rate.check(pair("x", answer)).candidate.outcome == outcome


def test_invisible_text_is_empty(pair: Build, chat: Build) -> None:
    """Zero-width characters, white space and reasoning alone show a reader nothing."""
    for content in ("", " \n\t", "\u200b\ufeff", None):
        assert empty_rate.check(pair("x", chat(content))).candidate.outcome == "fail"
    thinking = chat("", reasoning_content="long thoughts")
    assert empty_rate.check(pair("x", thinking)).candidate.outcome == "fail"
    for answer in (chat(None, tool_calls=[call()]), chat(None, refusal="No."), chat("0")):
        assert empty_rate.check(pair("x", answer)).candidate.outcome == "pass"


def test_latency_is_over_the_objective_or_timed_out(pair: Build) -> None:
    """A timeout is over any limit; an error has no latency; no objective means a value only."""
    made = pair(slo_s=2.0)
    slow = Arm(Answer((Choice("x"),)), latency_s=2.5)
    fast = Arm(Answer((Choice("x"),)), latency_s=2.0)
    timed = Arm(Answer(error="no response"), None, latency_s=1.0, timed_out=True)
    broken = Arm(Answer(error="status 500"), 500, latency_s=0.1)

    def check(arm: Arm, slo: float | None = 2.0) -> CheckResult:
        return latency.check(Pair(made.prompt, fast, arm, made.contract, slo))

    assert [check(arm).candidate.bit() for arm in (slow, fast, timed, broken)] == [1, 0, 1, None]
    assert check(slow, None).candidate.value == 2.5
    assert check(slow, None).candidate.bit() is None


def test_errors_and_timeouts_are_counted_once_each(pair: Build) -> None:
    """A timeout is an error too; an answered error is no timeout; other checks stay silent."""
    made = pair(response_format=FORMAT, tools=[TOOL])
    timed = Arm(Answer(error="no response"), None, latency_s=1.0, timed_out=True)
    broken = Arm(Answer(error="status 500: x"), 500)
    both = Pair(made.prompt, broken, timed, made.contract)
    assert [error_rate.check(both).baseline.bit(), error_rate.check(both).candidate.bit()] == [1, 1]
    assert timeout_rate.check(both).baseline.bit() == 0
    assert timeout_rate.check(both).candidate.bit() == 1
    others = {r.name: r for r in run_checks(both) if r.name not in {"error_rate", "timeout_rate"}}
    assert all(result.candidate.bit() is None for result in others.values())


def test_length_is_measured_by_one_ruler(pair: Build, chat: Build) -> None:
    """What the upstream reports does not count; the same text has the same length in both arms."""
    answer = chat("Hello, wonderful world! 12345")
    result = output_tokens.check(pair(answer, answer))
    assert result.baseline.value == result.candidate.value
    assert result.baseline.value == output_tokens.count_tokens("Hello, wonderful world! 12345") == 8
    assert output_tokens.count_tokens("你好世界") == 4
    assert result.candidate.bit() is None


def test_every_choice_counts(pair: Build) -> None:
    """With `n > 1` one broken choice is a broken answer."""
    good, bad = Choice('{"id": 1}', finish_reason="stop"), Choice("x", finish_reason="stop")
    made = pair(Answer((good, good)), Answer((good, bad)), response_format=FORMAT)
    result = format_valid.check(made)
    assert (result.baseline.outcome, result.candidate.outcome) == ("pass", "fail")


def test_a_check_that_breaks_is_an_error_and_the_others_go_on(pair: Build) -> None:
    """An error is never a pass, and one broken check does not lose the pair."""

    def broken(_pair: Pair) -> CheckResult:
        raise RuntimeError("boom, with a customer's words")

    results = run_checks(pair(), (Check("broken", broken), *CHECKS))
    assert results[0].candidate.bit() is None
    assert "customer" not in results[0].candidate.reason
    assert len(results) == len(CHECKS) + 1


def test_a_live_answer_has_one_arm_only() -> None:
    """The arm that was not asked neither passes nor fails."""
    made = Pair(Prompt("chat/completions"), None, Arm(Answer((Choice("x", finish_reason="stop"),))))
    for result in run_checks(made):
        assert result.baseline.bit() is None
    assert {r.name for r in run_checks(made) if r.candidate.bit() == 0} >= {
        "error_rate", "empty_rate", "truncation_rate", "refusal_rate",
    }  # fmt: skip


def test_calling_a_tool_is_counted_where_it_was_the_models_choice(pair: Build, chat: Build) -> None:
    """A call counts with tools on offer and a free choice; without either nothing is said."""
    called = chat(None, tool_calls=[call()])
    found = tool_call_rate.check(pair("An answer.", called, tools=[TOOL]))
    assert (found.baseline.outcome, found.candidate.outcome) == ("pass", "fail")
    for request in ({}, {"tools": [TOOL], "tool_choice": "required"}):
        found = tool_call_rate.check(pair("An answer.", called, **request))
        assert {found.baseline.outcome, found.candidate.outcome} == {"not_applicable"}
