"""Opening the store, and its two kinds of transaction.

SQLite (WAL) and PostgreSQL behave alike through :class:`Store`: ``write()`` is one serialised
write transaction, ``read()`` one consistent snapshot. Everything here is synchronous; asyncio code
calls it through ``asyncio.to_thread``. Driver errors are translated here and nowhere else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool
from sqlmodel import Session

from gateway.errors import StoreError, StoreUnavailable

__all__ = ["Store", "open_store"]

_BUSY_TIMEOUT_S = 10.0
_MIGRATION_LOCK = 0x436F616C  # "Coal": one migrator at a time on PostgreSQL


class Store:
    """The database, open. Built by :func:`open_store`; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """The file of a SQLite store; ``None`` on PostgreSQL."""
        return Path(self.engine.url.database or "") if self.is_sqlite else None

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Run one write transaction: committed at the end, rolled back by an exception.

        On SQLite it takes the write lock at its start (``BEGIN IMMEDIATE``), so that what it reads
        can't change before it writes. On PostgreSQL it is ``READ COMMITTED``; rows to be changed
        are claimed with ``FOR UPDATE``. Raises :class:`StoreUnavailable` or :class:`StoreError`.
        """
        with self._translated(), Session(self.engine, expire_on_commit=False) as session:
            if self.is_sqlite:
                session.connection(execution_options={"coalmine_begin": "IMMEDIATE"})
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Run one read-only transaction that sees a single snapshot."""
        with self._translated(), Session(self.engine, expire_on_commit=False) as session:
            if not self.is_sqlite:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            try:
                yield session
            finally:
                session.expunge_all()  # so that rows stay readable after the transaction
                session.rollback()

    def migrate(self) -> None:
        """Bring the tables to this version's form. Safe to call from several processes at once."""
        config = _alembic_config()
        options = {"coalmine_begin": "IMMEDIATE"} if self.is_sqlite else {}
        engine = self.engine.execution_options(**options)
        with self._translated(), engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def is_current(self) -> bool:
        """Say whether the tables have this version's form."""
        with self._translated(), self.engine.connect() as connection:
            at = MigrationContext.configure(connection).get_current_revision()
        return at == ScriptDirectory.from_config(_alembic_config()).get_current_head()

    def ping(self) -> None:
        """Ask the store for a sign of life. Raises :class:`StoreUnavailable`."""
        with self._translated(), self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def notify(self, session: Session, channel: str, payload: str) -> None:
        """Tell listeners on ``channel`` once the transaction commits (PostgreSQL only).

        On SQLite listeners watch ``PRAGMA data_version`` and need no telling.
        """
        if not self.is_sqlite:
            session.connection().execute(
                text("SELECT pg_notify(:channel, :payload)"),
                {"channel": channel, "payload": payload},
            )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailable(_sentence(error)) from error
        except DBAPIError as error:
            kind = StoreUnavailable if error.connection_invalidated else StoreError
            raise kind(_sentence(error)) from error
        except SQLAlchemyError as error:
            raise StoreError(str(error).splitlines()[0]) from error


def open_store(url: str, *, pool_size: int = 5) -> Store:
    """Open the store at ``url``; nothing is created but SQLite's folder.

    ``url`` is ``sqlite:///PATH`` or ``postgresql+psycopg://…``. Connections are made when needed,
    so this succeeds while a PostgreSQL server is down.
    """
    parsed = make_url(url)
    arguments: dict[str, Any] = {}
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise StoreError("a SQLite store needs a file; write sqlite:///PATH", field="store")
        try:
            Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"can't create the folder of {parsed.database}: {error.strerror}", field="store"
            ) from error
        arguments = {"connect_args": {"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}}
    else:
        arguments = {"connect_args": {"connect_timeout": 5}, "pool_pre_ping": True}
    engine = create_engine(
        parsed, poolclass=QueuePool, pool_size=pool_size, max_overflow=10, **arguments
    )
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    return Store(engine)


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA wal_autocheckpoint=4000")  # 16 MB; each checkpoint is a pause
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        mode = connection.get_execution_options().get("coalmine_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _sentence(error: DBAPIError) -> str:
    # Only the driver's own words: SQLAlchemy's message would carry statement and parameters,
    # which are captures.
    return (
        f"the store failed: {str(error.orig).splitlines()[0] if str(error.orig) else 'no reason'}"
    )
