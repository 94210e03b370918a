"""A raw upstream, a gateway in a thread, and a client, for the gateway's integration tests.

Everything but the gateway runs on the test's own event loop, so that a test waits for events of
either side and never sleeps.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.intake import unpack
from gateway.reload import Report
from gateway.server import GatewayThread
from gateway.settings import Settings, load_settings
from gateway.split import Split
from gateway.store import Store, open_store
from gateway.store.evidence import load_funnel
from gateway.store.splits import load_split, save_split

DEADLINE = 20.0

ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


@dataclass
class Received:
    """A request as it reached the upstream, and the connection to answer it on."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    connection: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    async def answer(
        self,
        body: bytes | None = None,
        *,
        status: str = "200 OK",
        headers: str = "content-type: application/json\r\n",
    ) -> None:
        """Answer with a whole body."""
        body = json.dumps(ANSWER).encode() if body is None else body
        head = f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)

    async def begin_stream(self) -> None:
        """Send the head of a chunked event stream."""
        await self.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        """Send one chunk; an empty one ends the stream."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()


Handler = Callable[[Received], Awaitable[None]]


class RawUpstream:
    """A small HTTP/1.1 server whose ``handler`` says byte for byte what it answers."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.handler: Handler = Received.answer
        self.arrived: asyncio.Queue[Received] = asyncio.Queue()
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next(self) -> Received:
        """Return the next request, once it is here."""
        return await asyncio.wait_for(self.arrived.get(), DEADLINE)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        buffer = b""
        current: Received | None = None
        work: asyncio.Task[None] | None = None
        try:
            while data := await reader.read(65536):
                buffer += data
                while (found := _parse(buffer, writer, number)) is not None:
                    current, buffer = found
                    self.requests.append(current)
                    self.arrived.put_nowait(current)
                    work = asyncio.create_task(self._handle(current))
                    self._tasks.add(work)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if current is not None:
                current.gone.set()
            writer.close()

    async def _handle(self, request: Received) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            await self.handler(request)


def _parse(
    buffer: bytes, writer: asyncio.StreamWriter, number: int
) -> tuple[Received, bytes] | None:
    head, separator, rest = buffer.partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if len(rest) < length:
        return None
    received = Received(method, target, headers, rest[:length], writer, number)
    return received, rest[length:]


@dataclass
class World:
    """A gateway between a client and two raw upstreams, the baseline's and the candidate's."""

    gateway: GatewayThread
    baseline: RawUpstream
    candidate: RawUpstream
    client: httpx.AsyncClient
    store: Store
    settings: Settings
    document: dict[str, Any]
    """What the settings were made of; :meth:`reload` writes it down changed."""
    config: Path

    async def reload(self, text: str | None = None, **sections: Any) -> Report:
        """Replace sections of the settings, or the whole file by ``text``, and have it read."""
        self.document |= sections
        self.config.write_text(json.dumps(self.document) if text is None else text)
        return await asyncio.to_thread(self.gateway.reload)

    async def chat(
        self, *, model: str = "bot", headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """Ask for a chat completion and read it whole."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        return await self.client.post("/chat/completions", json=body, headers=headers)

    async def split(self, **changes: Any) -> Split:
        """Change the route's split and wait until the gateway serves it."""
        now = 1_700_000_000.0

        def save() -> Split:
            with self.store.write() as session:
                found = load_split(session, "bot") or Split("bot", 0, "base")
                return save_split(self.store, session, found.evolve(**changes), now=now)

        split = await asyncio.to_thread(save)
        await self.until(lambda: self.metric("coalmine_split_revision") == split.revision)
        return split

    def metric(self, name: str, **labels: str) -> float:
        """Read one of the gateway's metrics; 0 where it has not been seen yet."""
        return self.gateway.registry.get_sample_value(name, {"route": "bot", **labels}) or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds, which another thread brings about."""
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, "nothing happened in time"
            await asyncio.sleep(0.005)

    async def funnel(self, rollout_id: int, stream: str, total: int) -> dict[str, int]:
        """Wait until ``total`` eligible requests are counted, and return the stream's funnel."""

        def read() -> dict[str, int]:
            with self.store.read() as session:
                return load_funnel(session, rollout_id).get(stream, {})

        deadline = asyncio.get_running_loop().time() + 20
        while (found := await asyncio.to_thread(read)).get("eligible", 0) < total:
            assert asyncio.get_running_loop().time() < deadline, found
            await asyncio.sleep(0.01)
        return found

    async def rows(self, statement: Any) -> list[Any]:
        """Read from the store, once what was handed over is unpacked."""

        def read() -> list[Any]:
            while unpack(self.store):
                pass
            with self.store.read() as session:
                return list(session.exec(statement).all())

        return await asyncio.to_thread(read)


@pytest.fixture
def world(sqlite_url: str, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[World]]:
    """Start a :class:`World`; keyword arguments are settings of the gateway section.

    ``document`` changes the settings' document as a whole, ``environ`` gives secrets, ``url``
    another store.
    """

    @asynccontextmanager
    async def start(
        *,
        document: dict[str, Any] | None = None,
        environ: dict[str, str] | None = None,
        url: str | None = None,
        **options: Any,
    ) -> AsyncIterator[World]:
        baseline, candidate = RawUpstream(), RawUpstream()
        await baseline.start()
        await candidate.start()
        declared = {
            "store": url or sqlite_url,
            "data_dir": str(tmp_path),
            "gateway": {
                "port": 0,
                "metrics_port": 0,
                "flush_interval": 0.02,
                "drain_timeout": 5,
                **options,
            },
            "deployments": {
                "base": {"base_url": baseline.base_url, "model": "base-model"},
                "cand": {"base_url": candidate.base_url, "model": "cand-model"},
            },
            "routes": {"bot": {"baseline": "base"}},
            **(document or {}),
        }
        settings = Settings.model_validate(declared)
        config = tmp_path / "coalmine.yaml"
        source = partial(load_settings, config, {})
        gateway = GatewayThread(settings, environ=environ or {}, source=source)
        await asyncio.to_thread(gateway.start)
        store = open_store(settings.store)
        client = httpx.AsyncClient(base_url=gateway.base_url, timeout=DEADLINE, trust_env=False)
        try:
            yield World(gateway, baseline, candidate, client, store, settings, declared, config)
        finally:
            await client.aclose()
            await asyncio.to_thread(gateway.stop)
            await baseline.stop()
            await candidate.stop()
            store.close()

    return start
