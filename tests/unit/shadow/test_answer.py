"""Answers are read alike from every endpoint and transport."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from shadow.answer import read_answer

CHAT = "/v1/chat/completions"


def sse(*documents: Any, done: bool = True) -> str:
    """Write an event stream."""
    events = [f"data: {json.dumps(document)}\n\n" for document in documents]
    return "".join([*events, "data: [DONE]\n\n" if done else ""])


def delta(*, finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """Build one chunk of a chat stream."""
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def test_a_streamed_answer_reads_like_the_whole_one() -> None:
    """Text, calls, finish reason and usage are the same, however the answer travelled."""
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}
    whole = {
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"content": "Hello wörld", "tool_calls": [call]},
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    first = {"index": 0, "id": "c1", "function": {"name": "find", "arguments": ""}}
    stream = sse(
        {**delta(role="assistant", content=""), "model": "m"},
        delta(content="Hello "),
        delta(content="wörld"),
        delta(tool_calls=[first]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"q"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        delta(finish="tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    )
    joined = read_answer(endpoint=CHAT, body=stream)
    at_once = read_answer(endpoint=CHAT, body=json.dumps(whole))
    assert (joined.streamed, at_once.streamed) == (True, False)
    assert replace(joined, streamed=False) == at_once


def test_parallel_streamed_calls_are_joined_by_index() -> None:
    """Interleaved pieces of two calls do not mix."""
    stream = sse(
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{"}}]),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "y", "arguments": "["}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
        delta(tool_calls=[{"index": 1, "function": {"arguments": "]"}}]),
        delta(finish="tool_calls"),
    )
    calls = read_answer(endpoint=CHAT, body=stream).tool_calls
    assert [(call.name, call.arguments) for call in calls] == [("x", "{}"), ("y", "[]")]


def test_calls_without_an_index_are_told_apart_by_id() -> None:
    """Some upstreams number nothing."""
    stream = sse(
        delta(tool_calls=[{"id": "a", "function": {"name": "x", "arguments": "{}"}}]),
        delta(tool_calls=[{"id": "b", "function": {"name": "y", "arguments": "{"}}]),
        delta(tool_calls=[{"function": {"arguments": "}"}}]),
        delta(finish="tool_calls"),
    )
    calls = read_answer(endpoint=CHAT, body=stream).tool_calls
    assert [(call.name, call.arguments) for call in calls] == [("x", "{}"), ("y", "{}")]


def test_a_name_repeated_in_each_piece_is_taken_once() -> None:
    """Some upstreams send the whole name with every piece."""
    stream = sse(
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{"}}]),
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "x", "arguments": "}"}}]),
        delta(finish="tool_calls"),
    )
    assert read_answer(endpoint=CHAT, body=stream).tool_calls[0].name == "x"


def test_a_cut_stream_is_an_error_and_not_a_short_answer() -> None:
    """Half an answer must not be judged as if the model had stopped there."""
    assert read_answer(endpoint=CHAT, body=sse(delta(content="Hel"), done=False)).error
    assert read_answer(endpoint=CHAT, body='data: {"choices": [{"del').error


def test_an_error_event_in_a_stream_is_an_error() -> None:
    """Upstreams report failures in the middle of a 200."""
    body = sse(delta(content="Hel"), {"error": {"message": "out of memory"}}, done=False)
    assert "out of memory" in (read_answer(endpoint=CHAT, body=body).error or "")


def test_reasoning_stays_apart_from_the_text() -> None:
    """Both names for the field are known, streamed or not."""
    body = {
        "choices": [
            {"message": {"content": "4", "reasoning_content": "2+2"}, "finish_reason": "stop"}
        ]
    }
    whole = read_answer(endpoint=CHAT, body=json.dumps(body)).first
    streamed = read_answer(
        endpoint=CHAT,
        body=sse(delta(reasoning="2+"), delta(reasoning="2"), delta(content="4", finish="stop")),
    ).first
    assert (whole.text, whole.reasoning) == (streamed.text, streamed.reasoning) == ("4", "2+2")


def test_every_choice_is_kept() -> None:
    """With `n > 1` each choice stands by itself, streamed in any order."""
    body = sse(
        delta(index=1, content="b"),
        delta(index=0, content="a"),
        delta(index=1, finish="stop"),
        delta(index=0, finish="length"),
    )
    answer = read_answer(endpoint=CHAT, body=body)
    assert [(c.text, c.finish_reason) for c in answer.choices] == [("a", "length"), ("b", "stop")]


def test_completions_and_responses_are_read() -> None:
    """The two other endpoints give the same form."""
    completion = {"choices": [{"text": "abc", "index": 0, "finish_reason": "length"}]}
    answer = read_answer(endpoint="/v1/completions", body=json.dumps(completion))
    assert (answer.text, answer.finish_reason) == ("abc", "length")
    response = {
        "status": "completed",
        "model": "m",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "abc"}]},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    whole = read_answer(endpoint="/v1/responses", body=json.dumps(response))
    assert (whole.text, whole.first.reasoning, whole.tool_calls[0].name) == ("abc", "hm", "f")
    assert whole.usage.output_tokens == 2
    stream = (
        'event: response.output_text.delta\ndata: {"type": "response.output_text.delta"}\n\n'
        f"event: response.completed\r\ndata: "
        f"{json.dumps({'type': 'response.completed', 'response': response})}\r\n\r\n"
    )
    assert read_answer(endpoint="/v1/responses", body=stream) == replace(whole, streamed=True)


def test_an_incomplete_response_says_why() -> None:
    """The responses API's own words become finish reasons."""
    response = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "ab"}]}],
    }
    assert (
        read_answer(endpoint="/v1/responses", body=json.dumps(response)).finish_reason == "length"
    )


def test_error_statuses_and_garbage_are_errors() -> None:
    """Nothing that a broken upstream sends raises, and nothing of it passes for an answer."""
    assert "rate limit" in str(
        read_answer(endpoint=CHAT, body='{"error": {"message": "rate limit"}}', status=429).error
    )
    for body in ("", "<html>", "[]", "{}", '{"choices": []}', '{"error": "no"}', "[" * 9999):
        assert read_answer(endpoint=CHAT, body=body).error
    assert read_answer(endpoint=CHAT, body="", status=None).error


def test_refusals_are_found_in_the_message_and_in_content_parts() -> None:
    """Both places where upstreams put a refusal count."""
    for message in (
        {"content": None, "refusal": "I can't."},
        {"content": [{"type": "refusal", "refusal": "I can't."}]},
    ):
        body = {"choices": [{"message": message, "finish_reason": "stop"}]}
        assert read_answer(endpoint=CHAT, body=json.dumps(body)).refusal == "I can't."
