"""What simulated models say."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from gateway.errors import RequestError
from gateway.prompts import Prompt, load_prompts
from gateway.simulator.answers import Answer, compose, pieces
from gateway.simulator.ask import read_chat, read_completion, read_responses
from gateway.simulator.behaviour import ModelBehaviour
from gateway.simulator.draws import Draws, canonical
from gateway.simulator.terms import read_topic


def _answer(body: dict[str, Any], repetition: int = 0, **behaviour: Any) -> Answer:
    draws = Draws(5, "m", canonical(body), repetition)
    return compose(read_chat(body), ModelBehaviour(**behaviour), draws)


def _said(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


_ORDER = "My order 5520-31 arrived with a cracked screen. How do I get a refund for the tablet?"


def _prompts(expects: str) -> list[Prompt]:
    return [prompt for prompt in load_prompts() if prompt.expects == expects]


def test_the_same_request_has_the_same_answer() -> None:
    """The answer follows from seed, model and request; a repetition draws anew where asked."""
    assert _answer(_said(_ORDER)) == _answer(_said(_ORDER, stream=True, user="u"))
    assert _answer(_said(_ORDER)) != _answer(_said(_ORDER), repetition=1)


def test_quality_is_in_the_text() -> None:
    """A good answer names what was asked about, a poor one does not; verbosity is its length."""
    words = set(read_topic(_ORDER).words)

    def named(quality: float) -> int:
        texts = [_answer(_said(_ORDER), n, quality=quality).text.lower() for n in range(20)]
        return sum(word in text for text in texts for word in words)

    assert named(0.0) == 0
    assert named(0.9) > named(0.5) > named(0.2) > 0
    lengths = [
        sum(len(_answer(_said(_ORDER), n, verbosity=factor).text) for n in range(40))
        for factor in (1.0, 1.3)
    ]
    assert 1.2 < lengths[1] / lengths[0] < 1.4


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (
            "Wie kann ich meine Rechnung bezahlen, wenn das Kundenkonto gesperrt ist?",
            {"Sie", "die", "und", "auf"},
        ),
        (
            "Comment puis-je suspendre mon abonnement de train pendant le congé ?",
            {"vous", "que", "une", "dans"},
        ),
        ("¿Quién viene a comprobar el contador de la luz en mi casa?", {"que", "de", "la", "para"}),
    ],
)
def test_answers_keep_the_language(prompt: str, words: set[str]) -> None:
    """A question in German, French or Spanish is answered in that language."""
    text = " ".join(_answer(_said(prompt), number).text for number in range(5))
    assert len(words & set(text.split())) >= 2
    assert " the " not in text


def test_json_is_valid_unless_it_breaks() -> None:
    """Wanted JSON parses and fits its schema; with a break rate of 1 none does so as a whole."""
    for prompt in _prompts("json"):
        body = prompt.request("m")
        value = json.loads(_answer(body).text)
        if prompt.response_format is not None and "json_schema" in prompt.response_format:
            jsonschema_rs.validate(prompt.response_format["json_schema"]["schema"], value)
        broken = _answer(body, json_break_rate=1.0).text
        with pytest.raises(json.JSONDecodeError):
            json.loads(broken)


def test_keys_named_in_the_words_are_used() -> None:
    """JSON asked for in words has the keys that the words quote."""
    text = 'Return JSON with "name" and "city": Frau Kramer lives in Lüneburg.'
    assert set(json.loads(_answer(_said(text)).text)) == {"name", "city"}


def test_tool_calls_are_valid_unless_faulty() -> None:
    """Calls name an offered tool with valid arguments; with a fault rate of 1 none does."""
    for prompt in _prompts("tool"):
        body = prompt.request("m")
        tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in prompt.tools}
        answer = _answer(body)
        assert answer.finish_reason == "tool_calls"
        assert answer.text == ""
        (call,) = answer.tool_calls
        jsonschema_rs.validate(tools[call.name], json.loads(call.arguments))

        (call,) = _answer(body, tool_fault_rate=1.0).tool_calls
        try:
            faulty = not jsonschema_rs.is_valid(tools[call.name], json.loads(call.arguments))
        except (KeyError, json.JSONDecodeError):
            faulty = True
        assert faulty, prompt.id


def test_tool_choice_is_followed() -> None:
    """A named tool is called, none means text, and after a tool's result the model speaks."""
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("first", "second")
    ]
    named = {"type": "function", "function": {"name": "second"}}
    body = _said(_ORDER, tools=tools)
    assert _answer({**body, "tool_choice": named}).tool_calls[0].name == "second"
    assert not _answer({**body, "tool_choice": "none"}).tool_calls
    assert _answer({**body, "tool_choice": "required"}).tool_calls
    result = {"role": "tool", "tool_call_id": "c", "content": '{"status": "shipped"}'}
    after = _answer({**body, "messages": [*body["messages"], result]})
    assert after.text
    assert not after.tool_calls
    with pytest.raises(RequestError, match="third"):
        read_chat({**body, "tool_choice": {"type": "function", "function": {"name": "third"}}})


def test_limits_and_stops_are_kept() -> None:
    """max_tokens cuts with finish_reason length, stop ends the text before the stop."""
    cut = _answer(_said(_ORDER, max_tokens=5))
    assert (cut.tokens(), cut.finish_reason) == (5, "length")
    stopped = _answer(_said(_ORDER, stop=["."]))
    assert "." not in stopped.text
    assert stopped.finish_reason == "stop"


def test_scripted_faults_of_the_answer() -> None:
    """Empty, refused and truncated answers look as those of a real model."""
    assert _answer(_said(_ORDER), empty_rate=1).text == ""
    refusal = _answer(_said(_ORDER), refusal_rate=1)
    assert refusal.refused
    assert refusal.finish_reason == "stop"
    whole, short = _answer(_said(_ORDER)), _answer(_said(_ORDER), truncation_rate=1)
    assert short.finish_reason == "length"
    assert whole.text.startswith(short.text)
    assert 0 < short.tokens() < whole.tokens()


def test_pieces_join_to_the_text() -> None:
    """Splitting into tokens loses nothing, not even spaces at the ends."""
    for text in ("", "  a  b\n\n", "Straße 東京 🚋 ok", "x" * 100):
        assert "".join(pieces(text)) == text


def test_all_endpoints_ask_alike() -> None:
    """A completion, a chat and a response with the same words have the same subject and schema."""
    chat = read_chat(_said("Give JSON with 'a'"))
    completion = read_completion({"model": "m", "prompt": "Give JSON with 'a'"})
    response = read_responses({"model": "m", "input": "Give JSON with 'a'"})
    assert chat.subject == completion.subject == response.subject
    assert chat.schema == completion.schema == response.schema
    assert chat.schema is not None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        (_said("x", max_tokens=0), "max_tokens"),
        (_said("x", n=1000), "n"),
        (_said("x", response_format={"type": "json_schema"}), "response_format.json_schema.schema"),
    ],
)
def test_bad_requests_name_the_parameter(body: dict[str, Any], param: str) -> None:
    """A request that no model could answer is refused with the parameter's name."""
    with pytest.raises(RequestError) as caught:
        read_chat({"model": "m", **body})
    assert caught.value.param == param
