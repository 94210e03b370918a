"""The official client works against the gateway exactly as against the model itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

_SIMULATOR = {
    "seed": 11,
    "models": {
        "support-v6": {"tokens_per_second": 4000, "tokens_per_chunk": 2},
        "slow": {"first_token": "30s"},
        "trickle": {"tokens_per_second": 2},
        "judge": {"role": "judge"},
    },
}
_MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You are a support agent."},
    {"role": "user", "content": "My router drops the connection every evening — what can I do? ☕"},
]
_TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "open_ticket",
        "description": "Open a ticket for the customer.",
        "parameters": {
            "type": "object",
            "properties": {
                "subject": {"type": "string"},
                "urgency": {"type": "string", "enum": ["low", "high"]},
            },
            "required": ["subject", "urgency"],
            "additionalProperties": False,
        },
    },
}
_FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "ticket",
        "schema": {
            "type": "object",
            "properties": {"category": {"type": "string"}, "open": {"type": "boolean"}},
            "required": ["category", "open"],
        },
    },
}


@pytest.fixture(scope="module")
def system(start_shared_system: Callable[..., Any]) -> Any:
    """Run a system whose routes are support-bot, slow and trickle."""
    return start_shared_system(
        simulator=_SIMULATOR,
        changes={"routes": {"slow": {"baseline": "slow"}, "trickle": {"baseline": "trickle"}}},
    )


@pytest.fixture
def client(system: Any) -> Iterator[openai.OpenAI]:
    """Give the official client, pointed at the gateway."""
    with openai.OpenAI(
        base_url=system.scene.gateway_url, api_key="any", max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture
def direct(system: Any) -> Iterator[openai.OpenAI]:
    """Give the official client, pointed at the model itself."""
    with openai.OpenAI(
        base_url=f"{system.simulator.base_url}/v1", api_key="any", max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"tools": [_TOOL], "tool_choice": "required"},
        {"response_format": _FORMAT},
        {"response_format": {"type": "json_object"}},
        {"n": 3, "temperature": 0.7},
        {"logprobs": True, "top_logprobs": 2, "seed": 5, "user": "u-1", "metadata": {"k": "v"}},
    ],
    ids=["plain", "tools", "json_schema", "json_object", "three-choices", "everything-else"],
)
def test_chat_is_what_the_model_says(
    client: openai.OpenAI, direct: openai.OpenAI, extra: dict[str, Any]
) -> None:
    """A whole answer through the gateway equals the model's own, whatever is asked for."""
    through = client.chat.completions.create(model="support-bot", messages=_MESSAGES, **extra)
    own = direct.chat.completions.create(model="support-v6", messages=_MESSAGES, **extra)
    assert through.model_dump() == own.model_dump()
    assert through.usage is not None
    if "tools" in extra:
        calls = through.choices[0].message.tool_calls
        assert calls
        assert json.loads(calls[0].function.arguments).keys() == {"subject", "urgency"}  # type: ignore[union-attr]


@pytest.mark.parametrize("extra", [{}, {"tools": [_TOOL], "tool_choice": "required"}, {"n": 2}])
def test_a_stream_is_what_the_model_says(
    client: openai.OpenAI, direct: openai.OpenAI, extra: dict[str, Any]
) -> None:
    """Streamed chunks are the model's own, in order, with the usage chunk that was asked for."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}, **extra}
    through = list(
        client.chat.completions.create(model="support-bot", messages=_MESSAGES, **options)
    )
    own = list(direct.chat.completions.create(model="support-v6", messages=_MESSAGES, **options))
    assert [chunk.model_dump() for chunk in through] == [chunk.model_dump() for chunk in own]
    assert through[-1].usage is not None
    assert len(through) > 3


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_streams_are_identical_to_the_byte(system: Any, path: str, options: dict[str, Any]) -> None:
    """Whatever the client asked for, the bytes are those of the model going direct."""
    question: dict[str, Any] = {
        "chat/completions": {"messages": _MESSAGES},
        "completions": {"prompt": "Once upon a time"},
        "responses": {"input": "Say hello"},
    }[path]
    body = {**question, **options, "stream": True}

    def read(base: str, model: str) -> tuple[int, str, bytes]:
        with httpx.stream(
            "POST", f"{base}/{path}", json={"model": model, **body}, timeout=20, trust_env=False
        ) as answer:
            return answer.status_code, answer.headers["content-type"], answer.read()

    through = read(system.scene.gateway_url, "support-bot")
    own = read(f"{system.simulator.base_url}/v1", "support-v6")
    assert through == own
    assert through[0] == 200
    assert through[2].count(b"data:") > 2


def test_a_stream_without_usage_asked_for_has_none(client: openai.OpenAI) -> None:
    """The usage that the gateway asks for on its own account never reaches the client."""
    chunks = list(
        client.chat.completions.create(model="support-bot", messages=_MESSAGES, stream=True)
    )
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_other_endpoints(client: openai.OpenAI, direct: openai.OpenAI) -> None:
    """Completions, embeddings and responses are the model's own; models are the routes."""
    assert (
        client.completions.create(model="support-bot", prompt="Once").model_dump()
        == direct.completions.create(model="support-v6", prompt="Once").model_dump()
    )
    assert (
        client.embeddings.create(model="support-bot", input=["a", "b"]).model_dump()
        == direct.embeddings.create(model="support-v6", input=["a", "b"]).model_dump()
    )
    assert (
        client.responses.create(model="support-bot", input="Hello").model_dump()
        == direct.responses.create(model="support-v6", input="Hello").model_dump()
    )
    assert {model.id for model in client.models.list()} == {"support-bot", "slow", "trickle"}
    assert client.models.retrieve("support-bot").id == "support-bot"


def test_the_async_client(system: Any) -> None:
    """The asynchronous client gets whole answers and streams, many at a time."""

    async def scenario() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=system.scene.gateway_url, api_key="any", max_retries=0, timeout=20
        ) as client:

            async def whole() -> str:
                answer = await client.chat.completions.create(
                    model="support-bot", messages=_MESSAGES
                )
                return answer.choices[0].message.content or ""

            async def streamed() -> str:
                stream = await client.chat.completions.create(
                    model="support-bot", messages=_MESSAGES, stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return await asyncio.gather(
                *(whole() for _ in range(8)), *(streamed() for _ in range(8))
            )

    texts = asyncio.run(scenario())
    assert texts[0]
    assert set(texts[:8]) == {texts[0]}
    assert set(texts[8:]) == {texts[8]}


def _counts(system: Any, model: str) -> dict[str, int]:
    return dict(system.simulator.get("/sim/state").json()["models"].get(model, {}))


def _wait_for_count(system: Any, model: str, name: str, more_than: int) -> None:
    deadline = time.monotonic() + 20
    while _counts(system, model).get(name, 0) <= more_than:
        assert time.monotonic() < deadline, f"{model}: {name} stayed at {_counts(system, model)}"


def test_leaving_before_the_first_byte_cancels_upstream(system: Any) -> None:
    """A client that goes away while the model is thinking frees the model."""
    before = _counts(system, "slow").get("cancelled", 0)

    async def scenario() -> None:
        async with openai.AsyncOpenAI(
            base_url=system.scene.gateway_url, api_key="any", max_retries=0, timeout=60
        ) as client:
            task = asyncio.create_task(
                client.chat.completions.create(model="slow", messages=_MESSAGES)
            )
            await asyncio.to_thread(_wait_for_count, system, "slow", "in_flight", 0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    _wait_for_count(system, "slow", "cancelled", before)


def test_leaving_in_the_middle_of_a_stream_cancels_upstream(
    system: Any, client: openai.OpenAI
) -> None:
    """A client that stops reading and closes frees the model."""
    before = _counts(system, "trickle").get("cancelled", 0)
    stream = client.chat.completions.create(model="trickle", messages=_MESSAGES, stream=True)
    next(stream)
    stream.close()
    _wait_for_count(system, "trickle", "cancelled", before)


def test_errors_have_the_shape_that_the_client_knows(system: Any, client: openai.OpenAI) -> None:
    """Unknown models, broken JSON and missing models raise the client's own errors, with remedy."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-none", messages=_MESSAGES)
    assert unknown.value.code == "model_not_found"
    assert "gpt-none" in str(unknown.value)
    assert "/v1/models" in str(unknown.value)

    broken = httpx.post(
        f"{system.scene.gateway_url}/chat/completions",
        content=b'{"model": "support-bot", ',
        headers={"content-type": "application/json"},
        trust_env=False,
    )
    assert broken.status_code == 400
    assert broken.json()["error"]["type"] == "invalid_request_error"

    nameless = httpx.post(
        f"{system.scene.gateway_url}/chat/completions", json={"messages": []}, trust_env=False
    )
    assert nameless.status_code == 400
    assert nameless.json()["error"]["param"] == "model"
