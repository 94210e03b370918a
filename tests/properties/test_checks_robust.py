"""Checks never raise, and streams never depend on how an answer was cut into pieces."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shadow.answer import read_answer
from shadow.boilerplate import KEEP_ONE_IN, shingles_of
from shadow.checks import run_checks
from shadow.checks.abstention_rate import abstains
from shadow.checks.citation_context import read_context
from shadow.checks.citation_marks import read_citations, verbatim
from shadow.checks.escalation_rate import escalates
from shadow.checks.kinds import LONG_CHARS
from shadow.checks.numbered import list_fault
from shadow.checks.output_tokens import _ASCII_TOKEN, _TOKEN, count_tokens
from shadow.checks.refusal_rate import stance
from shadow.checks.repetition_rate import loops
from shadow.checks.stance import read_stance
from shadow.checks.words import count_words
from shadow.checks.xml_text import xml_fault
from shadow.pair import Arm, Pair, UnreadableRequest, read_prompt

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "content", "tool_calls", "function", "name", "arguments",
             "error", "usage", "delta", "index", "output", "type", "text", "refusal"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
requests = st.fixed_dictionaries(
    {},
    optional={
        "messages": json_values,
        "tools": json_values,
        "tool_choice": json_values,
        "response_format": st.builds(
            lambda schema: {"type": "json_schema", "json_schema": {"schema": schema}}, json_values
        ),
    },
)


@given(
    endpoint=st.sampled_from(["chat/completions", "completions", "responses"]),
    body=json_values,
    request=requests,
    streamed=st.booleans(),
)
def test_hostile_documents_never_raise(
    endpoint: str, body: Any, request: dict[str, Any], streamed: bool
) -> None:
    """Whatever JSON a client or an upstream sends, every check has an outcome for it."""
    text = json.dumps(body)
    answer = read_answer(endpoint=endpoint, body=f"data: {text}\n\n" if streamed else text)
    prompt = read_prompt(endpoint=endpoint, body=json.dumps(request))
    for result in run_checks(Pair(prompt, Arm(answer), Arm(answer))):
        assert "the check broke" not in result.candidate.reason
        assert result.baseline == result.candidate


@given(body=st.text(max_size=100), status=st.sampled_from([None, 200, 404, 500]))
def test_arbitrary_bytes_never_raise(body: str, status: int | None) -> None:
    """A body that is no JSON is an error value."""
    assert read_answer(endpoint="chat/completions", body=body, status=status).error or body.strip()
    with contextlib.suppress(UnreadableRequest):
        read_prompt(endpoint="chat/completions", body=body)


@given(
    content=st.text(max_size=60),
    arguments=st.text(max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_an_answer_does_not_depend_on_its_pieces(
    content: str, arguments: str, cuts: list[int], newline: str
) -> None:
    """Text and streamed arguments are joined before anything looks at them."""

    def pieces(text: str) -> list[str]:
        marks = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
        return [text[a:b] for a, b in pairwise(marks)]

    deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces(content)]
    opened = {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
    deltas.append({"tool_calls": [opened]})
    deltas += [
        {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        for piece in pieces(arguments)
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    body = "".join(f"data: {json.dumps(chunk)}{newline}{newline}" for chunk in chunks)
    answer = read_answer(endpoint="chat/completions", body=body)
    assert answer.text == content
    assert answer.tool_calls[0].arguments == arguments


@given(text=st.text(max_size=300))
def test_measures_are_total(text: str) -> None:
    """Length and stance exist for every text; doubling a text doubles its length."""
    assert stance(text)
    assert abstains(text) in {True, False}
    assert escalates(text) in {True, False}
    assert count_tokens(f"{text} {text}") == 2 * count_tokens(text)


@given(
    text=st.lists(
        st.sampled_from(["<a>", "</a>", "<!DOCTYPE a [", "]>", "&x;", "1. ", "2) ", "\n", "no ",
                         "I can't ", "\u2014", "'", '"', "```", "\ud800", "\u3042"])
        | st.text(max_size=5),
        max_size=60,
    ).map("".join)
)  # fmt: skip
def test_every_text_can_be_read(text: str) -> None:
    """As XML, as a list, for loops, for shingles, for its stance: each has an answer."""
    assert isinstance(xml_fault(text), str)
    assert isinstance(list_fault(text, 1, 3), str)
    assert isinstance(loops(text * 3), str)
    assert all(each % KEEP_ONE_IN == 0 for each in shingles_of(text))
    assert read_stance(text).stance
    assert count_words(text) >= 0


@given(text=st.text(max_size=150), ascii_only=st.booleans())
def test_long_texts_are_counted_as_short_ones_are(text: str, ascii_only: bool) -> None:
    """The array's count of a long text is the regular expression's, whatever is in it."""
    piece = text.encode("ascii", "ignore").decode() if ascii_only else text
    long = f"{piece} 0 " + " x" * LONG_CHARS
    pattern = _ASCII_TOKEN if long.isascii() else _TOKEN
    assert count_tokens(long) == len(pattern.findall(long))


marks = st.lists(
    st.sampled_from(
        ["[1]", "[doc2]", "[", "]", "(source: ", ")", "https://a.test/x", '"', " words that go on ",
         "\n", "\u3010", "\u3011", "\u2020", "Source: ", "[1-3]", "{", "}", ":", '"citations"', "`"]
    )
    | st.text(max_size=8),
    max_size=20,
).map("".join)  # fmt: skip


@given(
    answer=marks,
    given_text=marks,
    role=st.sampled_from(["system", "user", "tool", "assistant", None]),
)
def test_citations_are_read_of_every_text(answer: str, given_text: str, role: str | None) -> None:
    """Whatever brackets, quotes and URLs there are, reading them ends, with counts that add up."""
    message = {"content": given_text} if role is None else {"role": role, "content": given_text}
    context = read_context([message])
    cited = read_citations(answer, context)
    assert cited.known >= 0
    assert cited.unknown >= 0
    assert all(verbatim(quotation, context) in {True, False} for quotation in cited.quotations)
    if role == "assistant":
        assert not context.sourced


SPACES = st.lists(st.sampled_from([" ", "  ", "\n", "\t", "\u00a0"]), min_size=12, max_size=12)
WORDS = st.sampled_from(["Goods", "may", "be", "returned", "in", "14", "days"])


@given(words=st.lists(WORDS, min_size=3, max_size=12), spaces=SPACES)
def test_what_is_copied_from_the_context_is_verbatim(words: list[str], spaces: list[str]) -> None:
    """A span of the context is a valid quotation however its white space was changed."""
    context = read_context([{"role": "system", "content": f"[doc1] So: {' '.join(words)} end"}])
    copied = "".join(word + space for word, space in zip(words, spaces, strict=False))
    assert verbatim(copied, context)
    assert not verbatim(copied + "never", context)
