"""The gateway's client under httpx: whole answers, httpx's errors, and nothing smuggled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from gateway.upstream import Outbound
from shadow.transport import UpstreamTransport


def _client(url: str, **options: Any) -> httpx.AsyncClient:
    transport = UpstreamTransport("v7", url, outbound=Outbound())
    return httpx.AsyncClient(transport=transport, trust_env=False, timeout=None, **options)


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 20)

    asyncio.run(bounded())


def test_requests_go_where_their_url_says(serving: Any, reply_with: Any) -> None:
    """Below the base path and beside it, with body and headers, on one connection."""

    async def scenario() -> None:
        async with (
            serving(lambda request: reply_with({"said": request.json})) as up,
            _client(up.url, headers={"authorization": "Bearer k"}) as client,
        ):
            url = f"{up.url}/chat/completions?a=1"
            for number in range(3):
                answer = await client.post(url, json={"n": number})
                assert answer.json() == {"said": {"n": number}}
            up.metrics = reply_with(raw=b"vllm:num_requests_waiting 3\n")
            metrics = await client.get(up.url.removesuffix("/v1") + "/metrics")
            assert metrics.text == "vllm:num_requests_waiting 3\n"
            assert {request.path for request in up.requests} == {"/v1/chat/completions?a=1"}
            headers = up.requests[0].headers
            assert (headers["authorization"], headers["content-length"]) == ("Bearer k", "7")

    _run(scenario)


def test_failures_are_those_of_httpx(serving: Any, reply_with: Any) -> None:
    """Refused, cut, silent: each is the error that callers of httpx know."""

    async def scenario() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            closed = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
        async with _client(closed) as client:
            with pytest.raises(httpx.ConnectError):
                await client.post(f"{closed}/x", json={})
        replies = [reply_with({}, cut=True), reply_with(hang=True), reply_with({"ok": 1})]
        async with serving(lambda _request: replies.pop(0)) as up, _client(up.url) as client:
            with pytest.raises(httpx.ReadError):
                await client.post(f"{up.url}/x", json={})
            with pytest.raises(httpx.ReadTimeout):
                await client.post(f"{up.url}/x", json={}, timeout=httpx.Timeout(None, read=0.1))
            assert (await client.post(f"{up.url}/x", json={})).json() == {"ok": 1}

    _run(scenario)


def test_an_answer_that_is_not_read_to_its_end_closes_its_connection(
    serving: Any, reply_with: Any
) -> None:
    """What is left of it can't be taken for the next answer."""
    large = b'"' + b"x" * 5_000_000 + b'"'

    async def scenario() -> None:
        replies = [reply_with(raw=large), reply_with({"next": True})]
        async with serving(lambda _request: replies.pop(0)) as up, _client(up.url) as client:
            async with client.stream("POST", f"{up.url}/x", json={}) as answer:
                async for piece in answer.aiter_raw():
                    assert piece.startswith(b'"x')
                    break
            assert (await client.post(f"{up.url}/x", json={})).json() == {"next": True}

    _run(scenario)


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nx-evil: 1", b"a\rx", b"a\r\n\r\nGET /"])
def test_a_header_with_a_line_end_is_not_sent(serving: Any, reply_with: Any, value: bytes) -> None:
    """A key from a badly written file becomes an error, and no second header or request."""

    async def scenario() -> None:
        async with serving(lambda _request: reply_with({})) as up, _client(up.url) as client:
            with pytest.raises(httpx.LocalProtocolError, match="line end"):
                await client.post(f"{up.url}/x", json={}, headers=[(b"authorization", value)])
            assert up.requests == []

    _run(scenario)
