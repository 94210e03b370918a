"""Answers of the gateway's own: errors in OpenAI's shape, lists, states of health."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

import msgspec

from gateway.errors import RequestError

__all__ = ["CONTINUE", "error_answer", "error_body", "status_line", "whole"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@lru_cache(maxsize=1024)
def status_line(status: int, reason: bytes = b"") -> bytes:
    """Return the status line, with the usual phrase where ``reason`` is empty."""
    if not reason:
        try:
            reason = HTTPStatus(status).phrase.encode()
        except ValueError:
            reason = b""
    return b"HTTP/1.1 %d %b\r\n" % (status, reason)


def error_body(message: str, *, type: str, code: str | None, param: str | None = None) -> bytes:  # noqa: A002 - OpenAI's name for it
    """Return an error in OpenAI's shape."""
    error = {"message": message, "type": type, "param": param, "code": code}
    return msgspec.json.encode({"error": error})


def whole(status: int, body: bytes, lines: bytes = b"", *, head_only: bool = False) -> bytes:
    """Return a whole answer with a JSON body; ``lines`` are more header lines."""
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status_line(status),
        len(body),
        lines,
        b"" if head_only else body,
    )


def error_answer(error: RequestError, lines: bytes = b"", *, head_only: bool = False) -> bytes:
    """Return the whole answer that tells of ``error``."""
    body = error_body(error.message, type=error.type, code=error.code, param=error.param)
    return whole(error.status, body, lines, head_only=head_only)
