"""HTTP/1.1 as clients and deployments speak it, well and badly, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.errors import UpstreamTimeout
from gateway.upstream import Timeouts, Upstream

DEADLINE = 20.0
BODY = b'{"model":"bot","messages":[]}'
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
ALL = {"candidate": "cand", "weight_bp": 10_000, "salt": "s", "rollout": "r", "rollout_id": 1}
CLIENTS = {"clients": [{"name": "app", "key_env": "APP"}]}


def chat(
    body: bytes = BODY, *lines: bytes, version: bytes = b"1.1", length: int | None = None
) -> bytes:
    """Write a chat request with more header lines."""
    size = b"content-length: %d" % (len(body) if length is None else length)
    first = b"POST /v1/chat/completions HTTP/" + version
    return b"\r\n".join((first, b"host: x", size, *lines, b"", body))


@dataclass
class Answer:
    """One answer as it was read from the socket."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read a status line and headers."""
        block = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)
        first, *lines = block.decode("latin-1").split("\r\n")[:-2]
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        return int(first.split()[1]), headers

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read one answer."""
        status, headers = await self.head()
        body = b""
        if not bodiless:
            size = int(headers["content-length"])
            body = await asyncio.wait_for(self.reader.readexactly(size), DEADLINE)
        return Answer(status, headers, body)

    async def end(self) -> bytes:
        """Read until the gateway closes."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE)


@asynccontextmanager
async def line(w: Any) -> AsyncIterator[Line]:
    """Connect to the gateway."""
    reader, writer = await asyncio.open_connection(w.gateway.host, w.gateway.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


def connections(w: Any, deployment: str = "base") -> float:
    """Count the connections to a deployment that are in use."""
    labels = {"deployment": deployment, "state": "active"}
    value = w.gateway.registry.get_sample_value("coalmine_upstream_connections", labels)
    assert value is not None
    return float(value)


def streams(w: Any) -> float | None:
    """Count the streams that are open."""
    value: float | None = w.gateway.registry.get_sample_value("coalmine_streams_open")
    return value


# Expect: 100-continue


@pytest.mark.parametrize("chunked", [False, True])
def test_expect_is_met_before_the_body(world: Any, chunked: bool) -> None:
    """A client that waits for 100 Continue gets it, then sends, then is answered."""
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(BODY)

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            client.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
                + framing
                + b"\r\n\r\n"
            )
            assert await client.head() == (100, {})
            assert not w.baseline.requests
            client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY)
            assert (await client.answer()).status == 200
            received = await w.baseline.next()
            assert "expect" not in received.headers
            assert received.json["model"] == "base-model"

    asyncio.run(scenario())


@pytest.mark.parametrize(("status", "length"), [(401, 10), (413, 5000)])
def test_expect_is_refused_without_the_body(world: Any, status: int, length: int) -> None:
    """Where the head alone decides, the client is spared its body: no 100, but the refusal."""
    key = b"authorization: Bearer " + (b"sesame" if status == 413 else b"wrong")

    async def scenario() -> None:
        async with (
            world(document=CLIENTS, environ={"APP": "sesame"}, max_body_bytes=4096) as w,
            line(w) as client,
        ):
            client.send(chat(b"", b"expect: 100-continue", key, length=length))
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert await client.end() == b""
            assert not w.baseline.requests

    asyncio.run(scenario())


# Keep-alive, pipelining, pieces


def test_pipelined_requests_are_answered_in_order(world: Any) -> None:
    """Requests sent at once are served one after the other, on one connection upstream."""

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            gate = asyncio.Event()

            async def echo(received: Any) -> None:
                await gate.wait()
                await received.answer(json.dumps(received.json["user"]).encode())

            w.baseline.handler = echo
            users = [f"u{n}" for n in range(5)]
            client.send(
                b"".join(chat(json.dumps({"model": "bot", "user": u}).encode()) for u in users)
            )
            await w.baseline.next()
            assert len(w.baseline.requests) == 1
            gate.set()
            assert [json.loads((await client.answer()).body) for _ in users] == users
            assert w.baseline.connections == 1

    asyncio.run(scenario())


def test_a_request_in_single_bytes(world: Any) -> None:
    """However a request is cut on its way, it is the same request."""

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request in (chat(), b"\r\n" + chat()):
                for byte in request:
                    client.send(bytes([byte]))
                    await asyncio.sleep(0)
                assert (await client.answer()).status == 200
            assert [r.json["model"] for r in w.baseline.requests] == ["base-model"] * 2

    asyncio.run(scenario())


def test_connections_are_kept_until_close_is_said(world: Any) -> None:
    """A connection serves many requests; after ``connection: close`` it ends, and says so."""

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            for _ in range(3):
                client.send(chat())
                answer = await client.answer()
                assert "connection" not in answer.headers
            client.send(chat(BODY, b"Connection: foo, Close"))
            assert (await client.answer()).headers["connection"] == "close"
            assert await client.end() == b""
            assert w.baseline.connections == 1

    asyncio.run(scenario())


def test_http_1_0(world: Any) -> None:
    """An old client's connection ends with the answer, unless it asked to keep it."""

    async def scenario() -> None:
        async with world() as w:
            async with line(w) as client:
                client.send(chat(version=b"1.0"))
                assert (await client.answer()).headers["connection"] == "close"
                assert await client.end() == b""
            async with line(w) as client:
                for _ in range(2):
                    client.send(chat(BODY, b"connection: keep-alive", version=b"1.0"))
                    answer = await client.answer()
                    assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")

    asyncio.run(scenario())


@pytest.mark.parametrize("kept", [False, True])
def test_a_stream_to_http_1_0_ends_with_its_connection(world: Any, kept: bool) -> None:
    """An old client knows no chunks: it gets the events as they are, and the end of them."""

    async def stream(received: Any) -> None:
        await received.begin_stream()
        await received.chunk(DELTA)
        await received.chunk(DELTA)
        await received.chunk(b"")

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            w.baseline.handler = stream
            lines = [b"connection: keep-alive"] if kept else []
            body = b'{"model":"bot","messages":[],"stream":true}'
            client.send(chat(body, *lines, version=b"1.0"))
            status, headers = await client.head()
            assert (status, headers["connection"]) == (200, "close")
            assert not {"transfer-encoding", "content-length"} & set(headers)
            assert await client.end() == DELTA + DELTA

    asyncio.run(scenario())


def test_head(world: Any) -> None:
    """HEAD has no body, whatever its length says, and the connection goes on."""

    async def only_head(received: Any) -> None:
        assert received.method == "HEAD"
        await received.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            w.baseline.handler = only_head
            for _ in range(2):
                client.send(b"HEAD /v1/files/1 HTTP/1.1\r\nhost: x\r\n\r\n")
                answer = await client.answer(bodiless=True)
                assert (answer.status, answer.headers["content-length"]) == (200, "10")
            for path, status in ((b"/v1/models", 200), (b"/healthz", 200), (b"/nowhere", 404)):
                client.send(b"HEAD %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
                answer = await client.answer(bodiless=True)
                assert (answer.status, answer.headers["content-length"] > "0") == (status, True)
            client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await client.answer()).body == b'{"status":"ok"}'

    asyncio.run(scenario())


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_ends_its_side_has_left(world: Any, begun: bool) -> None:
    """A half-closed client can't be told from one that is gone: its request is cancelled."""

    async def hold(received: Any) -> None:
        if begun:
            await received.begin_stream()
            await received.chunk(DELTA)
        await received.gone.wait()

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            w.baseline.handler = hold
            client.send(chat(b'{"model":"bot","messages":[],"stream":true}'))
            received = await w.baseline.next()
            if begun:
                await asyncio.wait_for(client.reader.readuntil(DELTA), DEADLINE)
                assert streams(w) == 1
            client.writer.write_eof()
            await asyncio.wait_for(received.gone.wait(), DEADLINE)
            await client.end()
            await w.until(lambda: streams(w) == 0)
            await w.until(lambda: connections(w) == 0)
            labels = {"variant": "baseline", "reason": "default", "code": "4xx"}
            await w.until(lambda: w.metric("coalmine_requests_total", **labels) == 1)

    asyncio.run(scenario())


# Refusals


@pytest.mark.parametrize(
    ("begin", "piece", "status", "code"),
    [
        (b"GET /v1/models HTTP/1.1\r\nx: ", b"y" * 65_536, 431, "header_too_large"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"y", 431, "header_too_large"),
        (chat(b"", length=10_000_000), b" " * 65_536, 413, "request_too_large"),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
            b"10000\r\n%b\r\n" % (b" " * 65_536),
            413,
            "request_too_large",
        ),
    ],
)
def test_who_sends_too_much_can_read_why(
    world: Any, begin: bytes, piece: bytes, status: int, code: str
) -> None:
    """The answer reaches a client that still sends: its connection is not reset under it."""

    async def scenario() -> None:
        async with world(max_header_bytes=4096, max_body_bytes=8192) as w, line(w) as client:
            client.send(begin)
            for _ in range(60):
                client.send(piece)
                await asyncio.wait_for(client.writer.drain(), DEADLINE)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert json.loads(answer.body)["error"]["code"] == code
            assert await client.end() == b""
            assert not w.baseline.requests

    asyncio.run(scenario())


NEXT = b"GET /v1/files/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
SMUGGLED = {
    "CL.TE": chat(b"0\r\n\r\n" + NEXT, CHUNKED),
    "TE.CL": POST + CHUNKED + b"\r\ncontent-length: 4\r\n\r\n5c\r\n" + NEXT + b"\r\n0\r\n\r\n",
    "two lengths": chat(BODY + NEXT, b"content-length: %d" % len(BODY)),
    "a list of lengths": POST + b"content-length: 5, 5\r\n\r\n12345" + NEXT,
    "a signed length": POST + b"content-length: +5\r\n\r\n12345" + NEXT,
    "TE.TE": POST + CHUNKED + b"\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n" + NEXT,
    "another encoding": POST + b"transfer-encoding: identity\r\n\r\n" + NEXT,
    "an encoding in disguise": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + NEXT,
    "space before the colon": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "a folded line": POST + b"x: a\r\n content-length: 5\r\n\r\n12345" + NEXT,
    "a folded encoding": POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "a bare LF": POST + b"x: a\ncontent-length: 5\r\n\r\n12345" + NEXT,
    "bare LFs only": POST.replace(b"\r\n", b"\n") + b"content-length: 0\n\n" + NEXT,
    "a blank line of a bare LF": POST + b"content-length: 0\n\r\n" + NEXT[:-4],
    "a bare CR": POST + b"x: a\rcontent-length: 5\r\n\r\n12345" + NEXT,
    "a NUL": POST + b"x: a\x00\r\ncontent-length: 0\r\n\r\n" + NEXT,
    "chunks in HTTP/1.0": b"POST /v1/x HTTP/1.0\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n" + NEXT,
    "no host": b"GET /v1/x HTTP/1.1\r\n\r\n" + NEXT,
    "two hosts": b"GET /v1/x HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n" + NEXT,
    "a chunk that is longer": POST + CHUNKED + b"\r\n\r\n1\r\nab\r\n0\r\n\r\n" + NEXT,
    "a chunk's size in disguise": POST + CHUNKED + b"\r\n\r\n0x0\r\n\r\n" + NEXT,
    "a bare LF after a size": POST + CHUNKED + b"\r\n\r\n0\n\r\n" + NEXT,
    "a bare LF in an extension": POST + CHUNKED + b"\r\n\r\n0;\n\r\n\r\n" + NEXT,
    "a folded trailer": POST + CHUNKED + b"\r\n\r\n0\r\nx: y\r\n z: a\r\n\r\n" + NEXT,
    "two request lines": b"GET /v1/x HTTP/1.1\r\nGET /v1/y HTTP/1.1\r\nhost: x\r\n\r\n",
    "a space in the target": b"GET /v1/x HTTP/1.1 HTTP/1.1\r\nhost: x\r\n\r\n" + NEXT,
}


def test_smuggling_is_refused(world: Any) -> None:
    """What two servers could cut in different places is answered once, and nothing passes."""

    async def scenario() -> None:
        async with world() as w:
            for name, data in SMUGGLED.items():
                async with line(w) as client:
                    client.send(data)
                    seen = await client.end()
                assert seen[9:12] in {b"400", b"501"}, name
                assert seen.count(b"HTTP/1.1 ") == 1, name
                assert b'"code":"invalid_http"' in seen, name
            assert not w.baseline.requests
            assert (await w.chat()).status_code == 200

    asyncio.run(scenario())


# What is passed on


def test_hop_by_hop_headers_stay_on_their_hop(world: Any) -> None:
    """Headers of one connection are dropped both ways; encodings and all others travel."""
    hops = b"connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nte: trailers\r\n"
    hops += b"proxy-connection: keep-alive\r\nupgrade: h2c\r\nx-coalmine-else: 1\r\nx-end: 1"

    async def encoded(received: Any) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\nvary: accept-encoding\r\n"
        await received.send(head + hops + b"\r\ncontent-length: 3\r\n\r\n\x0b\x00\x03")

    async def scenario() -> None:
        async with world() as w, line(w) as client:
            w.baseline.handler = encoded
            client.send(b"GET /v1/files/1 HTTP/1.1\r\nhost: x\r\naccept-encoding: br\r\n")
            client.send(hops + b"\r\n\r\n")
            answer = await client.answer()
            received = await w.baseline.next()
            gone = {"x-hop", "keep-alive", "te", "proxy-connection", "upgrade", "x-coalmine-else"}
            for headers in (received.headers, answer.headers):
                assert not (gone | {"connection", "transfer-encoding"}) & set(headers)
                assert headers["x-end"] == "1"
            assert received.headers["accept-encoding"] == "br"
            assert received.headers["host"] == f"127.0.0.1:{w.baseline.port}"
            assert (answer.headers["content-encoding"], answer.body) == ("br", b"\x0b\x00\x03")

    asyncio.run(scenario())


@pytest.mark.parametrize("variant", ["baseline", "candidate"])
def test_interim_answers_are_passed_over(world: Any, variant: str) -> None:
    """100 and 103 before the answer are no answer, of either arm."""

    async def chatty(received: Any) -> None:
        await received.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n")
        await received.answer(b"{}")

    async def scenario() -> None:
        async with world() as w:
            w.baseline.handler = w.candidate.handler = chatty
            if variant == "candidate":
                await w.split(**ALL)
            for _ in range(2):
                response = await w.chat()
                assert (response.status_code, response.content) == (200, b"{}")
                assert response.headers["x-coalmine-variant"] == variant
            assert getattr(w, variant).connections == 1

    asyncio.run(scenario())


# Time limits


@pytest.mark.parametrize("sent", [b"GET /v1/mod", chat(b'{"model"', length=50), b"\r"])
def test_a_slow_request_is_given_up(world: Any, sent: bytes) -> None:
    """A head or body that does not end gets 408 after the request timeout."""

    async def scenario() -> None:
        async with world(request_timeout=0.2) as w, line(w) as client:
            client.send(sent)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            error = json.loads(answer.body)["error"]
            assert (error["code"], "0.2 s" in error["message"]) == ("request_timeout", True)
            assert await client.end() == b""
            assert not w.baseline.requests

    asyncio.run(scenario())


@pytest.mark.parametrize("used", [False, True])
def test_an_idle_connection_is_closed(world: Any, used: bool) -> None:
    """A connection without a request ends after the keep-alive timeout, without a word."""

    async def scenario() -> None:
        async with world(keep_alive_timeout=0.2) as w, line(w) as client:
            if used:
                client.send(chat())
                await client.answer()
            assert await client.end() == b""

    asyncio.run(scenario())


def test_time_limits_spare_who_waits_for_an_answer(world: Any) -> None:
    """The limits on a client's side do not run while the deployment works."""

    async def scenario() -> None:
        async with (
            world(keep_alive_timeout=0.1, request_timeout=0.1, write_timeout=0.1) as w,
            line(w) as idle,
            line(w) as client,
        ):
            release = asyncio.Event()

            async def late(received: Any) -> None:
                await release.wait()
                await received.answer()

            w.baseline.handler = late
            client.send(chat())
            await w.baseline.next()
            assert await idle.end() == b""  # the limits were looked at
            release.set()
            assert (await client.answer()).status == 200

    asyncio.run(scenario())


def test_the_total_timeout_ends_an_answer(world: Any) -> None:
    """Past it there is 504 before the first byte, an error event after it, a cut otherwise."""

    async def scenario() -> None:
        async with world(total_timeout=0.3) as w:

            async def silent(received: Any) -> None:
                await received.gone.wait()

            async def stream(received: Any) -> None:
                await received.begin_stream()
                while not received.gone.is_set():
                    await received.chunk(DELTA)
                    await asyncio.sleep(0.02)  # never idle, never done

            async def document(received: Any) -> None:
                await received.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
                await received.gone.wait()

            w.baseline.handler = silent
            late = await w.chat()
            assert (late.status_code, late.json()["error"]["code"]) == (504, "upstream_timeout")
            w.baseline.handler = stream
            cut = await w.chat(stream=True)
            assert cut.content.startswith(DELTA)
            assert b'"upstream_timeout"' in cut.content
            assert b"did not end its answer within 0.3 s" in cut.content
            w.baseline.handler = document
            async with line(w) as client:
                client.send(chat())
                assert (await client.head())[0] == 200
                assert await client.end() == b"{"
            for received in w.baseline.requests:
                await asyncio.wait_for(received.gone.wait(), DEADLINE)

    asyncio.run(scenario())


# Upstream connections


@pytest.mark.parametrize(
    ("said", "asked"),
    [(b"", 2), (b"HTTP/1.1 2", 1), (b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n", 1)],
)
def test_a_kept_connection_that_closes(world: Any, said: bytes, asked: int) -> None:
    """A request is sent again once where no byte came back, for only then nobody has seen it."""

    async def scenario() -> None:
        async with world() as w:
            assert (await w.chat()).status_code == 200

            async def close(received: Any) -> None:
                await received.send(said)
                received.writer.close()

            w.baseline.handler = close
            assert (await w.chat()).status_code == 502
            assert [r.connection for r in w.baseline.requests] == [1, 1, 2][: asked + 1]

    asyncio.run(scenario())


def test_ipv6(world: Any) -> None:
    """The gateway listens on an IPv6 address, and says so in brackets."""

    async def scenario() -> None:
        async with world(host="::1") as w:
            assert w.gateway.base_url == f"http://[::1]:{w.gateway.port}/v1"
            assert (await w.chat()).status_code == 200

    asyncio.run(scenario())


def test_a_retired_deployment_keeps_its_time_limits() -> None:
    """Once settings leave a deployment out, what is under way there still ends in time."""

    async def scenario() -> None:
        arrived, writers = asyncio.Event(), []

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        timeouts = Timeouts(first_byte=0.2)
        upstream = Upstream("up", f"http://127.0.0.1:{port}/v1", timeouts=timeouts)
        request = upstream.request(b"GET", b"GET / HTTP/1.1\r\n\r\n", b"")
        exchange = asyncio.create_task(request)
        await arrived.wait()
        upstream.retire()
        with pytest.raises(UpstreamTimeout, match=r"within 0\.2 s"):
            await exchange
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE))


@asynccontextmanager
async def two_addresses() -> AsyncIterator[int]:
    """Answer on one port of two loopback addresses, each with its own address."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        own = writer.get_extra_info("sockname")[0].encode()
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n" + own)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    first = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(serve, "127.0.0.2", port)
    try:
        yield port
    finally:
        first.close()
        second.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize(("age", "second"), [(0.0, b"127.0.0.2"), (300.0, b"127.0.0.1")])
def test_dns_changes_are_followed(
    monkeypatch: pytest.MonkeyPatch, age: float, second: bytes
) -> None:
    """A connection past its age is replaced, and its name looked up again; a younger one kept."""

    async def scenario() -> None:
        loop, address = asyncio.get_running_loop(), "127.0.0.1"

        async def resolve(host: Any, port: Any, **_: Any) -> Any:
            assert host == "model.example"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        async with two_addresses() as port:
            upstream = Upstream("up", f"http://model.example:{port}/v1", pool_age=age)
            request = b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n"
            seen = []
            for address in ("127.0.0.1", "127.0.0.2"):  # noqa: B007 - read by the resolver
                exchange = await upstream.request(b"GET", request, b"")
                seen.append(await exchange.read())
            assert seen == [b"127.0.0.1", second]
            upstream.close()
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE))
