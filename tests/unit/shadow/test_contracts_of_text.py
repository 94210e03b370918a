"""Contracts beyond JSON: XML, numbered lists, words; and what is reported apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Contract
from shadow.checks import format_valid

Build = Callable[..., Any]


def _candidate(pair: Build, text: str, **contract: Any) -> Any:
    return format_valid.check(pair("x", text, contract=Contract(**contract))).candidate


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("<reply><to>Ida</to></reply>", "pass"),
        ('\n<?xml version="1.0"?>\n<reply/>\n', "pass"),
        ("<reply><to>Ida</reply>", "fail"),
        ("<reply/> and more", "fail"),
        ("<reply/><reply/>", "fail"),
        ("<other/>", "fail"),
        ("no element", "fail"),
        ("", "fail"),
        ("<reply>&undefined;</reply>", "fail"),
        ("<r>" * 100 + "</r>" * 100, "fail"),
    ],
)
def test_xml_is_one_well_formed_element(pair: Build, text: str, outcome: str) -> None:
    """Well formed, the declared root, nothing around it, and not nested without end."""
    assert _candidate(pair, text, xml=True, xml_root="reply").outcome == outcome


def test_xml_entities_are_never_expanded_or_fetched(pair: Build) -> None:
    """A document type could grow to gigabytes or read files, so it is refused as such."""
    bomb = '<!DOCTYPE r [<!ENTITY a "xxxxxxxx"><!ENTITY b "&a;&a;&a;">]><r>&b;</r>'
    outside = '<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd"><r/>'
    file = '<!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><r>&f;</r>'
    for text in (bomb, outside, file):
        finding = _candidate(pair, text, xml=True)
        assert (finding.outcome, "document type" in finding.reason) == ("fail", True)


def test_xml_in_a_code_fence_is_reported_apart(pair: Build) -> None:
    """Like JSON: it fails, and the flag says that only the fence is in the way."""
    finding = _candidate(pair, "```xml\n<reply/>\n```", xml=True)
    assert (finding.outcome, finding.flags) == ("fail", ("xml_after_fences",))
    assert _candidate(pair, "```xml\n<reply>\n```", xml=True).flags == ()


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Steps:\n1. Open\n2. Turn\n3. Close\nDone.", "pass"),
        ("1) Open\n2) Turn", "pass"),
        ("**1.** Open\n**2.** Turn", "pass"),
        ("1. Open\n   1. deeper than the margin\n2. Turn", "fail"),
        ("1. Open\n     1. deeper\n2. Turn", "pass"),
        ("1. Open\n3. Close", "fail"),
        ("2. Open\n3. Close", "fail"),
        ("1. Open", "fail"),
        ("1. a\n2. b\n3. c\n4. d", "fail"),
        ("- Open\n- Close", "fail"),
        ("In 2019. It was 1. of many", "fail"),
        ("```\n1. in code\n2. in code\n```", "fail"),
    ],
)
def test_a_numbered_list_is_counted(pair: Build, text: str, outcome: str) -> None:
    """Numbered without a gap from 1 on, at the margin, with as many items as declared."""
    contract = {"numbered_list": True, "min_items": 2, "max_items": 3}
    assert _candidate(pair, text, **contract).outcome == outcome


def test_words_are_counted_in_every_script(pair: Build) -> None:
    """Between white space; where a script has none, each character is a word."""
    assert _candidate(pair, "你好世界", max_words=4).outcome == "pass"
    assert _candidate(pair, "你好世界", max_words=3).outcome == "fail"
    assert _candidate(pair, "one two\nthree", min_words=4).outcome == "fail"


def test_a_required_sentence_and_a_regex(pair: Build) -> None:
    """Such as the line by which a route escalates."""
    contract = {"required_text": "Call 112 in an emergency.", "regex": r"^Hello\b"}
    assert _candidate(pair, "Hello. Call 112 in an emergency.", **contract).outcome == "pass"
    finding = _candidate(pair, "Good day.", **contract)
    assert finding.outcome == "fail"
    assert "required text" in finding.reason
    assert "regex" in finding.reason


@pytest.mark.parametrize(
    ("contract", "match"),
    [
        ({"min_words": 5, "max_words": 4}, "min_words is 5 and above max_words"),
        ({"numbered_list": True, "min_items": 3, "max_items": 2}, "min_items is 3"),
        ({"min_items": 3}, "need numbered_list"),
        ({"xml_root": "a"}, "needs xml"),
        ({"xml": True, "json_object": True}, "xml and JSON"),
        ({"language": "english"}, "language"),
    ],
)
def test_a_contract_that_no_answer_fits_is_refused(contract: dict[str, Any], match: str) -> None:
    """What contradicts itself, or does nothing, is an error when the settings are read."""
    with pytest.raises(ValidationError, match=match):
        Contract(**contract)
