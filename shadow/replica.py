"""The worker's row among the running processes."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass

from gateway.store.engine import Store
from gateway.store.tables import ReplicaRow


@dataclass(frozen=True, slots=True)
class Replica:
    """Who this process is. `started_at` is in Unix seconds."""

    id: str
    host: str
    pid: int
    started_at: float


def this_replica(now: float) -> Replica:
    """Return a new identity for this process."""
    host = socket.gethostname()
    return Replica(f"worker-{host}-{uuid.uuid4().hex[:8]}", host, os.getpid(), now)


def beat(store: Store, replica: Replica, *, now: float, stopped: bool = False) -> None:
    """Write a sign of life, or the last one. Raises `StoreError`."""
    with store.write() as session:
        row = session.get(ReplicaRow, replica.id) or ReplicaRow(
            id=replica.id,
            role="worker",
            host=replica.host,
            pid=replica.pid,
            started_at=replica.started_at,
            heartbeat_at=now,
        )
        row.heartbeat_at = now
        row.stopped_at = now if stopped else None
        session.add(row)
