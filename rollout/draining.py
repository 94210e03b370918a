"""Time to zero: how long after a rollback the last gateway had stopped calling the candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from gateway.store.tables import ReplicaRow

__all__ = ["Drained", "drained"]

ALIVE_S = 15.0
"""Seconds after which a gateway without a sign of life counts as gone."""


@dataclass(frozen=True, slots=True)
class Drained:
    """That all living gateways serve the split of the rollback.

    ``time_to_zero`` is in seconds from the rollback's commit to the last gateway's change, by the
    clocks of controller and gateways; ``None`` where no gateway runs.
    """

    time_to_zero: float | None
    replicas: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document: ``replicas`` is seconds to zero by replica."""
        return {"time_to_zero": self.time_to_zero, "replicas": self.replicas}


def drained(
    session: Session, *, route: str, revision: int, since: float, now: float
) -> Drained | list[str]:
    """Say whether all living gateways serve at least ``revision`` of the route's split.

    ``since`` is when the rollback was written and ``now`` the present, both Unix seconds. Returns
    the ids of the gateways that have not reported it yet, where there are any.
    """
    query = select(ReplicaRow).where(
        ReplicaRow.role == "gateway",
        col(ReplicaRow.stopped_at).is_(None),
        col(ReplicaRow.heartbeat_at) >= now - ALIVE_S,
    )
    waiting: list[str] = []
    seconds: dict[str, float] = {}
    for row in session.exec(query.order_by(col(ReplicaRow.id))).all():
        served = row.revisions.get(route)
        if served is None or served["revision"] < revision:
            waiting.append(row.id)
        else:
            applied = max(served["applied_at"], since)
            seconds[row.id] = applied - since
    if waiting:
        return waiting
    return Drained(max(seconds.values(), default=None), seconds)
