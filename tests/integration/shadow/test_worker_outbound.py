"""The worker reaches deployments as the gateway does: proxy, private CA, client certificate."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings
from gateway.store import Store
from gateway.store.tables import CaptureRow
from shadow.evaluate import Evaluator
from shadow.judge.build import build_judge
from shadow.judge.client import JudgeUnavailable, Reply
from shadow.mirror import Mirrored

ENVIRON = {"PROXY_AUTH": "user:s3:cret"}
AUTH = "Basic dXNlcjpzMzpjcmV0"


@pytest.fixture
def store(sqlite_url: str, open_stores: Callable[[str], Store]) -> Store:
    """A store; which database it is makes no difference here."""
    return open_stores(sqlite_url)


def settings(**deployment: Any) -> Settings:
    """Return settings whose candidate and judge are reached alike."""
    return Settings.model_validate(
        {
            "deployments": {
                "v6": {"base_url": "http://127.0.0.1:9/v1", "model": "m"},
                "v7": {"model": "m", **deployment},
                "j": {"model": "m", **deployment},
            },
            "routes": {"bot": {"baseline": "v6"}},
            "judge": {"deployment": "j"},
        }
    )


async def mirror(store: Store, declared: Settings) -> Mirrored:
    """Mirror one capture to the candidate, as a worker would."""
    evaluator = Evaluator(
        declared, store, environ=ENVIRON, judge=None, clock=lambda: 0.0, rng=Random(1)
    )
    target = evaluator._target("v7")
    assert target is not None
    capture = CaptureRow(
        id="c", route="bot", request_id="r", created_at=0.0, endpoint="/v1/chat/completions",
        variant="baseline", reason="split", deployment="v6", stream=False,
        request_body=json.dumps({"model": "bot", "messages": [{"role": "user", "content": "hi"}]}),
        response_body="{}", status=200, total_s=1.0, split_revision=1, epoch=0, weight_bp=0,
    )  # fmt: skip
    try:
        return await target.send(capture, timeout_s=10, max_concurrency=1)
    finally:
        await evaluator.close()


async def _at_once(_seconds: float) -> None:
    """Don't wait between retries."""


async def ask_judge(store: Store, declared: Settings) -> Reply:
    """Ask the judge of the settings once."""
    judge = build_judge(declared, store, environ=ENVIRON, rubric="be fair")
    assert judge is not None
    judge.client._sleep = _at_once
    try:
        return await judge.client.ask([{"role": "user", "content": "hi"}])
    finally:
        await judge.close()


def tls_context(certificates: Path) -> ssl.SSLContext:
    """Return a server's context that wants the client's certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem")
    context.load_verify_locations(certificates / "client.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_mirror_and_judge_go_through_the_proxy(
    store: Store,
    serving: Any,
    proxying: Any,
    reply_with: Any,
    chat_document: Any,
    certificates: Path,
    tls: bool,
) -> None:
    """Both use the deployment's proxy with its credentials, trust its CA and show its certificate.

    For https the proxy sees no more than a CONNECT.
    """

    async def scenario() -> None:
        context = tls_context(certificates) if tls else None
        async with (
            serving(lambda _r: reply_with(chat_document("ok")), context) as fake,
            proxying() as proxy,
        ):
            way: dict[str, Any] = {"proxy": proxy.url, "proxy_auth_env": "PROXY_AUTH"}
            if tls:
                way["ca_file"] = certificates / "ca.pem"
                way["client_cert_file"] = certificates / "client.pem"
                way["client_key_file"] = certificates / "client-key.pem"
            declared = settings(base_url=fake.url, **way)
            mirrored = await mirror(store, declared)
            assert mirrored.arm.answer.text == "ok"
            seen_by_mirror = list(proxy.seen)
            reply = await ask_judge(store, declared)
            assert reply.text == "ok"
            seen_by_judge = proxy.seen[len(seen_by_mirror) :]
            first = "CONNECT localhost:" if tls else "POST http://127.0.0.1:"
            for seen in (seen_by_mirror, seen_by_judge):
                heads = [head for head in seen if "/metrics" not in head]
                assert heads
                assert all(head.startswith(first) and AUTH in head for head in heads)
            assert [request.path for request in fake.requests] == ["/v1/chat/completions"] * 2

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_mirror_and_judge_verify(
    store: Store, serving: Any, reply_with: Any, chat_document: Any, certificates: Path
) -> None:
    """Without the CA that vouches for it, a deployment is not spoken to."""

    async def scenario() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / "server.pem")
        async with serving(lambda _r: reply_with(chat_document("ok")), context) as fake:
            trusting = settings(base_url=fake.url, ca_file=certificates / "ca.pem")
            assert (await mirror(store, trusting)).arm.answer.text == "ok"
            assert (await ask_judge(store, trusting)).text == "ok"
            assert len(fake.requests) == 2
            plain = settings(base_url=fake.url)
            assert (await mirror(store, plain)).arm.answer.error == "connection: ConnectError"
            with pytest.raises(JudgeUnavailable, match="APIConnectionError"):
                await ask_judge(store, plain)
            assert len(fake.requests) == 2

    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "https://localhost:9/v1"])
def test_a_proxy_that_refuses_the_mirror_is_no_fact_about_the_model(
    store: Store, proxying: Any, url: str
) -> None:
    """The pair is unjudgeable, with the reason and without the credentials."""

    async def scenario() -> None:
        refusal = b"HTTP/1.1 407 Auth\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        async with proxying(refusal) as proxy:
            declared = settings(base_url=url, proxy=proxy.url, proxy_auth_env="PROXY_AUTH")
            mirrored = await mirror(store, declared)
        assert mirrored.unusable is not None
        assert "proxy_auth_env" in mirrored.unusable
        assert "cret" not in repr(mirrored)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_proxy_that_cannot_reach_the_candidate_counts(store: Store, proxying: Any) -> None:
    """A candidate that is down is down, seen through a proxy too."""

    async def scenario() -> None:
        async with proxying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as proxy:
            mirrored = await mirror(store, settings(base_url="https://h:9/v1", proxy=proxy.url))
        assert (mirrored.unusable, mirrored.arm.failed) == (None, True)
        assert mirrored.arm.answer.error == "proxy: status 502"

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_worker_with_an_unreadable_certificate_does_not_start(
    store: Store, certificates: Path
) -> None:
    """The error comes at the start and names the setting, not with the first pair."""
    declared = settings(base_url="https://h/v1", ca_file=certificates / "gone.pem")
    with pytest.raises(SettingsError, match=r"deployments\.v7\.ca_file: can't read"):
        Evaluator(declared, store, environ={}, judge=None, clock=lambda: 0.0, rng=Random(1))
