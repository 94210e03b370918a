"""The HTTP/1.1 parsers beside h11: whatever they take, h11 takes, and understands alike.

Messages come from a grammar and are then damaged: bytes changed, line ends, spaces, NULs and colons
put in, lines doubled and folded, lengths and transfer encodings combined, chunk sizes and trailers
spoiled. They are read at once and in pieces. What only h11 takes must have one of the reasons
listed in ``STRICTER_...``; what only we take, one of those in ``LOOSER``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http1 import (
    Body,
    ChunkedBody,
    FixedBody,
    MalformedError,
    RequestHead,
    ResponseHead,
    RestBody,
    read_request,
    read_response,
)

EXAMPLES = pytest.mark.parametrize("examples", [300, pytest.param(20_000, marks=pytest.mark.heavy)])
UNLIMITED = 10_000_000
LISTS = {b"accept-encoding", b"connection"}

# The messages

REQUEST_LINES = [
    *(b"POST /v1/chat/completions HTTP/1.1", b"GET /v1/models?limit=1&a=%20 HTTP/1.1"),
    *(b"HEAD / HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://a.example:80/v1/x?q HTTP/1.1"),
    *(b"POST /v1/x HTTP/1.0", b"get /a HTTP/1.1", b"M-X!# /;a=b,c'(d)@e:f HTTP/1.1"),
    *(b"GET HTTPS://a HTTP/1.1", b"GET http://a?b HTTP/1.1", b"GET /a?b?c/d HTTP/1.1"),
]
ODD_REQUEST_LINES = [
    *(
        b"GET /a#b HTTP/1.1",
        b"GET a HTTP/1.1",
        b"CONNECT a.example:443 HTTP/1.1",
        b"GET / HTTP/2.0",
    ),
    *(b"GET /\xc3\xa9 HTTP/1.1", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1"),
    *(b"GET ?a=http://b HTTP/1.1", b"GET /a\tb HTTP/1.1", b"GET / http/1.1", b"GET / HTTP/1.2"),
    *(b"GET\t/ HTTP/1.1", b"G@T / HTTP/1.1", b"GET /", b"", b"GET ftp://a/ HTTP/1.1"),
]
STATUS_LINES = [
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 500", b"HTTP/1.1 299 "),
    *(b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 x", b"HTTP/1.1 200 \xe9 \t."),
]
ODD_STATUS_LINES = [
    *(b"HTTP/1.1 099 x", b"HTTP/1.1 20 x", b"HTTP/1.1 2000 x", b"HTTP/1.2 200 OK", b"HTTP/2 200"),
    *(b"HTTP/1.1  200 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 101 Go", b"HTTP/1.1 2x0 OK", b"200 OK"),
]
FIELDS = [
    *(
        b"accept: */*",
        b"Accept-Encoding: gzip",
        b"accept-encoding:br , zstd\t",
        b"x-a:",
        b"X-B:\t b ",
    ),
    *(
        b"connection: close",
        b"Connection: keep-alive, X-B",
        b"connection: ,Close ,",
        b"te: trailers",
    ),
    *(
        b"content-type: application/json",
        b"x-request-id: 7",
        b"x-coalmine-shadow: off",
        b"cookie: c",
    ),
    *(
        b"authorization: Bearer k",
        b"x-utf8: \xc3\xa9",
        b"keep-alive: timeout=5",
        b"!#$%&'*+-.^_`|~:x",
    ),
    *(b"content-encoding: GZIP", b"set-cookie: a=b", b"set-cookie: c=d", b"x-a: a: b", b"x-a: c"),
]
ODD_FIELDS = [
    *(b"content-length: 5", b"Content-Length: 5, 5", b"content-length: +5", b"content-length: 5 5"),
    *(b"content-length:", b"content-length: 0x5", b"content-length: 5_0", b"content-length: -1"),
    *(b"content-length: 0005", b"content-length: 9999999999999999999", b"content-length: \xb25"),
    *(b"transfer-encoding: chunked", b"Transfer-Encoding: Chunked", b"transfer-encoding: gzip"),
    *(b"transfer-encoding: gzip, chunked", b"transfer-encoding: chunked, chunked"),
    *(b"transfer-encoding: identity", b"transfer-encoding:", b"transfer-encoding: \x0bchunked"),
    *(b"transfer-encoding: chunked;a=b", b"transfer_encoding: chunked", b"content-length : 5"),
    *(
        b"transfer-encoding : chunked",
        b" folded: x",
        b"\tfolded",
        b"no colon",
        b": x",
        b"",
        b"host: b",
    ),
    *(b"x-a: a\rb", b"x-a: a\nb: c", b"x-a: a\x00b", b"x-a: a\x0bb", b"x-a: a\x7fb", b"x-a: a\x01"),
    *(b"x a: b", b"x-\xe9: b", b"x-a\x00: b", b"x-a: b\r", b"\rx-a: b", b"expect: 100-continue"),
    *(b"Expect: 100-Continue", b"expect: x", b"upgrade: h2c", b"connection: upgrade", b"x-a: b\n"),
]
DAMAGE = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\x00",
    b":",
    b"\x0b",
    b";",
    b"\x7f",
    b"\xa0",
]
CHUNKS = [
    *(
        b"5\r\nhello\r\n",
        b"1\r\n\n\r\n",
        b"00a\r\n0123456789\r\n",
        b"3;x=y\r\nabc\r\n",
        b"2 \r\nab\r\n",
    ),
    *(b"A;\r\n\r\n\r\n\r\n\r\n\r\n\r\n", b'4;q="a b"\r\n0\r\n\r\r\n', b"1\t\r\nx\r\n"),
]
ODD_CHUNKS = [
    *(
        b"5\r\nhell\r\n",
        b"2\r\nhello\r\n",
        b"+1\r\nx\r\n",
        b"0x1\r\nx\r\n",
        b"\r\n",
        b"1\nx\n",
        b"g\r\n",
    ),
    *(b"-1\r\nx\r\n", b"1 ;a\r\nx\r\n", b"1;a\x00b\r\nx\r\n", b"1;a\nb\r\nx\r\n", b"1\r\nx\r\r\n"),
    *(b"00000000000000001\r\nx\r\n", b"1_0\r\n", b" 1\r\nx\r\n", b"1\rx\r\n", b"1;a\rb\r\nx\r\n"),
    *(
        b"ffffffffffffffffffffff\r\n",
        b"1\x0b\r\nx\r\n",
        b";\r\n",
        b"1;" + b"e" * 1100 + b"\r\nx\r\n",
    ),
]
TRAILERS = [b"", b"x-t: 1\r\n", b"x-t:\r\nx-u: a b\r\n"]
ODD_TRAILERS = [
    *(
        b"x-t\r\n",
        b"x-t : 1\r\n",
        b"x-t: a\nb: c\r\n",
        b" x: y\r\n",
        b"x-t: a\rb\r\n",
        b"x-t: \x00\r\n",
    ),
    *(
        b"x-t: 1\r\n folded: 1\r\n",
        b"content-length: 5\r\n",
        b"transfer-encoding: gzip\r\n",
        b":\r\n",
    ),
]
POINTS = st.lists(st.integers(0, 2000), max_size=8)
SPOILED = st.lists(
    st.tuples(st.sampled_from("ix-"), st.integers(0, 2000), st.sampled_from(DAMAGE)), max_size=2
)


def spoil(data: bytes, damages: list[tuple[str, int, bytes]]) -> bytes:
    """Put bytes in, write over some, or take one out."""
    for kind, point, piece in damages:
        at = point % (len(data) + 1)
        if kind == "i":
            data = data[:at] + piece + data[at:]
        elif kind == "x":
            data = data[:at] + piece + data[at + len(piece) :]
        else:
            data = data[:at] + data[at + 1 :]
    return data


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """Cut ``data`` at the given points, modulo its length."""
    edges = sorted({0, len(data), *(p % (len(data) + 1) for p in points)})
    return [data[a:b] for a, b in pairwise(edges)]


def one_of(usual: list[bytes], odd: list[bytes]) -> st.SearchStrategy[bytes]:
    """Draw a usual line as often as an odd one."""
    return st.sampled_from(usual) | st.sampled_from(odd)


@st.composite
def messages(draw: st.DrawFn, first: st.SearchStrategy[bytes], *, valid: bool) -> bytes:
    """Draw a message; with ``valid`` one that keeps to every rule."""
    fields = st.sampled_from(FIELDS) if valid else one_of(FIELDS, ODD_FIELDS)
    chunks = st.sampled_from(CHUNKS) if valid else one_of(CHUNKS, ODD_CHUNKS)
    trailers = st.sampled_from(TRAILERS) if valid else one_of(TRAILERS, ODD_TRAILERS)
    start = draw(first)
    lines = draw(st.lists(fields, max_size=4))
    lines.insert(0, b"Host: a.example")
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "chunked" and valid and b"HTTP/1.0" in start:
        framing = "length"
    body = b""
    if framing == "length":
        body = draw(st.binary(max_size=12))
        lines.append(b"content-length: %d" % len(body))
    elif framing == "chunked":
        body = b"".join(draw(st.lists(chunks, max_size=3))) + b"0\r\n" + draw(trailers) + b"\r\n"
        lines.append(b"transfer-encoding: chunked")
    after = draw(st.sampled_from([b"", b"", b"GET /next HTTP/1.1\r\n", b"\r\n", b"\x00"]))
    whole = b"\r\n".join((start, *lines, b"", b"")) + body + after
    return whole if valid else spoil(whole, draw(SPOILED))


VALID_REQUESTS = messages(st.sampled_from(REQUEST_LINES), valid=True)
REQUESTS = messages(one_of(REQUEST_LINES, ODD_REQUEST_LINES), valid=False)
VALID_RESPONSES = messages(st.sampled_from(STATUS_LINES), valid=True)
RESPONSES = messages(one_of(STATUS_LINES, ODD_STATUS_LINES), valid=False)

# Reading them


@dataclass
class Message:
    """What one parser understood. ``state`` is whole, part (more is needed) or refused."""

    state: str = "part"
    first: tuple[Any, ...] = ()
    fields: dict[bytes, bytes] = field(default_factory=dict)
    expects: bool = False
    keep_alive: bool = True
    body: bytes = b""
    rest: bytes = b""
    lines: bytes = b""

    @property
    def taken(self) -> tuple[Any, ...]:
        """What has to be alike however the bytes came in."""
        if self.state == "refused":
            return (self.state,)
        return (self.state, self.first, self.fields, self.expects, self.body, self.rest, self.lines)


def ours(pieces: list[bytes], *, asked: bytes | None = None, eof: bool = False) -> Message:
    """Read a message as the connections do; ``asked`` is the method that a response answers."""
    message, buffer, body = Message(), b"", None
    try:
        for part in pieces:
            piece = part
            if body is None:
                buffer += piece
                end = buffer.find(b"\r\n\r\n")
                if end < 0:
                    continue
                piece, block = buffer[end + 4 :], buffer[:end]
                body = _begin(message, block, asked)
            if body.done:
                message.rest += piece
            elif piece:
                message.body += body.feed(piece)
                message.rest = body.rest
        if body is not None and (body.done or (eof and isinstance(body, RestBody))):
            message.state = "whole"
    except MalformedError:
        message.state = "refused"
    return message


def _begin(message: Message, block: bytes, asked: bytes | None) -> Body:
    if asked is None:
        head = read_request(block)
        message.first = (head.method, target(head), head.minor)
        message.fields, message.expects = head.fields, head.expects
        message.keep_alive, message.lines = head.keep_alive, head.lines
        return _body(head.chunked, head.length or 0)
    answer = read_response(block)
    message.first = (answer.status, answer.reason)
    message.fields = {b"content-type": answer.content_type, b"content-encoding": answer.encoding}
    message.keep_alive, message.lines = answer.keep_alive, answer.lines
    if answer.status < 200:
        raise MalformedError("Interim answers are the connection's to pass over.")
    silent = answer.status in {204, 304} or asked == b"HEAD"
    return FixedBody(0) if silent else _body(answer.chunked, answer.length)


def _body(chunked: bool, length: int | None) -> Body:
    if chunked:
        return ChunkedBody()
    return RestBody() if length is None else FixedBody(length)


def target(head: RequestHead) -> bytes:
    """Put path and query together again."""
    return head.path + (b"" if head.query is None else b"?" + head.query)


def note(fields: dict[bytes, bytes], headers: Any) -> None:
    """Note headers as we do: the last of repeated ones, but lists joined."""
    for name, value in headers:
        joined = name in LISTS and name in fields
        fields[name] = fields[name] + b"," + value if joined else bytes(value)


def theirs(data: bytes, *, asked: bytes | None = None, eof: bool = False) -> Message:
    """Read a message with h11."""
    message, role = Message(), h11.SERVER if asked is None else h11.CLIENT
    connection = h11.Connection(role, max_incomplete_event_size=UNLIMITED)
    if asked is not None:
        connection.send(h11.Request(method=asked, target=b"/", headers=[(b"host", b"a")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if eof:
        connection.receive_data(b"")
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                minor = int(event.http_version[2:])
                message.first = (bytes(event.method), _origin(bytes(event.target)), minor)
                message.expects = connection.they_are_waiting_for_100_continue
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                message.first = (event.status_code, bytes(event.reason))
            elif isinstance(event, h11.Data):
                message.body += bytes(event.data)
                continue
            elif isinstance(event, h11.EndOfMessage):
                message.state = "whole"
                message.keep_alive = connection.their_state is not h11.MUST_CLOSE
                message.rest = connection.trailing_data[0]
                return message
            else:
                return message
            note(message.fields, event.headers)
    except h11.RemoteProtocolError:
        message.state = "refused"
    return message


def _origin(whole: bytes) -> bytes:
    """Take scheme and authority off an absolute target, as the gateway is the authority."""
    found = re.fullmatch(rb"(?i:https?)://[^/?]+(/[^?]*)?((?:\?.*)?)", whole)
    return whole if found is None else (found[1] or b"/") + found[2]


# Where we differ, and why that does not matter

LOOSER = {
    # RFC 9112, 7.1.1 has optional white space there; the extension is dropped
    "white space between a chunk's size and its extension": rb"\n[0-9A-Fa-f]+[ \t]+;",
    # trailers are dropped, so that nobody can take one for a header
    "framing headers in trailers": rb"\n0+[ \t]*(;[^\n]*)?\r\n"
    rb"([^\n]+\n)*(?i:content-length|transfer-encoding):",
    # one number all the same; requests may not have a second one at all
    "an answer's length twice, with zeros before it": rb"(?is)^HTTP/.*\ncontent-length:[ \t]*0*"
    rb"([0-9]+)[ \t]*\r\n(.*\n)?content-length:[ \t]*0*\1[ \t]*\r",
}
STRICTER = {
    "bare line feeds": rb"(?<!\r)\n",
    "bare carriage returns": rb"\r(?!\n)",
    "control characters": rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]",
    "folded lines": rb"\r\n[ \t]",
    "more than one content length, though alike": rb"(?is)\ncontent-length:.*\ncontent-length:",
    "a list of content lengths": rb"(?i)\ncontent-length:[^\r\n]*,",
    "content lengths of more than 18 digits": rb"(?i)\ncontent-length:[ \t]*[0-9]{19}",
    "a length beside a transfer encoding": rb"(?is)(?=.*\ncontent-length:).*\ntransfer-encoding:",
    "chunks of more than 15 digits, or with a NUL in the extension": rb"\n([0-9A-Fa-f]{16}|"
    rb"[0-9A-Fa-f]+[ \t]*;[^\n]*\x00)",
    "long chunk extensions": rb";[^\n]{1000}",
    "chunks in HTTP/1.0": rb"(?is)^([^\r\n]+ )?HTTP/1\.0[ \r].*\ntransfer-encoding:",
}
STRICTER_REQUESTS = STRICTER | {
    "versions but 1.0 and 1.1": rb"^[^\r\n]* HTTP/(?!1\.[01]\r)",
    "targets that are no path, no http URL and no asterisk": rb"^[^ ]+ "
    rb"(?!/[^# ]* |\*[? ]|(?i:https?)://[^/?# ][^# ]* )",
    "expectations but 100-continue": rb"(?i)\nexpect:(?![ \t]*100-continue[ \t]*\r)",
}
STRICTER_RESPONSES = STRICTER | {"versions but 1.0 and 1.1": rb"^HTTP/(?!1\.[01] )"}


def reasons(data: bytes, known: dict[str, bytes]) -> list[str]:
    """Say why one parser takes ``data`` and the other does not."""
    return [why for why, pattern in known.items() if re.search(pattern, data)]


def compare(mine: Message, other: Message, data: bytes, stricter: dict[str, bytes]) -> None:
    """Check one message read by both."""
    if mine.state == "part" and not mine.first:
        return  # we wait for the empty line that ends a head; the connection gives that up in time
    if mine.state != "refused" and other.state == "refused":
        assert reasons(data, LOOSER), f"only we take {data!r}"
    elif mine.state == "refused" and other.state == "whole":  # else it may refuse later
        assert reasons(data, stricter), f"only h11 takes {data!r}"
    elif mine.state == other.state == "whole":
        assert mine.first == other.first
        assert mine.body == other.body
        assert mine.rest == other.rest


def run(examples: int, check: Any, *strategies: Any) -> None:
    """Check that many examples."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    limited: Any = settings(max_examples=examples, suppress_health_check=quiet)
    drawn: Any = given(*strategies)
    limited(drawn(check))()


@EXAMPLES
def test_requests_are_read_as_h11_reads_them(examples: int) -> None:
    """No request means one thing to us and another to h11, nor to us when it comes in pieces."""

    def check(data: bytes, points: list[int]) -> None:
        mine, other = ours([data]), theirs(data)
        assert ours(cut(data, points)).taken == mine.taken
        compare(mine, other, data, STRICTER_REQUESTS)
        if mine.state == "refused" or not mine.first or not other.first:
            return
        assert mine.first == other.first
        if b"transfer-encoding" in mine.fields:  # h11 has it in lower case
            mine.fields[b"transfer-encoding"] = b"chunked"
        assert mine.fields == other.fields
        if other.state == "part" and not other.body:  # h11 forgets it when a body has come
            assert mine.expects == other.expects
        upgrades = b"upgrade" in mine.fields  # h11 waits for a decision then
        if mine.state == other.state == "whole" and mine.first[2] == 1 and not upgrades:
            assert mine.keep_alive == other.keep_alive
        sent_on(mine)

    run(examples, check, REQUESTS, POINTS)


def sent_on(mine: Message) -> None:
    """Check that the lines sent on are those of the request, but for those that must not be."""
    dropped = {b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding"}
    dropped |= {b"authorization", b"expect", b"x-request-id", b"te", b"keep-alive", b"upgrade"}
    dropped |= {t.strip().lower() for t in mine.fields.get(b"connection", b"").split(b",")}
    read = theirs(b"GET / HTTP/1.1\r\nhost: a\r\n" + mine.lines + b"\r\n").fields
    kept = {n: v for n, v in mine.fields.items() if n not in dropped}
    ours_alone = {n for n in kept if n.startswith(b"x-coalmine-")}
    assert {n: v for n, v in kept.items() if n not in ours_alone} == {
        n: v for n, v in read.items() if n != b"host"
    }


@EXAMPLES
def test_responses_are_read_as_h11_reads_them(examples: int) -> None:
    """No answer ends in one place for us and in another for h11, cut by its connection or not."""

    def check(data: bytes, points: list[int], asked: bytes, eof: bool) -> None:
        mine = ours([data], asked=asked, eof=eof)
        other = theirs(data, asked=asked, eof=eof)
        assert ours(cut(data, points), asked=asked, eof=eof).taken == mine.taken
        if other.first and other.first[0] < 200 and mine.state == "refused":
            return  # passed over by the connection, not by the parser
        if eof and other.state == "refused" and mine.state == "part":
            return  # the connection says so
        compare(mine, other, data, STRICTER_RESPONSES)
        if mine.state != "refused" and mine.first and other.first and other.state != "refused":
            assert mine.first == other.first
            assert mine.fields[b"content-type"] == other.fields.get(b"content-type", b"")
            encoding = other.fields.get(b"content-encoding", b"").lower()
            assert mine.fields[b"content-encoding"] == encoding

    run(examples, check, RESPONSES, POINTS, st.sampled_from([b"GET", b"HEAD"]), st.booleans())


@EXAMPLES
def test_what_keeps_to_the_rules_is_taken(examples: int) -> None:
    """Strictness refuses nobody who speaks HTTP/1.1 as it is written."""

    def check(request: bytes, response: bytes, points: list[int]) -> None:
        for data, asked in ((request, None), (response, b"GET")):
            mine = ours(cut(data, points), asked=asked, eof=True)
            other = theirs(data, asked=asked, eof=True)
            assert mine.state == other.state == "whole"
            assert (mine.first, mine.body, mine.rest) == (other.first, other.body, other.rest)

    run(examples, check, VALID_REQUESTS, VALID_RESPONSES, POINTS)


@EXAMPLES
def test_any_bytes_are_read_or_refused(examples: int) -> None:
    """Noise raises nothing but a refusal, and is taken by no more generous rules in pieces."""
    noise = st.binary(max_size=300) | st.lists(
        st.sampled_from([*DAMAGE, *CHUNKS, *ODD_CHUNKS, *ODD_TRAILERS, b"0", b"f", b"x"])
    ).map(b"".join)

    def check(data: bytes, points: list[int]) -> None:
        pieces = cut(data, points)
        assert ours([data]).taken == ours(pieces).taken
        assert ours([data], asked=b"GET").taken == ours(pieces, asked=b"GET").taken
        outcomes = []
        for parts in ([data], pieces, [data[i : i + 1] for i in range(len(data))]):
            body, out, rest = ChunkedBody(), b"", b""
            try:
                for part in parts:
                    if body.done:
                        rest += part
                    else:
                        out += body.feed(part)
                        out += b"" if body.done else body.feed(b"")
                        rest = body.rest
                outcomes.append((body.done, out, rest))
            except MalformedError:
                outcomes.append((False, b"refused", b""))
        assert outcomes[0] == outcomes[1] == outcomes[2]

    run(examples, check, noise, POINTS)


def test_the_head_is_of_the_kinds_named() -> None:
    """The parsers give heads of their own kinds, so that one can't be taken for the other."""
    assert isinstance(read_request(b"GET / HTTP/1.0"), RequestHead)
    assert isinstance(read_response(b"HTTP/1.1 200"), ResponseHead)
