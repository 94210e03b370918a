"""From verdicts to labels, and what a reviewer sees."""

from __future__ import annotations

import json

import pytest

from rollout.labelling import VERDICTS, Settled, label_of, majority, settled
from rollout.review_view import show
from shadow.answer import read_answer


@pytest.mark.parametrize(
    ("labels", "wanted", "came"),
    [
        ([1.0], 1, Settled(1.0, 1)),
        ([1.0], 2, None),
        ([1.0, 0.0], 2, Settled(0.5, 2)),
        ([1.0, 0.5], 2, Settled(0.5, 2)),
        ([1.0, 0.0, 1.0], 3, Settled(1.0, 3)),
        ([0.0, 0.5, 1.0], 3, Settled(0.5, 3)),
        ([None, None], 1, None),
        ([None, None, None], 1, Settled(None, 0)),
        ([None, 1.0], 1, Settled(1.0, 1)),
        ([1.0, None, None, None], 2, Settled(1.0, 1)),
        ([], 1, None),
    ],
)
def test_when_an_item_is_settled(
    labels: list[float | None], wanted: int, came: Settled | None
) -> None:
    """By so many labels as are wanted, or when more than two people have skipped it."""
    assert settled(labels, wanted) == came


def test_an_unknown_verdict_is_refused_with_those_there_are() -> None:
    """The error names all verdicts."""
    with pytest.raises(ValueError, match="left, right, tie, both_bad, skip"):
        label_of("middle", "baseline")
    assert {label_of(each, "baseline") for each in VERDICTS} == {0.0, 0.5, 1.0, None}


def test_one_more_voice_decides_a_draw() -> None:
    """A draw is ½ until somebody breaks it."""
    assert majority([0.0, 1.0]) == 0.5
    assert majority([0.0, 1.0, 0.0]) == 0.0


def chat(message: dict[str, object]) -> str:
    """The body of a chat completion."""
    return json.dumps({"choices": [{"message": {"role": "assistant", **message}}]})


def test_answers_are_shown_in_one_form_however_they_were_sent() -> None:
    """A stream and a document of the same words look the same; reasoning is not shown."""
    stream = "".join(
        f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n"
        for delta in ({"role": "assistant", "reasoning_content": "hm"}, {"content": "Hel"})
    )
    last = {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]}
    stream += f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n"
    assert read_answer(endpoint="chat/completions", body=stream).text == "Hello"
    shown = show(
        endpoint="/v1/chat/completions",
        request=json.dumps({"messages": []}),
        baseline=stream,
        candidate=chat({"content": "Hello"}),
        left_arm="candidate",
    )
    assert shown.left == shown.right == "Hello"


def test_conversations_are_shown_whole() -> None:
    """Several turns, images, tool calls and their results, and the names of the tools."""
    request = {
        "messages": [
            {"role": "system", "content": "be kind"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:…"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "function": {"name": "look", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
    }
    shown = show(
        endpoint="/v1/chat/completions",
        request=json.dumps(request),
        baseline=chat({"content": "a cat"}),
        candidate=chat({"content": "", "refusal": "no"}),
        left_arm="baseline",
    )
    assert [(turn.role, turn.text) for turn in shown.conversation] == [
        ("system", "be kind"),
        ("user", "what is this?\n[image]"),
        ("assistant", "→ look({})"),
        ("tool", "a cat"),
    ]
    assert shown.tools == ("look",)
    assert (shown.left, shown.right) == ("a cat", "[refusal] no")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (None, "[no answer]"),
        ("<html>", "[no answer]"),
        (chat({"content": ""}), "[nothing]"),
        (
            json.dumps({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}),
            "[1 of 2]\na\n\n[2 of 2]\nb",
        ),
    ],
)
def test_answers_that_are_none_or_several(body: str | None, text: str) -> None:
    """What did not come, came empty, or came as several choices."""
    shown = show(
        endpoint="/v1/chat/completions",
        request="not JSON",
        baseline=body,
        candidate=body,
        left_arm="baseline",
    )
    assert (shown.conversation, shown.left, shown.right) == ((), text, text)
