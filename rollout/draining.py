"""Time to zero: how long after a rollback the last request was given to the candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from gateway.store.tables import ReplicaRow

__all__ = ["ALIVE_S", "Drained", "Left", "drained"]

ALIVE_S = 15.0
"""Seconds after which a gateway without a sign of life counts as gone."""


@dataclass(frozen=True, slots=True)
class Left:
    """How one gateway left the candidate, in seconds since the rollback was decided.

    ``applied`` is when it began to serve the rollback's split, ``last_candidate`` when it gave its
    last request to the candidate (0 where that was before the decision). After a promotion nobody
    tells the candidate's requests apart, for it is the baseline; then that is ``None``.
    """

    applied: float
    last_candidate: float | None

    @property
    def zero(self) -> float:
        """When the candidate had no more to expect of this gateway."""
        return self.applied if self.last_candidate is None else self.last_candidate

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {"applied": self.applied, "last_candidate": self.last_candidate}


@dataclass(frozen=True, slots=True)
class Drained:
    """That all living gateways serve the split of the rollback, and how each got there.

    Seconds count from the decision, by the clocks of controller and gateways.
    """

    replicas: dict[str, Left]

    @property
    def time_to_zero(self) -> float | None:
        """Until the last request was given to the candidate; ``None`` where no gateway runs."""
        return max((each.zero for each in self.replicas.values()), default=None)

    @property
    def applied(self) -> float | None:
        """Until the last gateway served the split; ``None`` where no gateway runs."""
        return max((each.applied for each in self.replicas.values()), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document, with each replica's own seconds under ``replicas``."""
        return {
            "time_to_zero": self.time_to_zero,
            "applied": self.applied,
            "replicas": {name: each.to_json() for name, each in self.replicas.items()},
        }


def drained(
    session: Session, *, route: str, revision: int, since: float, now: float, promoted: bool
) -> Drained | list[str]:
    """Say whether all living gateways serve at least ``revision`` of the route's split.

    ``since`` is when the rollback was decided and ``now`` the present, both Unix seconds;
    ``promoted`` says that the candidate served as baseline until then. Returns the ids of the
    gateways that have not reported it yet, where there are any.
    """
    query = select(ReplicaRow).where(
        ReplicaRow.role == "gateway", col(ReplicaRow.stopped_at).is_(None)
    )
    waiting: list[str] = []
    left: dict[str, Left] = {}
    for row in _living(session.exec(query.order_by(col(ReplicaRow.id))).all(), since, now):
        served = row.revisions.get(route)
        if served is None or served["revision"] < revision:
            waiting.append(row.id)
        else:
            last = max(0.0, (served["last_candidate_at"] or 0.0) - since)
            left[row.id] = Left(max(0.0, served["applied_at"] - since), None if promoted else last)
    return waiting or Drained(left)


def _living(rows: Sequence[ReplicaRow], since: float, now: float) -> list[ReplicaRow]:
    # A clock that runs ahead makes everybody look gone. For as long as a gateway may be silent
    # after the rollback, those count that are as lively as the liveliest.
    latest = max((row.heartbeat_at for row in rows), default=now)
    present = min(now, latest) if now - since < ALIVE_S else now
    return [row for row in rows if row.heartbeat_at >= present - ALIVE_S]
