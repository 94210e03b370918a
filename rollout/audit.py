"""Who did what through the admin API or the CLI: written with the deed, read by name or time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from gateway.store.tables import AuditRow

__all__ = ["Actor", "record_audit"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who operates: the name of the token (or of the local user) and its role."""

    name: str
    role: str = "operator"


def record_audit(
    session: Session,
    *,
    at: float,
    actor: Actor,
    action: str,
    target: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write down a deed in the transaction that does it. ``at`` is Unix seconds."""
    session.add(
        AuditRow(
            at=at,
            actor=actor.name,
            role=actor.role,
            action=action,
            target=target,
            detail=dict(detail or {}),
        )
    )
