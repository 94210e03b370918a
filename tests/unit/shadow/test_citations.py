"""Citations are held against what the request supplies, and other brackets are left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shadow.checks.citation_context import normal_id, read_context
from shadow.checks.citation_valid import check
from shadow.checks.result import Finding

Build = Callable[..., Any]

DOCS = (
    "Answer from these documents.\n"
    "[doc1] Returns\nGoods may be returned within 14 days of delivery.\n"
    "[doc2] Warranty\nThe seller provides support for 12 months. See https://acme.test/warranty\n"
)
NUMBERED = "Source 1: Returns are free.\nSource 2: Three days.\nSource 3: We ship on Mondays."
ASKED = "What of https://user.test/mine?"
LONG = (
    "You may return the goods you bought from us as long as you do so in the time that is given "
    "for it, and the refund is paid to the account that was used."
)


def verdict(pair: Build, answer: Any, *, system: str = DOCS, user: str = ASKED) -> Finding:
    """Check one answer given with `system` as instructions."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    found: Finding = check(pair("plain", answer, messages=messages)).candidate
    return found


@pytest.mark.parametrize(
    "answer",
    [
        "You have 14 days [doc1].",
        "You have 14 days [1] and a warranty [2].",
        "Both are covered [1, 2] [doc1; doc2] \u30101\u3011.",
        "It is in [Doc 2] and (doc 1).",
        "Fourteen days (source: Returns).",
        "Fourteen days (source: doc1).",
        "See the terms (https://acme.test/warranty).",
        "See [the terms](https://acme.test/warranty#support).",
        'The terms say "may be returned within 14 days" [doc1].',
        '[2] states: "The seller provides   support for 12 months."',
        "The terms say \u201cGoods may be \u2026 within 14 days\u201d [doc1].",
        "Fourteen days.\n\nSources: doc1, doc2",
        "Ask at https://acme.test, and https://user.test/mine is yours.",
    ],
)
def test_what_was_supplied_may_be_cited(pair: Build, answer: str) -> None:
    """Every usual way of writing a citation that is there passes."""
    assert verdict(pair, answer).outcome == "pass"


@pytest.mark.parametrize(
    ("answer", "flag"),
    [
        ("You have 30 days [doc3].", "unknown_source"),
        ("You have 14 days [doc1] and more [7].", "unknown_source"),
        ("You have 14 days [1-4].", "unknown_source"),
        ("It is in \u30109\u2020source\u3011.", "unknown_source"),
        ("Fourteen days (source: Consumer Handbook).", "unknown_source"),
        ("Fourteen days (doc 5).", "unknown_source"),
        ("Fourteen days.\nSource: doc5", "unknown_source"),
        ("See https://acme.test/returns for more.", "unknown_url"),
        ("See [the terms](https://acme.example/warranty).", "unknown_url"),
        ("See https://acme..test/x and [doc1].", "malformed_url"),
        ('The terms say "may be returned within 30 days" [doc1].', "not_verbatim"),
        ('[2] states: "The seller provides no support at all"', "not_verbatim"),
    ],
)
def test_what_was_not_supplied_fails(pair: Build, answer: str, flag: str) -> None:
    """Invented sources, URLs and quotations are found, each under its own flag."""
    found = verdict(pair, answer)
    assert (found.outcome, found.flags) == ("fail", (flag,))


@pytest.mark.parametrize(
    "answer",
    [
        "You have 14 days.",
        "- [x] done\n- [ ] open",
        "Use `items[7]` or:\n```python\nfirst = rows[9]\n```",
        "The year [2024] was good, and so is the interval [0, 5].",
        "Dear [Your Name], (see below) the contract [...] ends.",
        "(3) Third point, (Result: 42), (article by a colleague).",
        '"Well said, and not from a document at all"',
    ],
)
def test_other_brackets_are_no_citations(pair: Build, answer: str) -> None:
    """Check boxes, code, years, intervals, placeholders and enumerations are left alone."""
    assert verdict(pair, answer).outcome == "not_applicable"


def test_without_sources_there_is_nothing_to_check(pair: Build) -> None:
    """Knowledge of the model's own may have links and brackets; so may a user's own words."""
    answer = "See [1] and https://rust-lang.org (source: experience)."
    assert verdict(pair, answer, system="Be brief.").outcome == "not_applicable"
    asked = verdict(pair, answer, system="Be brief.", user="What is https://a.test/x?")
    assert asked.outcome == "not_applicable"


def test_a_list_of_references_of_its_own_is_judged_by_its_urls(pair: Build) -> None:
    """`[1] https://…` at the end defines what `[1]` means; the URL must be a given one."""
    system = "Read https://acme.test/a and https://acme.test/b"
    good = "It is so [1][2].\n\n[1]: https://acme.test/a\n[2] B, https://acme.test/b/"
    assert verdict(pair, good, system=system).outcome == "pass"
    bad = verdict(pair, good.replace("/b/", "/c/"), system=system)
    assert bad.flags == ("unknown_url",)


def test_sources_are_found_wherever_they_are_declared(pair: Build, chat: Build) -> None:
    """Tool results as JSON, elements with attributes, numbered headings, the responses API."""
    element = '<document id="kb-104" title="Returns">\nReturns are free.\n</document>'
    for system, good, bad in (
        (element, "Free [KB-104].", "Free [KB-105]."),
        (NUMBERED, "Three days [Source 2].", "Three days [Source 4]."),
        ("<source>policy.pdf</source>", "Yes [policy.pdf].", "Yes [terms.pdf]."),
    ):
        assert verdict(pair, good, system=system).outcome == "pass", good
        assert verdict(pair, bad, system=system).outcome == "fail", bad
    found = json.dumps({"hits": [{"id": "d1", "text": "line one\nline two", "url": "http://w/p"}]})
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "I read [d7] at https://old.test/x"},
        {"role": "tool", "tool_call_id": "c", "content": found},
    ]

    def after_tool(answer: str) -> str:
        outcome: str = check(pair("x", answer, messages=messages)).candidate.outcome
        return outcome

    assert after_tool('"line one line two" [d1], http://w/p') == "pass"
    assert after_tool("As I said [d7].") == "fail"
    assert after_tool("As I said: https://old.test/x") == "fail"
    assert read_context(
        [{"type": "function_call_output", "call_id": "c", "output": "[d4] four"}]
    ).ids == {"d4"}


def test_one_document_has_one_name() -> None:
    """Spelling does not matter, and words that only begin like one keep their beginning."""
    for text in ("doc3", "[Doc 03]".strip("[]"), "doc_3", "Source #3", "3", "documents-3"):
        assert normal_id(text) == "3", text
    assert normal_id("Refund policy") == "refund-policy"


def test_citations_in_a_json_answer_are_read(pair: Build) -> None:
    """Fields that cite are citations; numbers in other fields are not."""
    good = {"answer": "14 days", "citations": ["doc1", {"id": 2}], "amounts": [7, 9]}
    assert verdict(pair, json.dumps(good)).outcome == "pass"
    good["citations"] = ["doc8"]
    assert verdict(pair, json.dumps(good)).outcome == "fail"
    assert verdict(pair, '{"source": "e-mail", "amounts": [7, 9]}').outcome == "not_applicable"


def test_citations_that_were_asked_for_and_are_missing_fail(pair: Build, chat: Build) -> None:
    """Only in an answer of some length that does answer; never where none were asked for."""
    asked = f"{DOCS}Cite the document after each sentence."
    assert verdict(pair, LONG, system=asked).flags == ("no_citation",)
    assert verdict(pair, f"{LONG} [doc1]", system=asked).outcome == "pass"
    for answer in (
        "Hello! How can I help?",
        f"The documents do not mention this. {LONG}",
        f"I'm sorry, but I can't help with that. {LONG}",
        chat(LONG, tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{}"}}]),
    ):
        assert verdict(pair, answer, system=asked).outcome == "not_applicable"
    assert verdict(pair, LONG).outcome == "not_applicable"
    silent = f"{DOCS}Do not cite the documents."
    assert verdict(pair, LONG, system=silent).outcome == "not_applicable"
    assert verdict(pair, LONG, system="Always cite.").outcome == "not_applicable"


def test_reasons_quote_nothing(pair: Build) -> None:
    """What stands in answers stays in the capture."""
    found = verdict(
        pair, 'It says "the secret word is 4711 indeed" [doc9] at https://secret.test/x.'
    )
    assert found.outcome == "fail"
    assert "secret" not in json.dumps(found.to_json())
    assert "4711" not in json.dumps(found.to_json())
