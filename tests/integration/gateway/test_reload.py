"""Other settings while requests are served: nothing is dropped, and what is wrong is refused."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from gateway.errors import UpstreamTimeout
from gateway.upstream import Timeouts, Upstream

DEADLINE = 20
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
KEY = {"authorization": "Bearer app-key"}
ALL = {"candidate": "cand", "weight_bp": 10_000, "salt": "s", "rollout": "r", "rollout_id": 1}


class Kept:
    """One connection of a client that asks again and again, and never connects anew."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers = 0

    async def open(self) -> None:
        """Connect, this once."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)

    def ask(self, **fields: Any) -> None:
        """Send a chat request."""
        body = json.dumps({"model": "bot", "messages": [], **fields}).encode()
        self.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    async def head(self) -> bytes:
        """Read an answer's head."""
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)

    async def answer(self) -> tuple[int, bytes]:
        """Read an answer with a length; its status and body."""
        head = await self.head()
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await asyncio.wait_for(self.reader.readexactly(length), DEADLINE)
        self.answers += 1
        return int(head.split(b" ")[1]), body

    async def keep_asking(self, until: asyncio.Event) -> None:
        """Ask one request after the other; every one is answered."""
        while not until.is_set():
            self.ask()
            status, _ = await self.answer()
            assert status == 200


def deployment(upstream: Any, model: str = "base-model", **fields: Any) -> dict[str, Any]:
    """Return a deployment's settings."""
    return {"base_url": upstream.base_url, "model": model, **fields}


def test_reloads_amid_streams_and_traffic_drop_nothing(world: Any) -> None:
    """Streams arrive whole, every request is answered, and no connection of a client is closed.

    Each reload moves the route to the other deployment and back, so that pools come and go.
    """

    async def scenario() -> None:
        async with world() as w:
            release, done = asyncio.Event(), asyncio.Event()

            async def serve(received: Any) -> None:
                if not received.json.get("stream"):
                    await received.answer()
                    return
                await received.begin_stream()
                await received.chunk(DELTA)
                await release.wait()
                await received.chunk(b"data: [DONE]\n\n")
                await received.chunk(b"")

            w.baseline.handler = w.candidate.handler = serve
            streams = [Kept(w.gateway.port) for _ in range(4)]
            for stream in streams:
                await stream.open()
                stream.ask(stream=True)
                await stream.head()
                await asyncio.wait_for(stream.reader.readuntil(DELTA), DEADLINE)
            idle = Kept(w.gateway.port)
            await idle.open()
            idle.ask()
            assert (await idle.answer())[0] == 200

            clients = [Kept(w.gateway.port) for _ in range(8)]
            for client in clients:
                await client.open()
            traffic = [asyncio.create_task(client.keep_asking(done)) for client in clients]
            for number in range(6):
                upstream = w.baseline if number % 2 else w.candidate
                before = [client.answers for client in clients]
                report = await w.reload(
                    deployments={"base": deployment(upstream)},
                    gateway={**w.document["gateway"], "idle_timeout": 50 + number},
                )
                assert report.error is None
                goal = [count + 3 for count in before]
                await w.until(
                    lambda goal=goal: all(
                        client.answers >= count for client, count in zip(clients, goal, strict=True)
                    )
                )
            done.set()
            await asyncio.wait_for(asyncio.gather(*traffic), DEADLINE)
            assert w.candidate.requests
            release.set()
            for stream in streams:
                rest = await asyncio.wait_for(stream.reader.readuntil(b"0\r\n\r\n"), DEADLINE)
                assert b"[DONE]" in rest
            for client in (idle, *streams, *clients):  # the same connections still serve
                client.ask()
                assert (await client.answer())[0] == 200
                client.writer.close()

    asyncio.run(scenario())


def test_a_changed_deployment_takes_the_next_request(world: Any) -> None:
    """A request under way ends where it began; its connection then closes, others are kept."""

    async def scenario() -> None:
        deployments = {"routes": {"bot": {"baseline": "base"}, "other": {"baseline": "cand"}}}
        async with world(document=deployments) as w:
            assert (await w.chat(model="other")).status_code == 200
            release = asyncio.Event()

            async def hold(received: Any) -> None:
                await release.wait()
                await received.answer()

            w.baseline.handler = hold
            asked = asyncio.create_task(w.chat())
            first = await w.baseline.next()
            changed = {**w.document["deployments"], "base": deployment(w.candidate, "moved")}
            report = await w.reload(deployments=changed)
            assert report.error is None
            assert (await w.chat()).status_code == 200
            assert w.candidate.requests[-1].json["model"] == "moved"
            release.set()
            assert (await asked).status_code == 200
            assert first.json["model"] == "base-model"
            await asyncio.wait_for(first.gone.wait(), DEADLINE)
            other = w.candidate.requests[0].connection
            assert (await w.chat(model="other")).status_code == 200
            assert w.candidate.requests[-1].connection == other

    asyncio.run(scenario())


def test_another_model_name_keeps_the_connections(world: Any) -> None:
    """What is written into requests and what they cost change without a single new connection."""

    async def scenario() -> None:
        async with world() as w:
            assert (await w.chat()).status_code == 200
            prices = {
                "dollars_per_million_input_tokens": 1.0,
                "dollars_per_million_output_tokens": 2.0,
            }
            changed = deployment(w.baseline, "new", parameters={"top_p": 0.5}, **prices)
            await w.reload(deployments={"base": changed})
            assert (await w.chat()).status_code == 200
            assert w.baseline.connections == 1
            assert w.baseline.requests[-1].json["model"] == "new"
            assert w.baseline.requests[-1].json["top_p"] == 0.5

    asyncio.run(scenario())


def test_routes_and_clients_come_and_go(world: Any) -> None:
    """A removed route is unknown from then on, an added one and an added key work at once."""

    async def scenario() -> None:
        environ = {"APP": "app-key", "OPS": "ops-key"}
        document = {"clients": [{"name": "app", "key_env": "APP"}]}
        async with world(document=document, environ=environ) as w:
            ops = {"authorization": "Bearer ops-key"}
            assert (await w.chat(headers=KEY)).status_code == 200
            assert (await w.chat(headers=ops)).status_code == 401
            before = w.gateway.registry.get_sample_value(
                "coalmine_split_revision", {"route": "new"}
            )
            await w.reload(
                routes={"new": {"baseline": "cand"}}, clients=[{"name": "ops", "key_env": "OPS"}]
            )
            gone = await w.chat(headers=ops)
            assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
            assert (await w.chat(model="new", headers=ops)).status_code == 200
            assert (await w.chat(model="new", headers=KEY)).status_code == 401
            models = await w.client.get("/models", headers=ops)
            assert [each["id"] for each in models.json()["data"]] == ["new"]

            def shown(route: str) -> float | None:
                value: float | None = w.gateway.registry.get_sample_value(
                    "coalmine_split_revision", {"route": route}
                )
                return value

            assert (before, shown("bot"), shown("new")) == (None, None, 0)
            assert w.metric("coalmine_requests_total", **SERVED) == 1  # what was counted stays

    asyncio.run(scenario())


SERVED = {"variant": "baseline", "reason": "default", "code": "2xx"}


@pytest.mark.parametrize(
    ("sections", "text", "field"),
    [
        ({}, "gateway: {prot: 1}", "gateway.prot"),
        ({}, "store: 'postgresql://u:hunter2@h/d\n", "config"),
        ({"routes": {"bot": {"baseline": "nobody"}}}, None, "routes.bot.baseline"),
        ({"gateway": {"breaker_failures": 0}}, None, "gateway.breaker_failures"),
        ({"clients": [{"name": "new", "key_env": "NEW_KEY"}]}, None, "clients.0.key_env"),
        (
            {"deployments": {"base": {"base_url": "https://h/v1", "model": "m", "ca_file": "no"}}},
            None,
            "deployments.base.ca_file",
        ),
        (
            {"deployments": {"base": {"base_url": "http://h", "model": "m", "api_key_env": "NO"}}},
            None,
            "deployments.base.api_key_env",
        ),
    ],
)
def test_wrong_settings_change_nothing(
    world: Any,
    sections: dict[str, Any],
    text: str | None,
    field: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line says which setting is wrong, and the gateway serves on by what it had."""

    async def scenario() -> None:
        async with world() as w:
            before = await w.reload()
            report = await w.reload(text, **sections)
            assert report.hash == before.hash
            assert report.error.startswith(f"{field}: ")
            assert "hunter2" not in report.error
            assert "\n" not in report.error
            errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
            assert [r.getMessage() for r in errors] == [
                f"the settings stay as they are: {report.error}"
            ]
            if field.endswith("key_env"):
                assert "is not in this process's environment" in report.error
                assert "restart" in report.error
            assert (await w.chat()).status_code == 200
            assert w.baseline.connections == 1
            for result in ("ok", "error"):
                name = "coalmine_settings_reloads_total"
                assert w.gateway.registry.get_sample_value(name, {"result": result}) == 1

    asyncio.run(scenario())


def test_what_needs_a_restart_is_named_and_the_rest_applies(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed port is not taken over, which is said; a changed limit beside it is."""

    async def scenario() -> None:
        async with world() as w:
            port = w.gateway.port
            options = {**w.document["gateway"], "port": 1, "workers": 3, "max_body_bytes": 200}
            report = await w.reload(gateway=options, store="sqlite:///elsewhere.db")
            assert report.error is None
            assert set(report.needs_restart) == {"store", "gateway.port", "gateway.workers"}
            warned = {r.args[0] for r in caplog.records if r.levelno == logging.WARNING and r.args}
            assert warned == set(report.needs_restart)
            assert (await w.chat()).status_code == 200
            assert (await w.chat(padding="x" * 200)).status_code == 413
            assert w.gateway.port == port

    asyncio.run(scenario())


def test_an_upload_under_way_is_held_to_the_limit_it_began_with(world: Any) -> None:
    """A smaller limit refuses the next request, not one whose body is on its way."""

    async def scenario() -> None:
        async with world() as w:
            client, after = Kept(w.gateway.port), Kept(w.gateway.port)
            await client.open()
            await after.open()
            body = json.dumps({"model": "bot", "messages": [], "pad": "x" * 500}).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n"
            client.writer.write(head % len(body) + b"expect: 100-continue\r\n\r\n")
            assert b"100 Continue" in await client.head()  # so the gateway has admitted it
            await w.reload(gateway={**w.document["gateway"], "max_body_bytes": 100})
            client.writer.write(body)
            assert (await client.answer())[0] == 200
            after.writer.write(head % len(body) + b"\r\n")
            assert (await after.answer())[0] == 413
            client.writer.close()
            after.writer.close()

    asyncio.run(scenario())


def test_an_open_breaker_stays_open_under_other_limits(world: Any) -> None:
    """A reload never sends users back to a candidate that the breaker has turned away."""

    async def scenario() -> None:
        async with world(breaker_failures=1, breaker_cooldown=600) as w:
            await w.split(**ALL)

            async def fail(received: Any) -> None:
                await received.answer(b"{}", status="500 Internal Server Error")

            w.candidate.handler = fail
            assert (await w.chat()).headers["x-coalmine-reason"] == "fallback"
            options = {**w.document["gateway"], "breaker_failures": 3, "breaker_window": 9}
            await w.reload(gateway=options)
            assert (await w.chat()).headers["x-coalmine-reason"] == "breaker"
            assert w.metric("coalmine_breaker_open") == 1
            await w.reload(gateway={**options, "breaker_cooldown": 0})
            assert (await w.chat()).headers["x-coalmine-reason"] == "fallback"  # the probe

    asyncio.run(scenario())


def test_a_split_outlives_a_reload_and_a_removed_candidate_serves_nobody(world: Any) -> None:
    """The candidate keeps its traffic through a reload, and has none once it is not declared."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**ALL)
            await w.reload(gateway={**w.document["gateway"], "idle_timeout": 7})
            assert (await w.chat()).headers["x-coalmine-variant"] == "candidate"
            await w.reload(deployments={"base": deployment(w.baseline)})
            assert (await w.chat()).headers["x-coalmine-variant"] == "baseline"
            assert w.metric("coalmine_split_weight_ratio") == 0
            state = {"deployment": "cand", "state": "idle"}
            name = "coalmine_upstream_connections"
            assert w.gateway.registry.get_sample_value(name, state) is None

    asyncio.run(scenario())


def test_a_reload_needs_no_store(world: Any) -> None:
    """With the store down, other settings are taken over all the same."""

    async def scenario() -> None:
        async with world(url="postgresql+psycopg://nobody@127.0.0.1:1/none") as w:
            report = await w.reload(routes={"new": {"baseline": "cand"}})
            assert report.error is None
            assert (await w.chat(model="new")).status_code == 200

    asyncio.run(scenario())


def test_a_retired_pool_keeps_time_limits_and_leaves_no_timer() -> None:
    """An exchange that ends late in a retired pool still fails in time, and then nothing is left.

    A pool without an exchange is gone at once.
    """

    async def scenario() -> None:
        arrived, ended = asyncio.Event(), asyncio.Semaphore(0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            if await reader.read(1):
                arrived.set()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            ended.release()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        head = b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n"

        hung, idle = Upstream("up", url, timeouts=Timeouts(first_byte=0.2)), Upstream("up", url)
        for upstream in (hung, idle):
            first = await upstream.request(b"GET", head, b"")
            assert await first.read() == b"ok"
        asked = asyncio.create_task(hung.request(b"GET", head, b""))
        await asyncio.wait_for(arrived.wait(), DEADLINE)
        for upstream in (hung, idle):
            upstream.retire()
        with pytest.raises(UpstreamTimeout):
            await asyncio.wait_for(asked, DEADLINE)
        for _ in range(2):
            await asyncio.wait_for(ended.acquire(), DEADLINE)
        for upstream in (hung, idle):
            assert (upstream.connections, upstream._watch) == ((0, 0), None)
        server.close()

    asyncio.run(scenario())
