"""A client sees the same through the gateway as it would without it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.server import GatewayThread
from gateway.settings import Settings


def test_answer_is_the_upstreams_own(world: Any) -> None:
    """Status, headers and body arrive unchanged; only the model's name was rewritten."""

    async def scenario() -> None:
        async with world() as w:
            body = b'{"id":"x", "choices":[],  "usage":{"prompt_tokens":1.0e0}}'
            w.baseline.handler = lambda r: r.answer(
                body,
                status="203 Odd",
                headers="content-type: application/json\r\nx-upstream: yes\r\ndate: then\r\n",
            )
            sent = b'{ "messages":[],"temperature":1.50,"model":"bot","x":"\\u00e9"}'
            response = await w.client.post(
                "/chat/completions?a=1&b=%20",
                content=sent,
                headers={"authorization": "Bearer mine", "content-type": "application/json"},
            )
            assert response.status_code == 203
            assert response.content == body
            assert response.headers["x-upstream"] == "yes"
            assert response.headers["date"] == "then"
            assert response.headers["x-coalmine-variant"] == "baseline"
            assert response.headers["x-coalmine-reason"] == "default"
            received = await w.baseline.next()
            assert received.target == "/v1/chat/completions?a=1&b=%20"
            assert received.body == sent.replace(b'"bot"', b'"base-model"')
            assert received.headers["authorization"] == "Bearer mine"
            assert received.headers["x-request-id"] == response.headers["x-request-id"]

    asyncio.run(scenario())


def test_models_are_the_routes(world: Any) -> None:
    """The list and the single model have OpenAI's shape; an unknown one is OpenAI's 404."""

    async def scenario() -> None:
        async with world() as w:
            listed = (await w.client.get("/models")).json()
            assert listed["object"] == "list"
            assert [m["id"] for m in listed["data"]] == ["bot"]
            assert (await w.client.get("/models/bot")).json()["object"] == "model"
            missing = await w.client.get("/models/nope")
            assert missing.status_code == 404
            assert missing.json()["error"]["code"] == "model_not_found"
            assert not w.baseline.requests

    asyncio.run(scenario())


def test_stream_is_byte_identical_whatever_the_boundaries(world: Any) -> None:
    """Bytes of a stream reach the client unchanged however the upstream cuts them."""
    stream = (
        b": hello\n\ndata: " + json.dumps({"choices": [{"delta": {"content": "é\u2028"}}]}).encode()
    )
    stream += b"\n\nevent: x\r\ndata: 1\r\ndata: 2\r\n\r\ndata: [DONE]\n\n"

    async def scenario() -> None:
        async with world() as w:
            for size in (1, 2, 3, 7, 1000):

                async def cut(received: Any, size: int = size) -> None:
                    await received.begin_stream()
                    for start in range(0, len(stream), size):
                        await received.chunk(stream[start : start + size])
                    await received.chunk(b"")

                w.baseline.handler = cut
                response = await w.chat(stream=True)
                assert response.content == stream
                assert response.headers["content-type"] == "text/event-stream"

    asyncio.run(scenario())


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\n'
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def test_usage_is_asked_for_counted_and_removed(world: Any) -> None:
    """Usage is known for a stream whose client did not ask; the client sees no trace of it."""

    async def stream(received: Any) -> None:
        await received.begin_stream()
        asked = received.json.get("stream_options", {}).get("include_usage")
        for event in (DELTA, USAGE, DONE) if asked else (DELTA, DONE):
            await received.chunk(event)
        await received.chunk(b"")

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = stream
            plain = await w.chat(stream=True)
            assert plain.content == DELTA + DONE
            assert w.baseline.requests[-1].json["stream_options"] == {"include_usage": True}
            tokens = {"variant": "baseline", "gen_ai_token_type": "output"}
            assert w.metric("gen_ai_client_token_usage_sum", **tokens) == 9
            asked = await w.chat(stream=True, stream_options={"include_usage": True})
            assert asked.content == DELTA + USAGE + DONE
            denied = await w.chat(stream=True, stream_options={"include_usage": False, "x": 1})
            assert denied.content == DELTA + DONE
            assert w.baseline.requests[-1].json["stream_options"] == {"include_usage": True, "x": 1}
            assert w.metric("gen_ai_client_token_usage_sum", **tokens) == 27

    asyncio.run(scenario())


def test_other_paths_pass_through_to_the_first_baseline(world: Any) -> None:
    """Files, batches and anything else under /v1 reach the upstream as they are."""

    async def scenario() -> None:
        async with world() as w:
            response = await w.client.get("/files/a%20b?limit=2")
            assert response.status_code == 200
            assert response.headers["x-coalmine-reason"] == "default"
            assert (await w.baseline.next()).target == "/v1/files/a%20b?limit=2"
            await w.client.post("/files", files={"file": ("a.bin", b"\x00\xff", "x/y")})
            assert b"\x00\xff" in (await w.baseline.next()).body
            await w.client.delete("/files/1")
            received = await w.baseline.next()
            assert (received.method, received.body) == ("DELETE", b"")
            form = {"file": ("a.wav", b"RIFF", "audio/wav")}
            await w.client.post("/audio/transcriptions", data={"model": "bot"}, files=form)
            body = (await w.baseline.next()).body
            assert b'name="model"\r\n\r\nbase-model\r\n' in body
            assert b"RIFF" in body

    asyncio.run(scenario())


def test_encoded_answers_pass_through(world: Any) -> None:
    """A compressed answer arrives as compressed as it was sent."""
    packed = gzip.compress(b'{"x":1}')

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = lambda r: r.answer(packed, headers="content-encoding: gzip\r\n")
            async with w.client.stream("GET", "/files") as response:
                raw = b"".join([part async for part in response.aiter_raw()])
            assert raw == packed
            assert response.headers["content-encoding"] == "gzip"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("/chat/completions", b"{nope", 400, "invalid_json", None),
        ("/chat/completions", b"[1]", 400, "invalid_json", None),
        ("/chat/completions", b"\xff\xfe", 400, "invalid_json", None),
        ("/chat/completions", b'{"model":7}', 400, "invalid_type", "model"),
        ("/chat/completions", b"{}", 400, "missing_required_parameter", "model"),
        ("/chat/completions", b'{"model":"gpt-9"}', 404, "model_not_found", "model"),
        ("/moderations", b'{"model":"gpt-9"}', 404, "model_not_found", "model"),
        ("/../admin", b"{}", 404, "unknown_path", None),
        ("/%2e%2e/admin", b"{}", 404, "unknown_path", None),
        ("/../%76%31/admin", b"{}", 404, "unknown_path", None),
        ("/chat/completions", b'{"model":"' + b"x" * 5000 + b'"}', 413, "request_too_large", None),
    ],
)
def test_bad_requests_get_openai_errors(
    world: Any, path: str, body: bytes, status: int, code: str, param: str | None
) -> None:
    """What is wrong is said in OpenAI's shape, and nothing reaches a deployment."""

    async def scenario() -> None:
        async with world(max_body_bytes=4096) as w:
            head = (
                f"POST /v1{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", w.gateway.port)
            writer.write(head.encode() + body)
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            first, _, rest = answer.partition(b"\r\n")
            error = json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
            assert int(first.split()[1]) == status
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["code"], error["param"]) == (code, param)
            if status == 413:
                assert "4096" in error["message"]
            assert not w.baseline.requests

    asyncio.run(scenario())


def test_a_chunked_body_is_capped_too(world: Any) -> None:
    """A body without a declared length is refused once it is too long."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1000

    async def scenario() -> None:
        async with world(max_body_bytes=4096) as w:
            response = await w.client.post("/chat/completions", content=parts())
            assert response.status_code == 413

    asyncio.run(scenario())


def test_what_is_no_http_is_refused_in_the_same_shape(world: Any) -> None:
    """Even a request that can't be parsed gets an error that a client can read."""

    async def scenario() -> None:
        async with world() as w:
            reader, writer = await asyncio.open_connection("127.0.0.1", w.gateway.port)
            writer.write(b"POST /v1/x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"

    asyncio.run(scenario())


def test_client_keys(world: Any) -> None:
    """With declared clients only their keys are let in, and no client's key goes upstream."""
    clients = {"clients": [{"name": "app", "key_env": "APP"}]}

    async def scenario() -> None:
        async with world(environ={"APP": "sesame"}, document=clients) as w:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "sesame"}):
                refused = await w.chat(headers=headers)
                assert refused.status_code == 401
                assert refused.json()["error"]["code"] == "invalid_api_key"
                assert "sesame" not in refused.text
            assert not w.baseline.requests
            assert (await w.client.get("/models")).status_code == 401
            assert (await w.chat(headers={"authorization": "Bearer sesame"})).status_code == 200
            assert "authorization" not in (await w.baseline.next()).headers

    asyncio.run(scenario())


def test_deployments_own_key_replaces_the_clients(world: Any) -> None:
    """A deployment with a declared key is called with that key, whatever the client sent."""

    async def scenario() -> None:
        async with world(environ={"UP": "upstream-key"}) as w:
            document = w.settings.model_dump(mode="json", exclude_none=True)
            document["deployments"]["base"]["api_key_env"] = "UP"
            settings = Settings.model_validate(document)
            served = GatewayThread(settings, environ={"UP": "upstream-key"})
            await asyncio.to_thread(served.start)
            try:
                async with httpx.AsyncClient(base_url=served.base_url, trust_env=False) as client:
                    body = {"model": "bot", "messages": []}
                    headers = {"authorization": "Bearer clients"}
                    await client.post("/chat/completions", json=body, headers=headers)
                received = await w.baseline.next()
                assert received.headers["authorization"] == "Bearer upstream-key"
            finally:
                await asyncio.to_thread(served.stop)

    asyncio.run(scenario())


def test_health(world: Any) -> None:
    """Liveness and readiness are answered outside /v1; other paths are explained."""

    async def scenario() -> None:
        async with world() as w:
            root = w.gateway.base_url.removesuffix("/v1")
            assert (await w.client.get(f"{root}/healthz")).status_code == 200
            assert (await w.client.get(f"{root}/readyz")).status_code == 200
            missing = await w.client.get(f"{root}/chat/completions")
            assert missing.status_code == 404
            assert "/v1/" in missing.json()["error"]["message"]

    asyncio.run(scenario())
