"""The four endpoints, whole and streamed: captured, counted, and otherwise untouched."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlmodel import select

from gateway.split import Mirror
from gateway.store.tables import CaptureRow, PairRow

DEADLINE = 20.0
MIRROR = Mirror(
    rollout_id=1, rollout="r1", candidate="cand", percentage_bp=10_000, noise_bp=0, salt="m"
)
SHADOW = {
    "candidate": "cand",
    "salt": "s",
    "rollout": "r1",
    "rollout_id": 1,
    "mirrors": (MIRROR,),
}


def event(value: Any, name: str = "") -> bytes:
    """Write one event, with JSON as a deployment might space it."""
    data = value if isinstance(value, str) else json.dumps(value, separators=(", ", " : "))
    return (f"event: {name}\n" if name else "").encode() + b"data: " + data.encode() + b"\n\n"


def chunk(choices: list[Any], **fields: Any) -> bytes:
    """Write one chunk of a chat or completions stream."""
    return event({"id": "c", "choices": choices, **fields})


DONE = event("[DONE]")
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
RESPONSES_USAGE = {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}

WHOLE: dict[str, dict[str, Any]] = {
    "/chat/completions": {"choices": [{"index": 0, "message": {"content": "hé"}}], "usage": USAGE},
    "/completions": {"choices": [{"index": 0, "text": "hé"}], "usage": USAGE},
    "/responses": {"output": [{"type": "message", "content": []}], "usage": RESPONSES_USAGE},
    "/embeddings": {
        "data": [{"index": 0, "embedding": [0.10, -1e-7]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    },
}

STREAMS = {
    "/chat/completions": [
        chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}}]),
        chunk([{"index": 0, "delta": {"content": "hé"}}]),
        chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        chunk([], usage=USAGE),
        DONE,
    ],
    "/completions": [
        chunk([{"index": 0, "text": "hé"}]),
        chunk([{"index": 0, "text": "", "finish_reason": "stop"}]),
        chunk([], usage=USAGE),
        DONE,
    ],
    "/responses": [
        event({"type": "response.created", "response": {"usage": None}}, "response.created"),
        event({"type": "response.output_text.delta", "delta": "hé"}, "response.output_text.delta"),
        event(
            {"type": "response.completed", "response": {"usage": RESPONSES_USAGE}},
            "response.completed",
        ),
    ],
}
ASKS: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/completions": {"prompt": "hi"},
    "/responses": {"input": "hi"},
    "/embeddings": {"input": ["hi", "ho"]},
}


def tokens(w: Any, kind: str) -> float:
    """Return the tokens counted so far."""
    labels = {"variant": "baseline", "gen_ai_token_type": kind}
    return float(w.metric("gen_ai_client_token_usage_sum", **labels))


async def captured(w: Any, count: int = 1) -> list[CaptureRow]:
    """Wait for that many captures."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while len(rows := await w.rows(select(CaptureRow))) < count:
        assert asyncio.get_running_loop().time() < deadline, rows
        await asyncio.sleep(0.02)
    return list(rows)


def ask(path: str, **fields: Any) -> bytes:
    """Write a request, spaced as no encoder would, so that a rewrite would show."""
    text = json.dumps({"model": "bot", **ASKS[path], **fields}, separators=(" ,", ":  "))
    return text.encode()


def streaming(events: list[bytes]) -> Any:
    """Answer with these events, one chunk each."""

    async def handler(received: Any) -> None:
        await received.begin_stream()
        for one in events:
            await received.chunk(one)
        await received.chunk(b"")

    return handler


@pytest.mark.parametrize("path", WHOLE)
def test_whole_answers(world: Any, path: str) -> None:
    """An answer is passed on byte for byte, captured with its request, and its usage counted."""
    body = json.dumps(WHOLE[path], indent=1, ensure_ascii=False).encode()

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = lambda received: received.answer(body)
            await w.split(**SHADOW)
            sent = ask(path)
            response = await w.client.post(path, content=sent)
            assert response.content == body
            received = await w.baseline.next()
            assert received.target == "/v1" + path
            assert received.body == sent.replace(b'"bot"', b'"base-model"')
            (row,) = await captured(w)
            assert (row.request_body, row.response_body) == (sent.decode(), body.decode())
            assert (row.endpoint, row.stream, row.status) == (path, False, 200)
            written = None if path == "/embeddings" else 9
            assert (row.input_tokens, row.output_tokens) == (7, written)
            (pair,) = await w.rows(select(PairRow))
            assert (pair.capture_id, pair.stream, pair.state) == (row.id, "mirror", "pending")
            assert (tokens(w, "input"), tokens(w, "output")) == (7, written or 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("path", STREAMS)
def test_streamed_answers(world: Any, path: str, asked: bool) -> None:
    """A stream too; the usage chunk that only we asked for is counted, captured and taken out."""
    events = STREAMS[path]
    options = {"stream_options": {"include_usage": True}} if asked else {}
    ours = path != "/responses" and not asked

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = streaming(events)
            await w.split(**SHADOW)
            sent = ask(path, stream=True, **options)
            response = await w.client.post(path, content=sent)
            assert response.headers["content-type"] == "text/event-stream"
            seen = [one for one in events if not (ours and b'"choices" : []' in one)]
            assert response.content == b"".join(seen)
            assert len(seen) == len(events) - ours
            received = await w.baseline.next()
            wanted = received.json.get("stream_options")
            assert wanted == (
                None if path == "/responses" and not asked else {"include_usage": True}
            )
            (row,) = await captured(w)
            assert row.request_body == sent.decode()
            assert row.response_body == b"".join(events).decode()
            assert (row.endpoint, row.stream) == (path, True)
            assert (row.input_tokens, row.output_tokens) == (7, 9)
            assert (tokens(w, "input"), tokens(w, "output")) == (7, 9)

    asyncio.run(scenario())


TOP = [{"token": "h\u2028", "logprob": -0.10, "bytes": [104], "top_logprobs": []}]
CALL = {"index": 0, "id": "call_1", "type": "function"}
SPECIAL = [
    chunk([{"index": 0, "delta": {"role": "assistant"}}], system_fingerprint=None),
    chunk([{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]),
    chunk([{"index": 0, "delta": {"reasoning_content": 'usage? "usage"'}, "logprobs": None}]),
    chunk([{"index": 0, "delta": {"content": "h"}, "logprobs": {"content": TOP, "refusal": None}}]),
    chunk([{"index": 0, "delta": {"tool_calls": [{**CALL, "function": {"name": "f"}}]}}]),
    chunk([{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"'}}]}}]),
    chunk([{"index": 1, "delta": {"reasoning": "r", "refusal": None}, "stop_reason": 128001}]),
    chunk([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], x_extension={"usage": None}),
    chunk([{"index": 1, "delta": {}, "finish_reason": "stop"}], service_tier="default"),
]
COMMENT = b": keep-alive\n\n"


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 7, 64])
def test_streams_survive_byte_for_byte(world: Any, cut: int, mirrored: bool) -> None:
    """Choices, tool-call deltas, logprobs and reasoning are whatever the deployment wrote."""
    usage = chunk([], usage=USAGE)
    before, after = b"".join(SPECIAL[:4]) + COMMENT + b"".join(SPECIAL[4:]), DONE
    whole = before + usage + after

    async def pieces(received: Any) -> None:
        await received.begin_stream()
        for start in range(0, len(whole), cut or len(whole)):
            await received.chunk(whole[start : start + (cut or len(whole))])
        await received.chunk(b"")

    async def scenario() -> None:
        async with world() as w:
            if mirrored:
                await w.split(**SHADOW)
            w.baseline.handler = pieces
            fields = {"stream": True, "n": 2, "logprobs": True, "top_logprobs": 1}
            response = await w.client.post(
                "/chat/completions", content=ask("/chat/completions", **fields)
            )
            assert response.content == before + after
            assert (await w.baseline.next()).json["n"] == 2
            assert tokens(w, "output") == 9

    asyncio.run(scenario())


@pytest.mark.parametrize("mirrored", [False, True])
def test_whole_answers_survive_byte_for_byte(world: Any, mirrored: bool) -> None:
    """The same for an answer in one piece, also with spaces, escapes and numbers as they stood."""
    call = {**CALL, "function": {"name": "f", "arguments": '{"a":1.0}'}}
    message = {"content": None, "reasoning_content": "e\u0301", "tool_calls": [call]}
    choices = [
        {"index": 1, "message": {"content": ""}, "logprobs": {"content": TOP}},
        {"index": 0, "message": message, "finish_reason": "tool_calls"},
    ]
    document = json.dumps({"choices": choices, "usage": USAGE}, separators=(" , ", ": "))
    body = document.replace("-0.1", "-1.0E-1").encode() + b"\n "

    async def scenario() -> None:
        async with world() as w:
            if mirrored:
                await w.split(**SHADOW)
            w.baseline.handler = lambda received: received.answer(body)
            response = await w.client.post(
                "/chat/completions", content=ask("/chat/completions", n=2, logprobs=True)
            )
            assert response.content == body
            assert tokens(w, "output") == 9

    asyncio.run(scenario())


def test_several_choices_are_no_pair(world: Any) -> None:
    """With ``n`` above 1 there is no one-to-one comparison: counted, and not captured."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW)
            await w.chat(n=2)
            await w.chat(n=1)
            (row,) = await captured(w)
            assert json.loads(row.request_body)["n"] == 1
            outcomes = {
                outcome: w.metric("coalmine_captures_total", outcome=outcome)
                for outcome in ("unsupported", "pending")
            }
            assert outcomes == {"unsupported": 1, "pending": 1}

    asyncio.run(scenario())


@pytest.mark.parametrize("path", STREAMS)
def test_a_client_that_leaves_in_mid_stream(world: Any, path: str) -> None:
    """The deployment is told, nothing is captured, and the next request is none the worse."""

    async def hold(received: Any) -> None:
        await received.begin_stream()
        for one in STREAMS[path][:2]:
            await received.chunk(one)
        await received.gone.wait()

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW)
            w.baseline.handler = hold
            async with w.client.stream("POST", path, content=ask(path, stream=True)) as response:
                seen = b""
                async for data in response.aiter_bytes():
                    seen += data
                    if seen == b"".join(STREAMS[path][:2]):
                        break
            received = await w.baseline.next()
            await asyncio.wait_for(received.gone.wait(), DEADLINE)
            labels = {"variant": "baseline", "reason": "split", "code": "4xx"}
            await w.until(lambda: w.metric("coalmine_requests_total", **labels) == 1)
            w.baseline.handler = streaming(STREAMS[path])
            await w.client.post(path, content=ask(path, stream=True))
            rows = await captured(w)
            assert [row.response_body for row in rows] == [b"".join(STREAMS[path]).decode()]
            assert w.metric("coalmine_captures_total", outcome="unsupported") == 1
            assert w.gateway.registry.get_sample_value("coalmine_streams_open") == 0

    asyncio.run(scenario())


def test_usage_is_counted_when_the_client_leaves(world: Any) -> None:
    """A client that leaves after the usage was sent costs its tokens all the same."""
    usage = {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": USAGE}

    async def hold(received: Any) -> None:
        await received.begin_stream()
        await received.chunk(event(usage))  # usage with each chunk, as some engines send it
        await received.gone.wait()

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = hold
            sent = ask("/chat/completions", stream=True)
            async with w.client.stream("POST", "/chat/completions", content=sent) as response:
                assert b'"usage"' in await anext(response.aiter_bytes())
            received = await w.baseline.next()
            await asyncio.wait_for(received.gone.wait(), DEADLINE)
            labels = {"variant": "baseline", "reason": "default", "code": "4xx"}
            await w.until(lambda: w.metric("coalmine_requests_total", **labels) == 1)
            assert tokens(w, "output") == 9

    asyncio.run(scenario())
