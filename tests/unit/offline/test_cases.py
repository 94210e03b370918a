"""Regression cases with their own assertions, and eval cases, written or exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from gateway.settings import Contract
from shadow.offline.assertions import hold
from shadow.offline.cases import Case, CheckAssertion, JudgeAssertion, schema_of
from shadow.offline.request import ExportRequest
from shadow.offline.rows import Origin, Row, rows_of

Build = Callable[..., Any]

SCHEMA = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}}


def check(name: str, arm: str, reason: str = "") -> dict[str, Any]:
    """A stored check that one arm failed."""
    other = "candidate" if arm == "baseline" else "baseline"
    return {name: {arm: {"outcome": "fail", "reason": reason}, other: {"outcome": "pass"}}}


def made(material: Any, origin: Origin, kind: str = "regressions", **fields: Any) -> list[Case]:
    """The cases of a pair, read back from their lines as `coalmine eval` will."""
    rows = lines(material, origin, kind, **fields)
    for row in rows:
        jsonschema_rs.validate(schema_of(kind), json.loads(row.body))
    return [Case.model_validate_json(row.body) for row in rows]


def lines(material: Any, origin: Origin, kind: str = "regressions", **fields: Any) -> list[Row]:
    """The rows of a pair; there must be some."""
    request = ExportRequest.model_validate({"kind": kind, "rollout": "bot-v7", **fields})
    rows = rows_of(material, request, origin)
    assert isinstance(rows, list), rows
    return rows


def test_a_failed_check_is_a_case_that_only_a_sound_answer_passes(
    material: Build, answer: Build, origin: Origin
) -> None:
    """The assertion fails on the answer that failed, passes on the other, and says why."""
    pair = material(
        '{"id": 1}', "Sure! The id is 1.",
        checks=check("format_valid", "candidate", "not JSON"),
        comparison={"decided_by": "check"}, request={"response_format": FORMAT},
    )  # fmt: skip
    [case] = made(pair, origin)
    assert case.assertion == CheckAssertion(
        check="format_valid", reason="not JSON", failed_answer="Sure! The id is 1."
    )
    assert case.json_schema == SCHEMA
    assert case.reference_answer == '{"id": 1}'
    assert hold(case, answer("Sure! The id is 1.")).failed
    assert hold(case, answer('{"id": 2}')).outcome == "pass"
    assert hold(case, answer('{"id": "x"}')).failed


def test_the_routes_contract_goes_with_the_case(
    material: Build, answer: Build, origin: Origin
) -> None:
    """A case stands by itself: the words that the route requires are in it."""
    from dataclasses import replace

    promised = replace(origin, contract=Contract(required_text="Call 112."))
    pair = material("Call 112.", "Wait.", checks=check("format_valid", "candidate"))
    [case] = made(pair, promised)
    assert case.contract == Contract(required_text="Call 112.")
    assert hold(case, answer("Wait.")).failed
    assert hold(case, answer("Please wait. Call 112.")).outcome == "pass"


def test_a_tool_call_without_its_argument_is_a_case(
    material: Build, answer: Build, origin: Origin
) -> None:
    """The tools on offer are in the case, so that the call can be checked again."""
    parameters = {
        "type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"],
    }  # fmt: skip
    tool = {"type": "function", "function": {"name": "refund", "parameters": parameters}}

    def call(arguments: str) -> Any:
        function = {"name": "refund", "arguments": arguments}
        return answer(None, tool_calls=[{"id": "c", "type": "function", "function": function}])

    pair = material(
        "Done.", call("{}"), checks=check("tool_contract", "candidate"), request={"tools": [tool]}
    )
    [case] = made(pair, origin)
    assert hold(case, call("{}")).failed
    assert hold(case, call('{"order": "A1"}')).outcome == "pass"


def test_a_loss_asserts_that_the_judge_does_not_see_one_again(
    material: Build, answer: Build, origin: Origin
) -> None:
    """The baseline's answer is the reference that the next one must not lose against."""
    [case] = made(material(result="loss"), origin)
    assert case.assertion == JudgeAssertion(reason="", failed_answer="No idea.")
    assert case.reference_answer == "The refund takes five days."
    assert hold(case, answer("x")).outcome == "not_applicable"


@pytest.mark.parametrize("result", ["win", "tie", "inconsistent", "lean_loss"])
def test_what_is_no_proven_loss_is_no_case(material: Build, origin: Origin, result: str) -> None:
    """A win, a tie, an inconsistent pair and a lean make no regression case."""
    request = ExportRequest(kind="regressions", rollout="bot-v7")
    assert rows_of(material(result=result), request, origin) == "nothing_failed"


def test_an_answer_that_never_came_is_no_case(material: Build, origin: Origin) -> None:
    """Asking again says nothing about an error of the day."""
    request = ExportRequest(kind="regressions", rollout="bot-v7")
    pair = material(
        checks=check("error_rate", "candidate"), comparison={"decided_by": "check"},
    )  # fmt: skip
    assert rows_of(pair, request, origin) == "nothing_failed"


def test_a_live_answer_that_failed_is_a_case(material: Build, origin: Origin) -> None:
    """What users got needs no pair to become a case."""
    pair = material(
        None, "Wait.", stream="live", outcome="checked", comparison={},
        checks={"format_valid": {"candidate": {"outcome": "fail"}, "baseline": {}}},
    )  # fmt: skip
    [case] = made(pair, origin)
    assert (case.reference_answer, case.metadata and case.metadata.chosen) == (None, "baseline")


def test_two_failures_are_two_cases_with_ids_of_their_own(material: Build, origin: Origin) -> None:
    """The id is that of question and assertion; it does not change with the answers."""
    both = {**check("format_valid", "candidate"), **check("empty_rate", "candidate")}
    first = made(material(checks=both), origin)
    again = made(material("Other words.", checks=both), origin)
    assert len({case.id for case in first}) == 2
    assert [case.id for case in first] == [case.id for case in again]
    assert [case.version for case in first] != [case.version for case in again]


def test_an_eval_case_holds_what_was_asked_and_a_good_answer(
    material: Build, origin: Origin
) -> None:
    """Messages as the client wrote them, tools, schema, category, risk and the winner's answer."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "See"}, image]}]
    pair = material(
        '{"id": 1}', '{"id": 2}', "win", risk="high",
        request={"messages": messages, "response_format": FORMAT},
    )  # fmt: skip
    [case] = made(pair, origin, "evalset")
    assert case.messages[0].content == [{"type": "text", "text": "See"}, image]
    assert (case.category, case.risk, case.reference_answer) == ("billing", "high", '{"id": 2}')
    assert case.json_schema == SCHEMA
    assert case.assertion is None


@pytest.mark.parametrize(
    ("result", "reference"),
    [("tie", "The refund takes five days."), ("inconsistent", None), ("win", "No idea.")],
)
def test_a_reference_is_only_what_is_known_to_be_good(
    material: Build, origin: Origin, result: str, reference: str | None
) -> None:
    """An inconsistent pair still is a question, and its answers are no reference."""
    [case] = made(material(result=result), origin, "evalset")
    assert case.reference_answer == reference


@pytest.mark.parametrize(
    ("name", "must"), [("over_refusal_rate", False), ("under_refusal_rate", True)]
)
def test_what_must_be_refused_is_in_the_case(
    material: Build, origin: Origin, name: str, must: bool
) -> None:
    """What the route declared of the request is told by which of the two checks applied to it."""
    pair = material(checks=check(name, "candidate"), result="tie")
    [question] = made(pair, origin, "evalset")
    assert question.must_refuse is must
    [untold] = made(material(), origin, "evalset")
    assert untold.must_refuse is None


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("over_refusal_rate", "I can't help with that.", "The refund takes five days."),
        ("under_refusal_rate", "The refund takes five days.", "I can't help with that."),
    ],
)
def test_a_refusal_is_asserted_in_the_direction_that_was_wrong(
    material: Build, answer: Build, origin: Origin, name: str, wrong: str, right: str
) -> None:
    """The case knows whether it must be refused, so that the same check can be asked again."""
    pair = material("ok", wrong, checks=check(name, "candidate"), comparison={})
    [case] = made(pair, origin, metric=name)
    assert hold(case, answer(wrong)).failed
    assert hold(case, answer(right)).outcome == "pass"


def test_a_known_failure_is_no_new_case(material: Build, origin: Origin) -> None:
    """What is a case of the route already does not become one again."""
    request = ExportRequest(kind="regressions", rollout="bot-v7")
    pair = material(checks=check("known_failure_rate", "candidate"), comparison={})
    assert rows_of(pair, request, origin) == "nothing_failed"


def test_a_named_tool_must_be_called(material: Build, origin: Origin) -> None:
    """Where the client demanded a function, so does the case."""
    function = {"name": "refund", "parameters": {"type": "object"}}
    choice = {"type": "function", "function": {"name": "refund"}}
    request = {"tools": [{"type": "function", "function": function}], "tool_choice": choice}
    [case] = made(material(request=request), origin, "evalset")
    assert case.must_call == ["refund"]


def test_sources_that_a_sound_reference_cites_are_in_the_case(
    material: Build, origin: Origin
) -> None:
    """Of the sources supplied those are asserted that the good answer names."""
    messages = [
        {"role": "system", "content": "[doc1] Refunds take five days.\n[doc2] Call us."},
        {"role": "user", "content": "How long?"},
    ]
    checks = {"citation_valid": {"baseline": {"outcome": "pass"}, "candidate": {"outcome": "fail"}}}
    pair = material(
        "Five days [doc1].", "Two [doc9].", checks=checks, request={"messages": messages}
    )
    [case] = made(pair, origin, "evalset")
    assert case.citations == ["1"]


def test_a_case_can_be_written_by_hand() -> None:
    """A query is a message of the user; unknown keys are refused by name."""
    case = Case.model_validate({"query": "What is 2+2?", "expected_label": "4", "schema": SCHEMA})
    assert [each.model_dump() for each in case.messages] == [
        {"role": "user", "content": "What is 2+2?"}
    ]
    assert case.id == Case.model_validate({"query": "What is 2+2?"}).id
    assert case.version != Case.model_validate({"query": "What is 2+2?"}).version
    with pytest.raises(ValidationError, match="expected_lable"):
        Case.model_validate({"query": "x", "expected_lable": "y"})
    with pytest.raises(ValidationError, match="query and messages"):
        Case.model_validate({"query": "x", "messages": []})
