"""Asking the gateways to read their settings again. They follow the last number asked for."""

from __future__ import annotations

from sqlmodel import Session, col, select

from gateway.store.engine import Store
from gateway.store.tables import ReloadRow

__all__ = ["RELOAD_CHANNEL", "ask_reload", "last_reload"]

RELOAD_CHANNEL = "coalmine_reload"
"""PostgreSQL channel on which a new number is announced."""


def ask_reload(store: Store, session: Session, *, by: str, now: float) -> ReloadRow:
    """Ask all gateways to reload, and announce it on commit; the row's number is the new one.

    ``by`` is who asks, ``now`` Unix seconds.
    """
    row = ReloadRow(requested_at=now, requested_by=by)
    session.add(row)
    session.flush()
    store.notify(session, RELOAD_CHANNEL, str(row.number))
    return row


def last_reload(session: Session) -> ReloadRow | None:
    """Return what was asked for last, or ``None`` where nobody ever asked."""
    return session.exec(select(ReloadRow).order_by(col(ReloadRow.number).desc()).limit(1)).first()
