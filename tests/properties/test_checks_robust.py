"""Checks never raise, and streams never depend on how an answer was cut into pieces."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shadow.answer import read_answer
from shadow.checks import run_checks
from shadow.checks.output_tokens import count_tokens
from shadow.checks.refusal_rate import stance
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
    assert count_tokens(f"{text} {text}") == 2 * count_tokens(text)
