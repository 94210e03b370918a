"""The clients' connections of one process: accepted, kept to their time limits, drained."""

from __future__ import annotations

import asyncio
import socket

from gateway.protocol import ClientConnection
from gateway.proxy import Proxy

__all__ = ["Listener"]

_BACKLOG = 4096


class Listener:
    """Accepts connections for ``proxy``; see :class:`gateway.protocol.Host`.

    Time limits are looked at once a second at most, so that they cost nothing per request.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.draining = False
        self._connections: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientConnection(self), sock=sock, backlog=_BACKLOG
        )
        self._look()

    async def drain(self, patience: float) -> int:
        """Stop accepting, let the requests under way end, and return how many had to be cut.

        Connections without a request are closed at once; those that have not ended after
        ``patience`` seconds are broken off.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            if connection.idle:
                connection.close()
        if self._connections:
            self._empty.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._empty.wait()
            except TimeoutError:
                pass
        cut = tuple(self._connections)
        for connection in cut:
            connection.abort()
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.sleep(0)  # so that the transports get to close
        return len(cut)

    # Host

    def opened(self, connection: ClientConnection) -> None:
        """Remember the connection."""
        self._connections.add(connection)

    def closed(self, connection: ClientConnection) -> None:
        """Forget the connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now, options = loop.time(), self.proxy.options
        limits = options.keep_alive_timeout, options.request_timeout, options.write_timeout
        for connection in tuple(self._connections):
            connection.late(now, keep_alive=limits[0], request=limits[1], write=limits[2])
        self._watch = loop.call_later(min(1.0, max(0.01, min(limits) / 8)), self._look)
