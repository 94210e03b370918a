"""The one thread that writes what a gateway saw, in batches, each in one transaction."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from typing import Any

from prometheus_client import Gauge
from sqlalchemy import bindparam, insert, select, update
from sqlmodel import Session

from gateway.batch import Batch
from gateway.capture import CaptureBuffer
from gateway.errors import StoreError, StoreUnavailable
from gateway.intake import packets
from gateway.redaction.stage import Redaction
from gateway.store.engine import Store
from gateway.store.evidence import Evidence, append_evidence, move_funnel
from gateway.store.tables import IntakeRow, ReplicaRow

__all__ = ["BatchWriter", "write_batch"]

_log = logging.getLogger("coalmine.gateway")
_SOON = 0.05
_HEARTBEAT = 1.0
_NICE = 10
"""How much less the thread's priority is than its process's: it may wait, requests may not."""
_BACKOFF_MAX = 5.0
_ATTEMPTS = 3
_BATCH_CAPTURES = 2000
_HURRIED_CAPTURES = 50
"""So few are redacted before a revision that was applied is reported."""
_BATCH_BYTES = 4 * 1024**2
"""So much is written in one transaction; then others get their turn at the store."""
_REPLICAS = ReplicaRow.__table__  # type: ignore[attr-defined]
_MOVE_ON = (
    update(_REPLICAS)
    .where(_REPLICAS.c.id == bindparam("replica"), _REPLICAS.c.last_batch < bindparam("number"))
    .values(
        heartbeat_at=bindparam("to_at"),
        stopped_at=bindparam("ended_at"),
        last_batch=bindparam("number"),
        revisions=bindparam("served"),
        settings=bindparam("configured"),
    )
)
_TAKE_IN = insert(IntakeRow.__table__)  # type: ignore[attr-defined]
_KNOWN = select(_REPLICAS.c.id).where(_REPLICAS.c.id == bindparam("replica"))
_REFUSED = "a batch could not be written, it is kept and tried again: %s"


class BatchWriter:
    """Writes the buffer's batches to the store until :meth:`stop`.

    ``replica`` is this process's id, ``interval`` the seconds between writes. A failed candidate is
    written within 50 ms, an applied split at once. While the store is down the batch is kept and
    tried again; what comes in meanwhile stays in the buffer, which sheds when it is full. A batch
    that the store refuses for another reason loses its captures after three attempts, not its
    counts: they then count as shed. No batch is large, and a backlog is worked off with pauses, so
    that neither the store nor the event loop's thread waits for long.
    """

    def __init__(
        self,
        store: Store,
        buffer: CaptureBuffer,
        *,
        replica: str,
        interval: float,
        store_up: Gauge,
        redaction: Redaction | None,
    ) -> None:
        self._store = store
        self.redaction = redaction
        """Applied to all captures before anything is written; may be replaced at any time."""
        self._buffer = buffer
        self._replica = replica
        self.interval = interval
        """Seconds between writes; may be changed at any time."""
        self._store_up = store_up
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="coalmine-writer", daemon=True)
        self._started_at = time.time()
        self._number = 0
        self._failing = False
        self._heartbeat_at = -_HEARTBEAT

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Write what is left and stop; ``False`` where that took more than ``timeout`` seconds."""
        self._stop.set()
        self._buffer.wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        _yield_to_requests()
        pause, written_at = self.interval, 0.0
        while not self._stop.is_set():
            if self._buffer.wake.wait(pause):
                self._buffer.wake.clear()
                if not self._buffer.hurry.is_set():
                    self._stop.wait(max(0.0, written_at + _SOON - time.monotonic()))
            began = time.monotonic()
            hurry = self._buffer.hurry.is_set()
            self._buffer.hurry.clear()
            batch = self._take(_HURRIED_CAPTURES if hurry else _BATCH_CAPTURES)
            backlog = self._buffer.waiting  # what did not fit in, not what comes in meanwhile
            if hurry or not batch.empty or began - self._heartbeat_at >= _HEARTBEAT:
                self._deliver(batch)
            written_at = time.monotonic()
            # A backlog is worked off in half of the time, the other half is the event loop's.
            pause = min(written_at - began, self.interval) if backlog else self.interval
        while not self._deliver(self._take(), stopping=True):
            pass

    def _take(self, max_count: int = _BATCH_CAPTURES) -> Batch:
        batch = self._buffer.take(time.time(), max_bytes=_BATCH_BYTES, max_count=max_count)
        if self.redaction is not None and batch.captures:
            self._buffer.free(*self.redaction.apply(batch, time.sleep))
        return batch

    def _deliver(self, batch: Batch, *, stopping: bool = False) -> bool:
        """Write a batch; ``True`` where it was the last one, or the last that is worth trying."""
        self._number += 1
        batch.number = self._number
        final = stopping and not self._buffer.waiting
        refused = tries = 0
        wait = _SOON
        try:
            while (error := self._attempt(batch, final=final)) is not None:
                if not isinstance(error, StoreUnavailable):
                    refused += 1
                    if refused > _ATTEMPTS:
                        return final  # not even the counts are taken
                    if refused == _ATTEMPTS:
                        self._strip(batch, error)
                if self._stop.is_set():
                    tries += 1
                    if tries == _ATTEMPTS:
                        _log.error("stopping with a batch that the store did not take: %s", error)
                        return True
                    time.sleep(_SOON)
                else:
                    self._stop.wait(wait)
                    wait = min(wait * 2, _BACKOFF_MAX)
            return final
        finally:
            self._buffer.free(batch.size, len(batch.captures))

    def _attempt(self, batch: Batch, *, final: bool) -> StoreError | None:
        try:
            with self._store.write() as session:
                write_batch(
                    self._store,
                    session,
                    batch,
                    replica=self._replica,
                    started_at=self._started_at,
                    stopped=final,
                )
        except Exception as caught:  # noqa: BLE001 - without this thread there is no evidence
            error = caught if isinstance(caught, StoreError) else _unexpected(caught)
            self._store_up.set(0)
            _log.log(logging.DEBUG if self._failing else logging.WARNING, _REFUSED, error)
            self._failing = True
            return error
        self._store_up.set(1)
        self._failing = False
        self._heartbeat_at = time.monotonic()
        return None

    def _strip(self, batch: Batch, error: StoreError) -> None:
        if not batch.captures:
            return
        _log.error("dropping %d captures that the store refuses: %s", len(batch.captures), error)
        self._buffer.free(batch.size, len(batch.captures))
        batch.shed()


def _yield_to_requests() -> None:
    """Have this thread wait for the event loop's where both want the same core (Linux only)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            priority = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priority + _NICE)


def _unexpected(error: Exception) -> StoreError:
    # Its kind only: the message may quote a capture.
    return StoreError(f"the batch can't be written ({type(error).__name__})")


def write_batch(
    store: Store,
    session: Session,
    batch: Batch,
    *,
    replica: str,
    started_at: float,
    stopped: bool = False,
) -> bool:
    """Write ``batch`` in the caller's transaction; ``False`` where it was written before.

    The replica's ``last_batch`` moves with it, so that a batch whose commit was not acknowledged
    can be written again and still counts once.
    """
    if not _claim(session, batch, replica=replica, started_at=started_at, stopped=stopped):
        return False
    connection = session.connection()
    for packet in packets(batch.captures):
        connection.execute(_TAKE_IN, packet)
    move_funnel(store, session, [(*key, change) for key, change in batch.funnel.items()])
    evidence = _evidence(batch, replica)
    for rollout_id in sorted(evidence):
        append_evidence(store, session, rollout_id, evidence[rollout_id])
    return True


def _claim(
    session: Session, batch: Batch, *, replica: str, started_at: float, stopped: bool
) -> bool:
    connection = session.connection()
    stopped_at = batch.to_at if stopped else None
    values = {
        "replica": replica,
        "number": batch.number,
        "to_at": batch.to_at,
        "ended_at": stopped_at,
        "served": batch.revisions,
        "configured": batch.settings,
    }
    if connection.execute(_MOVE_ON, values).rowcount:
        return True
    if connection.execute(_KNOWN, {"replica": replica}).first() is not None:
        return False
    session.add(
        ReplicaRow(
            id=replica,
            role="gateway",
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=started_at,
            heartbeat_at=batch.to_at,
            stopped_at=stopped_at,
            last_batch=batch.number,
            revisions=batch.revisions,
            settings=batch.settings,
        )
    )
    session.flush()
    return True


def _evidence(batch: Batch, replica: str) -> dict[int, list[Evidence]]:
    found: dict[int, list[Evidence]] = {}
    for key, arms in batch.windows.items():
        payload: dict[str, Any] = {
            "replica": replica,
            "weight_bp": key.weight_bp,
            "split_revision": key.split_revision,
            "from_at": batch.from_at,
            "to_at": batch.to_at,
            "arms": {
                variant: {
                    "requests": tally.requests,
                    "error_rate": tally.error_rate,
                    "timeout_rate": tally.timeout_rate,
                    "latency": tally.latency,
                }
                for variant, tally in arms.items()
            },
        }
        item = Evidence("window", batch.to_at, payload, epoch=key.epoch)
        found.setdefault(key.rollout_id, []).append(item)
    for rollout_id, lost in _dropped(batch).items():
        item = Evidence("dropped", batch.to_at, {"replica": replica, "segments": lost})
        found.setdefault(rollout_id, []).append(item)
    for rollout_id, epoch, at, state in batch.breaker:
        item = Evidence("breaker", at, {"replica": replica, **state}, epoch=epoch)
        found.setdefault(rollout_id, []).append(item)
    return found


def _dropped(batch: Batch) -> dict[int, dict[str, dict[str, int]]]:
    found: dict[int, dict[str, dict[str, int]]] = {}
    for (rollout_id, segment, outcome), count in sorted(batch.dropped.items()):
        found.setdefault(rollout_id, {}).setdefault(segment, {})[outcome] = count
    return found
