"""Refusals in both directions, known failures, and what a request is known by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import KnownFailures, Route
from shadow.answer import Answer, Choice
from shadow.checks import known_failure_rate, over_refusal_rate, under_refusal_rate
from shadow.expectation import must_refuse
from shadow.fingerprint import by_fingerprint, fingerprint

Build = Callable[..., Any]

NO = "I'm sorry, but I can't help with that."
YES = "Yes: it opens at nine."


@pytest.mark.parametrize(
    ("wanted", "answer", "over", "under"),
    [
        (False, NO, 1, None),
        (False, YES, 0, None),
        (True, NO, None, 0),
        (True, YES, None, 1),
        (True, "Could you tell me which lock you mean?", None, 1),
        (None, NO, None, None),
        (None, YES, None, None),
        (True, "", None, None),
        (False, "", None, None),
    ],
)
def test_both_directions_are_counted_apart(
    pair: Build, wanted: bool | None, answer: str, over: int | None, under: int | None
) -> None:
    """Harmless refused is one rate, must-refuse answered another; not knowing is neither."""
    made = replace(pair("x", answer), must_refuse=wanted)
    assert over_refusal_rate.check(made).candidate.bit() == over
    assert under_refusal_rate.check(made).candidate.bit() == under


def test_every_choice_has_to_decline(pair: Build) -> None:
    """One answer among several refusals is enough to do harm."""
    declines = Choice(NO, finish_reason="stop")
    helps = Choice(YES, finish_reason="stop")
    made = replace(pair(Answer((declines, declines)), Answer((declines, helps))), must_refuse=True)
    found = under_refusal_rate.check(made)
    assert (found.baseline.bit(), found.candidate.bit()) == (0, 1)


@pytest.mark.parametrize(
    ("source", "body", "expected"),
    [
        ("always", {}, True),
        ("never", {}, False),
        (None, {"metadata": {"must_refuse": "true"}}, None),
        ("metadata.must_refuse", {"metadata": {"must_refuse": "true"}}, True),
        ("metadata.must_refuse", {"metadata": {"must_refuse": "False"}}, False),
        ("metadata.must_refuse", {"metadata": {"must_refuse": "maybe"}}, None),
        ("metadata.must_refuse", {"metadata": {}}, None),
        ("metadata.must_refuse", {"metadata": "x"}, None),
        ("body:policy.refuse", {"policy": {"refuse": True}}, True),
        ("body:policy.refuse", {"policy": {"refuse": 0}}, False),
        ("segment:unsafe", {}, True),
        ("segment:other", {}, False),
        ("risk:high", {}, None),
    ],
)
def test_who_says_that_a_request_must_be_refused(
    source: str | None, body: dict[str, Any], expected: bool | None
) -> None:
    """The route, a label of the request, or a place in its body; silence is not harmless."""
    found = must_refuse(source, body=json.dumps(body), segment="unsafe", risk=None)
    assert found is expected
    assert must_refuse(source, body="{", segment="unsafe", risk=None) in {expected, None}


def test_a_place_that_is_none_is_refused() -> None:
    """A typing error must not silently count nothing for ever."""
    assert Route(baseline="b", must_refuse="segment:unsafe").must_refuse == "segment:unsafe"
    with pytest.raises(ValidationError, match="write metadata"):
        Route(baseline="b", must_refuse="header:x-unsafe")


def _known(*musts: dict[str, Any]) -> dict[str, Any]:
    cases = [
        {
            "number": number,
            "title": "went wrong",
            "messages": [{"role": "user", "content": "hello"}],
            "must": must,
        }
        for number, must in enumerate(musts, start=1)
    ]
    return by_fingerprint(KnownFailures.model_validate({"cases": cases}).cases)


@pytest.mark.parametrize(
    ("must", "good", "bad"),
    [
        ({"contains": ["opens at NINE"]}, YES, "At ten."),
        ({"excludes": ["guarantee"]}, YES, "I guarantee it."),
        ({"regex": r"^Yes\b"}, YES, "No."),
        ({"refuses": True}, NO, YES),
        ({"refuses": False}, YES, NO),
    ],
)
def test_a_known_failure_has_its_own_assertion(
    pair: Build, must: dict[str, Any], good: str, bad: str
) -> None:
    """It passes or fails by that alone, and the finding names the case and its version."""
    made = replace(pair(good, bad), known=_known(must))
    found = known_failure_rate.check(made)
    assert (found.baseline.bit(), found.candidate.bit()) == (0, 1)
    assert found.baseline.flags == ("case_1",)
    assert found.candidate.reason.startswith("case 1 v1: ")


def test_known_failures_of_tools(pair: Build, chat: Build) -> None:
    """A tool that has to be called, and one that must not be."""
    call = {"id": "c", "function": {"name": "refund", "arguments": "{}"}}
    called = chat(None, tool_calls=[call])
    must_call = replace(pair(called, YES), known=_known({"calls": "refund"}))
    assert known_failure_rate.check(must_call).baseline.bit() == 0
    assert known_failure_rate.check(must_call).candidate.bit() == 1
    must_not = replace(pair(called, YES), known=_known({"calls_not": "refund"}))
    assert known_failure_rate.check(must_not).baseline.bit() == 1
    assert known_failure_rate.check(must_not).candidate.bit() == 0


def test_two_cases_of_one_request_both_count(pair: Build) -> None:
    """Each assertion stands for itself; other requests are not touched."""
    both = _known({"contains": ["nine"]}, {"excludes": ["ten"]})
    made = replace(pair(YES, "At nine or ten."), known=both)
    assert known_failure_rate.check(made).baseline.bit() == 0
    assert "case 2 v1" in known_failure_rate.check(made).candidate.reason
    other = replace(
        pair("x", "y", messages=[{"role": "user", "content": "bye"}]), known=_known({"regex": "z"})
    )
    assert known_failure_rate.check(other).candidate.bit() is None


def test_a_case_never_leaves_the_suite() -> None:
    """A gap in the numbers is refused when the file is read, and so is a case about nothing."""
    case = {"title": "t", "fingerprint": "0" * 64, "must": {"contains": ["a"]}}
    whole = [{**case, "number": 1}, {**case, "number": 2}]
    assert len(KnownFailures.model_validate({"cases": whole}).cases) == 2
    with pytest.raises(ValidationError, match="case 1 is missing"):
        KnownFailures.model_validate({"cases": whole[1:]})
    with pytest.raises(ValidationError, match="asserts nothing"):
        KnownFailures.model_validate({"cases": [{**case, "number": 1, "must": {}}]})
    with pytest.raises(ValidationError, match="either fingerprint or messages"):
        KnownFailures.model_validate({"cases": [{"number": 1, "title": "t", "must": case["must"]}]})


def test_a_request_is_known_by_its_messages() -> None:
    """Key order and what else a client sends do not matter; a word more does."""
    one = [{"role": "user", "content": "hello"}]
    assert fingerprint(one) == fingerprint([{"content": "hello", "role": "user"}])
    assert fingerprint(one) == fingerprint([{**one[0], "cache_control": {"type": "ephemeral"}}])
    assert fingerprint(one) != fingerprint([{"role": "user", "content": "hello!"}])
    assert fingerprint(one) != fingerprint([{"role": "system", "content": "hello"}])
