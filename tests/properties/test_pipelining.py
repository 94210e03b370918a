"""Both connection classes by themselves: any bytes, in any pieces, with the loop in between or not.

The transports are stand-ins that keep what is written, so that each step of the event loop is the
test's own.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.http1 import RequestHead, ResponseHead
from gateway.inbound import Inbound
from gateway.protocol import ClientConnection
from gateway.settings import GatewaySettings
from gateway.upstream.connection import Connection

EXAMPLES = pytest.mark.parametrize("examples", [200, pytest.param(10_000, marks=pytest.mark.heavy)])
HEAD = b"POST /v1/x HTTP/1.1\r\nhost: a\r\n"
REQUESTS = [
    *(b"GET /v1/x HTTP/1.1\r\nhost: a\r\n\r\n", HEAD + b"content-length: 3\r\n\r\nabc"),
    *(HEAD + b"content-length: 4\r\n\r\n\r\n\r\n", HEAD + b"content-length: 0\r\n\r\n"),
    *(HEAD + b"transfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",),
    *(HEAD + b"transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n1\r\n\n\r\n0\r\n\r\n",),
    *(HEAD + b"x-long: " + b"x" * 200 + b"\r\n\r\n", b"GET /v1/x HTTP/1.1\r\nHost:b\r\n\r\n"),
]
LAST = [
    *(b"", b"", b"GET / HTTP/1.1\r\nhost", HEAD + b"content-length: 9\r\n\r\nabc", b"\x16\x03\x01"),
    *(b"\r\n\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n", b"\r\n\r\n" + HEAD),
    *(b"GET / HTTP/1.1\nhost: a\n\n", HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n"),
    *(HEAD + b"connection: close\r\n\r\n" + HEAD + b"\r\n", HEAD + b"transfer-encoding: x\r\n\r\n"),
    *(HEAD + b"transfer-encoding: chunked\r\n\r\nx\r\n", b"GET / HTTP/2.0\r\nhost: a\r\n\r\n"),
]
POINTS = st.lists(st.integers(0, 2000), max_size=8)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closing = False
        self.ended = False
        self.reading = True

    def write(self, data: Any) -> None:
        """Keep it."""
        self.sent += data

    def writelines(self, data: Any) -> None:
        """Keep it."""
        self.sent += b"".join(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There are none."""

    def get_write_buffer_size(self) -> int:
        """All is sent at once."""
        return 0

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closing

    def close(self) -> None:
        """Close."""
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Note it."""
        self.ended = True

    def pause_reading(self) -> None:
        """Feed nothing."""
        self.reading = False

    def resume_reading(self) -> None:
        """Feed on."""
        self.reading = True


class Desk:
    """Host, proxy and serving in one: notes each request and answers it when told to."""

    draining = False

    def __init__(self) -> None:
        self.options = GatewaySettings(max_header_bytes=1000, max_body_bytes=1000)
        self.proxy = self
        self.seen: list[tuple[bytes, bytes]] = []
        self.under_way: list[Any] = []

    def opened(self, connection: Any) -> None:
        """One connection is all there is."""

    def closed(self, connection: Any) -> None:
        """Not tested here."""

    def admit(self, head: RequestHead) -> Inbound:
        """Let everybody in."""
        return Inbound(head, "k")

    def too_large(self) -> RequestError:
        """Refuse."""
        return RequestError("too large", status=413)

    def own(self, inbound: Inbound) -> None:
        """Pass everything on."""

    def serving(self, client: Any, inbound: Inbound) -> Desk:
        """Note the request."""
        self.seen.append((inbound.method, inbound.body))
        self.under_way.append((client, inbound))
        return self

    def start(self) -> None:
        """Answer later."""

    def client_left(self) -> None:
        """Nothing is done for it."""

    def answer(self) -> None:
        """Answer the request under way."""
        client, inbound = self.under_way.pop()
        client.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        client.finish(client.keep_after(inbound.head))


async def settle(desk: Desk) -> None:
    """Answer until nothing comes any more."""
    for _ in range(40):
        if desk.under_way:
            desk.answer()
        await asyncio.sleep(0)


async def serve(pieces: list[tuple[bytes, bool, bool]]) -> tuple[Desk, Transport]:
    """Feed pieces; each says whether an answer goes out before it and whether the loop runs."""
    desk, transport = Desk(), Transport()
    connection = ClientConnection(desk)  # type: ignore[arg-type]
    connection.connection_made(transport)
    for piece, answer, turn in pieces:
        for _ in range(200):
            if transport.reading:
                break
            if desk.under_way:
                desk.answer()
            await asyncio.sleep(0)
        assert transport.reading, "reading was never resumed"
        if answer and desk.under_way:
            desk.answer()
        if turn:
            await asyncio.sleep(0)
        if not transport.closing:
            connection.data_received(piece)
    await settle(desk)
    connection.connection_lost(None)
    return desk, transport


def expected(data: bytes) -> list[tuple[bytes, bytes]]:
    """Read the whole requests that h11 finds before it finds an error or the last one."""
    found: list[tuple[bytes, bytes]] = []
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    method, body = b"", b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, body = bytes(event.method), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((method, body))
                connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return found
                connection.start_next_cycle()
            else:
                return found
    except h11.RemoteProtocolError:
        return found


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """Cut ``data`` at the given points, modulo its length."""
    edges = sorted({0, len(data), *(p % (len(data) + 1) for p in points)})
    return [data[a:b] for a, b in pairwise(edges)]


def run(examples: int, check: Any, *strategies: Any) -> None:
    """Check that many examples on one event loop."""
    with asyncio.Runner() as runner:

        def one(drawn: Any) -> None:
            runner.run(check(*drawn))

        quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
        settings(max_examples=examples, suppress_health_check=quiet)(
            given(st.tuples(*strategies))(one)
        )()


@EXAMPLES
def test_pipelined_requests(examples: int) -> None:
    """The same requests are served however they come in, answered early or late, as h11 has them.

    A malformed one ends the connection with an answer and is not served; bare line feeds, which h11
    takes, are malformed.
    """

    async def check(
        requests: list[bytes], last: bytes, points: list[int], steps: list[tuple[bool, bool]]
    ) -> None:
        data = b"".join(requests) + last
        pieces = cut(data, points)
        steps += [(False, True)] * len(pieces)
        desk, transport = await serve(
            [(piece, *step) for piece, step in zip(pieces, steps, strict=False)]
        )
        wanted = expected(b"".join(requests) + (b"" if last.startswith(b"GET / ") else last))
        assert desk.seen == wanted
        answers = transport.sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        statuses = [line[9:12] for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        assert statuses[: len(wanted)] == [b"200"] * len(wanted)
        assert set(statuses[len(wanted) :]) <= {b"400", b"501", b"505"}
        assert len(statuses) <= len(wanted) + 1

    steps = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=9)
    requests = st.lists(st.sampled_from(REQUESTS), max_size=5)
    run(examples, check, requests, st.sampled_from(LAST), POINTS, steps)


@EXAMPLES
def test_clients_noise(examples: int) -> None:
    """Whatever a client sends, the connection ends in an answer or waits; it never breaks."""
    parts = [
        *REQUESTS,
        *LAST,
        HEAD,
        b"\r\n",
        b"\n",
        b"\x00",
        b"0\r\n\r\n",
        b"x" * 1100,
        b"1\r\nx\r\n",
    ]

    async def check(data: bytes, points: list[int]) -> None:
        desk, transport = await serve([(piece, True, True) for piece in cut(data, points)])
        assert len(desk.seen) <= data.count(b"HTTP/1.1")
        refused = transport.sent.count(b"connection: close\r\n")
        assert refused == transport.ended

    noise = st.lists(st.sampled_from(parts) | st.binary(max_size=8), max_size=6).map(b"".join)
    run(examples, check, noise, POINTS)


class Pool:
    """Owner and receiver in one."""

    name = "up"
    proxied = False

    def __init__(self) -> None:
        self.room = memoryview(bytearray(4096))
        self.link: Any = None
        self.kept = 0
        self.resent = 0
        self.status = 0
        self.body = b""
        self.ended = ""

    def released(self, connection: Any) -> None:
        """Count it."""
        self.kept += 1

    def lost(self, connection: Any) -> None:
        """Not counted."""

    def again(self, request: Any, receiver: Any) -> None:
        """Count it."""
        self.resent += 1

    def answered(self, head: ResponseHead, data: bytes, last: bool) -> None:
        """Take the head."""
        assert not self.status
        self.status = head.status
        self.received(data, last)

    def received(self, data: bytes, last: bool) -> None:
        """Take bytes."""
        assert not self.ended
        self.body += data
        self.ended = "whole" if last else ""

    def failed(self, error: Any) -> None:
        """Take the end."""
        assert not self.ended
        self.ended = "failed"


ANSWERS = [
    *(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", b"HTTP/1.1 204 x\r\n\r\n"),
    *(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",),
    *(
        b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 x\r\n\r\n",
    ),
    *(
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"\r\n",
        b"x",
    ),
    *(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200",
        b"\n",
    ),
    *(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", b"\x00"),
]


async def exchange(pieces: list[bytes], method: bytes, *, reset: bool) -> tuple[Any, ...]:
    """Feed an answer to one request on a kept connection, and close; say what became of it."""
    pool, transport = Pool(), Transport()
    connection = Connection(pool)
    connection.connection_made(transport)
    connection.uses = 1
    connection.send((method, b"GET / HTTP/1.1\r\n\r\n", b""), pool)
    for piece in pieces:
        if not transport.closing:
            pool.room[: len(piece)] = piece
            connection.buffer_updated(len(piece))
    kept = pool.kept and not transport.closing
    connection.connection_lost(ConnectionResetError() if reset else None)
    return pool.ended, pool.status, pool.body, pool.resent, kept


@EXAMPLES
def test_answers(examples: int) -> None:
    """An answer is the same in any pieces; it is sent for again only where no byte of one came."""

    async def check(parts: list[bytes], points: list[int], method: bytes, reset: bool) -> None:
        data = b"".join(parts)
        whole = await exchange([data] if data else [], method, reset=reset)
        cuts = await exchange(cut(data, points) if data else [], method, reset=reset)
        ended, _, _, resent, kept = whole
        assert cuts[:4] == whole[:4]
        assert bool(resent) == (not data)
        assert resent or ended
        if kept:  # nothing came after the answer
            assert ended == "whole"

    answers = st.lists(st.sampled_from(ANSWERS), max_size=3)
    run(examples, check, answers, POINTS, st.sampled_from([b"GET", b"HEAD"]), st.booleans())
