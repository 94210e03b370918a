"""Heads of requests and answers: what is forwarded, what is dropped, what is added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["HeaderView", "RawHeaders", "connection_tokens", "request_lines", "response_headers"]

RawHeaders = list[tuple[bytes, bytes]]

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
_NOT_FORWARDED = _HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id"}
_OWN = b"x-coalmine-"


class HeaderView(Mapping[str, str]):
    """Request headers as text, decoded when asked for. Names are in lower case."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[bytes, bytes]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        return self._raw[name.encode("latin-1")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def connection_tokens(headers: RawHeaders) -> frozenset[bytes]:
    """Return the header names that a ``Connection`` header declares as hop-by-hop."""
    names = [
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    ]
    return frozenset(name for name in names if name not in (b"", b"close", b"keep-alive"))


def request_lines(headers: RawHeaders, *, dropped: Iterable[bytes] = ()) -> bytes:
    """Return the client's headers as lines to send on, without those that concern only us.

    ``dropped`` names more headers to leave out, in lower case.
    """
    without = _NOT_FORWARDED.union(dropped, connection_tokens(headers))
    return b"".join(
        [
            b"%b: %b\r\n" % pair
            for pair in headers
            if pair[0] not in without and not pair[0].startswith(_OWN)
        ]
    )


def response_headers(headers: RawHeaders, added: RawHeaders, *, resized: bool) -> RawHeaders:
    """Return an answer's headers for the client: the upstream's, and ``added``.

    ``resized`` drops the length of a body that is changed on its way.
    """
    without = _HOP_BY_HOP | connection_tokens(headers) if _has_connection(headers) else _HOP_BY_HOP
    return [
        pair
        for pair in headers
        if pair[0] not in without
        and not pair[0].startswith(_OWN)
        and pair[0] != b"x-request-id"
        and not (resized and pair[0] == b"content-length")
    ] + added


def _has_connection(headers: RawHeaders) -> bool:
    return any(name == b"connection" for name, _ in headers)
