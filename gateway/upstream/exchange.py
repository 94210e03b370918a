"""An exchange for code that awaits: the hot path takes callbacks instead."""

from __future__ import annotations

import asyncio

from gateway.errors import UpstreamError
from gateway.http1 import ResponseHead
from gateway.upstream.connection import Link

__all__ = ["Exchange"]

_HIGH_WATER = 64 * 1024
"""Bytes of an answer held for whoever reads slowly; beyond, the upstream is not read."""


class Exchange:
    """One request on its way and the answer as it comes in.

    Await :meth:`head`, then :meth:`read` until it returns ``b""``. Both raise
    :class:`~gateway.errors.UpstreamError`. :meth:`cancel` may be called at any time and closes the
    upstream connection at once unless the answer is complete.
    """

    def __init__(self) -> None:
        self.link: Link | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        """Whether the whole answer has arrived (it may not have been read yet)."""
        self._chunks: list[bytes] = []
        self._size = 0
        self._error: UpstreamError | None = None
        self._changed = asyncio.Event()

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self) -> bytes:
        """Return the bytes that have arrived, waiting for at least one; ``b""`` at the end."""
        while not self._chunks:
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        data = b"".join(self._chunks)
        self._chunks = []
        self._size = 0
        if self.link is not None:
            self.link.resume()
        return data

    def cancel(self) -> None:
        """Give the exchange up: an unfinished answer's connection is closed at once."""
        if self.link is not None:
            self.link.cancel()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # Receiver

    def answered(self, head: ResponseHead, data: bytes, last: bool) -> None:
        """Take the head."""
        self.status = head.status
        self.headers = head.headers
        self.received(data, last)

    def received(self, data: bytes, last: bool) -> None:
        """Take a piece of the body."""
        if data:
            self._chunks.append(data)
            self._size += len(data)
        self.complete = last
        if self._size > _HIGH_WATER and self.link is not None:
            self.link.pause()
        self._changed.set()

    def failed(self, error: UpstreamError) -> None:
        """End with ``error``; what has arrived can still be read."""
        self._error = error
        self._changed.set()
