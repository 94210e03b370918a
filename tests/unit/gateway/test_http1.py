"""Heads and bodies of HTTP/1.1: one test for each rule."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.http1 import (
    MAX_FIELDS,
    ChunkedBody,
    FixedBody,
    MalformedError,
    RestBody,
    head,
    read_request,
    read_response,
)

HOST = b"\r\nhost: a"


def request(*lines: bytes, first: bytes = b"POST /v1/x HTTP/1.1", host: bool = True) -> Any:
    """Read a request with these header lines."""
    return read_request(b"\r\n".join((first, *([b"host: a"] if host else []), *lines)))


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> Any:
    """Read an answer with these header lines."""
    return read_response(b"\r\n".join((first, *lines)))


def refusal(*lines: bytes, **arguments: Any) -> int:
    """Return the status that a request is refused with."""
    with pytest.raises(MalformedError) as caught:
        request(*lines, **arguments)
    return caught.value.status


# Request lines


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v1/x", b"/v1/x", None),
        (b"/v1/x?", b"/v1/x", b""),
        (b"/v1/x?a=1&b=?/", b"/v1/x", b"a=1&b=?/"),
        (b"/%2e%2E//.;a=b", b"/%2e%2E//.;a=b", None),
        (b"*", b"*", None),
        (b"http://other.example:81/v1/x?q", b"/v1/x", b"q"),
        (b"HTTPS://other.example", b"/", None),
        (b"http://other.example?q", b"/", b"q"),
        (b"/http://x", b"/http://x", None),
    ],
)
def test_targets(target: bytes, path: bytes, query: bytes | None) -> None:
    """Path and query are kept apart as they were sent; an absolute target's authority is ours."""
    read = request(first=b"GET %b HTTP/1.1" % target)
    assert (read.path, read.query) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        *(b"", b"v1/x", b"?a=1", b"?a=http://b", b"/a#b", b"/a?b#c", b"/a b", b"/a\tb", b"/a\x00"),
        *(b"/a\x7f", b"/\xc3\xa9", b"/a?\xe9", b"a.example:443", b"ftp://a/", b"http:///x", b"*x"),
        *(b"http://a b/", b"http://a#b", b"http://a\xe9/"),
    ],
)
def test_other_targets_are_refused(target: bytes) -> None:
    """What is no path, no http URL and no asterisk, or not ASCII, is no target."""
    assert refusal(first=b"GET %b HTTP/1.1" % target) == 400


@pytest.mark.parametrize(
    "first",
    [
        *(b"", b"GET", b"GET /", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET  / HTTP/1.1"),
        *(
            b"GET\t/ HTTP/1.1",
            b"G:T / HTTP/1.1",
            b"GET / http/1.1",
            b"GET / HTTP/1.10",
            b"\xff" * 9,
        ),
        *(b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\n", b"GET / x HTTP/1.1", b"\x00GET / HTTP/1.1"),
    ],
)
def test_malformed_request_lines(first: bytes) -> None:
    """One space between three words, and nothing else."""
    assert refusal(first=first) == 400


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
def test_other_versions(version: bytes) -> None:
    """Another version of HTTP is told apart from nonsense."""
    assert refusal(first=b"GET / HTTP/%b" % version) == 505


def test_method_and_version() -> None:
    """The method is kept as it was written; the minor version tells old clients."""
    assert (request().method, request().minor) == (b"POST", 1)
    old = request(first=b"M-x! / HTTP/1.0", host=False)
    assert (old.method, old.minor) == (b"M-x!", 0)


# Header lines


def test_fields_and_lines() -> None:
    """Names in lower case, the last of repeated values; the lines to send on stay as they were."""
    read = request(b"X-A:  one ", b"x-a:\ttwo", b"x-b:", b"Content-Type:a/b;c=\xe9")
    assert read.fields == {
        b"host": b"a",
        b"x-a": b"two",
        b"x-b": b"",
        b"content-type": b"a/b;c=\xe9",
    }
    assert read.lines == b"X-A:  one \r\nx-a:\ttwo\r\nx-b:\r\nContent-Type:a/b;c=\xe9\r\n"
    assert request().lines == b""


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"x", b": x", b"x : y", b"x\t: y", b" x: y", b"\tx: y", b"x y: z", b"x\x00: y"),
        *(b"x-\xe9: y", b"x: a\rb", b"x: a\nb", b"x: a\x00", b"x: \x0b", b"x: \x7f", b"x: y\r"),
        *(b'x": y', b"x(y): z", b"x,y: z"),
    ],
)
def test_malformed_lines(line: bytes) -> None:
    """Folded lines, bare line ends, NUL, and space before the colon are refused both ways."""
    assert refusal(line) == 400
    assert refusal(b"x-a: b", line, b"x-c: d") == 400
    with pytest.raises(MalformedError):
        response(line)


def test_refusals_repeat_nothing() -> None:
    """The text of a refusal may be logged: it holds nothing of the message."""
    for block in (b"GET /sesame", b"GET / HTTP/1.1\r\nauthorization : sesame", b"sesame"):
        with pytest.raises(MalformedError) as caught:
            read_request(block)
        assert "sesame" not in str(caught.value)


def test_number_of_lines() -> None:
    """A head of up to MAX_FIELDS lines is read, a longer one is too large."""
    most = [b"x-a: b"] * (MAX_FIELDS - 2)
    assert request(*most).lines.count(b"\r\n") == MAX_FIELDS - 2
    assert refusal(*most, b"x-a: b") == 431
    assert response(*most, b"x-a: b").lines.count(b"\r\n") == MAX_FIELDS - 1
    with pytest.raises(MalformedError, match="more than"):
        response(*most, b"x-a: b", b"x-a: b")


def test_host() -> None:
    """HTTP/1.1 has one host header; HTTP/1.0 may do without."""
    assert refusal(host=False) == 400
    assert refusal(b"Host: b") == 400
    assert refusal(b"host: a") == 400
    assert request(first=b"GET / HTTP/1.0", host=False).fields == {}


def test_long_lines_and_secrets_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of lines that came before is bounded, and holds no secret."""
    for name in ("_fields", "_names", "_values", "_heads"):
        monkeypatch.setattr(head, name, {})
    long = b"x-long: " + b"a" * 300
    lines = [b"authorization: Bearer s1", b"Cookie: s2", b"x-api-key: s3", b"API-key: s4", long]
    request(*lines, b"x-remembered: 1")
    response(b"Set-Cookie: s5", b"x-also-remembered: 1")
    response(long * 4)
    assert head._heads == {}
    assert set(head._fields) == {b"host: a", b"x-remembered: 1", b"x-also-remembered: 1"}
    for number in range(5000):
        request(b"x-number: %d" % number, b"x-%d: 1" % number, b"x" * 300 + b": 1")
        response(b"x-number: %d" % number)
    assert len(head._fields) <= 2048
    assert len(head._names) <= 2048
    assert 0 < len(head._heads) <= 1024
    assert sum(name.startswith(b"x-number") for name in head._fields) <= 64


# Framing


def test_length() -> None:
    """A length is digits and nothing else."""
    assert request().length is None
    assert request(b"Content-Length: 12 ").length == 12
    assert request(b"content-length: 0").length == 0
    assert request(b"content-length: 007").length == 7
    for value in (b"", b"+1", b"-1", b"1.0", b"0x1", b"1_0", b"1 0", b"1,1", b"1" * 19, b"\xb2"):
        assert refusal(b"content-length: " + value) == 400


def test_chunked() -> None:
    """A request is chunked or not; other encodings are not understood."""
    read = request(b"Transfer-Encoding: ChunKed")
    assert (read.chunked, read.length) == (True, None)
    assert not request().chunked
    for value in (b"gzip", b"identity", b"gzip, chunked", b"chunked, chunked", b"", b"chunked;a"):
        assert refusal(b"transfer-encoding: " + value) == 501


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ([b"content-length: 1", b"transfer-encoding: chunked"], b"POST / HTTP/1.1"),
        ([b"transfer-encoding: chunked", b"content-length: 1"], b"POST / HTTP/1.1"),
        ([b"content-length: 1", b"content-length: 2"], b"POST / HTTP/1.1"),
        ([b"content-length: 1", b"Content-Length: 1"], b"POST / HTTP/1.1"),
        ([b"transfer-encoding: chunked", b"transfer-encoding: chunked"], b"POST / HTTP/1.1"),
        ([b"transfer-encoding: chunked"], b"POST / HTTP/1.0"),
        ([b"content-length: 1", b"x-a: 1\nb: c"], b"POST / HTTP/1.1"),
    ],
)
def test_a_length_said_in_two_ways(lines: list[bytes], first: bytes) -> None:
    """Nothing is taken whose end two servers could see in different places."""
    assert refusal(*lines, first=first) == 400


def test_expect() -> None:
    """100-continue is met, nothing else; HTTP/1.0 can't expect anything."""
    assert request(b"Expect: 100-Continue").expects
    assert not request().expects
    assert refusal(b"expect: 200-ok") == 417
    assert refusal(b"expect:") == 417
    assert not request(b"expect: 100-continue", first=b"GET / HTTP/1.0").expects


@pytest.mark.parametrize(
    ("value", "new", "old"),
    [
        (None, True, False),
        (b"close", False, False),
        (b"Keep-Alive", True, True),
        (b"x-a, CLOSE", False, False),
        (b"keep-alive, close", False, False),
        (b"", True, False),
    ],
)
def test_keep_alive(value: bytes | None, new: bool, old: bool) -> None:
    """A new client's connection is kept unless it says close, an old one's if it says so."""
    lines = [] if value is None else [b"connection: " + value]
    assert request(*lines).keep_alive is new
    assert request(*lines, first=b"GET / HTTP/1.0").keep_alive is old
    assert response(*lines).keep_alive is new
    assert response(*lines, first=b"HTTP/1.0 200 OK").keep_alive is old


# What is not passed on

HOP_BY_HOP = [
    *(
        b"Connection: x-named , X-Too",
        b"X-Named: 1",
        b"x-too: 1",
        b"Keep-Alive: 5",
        b"TE: trailers",
    ),
    *(b"Trailer: x", b"Upgrade: h2c", b"Proxy-Authorization: s", b"Proxy-Authenticate: s"),
    *(b"Proxy-Connection: close", b"transfer-encoding: chunked", b"X-Coalmine-Anything: 1"),
]


def test_hop_by_hop() -> None:
    """What concerns one connection, or us, is dropped both ways, also where Connection names it."""
    assert request(b"x-a: 1", *HOP_BY_HOP, b"x-b: 2").lines == b"x-a: 1\r\nx-b: 2\r\n"
    assert response(b"x-a: 1", *HOP_BY_HOP, b"x-b: 2").lines == b"x-a: 1\r\nx-b: 2\r\n"


def test_several_connection_lines() -> None:
    """The tokens of all of them count."""
    read = request(b"connection: x-a", b"x-a: 1", b"x-b: 2", b"Connection: X-B, close")
    assert (read.lines, read.keep_alive) == (b"", False)


def test_what_is_ours_to_write() -> None:
    """Host, length, key, encoding and request id are written anew; encodings are one list."""
    read = request(
        *(b"Accept-Encoding: gzip", b"accept-encoding: br;q=0", b"authorization: Bearer k"),
        *(b"content-length: 0", b"x-request-id: 7", b"expect: 100-continue", b"accept: */*"),
    )
    assert read.lines == b"accept: */*\r\n"
    assert read.fields[b"accept-encoding"] == b"gzip,br;q=0"


# Answers


@pytest.mark.parametrize(
    ("first", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.1 299", 299, b""),
        (b"HTTP/1.0 404 ", 404, b""),
        (b"HTTP/1.1 999 a  \xe9\t", 999, b"a  \xe9\t"),
    ],
)
def test_status_lines(first: bytes, status: int, reason: bytes) -> None:
    """Any status and any phrase, also none."""
    read = response(first=first)
    assert (read.status, read.reason) == (status, reason)


@pytest.mark.parametrize(
    "first",
    [
        *(b"", b"HTTP/1.1", b"HTTP/1.1 20", b"HTTP/1.1 2000", b"HTTP/1.1 099", b"HTTP/1.1  200"),
        *(
            b"HTTP/2 200 OK",
            b"HTTP/1.2 200 OK",
            b"http/1.1 200",
            b"HTTP/1.1 200\tOK",
            b"ICY 200 OK",
        ),
        *(b"HTTP/1.1 200 a\x00", b"HTTP/1.1 200 a\rb", b"HTTP/1.1 2\xb20 OK", b" HTTP/1.1 200"),
    ],
)
def test_malformed_status_lines(first: bytes) -> None:
    """Anything else is no answer."""
    with pytest.raises(MalformedError):
        response(first=first)


def test_response_framing() -> None:
    """One length, or chunks; the same length twice is one, as deployments send that."""
    assert response().length is None
    assert response(b"content-length: 5", b"Content-Length: 5").length == 5
    assert response(b"transfer-encoding: Chunked").chunked
    for lines in (
        [b"content-length: 5", b"content-length: 6"],
        [b"content-length: 5", b"transfer-encoding: chunked"],
        [b"transfer-encoding: chunked", b"content-length: 5"],
        [b"transfer-encoding: chunked", b"transfer-encoding: chunked"],
        [b"transfer-encoding: gzip"],
        [b"content-length: x"],
    ):
        with pytest.raises(MalformedError):
            response(*lines)
    with pytest.raises(MalformedError):
        response(b"transfer-encoding: chunked", first=b"HTTP/1.0 200 OK")


def test_what_is_known_of_an_answer() -> None:
    """Type and encoding are read; the length is not among the lines, but among the headers."""
    read = response(
        b"Content-Type: A/b", b"Content-Encoding: GZip", b"content-length: 3", b"x-a: 1"
    )
    assert (read.content_type, read.encoding) == (b"A/b", b"gzip")
    assert read.lines == b"Content-Type: A/b\r\nContent-Encoding: GZip\r\nx-a: 1\r\n"
    assert read.headers == [
        (b"content-type", b"A/b"),
        (b"content-encoding", b"GZip"),
        (b"content-length", b"3"),
        (b"x-a", b"1"),
    ]
    assert (response().content_type, response().encoding) == (b"", b"")


# Bodies


def test_fixed_body() -> None:
    """A body of known length ends there; what follows is kept."""
    body = FixedBody(5)
    assert (body.feed(b"he"), body.done) == (b"he", False)
    assert (body.feed(b"lloGET"), body.done, body.rest) == (b"llo", True, b"GET")
    exact = FixedBody(2)
    assert (exact.feed(b"ab"), exact.done, exact.rest) == (b"ab", True, b"")
    assert FixedBody(0).done


def test_rest_body() -> None:
    """A body without a length never ends by itself."""
    body = RestBody()
    assert (body.feed(b"a"), body.feed(b"b"), body.done) == (b"a", b"b", False)


def pieces(data: bytes, size: int) -> tuple[bytes, ChunkedBody]:
    """Read a chunked body in pieces."""
    body, out = ChunkedBody(), b""
    for start in range(0, len(data), size):
        out += body.feed(data[start : start + size])
    return out, body


CHUNKED = b'5\r\nhello\r\n00A;a="b c"\r\n00\r\n\r\n\r\n\r\n\r\n1 \t\r\n!\r\n0;x\r\nx-t: 1\r\n\r\n'


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_chunks(size: int) -> None:
    """Chunks are joined, extensions and trailers dropped, wherever the pieces are cut."""
    out, body = pieces(CHUNKED, size)
    assert (out, body.done, body.rest) == (b"hello00\r\n\r\n\r\n\r\n!", True, b"")


def test_what_follows_chunks() -> None:
    """The next request is kept."""
    body = ChunkedBody()
    assert body.feed(b"0\r\n\r\nGET /") == b""
    assert (body.done, body.rest) == (True, b"GET /")


def test_nothing_fed_changes_nothing() -> None:
    """No bytes are no news, at any place."""
    body, out = ChunkedBody(), b""
    for number in range(len(CHUNKED)):
        out += body.feed(CHUNKED[number : number + 1])
        if not body.done:
            assert body.feed(b"") == b""
    assert body.done


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "data",
    [
        *(b"\r\n", b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b"1_0\r\n", b"\xb2\r\n"),
        *(b"1\nx\r\n", b"1\n\r\n", b"1;a\nb\r\n", b"1;a\x00\r\n", b"1;a\rb\r\n", b"1\rx\r\n"),
        *(
            b"1\x0b\r\n",
            b"1,2\r\n",
            b"1" * 16 + b"\r\n",
            b"1;" + b"e" * 1023 + b"\r\n",
            b"1" * 1026,
        ),
        *(b"1\r\nxy", b"1\r\nx\n", b"1\r\nx\r\r", b"2\r\nx\r\n0\r\n\r\n", b"1\r\nx0\r\n"),
    ],
)
def test_malformed_chunks(data: bytes, size: int) -> None:
    """A size that two servers could read differently, or a chunk of another size, is refused."""
    with pytest.raises(MalformedError):
        pieces(data, size)


@pytest.mark.parametrize("size", [1, 1000])
def test_longest_size_line(size: int) -> None:
    """A size line of 1,024 bytes is read however it comes."""
    line = b"1;" + b"e" * 1022
    assert pieces(line + b"\r\nx\r\n0\r\n\r\n", size)[0] == b"x"


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "trailers",
    [
        *(b"x\r\n", b": x\r\n", b"x : y\r\n", b" x: y\r\n", b"x: a\rb\r\n", b"x: a\nb: c\r\n"),
        *(b"x: a\r\n folded: b\r\n", b"x: \x00\r\n", b"x: y\n\n"),
    ],
)
def test_malformed_trailers(trailers: bytes, size: int) -> None:
    """Trailers are dropped, but have to be header lines."""
    with pytest.raises(MalformedError):
        pieces(b"0\r\n" + trailers + b"\r\n", size)


@pytest.mark.parametrize("line", [b"x: " + b"y" * 93 + b"\r\n", b"x: " + b"y" * 20_000])
def test_trailers_are_bounded(line: bytes) -> None:
    """16 KiB of trailers are read, no more, whether or not a line ends."""
    body = ChunkedBody()
    body.feed(b"0\r\n")
    with pytest.raises(MalformedError):
        for _ in range(200):
            body.feed(line)
    assert pieces(b"0\r\n" + (b"x: " + b"y" * 93 + b"\r\n") * 160 + b"\r\n", 4096)[1].done
