"""Redacting requests and answers: JSON stays JSON, streams are read as they are joined."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from gateway.redaction.bodies import Redacted, Redactor
from gateway.redaction.text import Withheld
from gateway.settings_privacy import RedactionSettings
from shadow.answer import read_answer

CHAT = "/chat/completions"


def redact(request: Any, response: Any = None, **settings: Any) -> Redacted:
    """Redact a request and an answer; documents are encoded."""
    redactor = Redactor(RedactionSettings.model_validate(settings), clock=lambda: 0.0)
    bodies = [
        each if isinstance(each, bytes) else json.dumps({} if each is None else each).encode()
        for each in (request, response)
    ]
    return redactor.capture(*bodies, b"", limit=1_000_000)


def chunks(*deltas: dict[str, Any], **more: Any) -> bytes:
    """Build the stream of a chat completion."""
    frame = {"id": "chatcmpl-1", "created": 1732557600, "model": "gpt-4o-2024-08-06", **more}
    events = [{**frame, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in events) + b"data: [DONE]\n\n"


def said(pieces: list[str]) -> bytes:
    """Build a stream of text."""
    return chunks({"role": "assistant", "content": ""}, *({"content": p} for p in pieces))


def test_numbers_spaces_and_order_stay_to_the_byte() -> None:
    """Only strings change; repeated members, big numbers and floats are as they were."""
    body = b'{ "b": 1.0, "a": 12345678901234567890,\n "a": 1e3, "t": "a@b.example" , "n": null}'
    assert redact(body).request == body.replace(b"a@b.example", b"[EMAIL_1]")


def test_what_has_nothing_to_replace_comes_back_as_it_was() -> None:
    """No escape and no compressed byte is written anew."""
    request = b'{"messages": [{"content": "caf\\u00e9 \\/ x"}]}'
    answer = gzip.compress(b'{"choices": []}')
    redactor = Redactor(RedactionSettings(), clock=lambda: 0.0)
    redacted = redactor.capture(request, answer, b"gzip", limit=1000)
    assert (redacted.request, redacted.response, redacted.encoding) == (request, answer, b"gzip")


@pytest.mark.parametrize(
    "document",
    [
        {"metadata": {"model": "card4111111111111111"}},
        {"metadata": {"model": "DE89370400440532013000"}},
        {"metadata": {"model": "sk-abcdefghijklmnopqrst"}},
        {"metadata": {"model": "+49 151 23456789"}},
        {"content": 'x "created":1732557600, +49 151 23456789'},
        {"created": 1732557600, "content": "my card: 4111 1111 1111 1111"},
        {"model": "gpt-4o-2024-08-06", "content": "call +49 151 23456789"},
    ],
)
def test_what_looks_like_an_answers_frame_hides_nothing(document: dict[str, Any]) -> None:
    """Instants and dated models are passed over where they stand, and nothing else is."""
    framed = {"created": 1732557600, "model": "gpt-4o-2024-08-06", **document}
    alone = redact(document)
    redacted = redact(framed)
    assert redacted.found == alone.found
    for number in ("4111111111111111", "4111 1111", "DE8937", "sk-abc", "23456789"):
        assert (number in redacted.request.decode()) == (number in alone.request.decode())


def test_a_compressed_answer_is_unpacked_for_it() -> None:
    """And kept unpacked, as it is another text now."""
    answer = gzip.compress(b'{"text": "a@b.example"}')
    redacted = Redactor(RedactionSettings(), clock=lambda: 0.0).capture(
        b"{}", answer, b"gzip", limit=1000
    )
    assert (redacted.response, redacted.encoding) == (b'{"text": "[EMAIL_1]"}', b"")


def test_placeholders_agree_between_request_and_answer() -> None:
    """So that an answer that repeats what it was told still does."""
    redacted = redact(
        {"messages": [{"content": "I am a@b.example, friend of c@d.example"}]},
        {"choices": [{"message": {"content": "Hi A@B.example, c@d.example; ask e@f.example"}}]},
    )
    assert b"I am [EMAIL_1], friend of [EMAIL_2]" in redacted.request
    assert b"Hi [EMAIL_1], [EMAIL_2]; ask [EMAIL_3]" in redacted.response


def test_the_other_arms_new_values_are_numbered_alike() -> None:
    """The candidate saw placeholders; what it says beyond them is numbered after these."""
    redactor = Redactor(RedactionSettings(), clock=lambda: 0.0)
    request = '{"messages": [{"content": "I am [EMAIL_1]"}]}'
    answer, found = redactor.mirrored(request, '{"text": "[EMAIL_1], ask e@f.example"}')
    assert answer == '{"text": "[EMAIL_1], ask [EMAIL_2]"}'
    assert found == {"email": 1}


def test_escapes_hide_nothing() -> None:
    r"""``\u0040`` in a body is the sign that it stands for, in JSON inside JSON too."""
    inner = '{"mail": "a\\u0040b.example", "n": 1.50}'
    redacted = redact(b'{"a": "x\\u0040y.example", "args": %b}' % json.dumps(inner).encode())
    document = json.loads(redacted.request)
    assert document["a"] == "[EMAIL_1]"
    assert document["args"] == '{"mail": "[EMAIL_2]", "n": 1.50}'


def test_arguments_of_tool_calls_stay_json() -> None:
    """They are redacted inside their own strings; a member called password is replaced whole."""
    arguments = json.dumps({"to": 'a@b.example "x"', "password": "open", "count": 3})
    call = {"function": {"name": "send", "arguments": arguments}}
    redacted = redact({}, {"choices": [{"message": {"tool_calls": [call]}}]})
    body = json.loads(redacted.response)
    made = body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(made) == {"to": '[EMAIL_1] "x"', "password": "[SECRET_1]", "count": 3}


def test_a_schema_for_passwords_is_no_password() -> None:
    """Only a text is taken for a secret, not what describes one."""
    body = {"tools": [{"parameters": {"password": {"type": "string"}, "token": "x" * 9}}]}
    assert json.loads(redact(body).request) == body


def test_images_are_left_as_they_are() -> None:
    """What is no text is not read, however long."""
    image = "data:image/png;base64," + "iVBORw0KGgo4111111111111111AKIA" * 500
    body = {"messages": [{"content": [{"image_url": {"url": image}}]}]}
    assert json.loads(redact(body).request) == body


def test_the_users_name_for_upstreams_is_replaced() -> None:
    """It stands in no rule's form, but it names a user; other members called so stay."""
    redacted = redact({"user": "u-77", "safety_identifier": "u-77", "messages": [{"user": "x"}]})
    assert json.loads(redacted.request) == {
        "user": "[USER_1]",
        "safety_identifier": "[USER_1]",
        "messages": [{"user": "x"}],
    }
    assert json.loads(redact({"user": "u-77"}, rules={"user": False}).request) == {"user": "u-77"}


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_value_that_is_streamed_in_pieces_does_not_survive(size: int) -> None:
    """What a client joins is what is read."""
    text = "Ask bob@example.com, pay DE89 3704 0044 0532 0130 00 or 4111 1111 1111 1111. Bye"
    stream = said([text[at : at + size] for at in range(0, len(text), size)])
    redacted = redact({}, stream).response
    assert redacted.count(b"data:") == stream.count(b"data:")
    answer = read_answer(endpoint=CHAT, body=redacted.decode())
    assert answer.text == "Ask [EMAIL_1], pay [IBAN_1] or [CARD_1]. Bye"
    assert (answer.finish_reason, answer.model) == ("stop", "gpt-4o-2024-08-06")


CHUNK = '{"id": "c", "choices": [{"index": 0, "delta": {"content": "%s"}}]}'


@pytest.mark.parametrize(
    "other",
    [
        '{"id":"c","choices":[{"index":0,"delta":{"content":"%s"}}]}',
        '{"id": "c", "choices": [{"index": 0, "delta": {"content":"%s"}}]}',
        '{"id": "c", "note": null, "choices": [{"index": 0, "delta": {"content": "%s"}}]}',
        '{"choices": [{"delta": {"role": "assistant", "content": "%s"}, "index": 0}], "id": "c"}',
        '{"id": "c", "choices": [{"index": 0, "delta": {"content": "%s", "refusal": "no"}}]}',
        (
            '{"id": "c", "choices": [{"index": 1, "delta": {"content": "no"}}, '
            '{"index": 0, "delta": {"content": "%s"}}]}'
        ),
        '{"id": "c", "choices": [{"index": 0, "delta": {"reasoning": "no", "content": "%s"}}]}',
    ],
)
def test_events_that_are_spelled_differently_are_joined(other: str) -> None:
    """The first event, or every other one, looks different; the text is one all the same."""
    pieces = ["pay 4111", " 1111", " 1111", " 1111", " now"]
    for spelled in ([other, *[CHUNK] * 4], [CHUNK, other, CHUNK, other, CHUNK]):
        events = [spelling % piece for spelling, piece in zip(spelled, pieces, strict=True)]
        stream = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
        redacted = redact({}, stream.encode())
        assert redacted.found == {"card": 1}
        answer = read_answer(endpoint=CHAT, body=redacted.response.decode())
        assert answer.first.text == "pay [CARD_1] now"


@pytest.mark.parametrize("index", ["1", " 1", "  1", ' "b"', " null", " 0.5", " -1"])
def test_choices_are_told_apart_however_their_numbers_are_written(index: str) -> None:
    """Between the pieces of one choice stand those of another; each is read by itself."""
    one = '{"choices": [{"delta": {"content": "%s"}, "index" : 0}]}'
    other = '{"choices": [{"delta": {"content": "%s"}, "index" :INDEX}]}'.replace("INDEX", index)
    pieces = ["4111", "a", " 1111", "b", " 1111", "c", " 1111", "d"]
    events = [(other if n % 2 else one) % piece for n, piece in enumerate(pieces)]
    stream = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
    assert redact({}, stream.encode()).found == {"card": 1}


def test_escaped_halves_of_a_character_stay_as_they_were_sent() -> None:
    """An emoji of which each event has one half is still one, beside what was replaced."""
    halves = [CHUNK % piece for piece in ("bob@x.example \\ud83d", "\\ude00 \\u00e9 bye")]
    stream = "".join(f"data: {event}\n\n" for event in [*halves, "[DONE]"])
    redacted = redact({}, stream.encode()).response
    assert b'"[EMAIL_1] \\ud83d"' in redacted
    assert b'"\\ude00 \\u00e9 bye"' in redacted


def test_streamed_arguments_are_joined_for_each_call() -> None:
    """Two calls in turn are two texts; reasoning is one of its own."""

    def call(index: int, piece: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}

    stream = chunks(
        {"reasoning_content": "the user is b"},
        {"reasoning_content": "ob@exam"},
        {"reasoning_content": "ple.com"},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]},
        call(0, '{"to": "al'),
        call(1, '{"no": "+49 15'),
        call(0, 'ice@b.example"}'),
        call(1, '1 23456789"}'),
    )
    answer = read_answer(endpoint=CHAT, body=redact({}, stream).response.decode())
    assert answer.first.reasoning == "the user is [EMAIL_1]"
    assert [each.arguments for each in answer.tool_calls] == [
        '{"to": "[EMAIL_2]"}',
        '{"no": "[PHONE_1]"}',
    ]


def test_streams_of_the_responses_api_are_read_alike() -> None:
    """Its deltas are joined, and its last event repeats the whole answer."""

    def event(kind: str, **fields: Any) -> bytes:
        data = json.dumps({"type": kind, **fields}).encode()
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    place = {"item_id": "m1", "output_index": 0, "content_index": 0}
    whole = "write to bob@example.com"
    parts = [{"type": "output_text", "text": whole}]
    output = [{"type": "message", "content": parts}]
    stream = (
        event("response.output_text.delta", delta="write to bob@", **place)
        + event("response.output_text.delta", delta="example.com", **place)
        + event("response.output_text.done", text=whole, **place)
        + event("response.completed", response={"status": "completed", "output": output})
    )
    redacted = redact({}, stream).response.decode()
    assert "bob@" not in redacted
    assert redacted.count("event: ") == 4
    assert read_answer(endpoint="/responses", body=redacted).text == "write to [EMAIL_1]"


@pytest.mark.parametrize(
    "extra",
    [b'["a@b.example"]', b'"a@b.example"', b'{"x": {"a@b.example": 1}}', b'{"id": "a@b.example"}',
     b'{"password": "open sesame"}', b'{"choices": [], "note": "a@b.example"}'],
)  # fmt: skip
def test_what_stands_beside_the_text_of_a_stream_is_read_too(extra: bytes) -> None:
    """Whatever an upstream puts into an event."""
    stream = b"data: %b\n\n" % extra + said(["to bob@exam", "ple.com"])
    redacted = redact({}, stream).response
    for secret in (b"a@b.example", b"sesame", b"ple.com"):
        assert secret not in redacted


def test_what_spells_the_text_once_more_goes_with_it() -> None:
    """Log-probabilities and token ids would tell what was replaced."""
    logprobs = {"content": [{"token": "bob"}, {"token": "@x.example"}]}
    body = {"choices": [{"message": {"content": "bob@x.example"}, "logprobs": logprobs}]}
    assert json.loads(redact({}, body).response)["choices"][0]["logprobs"] is None
    stream = chunks({"content": "bob@x.ex"}, {"content": "ample"}, token_ids=[1, 2])
    assert b'"token_ids":null' in redact({}, stream).response
    untouched = {"choices": [{"message": {"content": "x"}, "logprobs": {"content": []}}]}
    assert json.loads(redact({}, untouched).response) == untouched


def test_labels_are_redacted_with_their_request() -> None:
    """A category that somebody fills with an address must not become one."""
    redactor = Redactor(RedactionSettings(), clock=lambda: 0.0)
    redacted = redactor.capture(b'{"a": "a@b.example"}', b"{}", b"", limit=9, segment="a@b.example",
                                risk="low")  # fmt: skip
    assert (redacted.segment, redacted.risk) == ("[EMAIL_1]", "low")


@pytest.mark.parametrize(
    ("request_body", "response", "reason"),
    [
        (b'{"a": "a@b.ex', {}, "unreadable"),
        (b'{"a": "\xff@"}', {}, "unreadable"),
        ({}, b"<html>a@b.example</html>", "unreadable"),
        ({}, b'data: {"a": "a@b.example"}\n\ndata: {"a": ', "unreadable"),
        ({}, b"data: hello a@b.example\n\n", "unreadable"),
        ({"prompt": [15496, 995]}, {}, "tokens"),
        ({"prompt": [[15496, 995]]}, {}, "tokens"),
        ({"n": 4111111111111111}, {}, "number"),
        ({"args": '{"card": 4111111111111111}'}, {}, "number"),
        ({"text": 'so ```{"card": 4111111111111111}```'}, {}, "number"),
    ],
)
def test_what_cannot_be_redacted_safely_is_withheld(
    request_body: Any, response: Any, reason: str
) -> None:
    """Rather nothing than half of it."""
    with pytest.raises(Withheld) as refusal:
        redact(request_body, response)
    assert refusal.value.reason == reason


def test_an_answer_that_unpacks_to_too_much_is_withheld() -> None:
    """It would be cut, and what is cut can't be read."""
    redactor = Redactor(RedactionSettings(), clock=lambda: 0.0)
    for body in (gzip.compress(b'{"a": "%b"}' % (b"x" * 1000)), b"no gzip"):
        with pytest.raises(Withheld, match="unreadable"):
            redactor.capture(b"{}", body, b"gzip", limit=100)


def test_a_route_may_withhold_what_matches() -> None:
    """Then nothing of the capture is kept; without a match it is as always."""
    with pytest.raises(Withheld, match="matched"):
        redact({"a": "a@b.example"}, on_match="withhold")
    assert redact({"a": "b"}, on_match="withhold").found == {}
