"""The prompt file: real, varied, and valid."""

from __future__ import annotations

import json
import re
from collections import Counter

import jsonschema_rs
import msgspec
import pytest

from gateway.prompts import Prompt, load_prompts
from gateway.simulator.terms import content_words


def _text(prompt: Prompt) -> str:
    return "\n".join(str(message.get("content") or "") for message in prompt.messages)


def _schemas(prompt: Prompt) -> list[dict[str, object]]:
    found = [tool["function"]["parameters"] for tool in prompt.tools]
    if prompt.response_format is not None and "json_schema" in prompt.response_format:
        found.append(prompt.response_format["json_schema"]["schema"])
    return found


def test_there_are_enough_of_each_kind() -> None:
    """There are at least 220 requests, 30 of each category and 25 of each risk."""
    prompts = load_prompts()
    categories = Counter(prompt.category for prompt in prompts)
    risks = Counter(prompt.risk for prompt in prompts)
    assert len(prompts) >= 220
    assert set(categories) == {"support", "extraction", "writing", "tools"}
    assert min(categories.values()) >= 30
    assert min(risks.values()) >= 25


def test_every_request_is_its_own() -> None:
    """Ids and texts are unique, and no two requests share most of their words."""
    prompts = load_prompts()
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert len({_text(prompt) for prompt in prompts}) == len(prompts)
    words = [set(content_words(_text(prompt))) for prompt in prompts]
    for place, first in enumerate(words):
        for other, second in enumerate(words[:place]):
            shared = len(first & second) / max(1, len(first | second))
            assert shared < 0.4, f"{prompts[place].id} and {prompts[other].id} are much alike"


def test_schemas_are_schemas() -> None:
    """Every tool's parameters and every response format is a valid JSON Schema."""
    prompts = load_prompts()
    assert sum(len(_schemas(prompt)) for prompt in prompts) > 100
    for prompt in prompts:
        for schema in _schemas(prompt):
            jsonschema_rs.meta.validate(schema)


def test_messages_are_what_the_api_takes() -> None:
    """Roles are known, the last word is not the model's, and tool results answer a call."""
    for prompt in load_prompts():
        roles = [message["role"] for message in prompt.messages]
        assert set(roles) <= {"system", "user", "assistant", "tool"}, prompt.id
        assert roles[-1] in {"user", "tool"}, prompt.id
        calls = {
            call["id"]
            for message in prompt.messages
            for call in message.get("tool_calls", ())
            if isinstance(json.loads(call["function"]["arguments"]), dict)
        }
        results = {
            message["tool_call_id"] for message in prompt.messages if "tool_call_id" in message
        }
        assert results == calls, prompt.id


def test_what_is_expected_is_asked_for() -> None:
    """JSON is expected only where it is asked for, a tool call only where tools are offered."""
    for prompt in load_prompts():
        if prompt.expects == "json":
            in_words = "json" in _text(prompt).lower()
            assert in_words or prompt.response_format is not None, prompt.id
        if prompt.expects == "tool":
            assert prompt.tools, prompt.id


def test_several_turns_and_languages() -> None:
    """Some conversations have several turns, and six other languages occur."""
    prompts = load_prompts()
    assert sum(len(prompt.messages) >= 3 for prompt in prompts) >= 15
    languages = {match[1] for prompt in prompts if (match := re.search(r"-([a-z]{2})-", prompt.id))}
    assert {"de", "fr", "es", "it", "pt", "nl"} <= languages


def test_a_prompt_becomes_a_request() -> None:
    """The request names the model and carries tools, format and extra parameters."""
    prompt = next(prompt for prompt in load_prompts() if prompt.tools)
    body = prompt.request("support-bot", stream=True)
    assert body["model"] == "support-bot"
    assert body["stream"] is True
    assert body["tools"] == list(prompt.tools)
    assert "response_format" not in body


def test_an_unknown_category_is_refused() -> None:
    """A line whose category is not one of the four does not load."""
    line = b'{"id": "x", "category": "poetry", "risk": "low", "messages": [], "expects": "text"}'
    with pytest.raises(msgspec.ValidationError, match="category"):
        msgspec.json.decode(line, type=Prompt)
