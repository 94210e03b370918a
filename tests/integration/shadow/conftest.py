"""A scripted HTTP server, rows in the store, and workers that run until they are done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.settings import Settings
from gateway.store import Store
from gateway.store.evidence import move_funnel
from gateway.store.tables import LIVE_FIRST, CaptureRow, PairRow, RolloutRow

WAIT_S = 20.0


@dataclass(slots=True)
class Request:
    """One request that the server received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Reply:
    """What the server sends: a document or raw bytes, or nothing while `hang` is set."""

    document: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hang: bool = False
    cut: bool = False


Handler = Callable[[Request], Awaitable[Reply] | Reply]


class FakeServer:
    """A raw HTTP/1.1 server: what it says on the wire is exactly what the handler returns."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[Request] = []
        self.url = ""
        self.metrics = Reply({}, 404)
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")
                pairs = (line.split(":", 1) for line in lines if ":" in line)
                headers = {name.lower(): value.strip() for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(first.split(" ")[1], headers, body)
                if request.path == "/metrics":
                    made: Any = self.metrics
                else:
                    self.requests.append(request)
                    made = self.handler(request)
                reply = await made if isinstance(made, Awaitable) else made
                if reply.hang:
                    await asyncio.Event().wait()
                text = json.dumps(reply.document).encode() if reply.raw is None else reply.raw
                extra = "".join(f"{k}: {v}\r\n" for k, v in reply.headers.items())
                length = len(text) + (10 if reply.cut else 0)
                writer.write(
                    f"HTTP/1.1 {reply.status} X\r\ncontent-length: {length}\r\n{extra}\r\n".encode()
                    + text
                )
                await writer.drain()
                if reply.cut:
                    break
        self._writers.discard(writer)
        writer.close()

    def close(self) -> None:
        """Drop every connection."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def _serving(
    handler: Handler, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeServer]:
    fake = FakeServer(handler)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    fake.url = f"http://127.0.0.1:{port}/v1" if tls is None else f"https://localhost:{port}/v1"
    try:
        yield fake
    finally:
        server.close()
        fake.close()
        await asyncio.sleep(0)


@pytest.fixture
def serving() -> Callable[..., Any]:
    """Serve a handler on loopback, inside `async with`; with a context, over TLS as localhost."""
    return _serving


@pytest.fixture
def reply_with() -> type[Reply]:
    """The reply that handlers return."""
    return Reply


def _chat_document(content: str, **message: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "some-model",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


@pytest.fixture
def chat_document() -> Callable[..., dict[str, Any]]:
    """Builds the body of a chat completion."""
    return _chat_document


@pytest.fixture
def fair_judge() -> Callable[[Request], Reply]:
    """A judge that prefers the answer containing GOOD, wherever it stands."""

    def handler(request: Request) -> Reply:
        text = request.json["messages"][1]["content"]
        found = re.findall(
            r"<<<ANSWER_([AB]) (\w+)>>>\n(.*?)\n<<<END_ANSWER_\1 \2>>>", text, re.DOTALL
        )
        answers = {name: body for name, _, body in found}
        good = {name for name, body in answers.items() if "GOOD" in body}
        verdict = good.pop() if len(good) == 1 else "tie"
        document = {
            "evidence": "e",
            "verdict": verdict,
            "scores": {"A": 5, "B": 5},
            "severity": "none",
        }
        return Reply(_chat_document(json.dumps(document)))

    return handler


class Rows:
    """Writes the rows that gateways and the controller would have written."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def rollout(self, *, name: str = "r1", phase: str = "shadowing", **spec: Any) -> int:
        """Write a rollout and return its id."""
        spec.setdefault("candidate", {"deployment": "v7"})
        with self.store.write() as session:
            row = RolloutRow(
                name=name,
                generation=1,
                route="bot",
                spec=spec,
                spec_hash="h",
                candidate_revision="c",
                phase=phase,
                state={"baseline": "v6"},
                created_at=0.0,
                updated_at=0.0,
            )
            session.add(row)
            session.flush()
            assert row.id is not None
            return row.id

    def set_phase(self, rollout_id: int, phase: str) -> None:
        """Move a rollout."""
        with self.store.write() as session:
            row = session.get(RolloutRow, rollout_id)
            assert row
            row.phase = phase

    def pair(
        self,
        rollout_id: int,
        answer: str = "plain",
        *,
        stream: str = "mirror",
        created_at: float = 0.0,
        request: dict[str, Any] | None = None,
        **capture: Any,
    ) -> int:
        """Write a capture with its pending pair, as a gateway does, and return the pair's id."""
        body = {"model": "bot", "messages": [{"role": "user", "content": "hi"}], **(request or {})}
        values: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "route": "bot",
            "request_id": uuid.uuid4().hex,
            "created_at": created_at,
            "endpoint": "/v1/chat/completions",
            "variant": "baseline",
            "reason": "split",
            "deployment": "v6",
            "stream": bool(body.get("stream")),
            "request_body": json.dumps(body),
            "response_body": json.dumps(_chat_document(answer)),
            "status": 200,
            "ttft_s": 0.1,
            "total_s": 0.5,
            "segment": "billing",
            "key_hash": "k1",
            "split_revision": 1,
            "epoch": 3,
            "weight_bp": 500,
        } | capture
        with self.store.write() as session:
            session.add(CaptureRow(**values))
            session.flush()
            row = PairRow(
                rollout_id=rollout_id,
                capture_id=values["id"],
                stream=stream,
                created_at=created_at,
                segment=values["segment"],
                lease_until=LIVE_FIRST if stream == "live" else 0.0,
            )
            session.add(row)
            session.flush()
            move_funnel(self.store, session, [(rollout_id, stream, "pending", 1)])
            assert row.id is not None
            return row.id

    def get(self, pair_id: int) -> PairRow:
        """Read a pair."""
        with self.store.read() as session:
            row = session.get(PairRow, pair_id)
            assert row
            return row


@pytest.fixture
def rows(store: Store) -> Rows:
    """Writes rows into the store of the test."""
    return Rows(store)


@pytest.fixture
def settings_for() -> Callable[..., Settings]:
    """Builds settings for upstream and judge URLs."""

    def build(
        upstream: str,
        judge: str | None = None,
        *,
        health: dict[str, Any] | None = None,
        rubric: str | None = None,
        **changes: Any,
    ) -> Settings:
        document: dict[str, Any] = {
            "deployments": {
                "v6": {"base_url": upstream, "model": "model-v6"},
                "v7": {"base_url": upstream, "model": "model-v7", "api_key_env": "V7_KEY"},
            },
            "routes": {"bot": {"baseline": "v6"}},
            "worker": {"drain_timeout": 5, **changes.pop("worker", {})},
        }
        if judge:
            document["deployments"]["judge"] = {
                "base_url": judge,
                "model": "judge-1",
                "api_key_env": "JUDGE_KEY",
            }
            # Its health is not examined unless a test is about it: tests count the judge's calls.
            document["judge"] = {
                "deployment": "judge",
                "timeout": 5,
                "health": {"enabled": False} if health is None else health,
                "rubric": rubric,
            }
        return Settings.model_validate({**document, **changes})

    return build
