"""Deleting what is stored of one user, known by the targeting key of their requests."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select

from gateway.intake import drop_packed
from gateway.observe import hash_key
from gateway.store.engine import Store
from gateway.store.erasure import Erased, erase_captures, shorten_log
from gateway.store.tables import AuditRow, CaptureRow, DeletionRow
from rollout.audit import Actor, record_audit

__all__ = ["Deletion", "delete_user"]

_BATCH = 200
_NAMED = 12
"""Characters of the pseudonym that the audit log shows."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was deleted. ``packed`` are captures that no worker had unpacked yet."""

    user: str
    packed: int
    erased: Erased


def delete_user(store: Store, key: str, *, actor: Actor, reason: str, now: float) -> Deletion:
    """Delete all captures of a user up to ``now`` (Unix seconds), with everything made of them.

    ``key`` is the targeting key as the requests carried it; it is hashed as gateways hash it, and
    kept nowhere. Captures still on their way are dropped where they arrive. May be called again:
    then there is nothing left to delete. Raises :class:`~gateway.errors.StoreError`; what was
    deleted until then stays deleted.
    """
    pseudonym = hash_key(key.encode("utf-8", "replace").decode().replace("\0", "\ufffd"))
    target = f"user:{pseudonym[:_NAMED]}"
    with store.write() as session:
        insert = (sqlite if store.is_sqlite else postgresql).insert(DeletionRow)
        session.connection().execute(
            insert.values(key_hash=pseudonym, requested_at=now).on_conflict_do_update(
                index_elements=["key_hash"], set_={"requested_at": now}
            )
        )
        packed = drop_packed(store, session, pseudonym, before=now)
        detail = {"reason": reason, "packed": packed}
        record_audit(
            session, at=now, actor=actor, action="privacy.delete", target=target, detail=detail
        )
        session.flush()
        entry = session.exec(
            select(AuditRow.id).where(AuditRow.target == target).order_by(col(AuditRow.id).desc())
        ).first()
    total = Erased()
    mine = (CaptureRow.key_hash == pseudonym, col(CaptureRow.created_at) <= now)
    while True:
        with store.write() as session:
            ids = session.exec(select(CaptureRow.id).where(*mine).limit(_BATCH)).all()
            total.add(erase_captures(store, session, ids))
            row = session.get(AuditRow, entry)
            if row is not None:
                row.detail = {**detail, **total.to_json()}
        if len(ids) < _BATCH:
            break
    shorten_log(store)
    return Deletion(target, packed, total)
