"""Who leads: one controller at a time, by a lease in the store with a fencing token.

The token grows with every change of holder and is checked again inside every transaction that
the leader writes (:meth:`Lease.guard`): a leader that was paused past its lease writes nothing.
Expiry is judged by the store's clock alone, so that clocks of machines may differ.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlmodel import Session, select

from gateway.errors import Conflict
from gateway.store.engine import Store
from gateway.store.tables import LeaseRow

__all__ = ["CONTROLLER", "Lease"]

CONTROLLER = "controller"
"""The name of the controllers' lease."""

_NOW_SQLITE = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
_NOW_POSTGRESQL = text("SELECT extract(epoch FROM clock_timestamp())")
_INSERT = text(
    "INSERT INTO lease (name, holder, token, expires_at) VALUES (:name, '', 0, 0)"
    " ON CONFLICT (name) DO NOTHING"
)


class Lease:
    """A claim to lead. ``holder`` must be unique to the process, ``ttl`` is in seconds."""

    def __init__(self, store: Store, *, holder: str, ttl: float, name: str = CONTROLLER) -> None:
        self._store = store
        self._name = name
        self.holder = holder
        self.ttl = ttl
        self.token: int | None = None
        self._asked: int | None = None

    def acquire(self) -> bool:
        """Take the lease, or renew it; ``False`` while another holder's has not expired.

        Raises :class:`StoreError` when the store fails; then nobody may assume to lead.
        """
        with self._store.write() as session:
            session.connection().execute(_INSERT, {"name": self._name})
            row = self._row(session)
            now = self._now(session)
            # The token that was asked for counts, too: its commit may have gone unacknowledged.
            mine = row.holder == self.holder and row.token in {self.token, self._asked}
            if not mine and row.expires_at > now:
                self.token = None
                return False
            if not mine or row.expires_at <= now:
                row.token += 1
            row.holder = self.holder
            row.expires_at = now + self.ttl
            session.add(row)
            self._asked = row.token
        self.token = self._asked
        return True

    def guard(self, session: Session) -> int:
        """Return the fencing token, having locked the lease until the transaction ends.

        Raises :class:`Conflict` when this holder does not lead any more; the transaction must
        then be given up.
        """
        row = self._row(session)
        if (
            self.token is None
            or row.token != self.token
            or row.holder != self.holder
            or row.expires_at <= self._now(session)
        ):
            self.token = None
            raise Conflict(f"{self.holder} does not lead any more; another controller may")
        return row.token

    def release(self) -> None:
        """Give the lease up, so that another controller need not wait for its end."""
        if self.token is None:
            return
        with self._store.write() as session:
            row = self._row(session)
            if row.token == self.token and row.holder == self.holder:
                row.expires_at = 0.0
                session.add(row)
        self.token = None

    def _row(self, session: Session) -> LeaseRow:
        # On SQLite a write transaction holds the only lock there is; FOR UPDATE is left out there.
        return session.exec(
            select(LeaseRow)
            .where(LeaseRow.name == self._name)
            .with_for_update()
            .execution_options(populate_existing=True)
        ).one()

    def _now(self, session: Session) -> float:
        statement = _NOW_SQLITE if self._store.is_sqlite else _NOW_POSTGRESQL
        return float(session.connection().execute(statement).scalar_one())
