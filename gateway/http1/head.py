"""Heads of requests and answers, read as RFC 9112 has it and no more generously.

What two parsers could understand differently is refused: a length beside a transfer encoding,
either of them twice, folded lines, bare line feeds, white space before a colon, control characters.

Lines that come again and again are remembered, apart from those that hold secrets, so that reading
a head costs little more than splitting it into lines.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = [
    "MAX_FIELDS",
    "MalformedError",
    "RequestHead",
    "ResponseHead",
    "read_request",
    "read_response",
]

MAX_FIELDS = 200
"""Header lines of one message."""

_REMEMBERED = 200  # bytes; what is longer is read anew each time, so that the memory stays small
_SHORT = 1024  # bytes of a whole head; as above
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_NAME = re.compile(_TOKEN)
_CONTROL = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"  # all but the tab
_REQUEST_LINE = re.compile(
    rb"(" + _TOKEN + rb") "
    # absolute-form (we are the authority), or a path, or the asterisk
    rb"(?:(?i:https?)://[^/?#\x00-\x20\x7f-\xff]++(?=[/? ])|(?=[/*]))"
    rb"(/[\x21\x22\x24-\x3e\x40-\x7e]*+|\*)?(?:\?([\x21\x22\x24-\x7e]*+))? "
    rb"HTTP/1\.([01])"
)
_VERSION = re.compile(rb".* HTTP/[0-9]\.[0-9]", re.DOTALL)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*+))?", re.DOTALL)
_NONE: set[bytes] = set()
_LONGEST = 18  # digits of a length

# RFC 9110, 7.6.1, and the old names that are treated alike
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS = b"x-coalmine-"
_NOT_SENT = _HOP_BY_HOP | {
    b"accept-encoding",
    b"authorization",
    b"content-length",
    b"expect",
    b"host",
    b"x-request-id",
}
_NOT_ANSWERED = _HOP_BY_HOP | {b"content-length", b"x-request-id"}
_SECRET = frozenset(
    {b"api-key", b"authorization", b"cookie", b"proxy-authorization", b"set-cookie", b"x-api-key"}
)
_MANY = 2048  # names and lines remembered, in all
_MANY_HEADS = 1024
_FEW = 64  # lines remembered of one name
_LISTS = frozenset({b"accept-encoding", b"connection"})
_ONCE = frozenset({b"content-length", b"host", b"transfer-encoding"})


class MalformedError(Exception):
    """A message that is no HTTP/1.1, or not one that is taken here; ``status`` says how to refuse.

    The text says what was wrong and repeats nothing of the message.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class RequestHead:
    """A request's head. ``fields`` has names in lower case; of a repeated one the last value.

    ``lines`` are the header lines to send on, each with its line end; those that concern one
    connection only, or only us, are left out, as are ``accept-encoding`` and ``authorization``.
    ``length`` is ``None`` without a content length. ``path`` and ``query`` are as they were sent.
    """

    __slots__ = (
        "chunked",
        "expects",
        "fields",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "path",
        "query",
    )

    method: bytes
    path: bytes
    query: bytes | None
    minor: int
    fields: dict[bytes, bytes]
    lines: bytes
    length: int | None
    chunked: bool
    expects: bool
    keep_alive: bool


class ResponseHead:
    """An answer's head, which may be that of many answers: it is never changed.

    ``lines`` are the header lines to pass on, each with its line end, without those that concern
    one connection only, the length, ``x-request-id`` and everything called ``x-coalmine-…``.
    ``block`` is the head as it came. ``content_type`` and ``encoding`` (content encoding, in lower
    case) are empty where not given.
    """

    __slots__ = (
        "block",
        "chunked",
        "content_type",
        "encoding",
        "keep_alive",
        "length",
        "lines",
        "reason",
        "status",
    )

    status: int
    reason: bytes
    block: bytes
    lines: bytes
    length: int | None
    chunked: bool
    keep_alive: bool
    content_type: bytes
    encoding: bytes

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All headers as pairs, names in lower case."""
        lines = self.block.split(b"\r\n")[1:]
        return [_cut(line)[:2] for line in lines]


_Name = tuple[bytes, bool, bool]
_Field = tuple[bytes, bytes, bool, bool]
_names: dict[bytes, _Name] = {}
"""Names of headers as they were written, with what :func:`_learn` says of them."""
_fields: dict[bytes, _Field] = {}
"""Whole lines that came before. None that holds a secret, and few of each name."""
_heads: dict[bytes, ResponseHead] = {}
"""Whole heads of answers that came before. None that holds a secret."""
_values: dict[bytes, int] = {}
"""How many lines of each name are remembered."""


def _learn(written: bytes) -> _Name:
    """Return a name in lower case, and whether it is not sent on or not passed back."""
    if _NAME.fullmatch(written) is None:
        if written[:1] in (b" ", b"\t"):
            raise MalformedError("A header line is folded over two lines.")
        raise MalformedError("A header line is malformed.")
    name = written.lower()
    ours = name.startswith(_OURS)
    known = name, ours or name in _NOT_SENT, ours or name in _NOT_ANSWERED
    if len(written) <= _REMEMBERED and len(_names) < _MANY:
        _names[written] = known
    return known


def _cut(line: bytes) -> _Field:
    """Return name, value, and whether the line is not sent on or not passed back.

    A name whose values differ from request to request is soon no longer remembered.
    """
    written, colon, value = line.partition(b":")
    if not colon:
        raise MalformedError("A header line has no colon.")
    name, not_sent, not_answered = _names.get(written) or _learn(written)
    field = name, value.strip(), not_sent, not_answered
    if len(line) <= _REMEMBERED and len(_fields) < _MANY and name not in _SECRET:
        count = _values.get(name, 0)
        if count < _FEW:
            _values[name] = count + 1
            _fields[line] = field
    return field


def _split(block: bytes) -> list[bytes]:
    """Return the lines of a head that has no control characters but its line ends."""
    lines = block.split(b"\r\n")
    if len(block) - len(block.translate(None, _CONTROL)) != 2 * len(lines) - 2:
        raise MalformedError("There are control characters in the header.")
    if len(lines) > MAX_FIELDS:
        raise MalformedError(f"There are more than {MAX_FIELDS} header lines.", 431)
    return lines


@lru_cache(maxsize=1024)
def _short_request_line(line: bytes) -> tuple[bytes, bytes, bytes | None, int]:
    return _request_line(line)


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes | None, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _VERSION.fullmatch(line) and not line.endswith((b" HTTP/1.0", b" HTTP/1.1")):
            raise MalformedError("This server speaks HTTP/1.1.", 505)
        raise MalformedError("The request line is malformed.")
    return match[1], match[2] or b"/", match[3], int(match[4])


@lru_cache(maxsize=1024)
def _status_line(line: bytes) -> tuple[int, bytes, int]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise MalformedError("The status line is malformed.")
    return int(match[2]), match[3] or b"", int(match[1])


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _LONGEST:
        raise MalformedError("The content length is no number.")
    return int(value)


def read_request(block: bytes) -> RequestHead:
    """Read a request's head: ``block`` ends before its empty line.

    Raises :class:`MalformedError`.
    """
    lines = _split(block)
    first = lines[0]
    head = RequestHead()
    parse = _short_request_line if len(first) <= _REMEMBERED else _request_line
    head.method, head.path, head.query, minor = parse(first)
    head.minor = minor
    del lines[0]
    fields: dict[bytes, bytes] = {}
    kept = []
    for line in lines:
        name, value, ours, _ = _fields.get(line) or _cut(line)
        if not ours:
            kept.append(line)
        elif name in fields:
            value = _repeated(name, fields[name], value)
        fields[name] = value
    if minor and b"host" not in fields:
        raise MalformedError("The header host is missing.")
    connection = fields.get(b"connection")
    if connection is None:
        head.keep_alive = minor == 1
    else:
        head.keep_alive, named = _connection(connection, minor)
        kept = _without(kept, named)
    head.length, head.chunked = _framing(fields, minor)
    expect = fields.get(b"expect")
    head.expects = expect is not None and minor == 1
    if head.expects and expect is not None and expect.lower() != b"100-continue":
        raise MalformedError("The only expectation met here is 100-continue.", 417)
    head.fields = fields
    kept.append(b"")
    head.lines = b"\r\n".join(kept)
    return head


def _repeated(name: bytes, before: bytes, value: bytes) -> bytes:
    if name in _ONCE:
        raise MalformedError(f"The header {name.decode()} stands there twice.")
    return before + b"," + value if name in _LISTS else value


def _framing(fields: dict[bytes, bytes], minor: int) -> tuple[int | None, bool]:
    """Return the length of a request's body, if it says one, and whether it is chunked."""
    length = fields.get(b"content-length")
    encoding = fields.get(b"transfer-encoding")
    if encoding is None:
        return None if length is None else _length(length), False
    if length is not None or not minor:
        raise MalformedError("The length of the body is said in two ways.")
    if encoding.lower() != b"chunked":
        raise MalformedError("The only transfer encoding taken here is chunked.", 501)
    return None, True


def _connection(value: bytes, minor: int) -> tuple[bool, set[bytes]]:
    """Return whether the connection is kept, and the headers that concern it alone."""
    tokens = {token.strip(b" \t").lower() for token in value.split(b",")}
    keep = b"close" not in tokens and (minor == 1 or b"keep-alive" in tokens)
    return keep, tokens - {b"close", b"keep-alive", b""}


def _without(lines: list[bytes], names: set[bytes]) -> list[bytes]:
    if not names:
        return lines
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def read_response(block: bytes) -> ResponseHead:
    """Read an answer's head: ``block`` ends before its empty line.

    The same head may be returned again for the same bytes. Raises :class:`MalformedError`.
    """
    head = _heads.get(block)
    if head is not None:
        return head
    head = _response(block)
    if len(block) <= _SHORT and b"cookie" not in block.lower():
        if len(_heads) >= _MANY_HEADS:  # their dates differ: the oldest do not come again
            _heads.clear()
        _heads[block] = head
    return head


def _begun(line: bytes) -> tuple[ResponseHead, int]:
    head = ResponseHead()
    head.status, head.reason, minor = _status_line(line)
    head.length = None
    head.chunked = False
    head.keep_alive = minor == 1
    head.content_type = head.encoding = b""
    return head, minor


def _response(block: bytes) -> ResponseHead:
    lines = _split(block)
    head, minor = _begun(lines[0])
    head.block = block
    del lines[0]
    kept = []
    named: set[bytes] = set()
    for line in lines:
        name, value, _, ours = _fields.get(line) or _cut(line)
        if ours:
            named |= _concerns_us(head, name, value, minor)
            continue
        kept.append(line)
        if name == b"content-type":
            head.content_type = value
        elif name == b"content-encoding":
            head.encoding = value.lower()
    if head.chunked and (head.length is not None or not minor):
        raise MalformedError("The length of the answer is said in two ways.")
    kept = _without(kept, named)
    kept.append(b"")
    head.lines = b"\r\n".join(kept)
    return head


def _concerns_us(head: ResponseHead, name: bytes, value: bytes, minor: int) -> set[bytes]:
    """Note a header that is not passed on, and return the ones that it says are not to be."""
    if name == b"content-length":
        length = _length(value)
        if head.length is not None and head.length != length:
            raise MalformedError("There are two content lengths.")
        head.length = length
    elif name == b"transfer-encoding":
        if value.lower() != b"chunked" or head.chunked:
            raise MalformedError("The only transfer encoding understood is chunked.")
        head.chunked = True
    elif name == b"connection":
        head.keep_alive, named = _connection(value, minor)
        return named
    return _NONE
