"""Bodies: the bytes of a message after its head, taken out of their framing as they come in."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

from gateway.http1.head import MalformedError

__all__ = ["Body", "ChunkedBody", "FixedBody", "RestBody"]

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;[^\x00-\x08\x0a-\x1f\x7f]*+)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f]*+")
_MAX_LINE = 1024
_MAX_TRAILERS = 16 * 1024


class Body(Protocol):
    """A body on its way in.

    ``done`` tells whether it is complete; ``rest`` then holds what followed it.
    """

    done: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they came and return those of the body. Raises :class:`MalformedError`."""


class FixedBody:
    """A body of ``length`` bytes."""

    __slots__ = ("_left", "done", "rest")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they came and return those of the body."""
        left = self._left
        size = len(data)
        if size < left:
            self._left = left - size
            return data
        self.done = True
        self._left = 0
        if size > left:
            self.rest = data[left:]
            return data[:left]
        return data


class RestBody:
    """A body that ends with its connection."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return ``data``."""
        return data


@lru_cache(maxsize=4096)
def _size(line: bytes) -> int:
    match = _SIZE_LINE.fullmatch(line)
    if match is None:
        raise MalformedError("The size of a chunk is malformed.")
    return int(match[1], 16)


class ChunkedBody:
    """A chunked body. Chunk extensions and trailers are read and dropped."""

    __slots__ = ("_left", "_pending", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self._left = 0
        """Bytes missing of the chunk under way, its line end included."""
        self._pending = b""
        """The beginning of a size line or trailer that is not complete."""
        self._trailers = -1
        """Bytes of trailers so far; -1 before the last chunk."""
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they came and return those of the body. Raises :class:`MalformedError`."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        parts: list[bytes] = []
        position = 0
        if self._left:
            position = self._go_on(data, parts)
        end = len(data)
        while position < end:
            if self._trailers >= 0:
                self._trail(data, position)
                break
            stop = data.find(b"\r\n", position)
            if stop < 0 or stop - position > _MAX_LINE:
                self._wait(data[position:])
                break
            size = _size(data[position:stop])
            start = stop + 2
            if size == 0:
                self._trailers = 0
                position = start
                continue
            position = start + size + 2
            if position <= end:
                if data[position - 2 : position] != b"\r\n":
                    raise MalformedError("A chunk is longer than it says.")
                parts.append(data[start : position - 2])
            else:
                self._left = position - start
                self._go_on(data[start:], parts)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _go_on(self, data: bytes, parts: list[bytes]) -> int:
        """Take what is there of the chunk under way and return where it ends in ``data``."""
        left = self._left
        size = len(data)
        if size >= left:
            if data[max(0, left - 2) : left] != b"\r\n"[max(0, 2 - left) :]:
                raise MalformedError("A chunk is longer than it says.")
            self._left = 0
            if left > 2:
                parts.append(data[: left - 2])
            return left
        if size and size > left - 2:  # only half of the line end is there
            if data[-1:] != b"\r":
                raise MalformedError("A chunk is longer than it says.")
            if left > 2:
                parts.append(data[: left - 2])
        elif size:
            parts.append(data)
        self._left = left - size
        return size

    def _wait(self, line: bytes) -> None:
        if len(line) > _MAX_LINE + 1 or b"\n" in line:  # the one: half of the line end
            raise MalformedError("The size of a chunk is malformed.")
        self._pending = line

    def _trail(self, data: bytes, position: int) -> None:
        while True:
            stop = data.find(b"\r\n", position)
            if stop < 0:
                self._pending = data[position:]
                if self._trailers + len(self._pending) > _MAX_TRAILERS or b"\n" in self._pending:
                    raise MalformedError("The trailers are malformed.")
                return
            if stop == position:
                self.done = True
                self.rest = data[stop + 2 :]
                return
            line = data[position:stop]
            self._trailers += len(line) + 2
            if self._trailers > _MAX_TRAILERS or _TRAILER.fullmatch(line) is None:
                raise MalformedError("The trailers are malformed.")
            position = stop + 2
