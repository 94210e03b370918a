"""The whole loop over a real engine: vLLM on CPU, one base model, two LoRA adapters."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jsonschema_rs
import pytest
from openai import AsyncOpenAI, OpenAI

from gateway.prompts import Prompt, load_prompts
from rollout.demo.engine import Engine
from rollout.demo.scene import ROUTE
from rollout.demo.tickets import TICKET_SCHEMA, adapter_spec, scene_arguments

pytestmark = pytest.mark.heavy

_ENDLESS_TOKENS = 900  # seconds of work for the engine, and almost all of its context
# An engine with so small a model sometimes hands out nothing before an answer is whole: where the
# cores are busy its server falls behind. What has to be seen is then tried again.
_ATTEMPTS = 10


@pytest.fixture
def system(engine: Engine, start_system: Callable[..., Any]) -> Any:
    """All of Coalmine, with the engine as its only upstream besides the simulated judge."""
    return start_system(**scene_arguments(engine, seed=5))


async def _kept(base_url: str, model: str, prompts: Sequence[Prompt]) -> list[bool]:
    """Ask for every prompt, 16 at a time, and say which answers keep the route's contract."""
    contract = jsonschema_rs.validator_for(TICKET_SCHEMA)
    slots = asyncio.Semaphore(16)

    async def ask(client: AsyncOpenAI, prompt: Prompt) -> bool:
        async with slots:
            messages: list[Any] = list(prompt.messages)
            answer = await client.chat.completions.create(
                model=model, messages=messages, temperature=0, max_tokens=64
            )
        try:
            return bool(contract.is_valid(json.loads(answer.choices[0].message.content or "")))
        except ValueError:
            return False

    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        return list(await asyncio.gather(*(ask(client, prompt) for prompt in prompts)))


def test_the_models_are_what_they_are_made_to_be(engine: Engine) -> None:
    """Base model and `same` keep the JSON contract on the engine, `broken` breaks it often."""
    prompts = load_prompts()
    for model in ("base", "same"):
        kept = asyncio.run(_kept(engine.base_url, model, prompts))
        assert sum(kept) >= 0.995 * len(kept), model
    kept = asyncio.run(_kept(engine.base_url, "broken", prompts))
    assert 0.2 * len(kept) <= sum(kept) <= 0.8 * len(kept)


def test_streaming_and_usage_come_from_the_engine(engine: Engine, system: Any) -> None:
    """Through the gateway the engine's answers, streams and token counts are its own."""
    messages = list(load_prompts()[0].messages)
    asked: dict[str, Any] = {"messages": messages, "temperature": 0, "max_tokens": 64}
    streamed: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    with (
        OpenAI(base_url=system.scene.gateway_url, api_key="none", max_retries=0) as gateway,
        OpenAI(base_url=engine.base_url, api_key="none", max_retries=0) as direct,
    ):
        expected = direct.chat.completions.create(model="base", **asked)
        whole = gateway.chat.completions.create(model=ROUTE, **asked)
        for _ in range(_ATTEMPTS):
            chunks = list(gateway.chat.completions.create(model=ROUTE, **asked, **streamed))
            if len(chunks) > 5:
                break
        unasked = list(gateway.chat.completions.create(model=ROUTE, stream=True, **asked))

        text = expected.choices[0].message.content
        assert text is not None
        assert whole.choices[0].message.content == text
        assert whole.usage is not None
        assert expected.usage is not None
        assert whole.usage.completion_tokens == expected.usage.completion_tokens > 0
        assert whole.usage.prompt_tokens == expected.usage.prompt_tokens > 0

        for stream in (chunks, unasked):
            parts = [each.choices[0].delta.content or "" for each in stream if each.choices]
            assert "".join(parts) == text
        assert len(chunks) > 5, "the answer came in one piece"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == expected.usage.completion_tokens
        assert all(each.usage is None for each in unasked)
        assert all(each.choices for each in unasked)

        produced = engine.metric("vllm:generation_tokens_total")
        gateway.chat.completions.create(model=ROUTE, **asked)
        after = engine.metric("vllm:generation_tokens_total")
        assert after - produced == expected.usage.completion_tokens


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "whole"])
def test_a_client_that_leaves_frees_the_engine(engine: Engine, system: Any, stream: bool) -> None:
    """When the client goes away the engine itself aborts the request and stops generating."""
    for _ in range(_ATTEMPTS):
        aborted, finished = engine.aborted(), engine.finished()
        asyncio.run(_leave(system.scene.gateway_url, engine, stream=stream))
        _until(partial(_over, engine, aborted + finished), "the request never ends")
        if engine.aborted() > aborted:
            break
    assert engine.aborted() == aborted + 1, "the engine wrote every answer to its end"
    assert engine.finished() == finished


def _over(engine: Engine, before: int) -> bool:
    """Say whether more requests have ended, one way or the other, than ``before``."""
    return engine.aborted() + engine.finished() > before


async def _leave(base_url: str, engine: Engine, *, stream: bool) -> None:
    """Ask for a long answer and go away while the engine writes it."""
    endless: dict[str, Any] = {
        "model": ROUTE,
        "messages": [{"role": "user", "content": "Tell me everything you know."}],
        "max_tokens": _ENDLESS_TOKENS,
        "extra_body": {"ignore_eos": True},
    }
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        if stream:
            answer = await client.chat.completions.create(stream=True, **endless)
            await anext(aiter(answer))
            await answer.close()
            return
        received = engine.received()
        asking = asyncio.create_task(client.chat.completions.create(**endless))
        await asyncio.to_thread(
            _until, lambda: engine.received() > received, "the request did not reach the engine"
        )
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


def _until(condition: Callable[[], bool], complaint: str) -> None:
    """Poll until the condition holds; fail with the complaint after 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


def test_one_adapter_is_promoted_and_the_other_comes_back(
    engine: Engine, system: Any, asking: Callable[..., Any]
) -> None:
    """`same` is proven non-inferior and gets everybody; `broken` never leaves the shadow."""
    with asking(system.scene.gateway_url) as tally:
        system.apply(adapter_spec("same"))
        status = system.wait_for("adapter-same", _has_ended, within=300)
        assert status["phase"] == "succeeded", status["why"]
        for metric in status["metrics"]:
            if metric["role"] == "guardrail" and metric["segment"] is None:
                assert metric["verdict"] == "pass", metric
        route = system.api.get(f"/routes/{ROUTE}").json()
        assert route["baseline"] == "same"
        assert tally.rollouts["adapter-same"] >= 150

        system.apply(adapter_spec("broken"))
        status = system.wait_for("adapter-broken", _has_ended, within=300)
        assert status["phase"] == "rolled_back", status["why"]
        transitions = system.api.get("/rollouts/adapter-broken/transitions").json()["transitions"]
        assert max(each["weight_after"] for each in transitions) == 0
        assert tally.rollouts["adapter-broken"] == 0
        (format_valid,) = (
            each
            for each in status["metrics"]
            if each["name"] == "format_valid" and each["segment"] is None
        )
        assert format_valid["verdict"] == "fail"
        assert format_valid["estimate"] > 0
    assert tally.failed == 0, tally.statuses


def _has_ended(status: dict[str, Any]) -> bool:
    return status["phase"] in {"succeeded", "rolled_back", "aborted", "paused"}
