"""A worker's or control's row among the running processes. Gateways write theirs in batches."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from typing import Literal

from gateway.store.engine import Store
from gateway.store.tables import ReplicaRow

__all__ = ["Replica", "this_replica"]


@dataclass(frozen=True, slots=True)
class Replica:
    """Who this process is. ``started_at`` is Unix seconds."""

    id: str
    role: str
    host: str
    pid: int
    started_at: float

    def beat(self, store: Store, *, now: float, stopped: bool = False) -> None:
        """Write a sign of life, or the last one. Raises :class:`StoreError`."""
        with store.write() as session:
            row = session.get(ReplicaRow, self.id) or ReplicaRow(
                id=self.id,
                role=self.role,
                host=self.host,
                pid=self.pid,
                started_at=self.started_at,
                heartbeat_at=now,
            )
            row.heartbeat_at = now
            row.stopped_at = now if stopped else None
            session.add(row)


def this_replica(role: Literal["worker", "control"], now: float) -> Replica:
    """Return a new identity for this process."""
    host = socket.gethostname()
    return Replica(f"{role}-{host}-{uuid.uuid4().hex[:8]}", role, host, os.getpid(), now)
