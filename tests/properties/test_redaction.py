"""Properties of redaction: no seeded secret survives, and documents stay documents."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any, TypeVar

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.redaction import rules
from gateway.redaction.bodies import Redactor
from gateway.redaction.streams import looks_like_stream
from gateway.redaction.text import Withheld, applied, spread
from gateway.settings_privacy import RedactionSettings
from shadow.answer import read_answer

T = TypeVar("T")

SECRETS = (
    "bob.smith@mail.example.com",
    "+49 151 23456789",
    "4111 1111 1111 1111",
    "DE89370400440532013000",
    "sk-abcdefghijklmnop0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.SflKxwRJSMeKKF2QT4",
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="@+-._\0"), max_size=20)
SECRET = st.sampled_from(SECRETS)
PIECES = st.lists(st.one_of(WORDS, SECRET), max_size=12)


def redactor() -> Redactor:
    """By the defaults, with a clock that stands still."""
    return Redactor(RedactionSettings(), clock=lambda: 0.0)


def attempted(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return a result, or why it is withheld."""
    try:
        return work(), None
    except Withheld as refusal:
        return None, refusal.reason


def text_of(pieces: list[str]) -> str:
    """Join words and secrets so that a secret's neighbour is no part of it."""
    return " | ".join(pieces)


def is_document(text: str) -> bool:
    """Whether a text that is redacted by itself may be taken for JSON or a stream."""
    return text.lstrip()[:1] in {"{", "["} or looks_like_stream(text)


def leaks(text: str) -> list[str]:
    """Return the secrets that a text still holds."""
    return [secret for secret in SECRETS if secret in text]


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        WORDS,
        SECRET,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=15,
)


@given(PIECES)
def test_no_secret_survives_in_a_text(pieces: list[str]) -> None:
    """Whatever stands around it; and a second time finds nothing more."""
    redacted, _ = redactor().text(text_of(pieces))
    assert leaks(redacted) == []
    assert redactor().text(redacted) == (redacted, {})


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    """Nothing raises, and redaction is done once."""
    redacted, reason = attempted(lambda: redactor().text(text)[0])
    if redacted is None:
        assert reason in {"unreadable", "number", "tokens"}
    else:
        assert redactor().text(redacted)[0] == redacted


@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_json_stays_json(value: Any, ascii_only: bool, indent: int | None) -> None:
    """All that is no string is as it was, escaped or not; strings inside hold no secret."""
    body = json.dumps({"a": value, "b": json.dumps(value)}, ensure_ascii=ascii_only, indent=indent)
    redacted, reason = attempted(
        lambda: redactor().capture(body.encode(), b"{}", b"", limit=10).request
    )
    if redacted is None:
        assert reason == "number"
        return
    document = json.loads(redacted)
    assert leaks(redacted.decode()) == []
    assert shape(document["a"]) == shape(value)
    assert shape(json.loads(document["b"])) == shape(value)
    again = redactor().capture(redacted, b"{}", b"", limit=10).request
    assert again == redacted


def shape(value: Any) -> Any:
    """Return a document with its strings left out."""
    if isinstance(value, dict):
        return [shape(each) for each in value.values()]
    if isinstance(value, list):
        return [shape(each) for each in value]
    return str if isinstance(value, str) else repr(value)


@given(PIECES, st.lists(st.integers(0, 400), max_size=30), st.booleans())
def test_no_secret_survives_in_pieces(pieces: list[str], cuts: list[int], ascii_only: bool) -> None:
    """Wherever a stream cuts its text, what is joined of it holds no secret."""
    text = text_of(pieces)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    parts = [text[start:end] for start, end in pairwise(edges)]
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in parts]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    stream = "".join(f"data: {json.dumps(e, ensure_ascii=ascii_only)}\n\n" for e in events)
    redacted = redactor().capture(b"{}", (stream + "data: [DONE]\n\n").encode(), b"", limit=10)
    answer = read_answer(endpoint="/chat/completions", body=redacted.response.decode())
    assert leaks(answer.text) == []
    assert is_document(text) or answer.text == redactor().text(text)[0]
    assert redacted.response.count(b"\n\n") == len(events) + 1


def in_chat(index: int, **delta: Any) -> dict[str, Any]:
    """Return an event of a chat completion."""
    return {"created": 1732557600, "choices": [{"index": index, "delta": delta, "logprobs": None}]}


LANES: dict[str, tuple[Callable[[str], dict[str, Any]], Callable[[dict[str, Any]], Any]]] = {
    "content": (
        lambda piece: in_chat(0, content=piece),
        lambda event: event["choices"][0]["delta"]["content"],
    ),
    "second choice": (
        lambda piece: in_chat(1, content=piece),
        lambda event: event["choices"][0]["delta"]["content"],
    ),
    "reasoning": (
        lambda piece: in_chat(0, reasoning_content=piece),
        lambda event: event["choices"][0]["delta"]["reasoning_content"],
    ),
    "arguments": (
        lambda piece: in_chat(0, tool_calls=[{"index": 1, "function": {"arguments": piece}}]),
        lambda event: event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"],
    ),
    "text": (
        lambda piece: {"choices": [{"text": piece, "index": 0}]},
        lambda event: event["choices"][0]["text"],
    ),
    "second text": (
        lambda piece: {"choices": [{"text": piece, "index": 1}]},
        lambda event: event["choices"][0]["text"],
    ),
    "responses": (
        lambda piece: {"type": "response.output_text.delta", "delta": piece, "item_id": "m1"},
        lambda event: event["delta"],
    ),
    "another item": (
        lambda piece: {"type": "response.output_text.delta", "delta": piece, "item_id": "m2"},
        lambda event: event["delta"],
    ),
    "unknown": (
        lambda piece: {"summary": {"words": piece}},
        lambda event: event["summary"]["words"],
    ),
}
"""Ways to stream a text: how an event is made of a piece, and where the piece stands in it."""


LANE = st.tuples(st.sampled_from(sorted(LANES)), PIECES, st.sets(st.integers(1, 200), max_size=40))


@given(
    st.lists(LANE, min_size=1, max_size=3, unique_by=lambda lane: lane[0]),
    st.randoms(use_true_random=False),
    st.booleans(),
)
@example([("reasoning", ["4111 1111 1111 1111"], {4, 9, 14})], Random(1), False)
@example([("text", ["4111 1111 1111 1111"], {4, 9, 14})], Random(1), False)
@example([("responses", ["4111 1111 1111 1111"], {4, 9, 14})], Random(1), False)
@example(
    [("content", ["4111 1111 1111 1111"], {4, 9, 14}), ("second choice", ["a b c d"], {1, 3, 5})],
    Random(2),
    False,
)
def test_no_secret_survives_beside_others(lanes: Any, random: Any, ascii_only: bool) -> None:
    """What is joined of each text holds no secret, whatever comes between its pieces."""
    order: list[str] = []
    pieces: dict[str, Any] = {}
    for name, words, cuts in lanes:
        text = text_of(words)
        edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
        pieces[name] = iter([text[start:end] for start, end in pairwise(edges)])
        order += [name] * (len(edges) - 1)
    random.shuffle(order)
    events = [LANES[name][0](next(pieces[name])) for name in order]
    lines = [f"data: {json.dumps(event, ensure_ascii=ascii_only)}" for event in events]
    stream = "".join(f"{line}\n\n" for line in [*lines, "data: [DONE]"])
    given = redactor().capture(b"{}", stream.encode(), b"", limit=10).response.decode()
    got = [json.loads(line[6:]) for line in given.split("\n\n") if line.startswith("data: {")]
    assert len(got) == len(events)
    for name, words, _ in lanes:
        joined = "".join(
            LANES[name][1](event) for own, event in zip(order, got, strict=True) if own == name
        )
        assert leaks(joined) == []
        text = text_of(words)
        if len(lanes) == 1 and not is_document(text):
            assert joined == redactor().text(text)[0]


@given(st.text(max_size=60), st.data())
def test_edits_of_pieces_are_edits_of_the_whole(text: str, data: st.DataObject) -> None:
    """Spreading edits over pieces and joining them is the same as editing the text."""
    marks = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    edits = [(a, b, "[X]") for a, b in zip(marks[::2], marks[1::2], strict=False)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edges = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert "".join(spread(pieces, edits)) == applied(text, edits)


LITERALS = (
    *("@", "%40", "eyJ", "AKIA", "SG.", "sk-", "-----BEGIN ", "hf_", "github_pat_"),
    *("Password", "api key", "_token", "_tokens", "-token", "secret", "Bearer"),
    *("\ud800", "\u0130", "1", "23 4", "(0)", "\u0663", "."),
)
MIXED = st.lists(st.one_of(st.sampled_from(LITERALS), st.text(max_size=4)), max_size=20)


@given(MIXED.map("".join))
@example("prompt_tokens: 9, completion_tokens: 12")
@example("_tokens _token")
@example("+49 151 23456789" + " " * 100)
def test_what_is_passed_over_holds_nothing(text: str) -> None:
    """The quick looks say no only where the rules' own literals and runs of digits are missing."""
    low = rules.lowered(text)
    starts = [*rules._BEARER_STARTS, *rules._ASSIGNED_STARTS]
    literals = ["@", *rules._MARKS, *rules._DASHED, *rules._UNDERSCORED]
    held = any(each in text for each in literals) or any(start in low for start in starts)
    if rules.has_literals(text):
        assert held
    elif held:
        assert low.count("_token") == low.count("_tokens")
        assert low.count("-token") == low.count("-tokens")
        assert not any(each in text for each in literals)
        assert list(rules.secrets(text)) == []
    assert rules.has_digits(text) == (rules._DIGITS.search(text) is not None)


def calls(text: str) -> int:
    """Count the calls that redacting a text takes."""
    count = 0

    def count_one(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    scanner = redactor()
    sys.setprofile(count_one)
    try:
        scanner.text(text)
    finally:
        sys.setprofile(None)
    return count


@given(
    st.sampled_from(
        ["a@", "1 ", "+1 ", "sk-", "eyJ.", "-----BEGIN PRIVATE KEY-----", "password=", "4111 ",
         "01 23 ", "(0123)", "AA11 ", "phone: ", "a@b.c ", "bearer ", "%40", "[EMAIL_1]"]
    )
)  # fmt: skip
def test_the_work_grows_with_the_text(part: str) -> None:
    """Ten times the text is about ten times the calls, also for texts made to be difficult."""
    small, large = calls(part * 200), calls(part * 2000)
    assert large <= 12 * small
