"""Following the splits: what the store says now, or what it said last.

A thread waits for changes (``LISTEN`` on PostgreSQL, ``PRAGMA data_version`` on SQLite, a slow poll
behind both) and hands them to the gateway. Each change is also kept in a snapshot file, from which
a gateway starts while the store is down. Nothing here stops a gateway from serving.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from prometheus_client import Gauge
from sqlalchemy import func
from sqlmodel import col, select

from gateway.errors import CoalmineError
from gateway.split import Split
from gateway.store.engine import Store
from gateway.store.reloads import RELOAD_CHANNEL, last_reload
from gateway.store.splits import SPLIT_CHANNEL, load_splits
from gateway.store.tables import LeaseRow, ReloadRow, ReplicaRow

__all__ = ["Follower", "load_snapshot", "save_snapshot"]

_log = logging.getLogger("coalmine.gateway")
_FAST = 0.02
_SLOW = 2.0
_LISTEN = 0.25

_MARKS = (
    "SELECT (SELECT count(*) FROM split), (SELECT total(revision) FROM split),"
    " (SELECT max(number) FROM reload)"
)
"""What is different once a split or a reload is, at a tenth of the cost of reading them."""

Splits = Mapping[str, Split]


def save_snapshot(path: Path, splits: Splits) -> None:
    """Replace the snapshot by ``splits``, in one step that no crash can leave half done."""
    document = {"splits": [split.to_document() for split in splits.values()]}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_snapshot(path: Path) -> dict[str, Split]:
    """Return the snapshot's splits; none where there is no snapshot or it can't be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        splits = [Split.from_document(item) for item in document["splits"]]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("the snapshot %s can't be read: %s", path, error)
        return {}
    return {split.route: split for split in splits}


class Follower:
    """Keeps the gateway's splits up to date until :meth:`stop`.

    ``apply`` is called from this thread with all splits whenever one changed, ``asked`` with the
    last reload of the settings that somebody asked for, whenever there is another one. With
    ``controller_ttl`` (seconds) set, weights count as 0 while the controller has given no sign of
    life for that long, or the store can't say.
    """

    def __init__(
        self,
        store: Store,
        *,
        snapshot: Path,
        apply: Callable[[Splits], None],
        asked: Callable[[ReloadRow], None],
        store_up: Gauge,
        controller_ttl: float | None = None,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._apply = apply
        self._asked = asked
        self._store_up = store_up
        self._ttl = controller_ttl
        self._stop = threading.Event()
        self._tried = threading.Event()
        self._loaded = False
        self._thread = threading.Thread(target=self._run, name="coalmine-follower", daemon=True)
        self._splits: dict[str, Split] = {}
        self._shown: dict[str, Split] | None = None
        self._reload: int | None = None
        self._sign = time.time()
        self._migrated = False
        self._failing = False

    def start(self, timeout: float) -> bool:
        """Start following, and wait for the store's first answer up to ``timeout`` seconds.

        Where it does not come, the snapshot's splits are applied instead and ``False`` returned.
        """
        self._splits = load_snapshot(self._snapshot)
        self._thread.start()
        self._tried.wait(timeout)
        if self._loaded:
            return True
        _log.warning(
            "the store does not answer; serving %d splits of the snapshot", len(self._splits)
        )
        self._show()
        return False

    def expect_sign(self, controller_ttl: float | None) -> None:
        """Take another ``controller_ttl``; the controller's silence counts from now on."""
        if controller_ttl != self._ttl:
            self._sign = max(self._sign, time.time())
            self._ttl = controller_ttl

    def stop(self, timeout: float = 5.0) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        wait = 0.1
        while not self._stop.is_set():
            try:
                self._prepare()
                self._load()
                wait = 0.1
                if self._store.is_sqlite:
                    self._follow_sqlite()
                else:
                    self._follow_postgres()
            except (CoalmineError, sqlite3.Error, psycopg.Error, OSError) as error:
                self._store_up.set(0)
                level = logging.DEBUG if self._failing else logging.WARNING
                _log.log(level, "the store can't be followed, the last splits stay: %s", error)
                self._failing = True
                self._tried.set()
            self._show()
            self._stop.wait(wait)
            wait = min(wait * 2, _SLOW)

    def _prepare(self) -> None:
        if self._migrated:
            return
        try:
            if not self._store.is_current():
                self._store.migrate()
        except CoalmineError:
            raise
        except Exception as error:  # noqa: BLE001 - newer tables than ours are served, not refused
            _log.warning("the store's tables are of another version: %s", error)
        self._migrated = True

    def _follow_sqlite(self) -> None:
        connection = sqlite3.connect(str(self._store.path), timeout=1.0, isolation_level=None)
        try:
            version = polled = 0.0
            marks = None
            while not self._stop.wait(_FAST):
                now = time.monotonic()
                seen = connection.execute("PRAGMA data_version").fetchone()[0]
                late = now - polled >= _SLOW
                if seen == version and not late:
                    continue
                # most changes are this gateway's own captures, ten times a second
                before, marks = marks, connection.execute(_MARKS).fetchone()
                version = seen
                if late or marks != before or self._ttl is not None:
                    polled = now
                    self._load()
        finally:
            connection.close()

    def _follow_postgres(self) -> None:
        url = self._store.engine.url.set(drivername="postgresql")
        with psycopg.connect(
            url.render_as_string(hide_password=False), autocommit=True, connect_timeout=5
        ) as connection:
            connection.execute(f"LISTEN {SPLIT_CHANNEL}")
            connection.execute(f"LISTEN {RELOAD_CHANNEL}")
            self._load()  # what changed before we listened
            polled = time.monotonic()
            while not self._stop.is_set():
                told = list(connection.notifies(timeout=_LISTEN, stop_after=1))
                now = time.monotonic()
                if told or now - polled >= _SLOW:
                    polled = now
                    self._load()

    def _load(self) -> None:
        with self._store.read() as session:
            splits = load_splits(session)
            reload = last_reload(session)
            if self._ttl is not None:
                self._sign = max(self._sign, _controller_sign(session))
        self._store_up.set(1)
        self._failing = False
        changed = splits != self._splits
        self._splits = splits
        self._show()
        self._loaded = True
        self._tried.set()
        if reload is not None and reload.number != self._reload:
            self._reload = reload.number
            self._asked(reload)
        if changed:
            try:
                save_snapshot(self._snapshot, splits)
            except OSError as error:
                _log.warning("the snapshot %s can't be written: %s", self._snapshot, error)

    def _show(self) -> None:
        shown, ttl = self._splits, self._ttl
        if ttl is not None and time.time() - self._sign > ttl:
            shown = {route: split.evolve(weight_bp=0) for route, split in shown.items()}
        if shown != self._shown:
            self._shown = shown
            self._apply(shown)


def _controller_sign(session: Any) -> float:
    beat = session.exec(
        select(func.max(ReplicaRow.heartbeat_at)).where(col(ReplicaRow.role) == "control")
    ).one()
    lease = session.exec(select(func.max(LeaseRow.expires_at))).one()
    return max(beat or 0.0, lease or 0.0)
