"""Waiting for the store to change: what wakes the controller between two slow looks."""

from __future__ import annotations

import sqlite3
import threading
import time
from types import TracebackType
from typing import Any, Self

import psycopg

from gateway.errors import StoreUnavailable
from gateway.store.engine import Store
from gateway.store.evidence import EVIDENCE_CHANNEL
from rollout.ledger import ROLLOUT_CHANNEL

__all__ = ["Waker"]

_POLL_S = 0.025
_LISTEN_S = 0.2


class Waker:
    """Waits for changes of one store, over a connection of its own.

    On SQLite it looks at ``PRAGMA data_version`` 40 times a second, which reads no table; on
    PostgreSQL it listens for evidence and for operations. A context manager; entering it and
    waiting raise :class:`StoreUnavailable` when the store can't be reached.
    """

    def __init__(self, store: Store, stop: threading.Event) -> None:
        self._store = store
        self._stop = stop
        self._sqlite: sqlite3.Connection | None = None
        self._postgres: psycopg.Connection[Any] | None = None
        self._version = -1

    def __enter__(self) -> Self:
        try:
            if self._store.is_sqlite:
                self._sqlite = sqlite3.connect(str(self._store.path), isolation_level=None)
            else:
                url = self._store.engine.url.set(drivername="postgresql")
                self._postgres = psycopg.connect(
                    url.render_as_string(hide_password=False), autocommit=True, connect_timeout=5
                )
                self._postgres.execute(f"LISTEN {EVIDENCE_CHANNEL}")
                self._postgres.execute(f"LISTEN {ROLLOUT_CHANNEL}")
        except (sqlite3.Error, psycopg.Error) as error:
            raise StoreUnavailable("the store can't be listened to") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in (self._sqlite, self._postgres):
            if connection is not None:
                connection.close()

    def wait(self, timeout: float) -> None:
        """Return when the store has changed, after ``timeout`` seconds, or when told to stop."""
        deadline = time.monotonic() + timeout
        try:
            while not self._stop.is_set() and time.monotonic() < deadline:
                if self._changed(deadline - time.monotonic()):
                    return
        except (sqlite3.Error, psycopg.Error) as error:
            raise StoreUnavailable("the store can't be listened to") from error

    def _changed(self, remaining: float) -> bool:
        if self._sqlite is not None:
            version = int(self._sqlite.execute("PRAGMA data_version").fetchone()[0])
            if version != self._version:
                self._version = version
                return True
            self._stop.wait(min(_POLL_S, max(0.0, remaining)))
            return False
        if self._postgres is None:
            raise StoreUnavailable("the waker is not open")
        told = self._postgres.notifies(timeout=min(_LISTEN_S, max(0.0, remaining)), stop_after=1)
        return any(True for _ in told)
