"""The one thread that writes what a gateway saw, in batches, each in one transaction."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import zlib
from typing import Any

from prometheus_client import Gauge
from sqlmodel import Session, col, insert, select, update

from gateway.capture import Batch, Capture, CaptureBuffer
from gateway.errors import StoreError, StoreUnavailable
from gateway.store.engine import Store
from gateway.store.evidence import Evidence, append_evidence, move_funnel
from gateway.store.tables import LIVE_FIRST, CaptureRow, PairRow, ReplicaRow

__all__ = ["BatchWriter", "write_batch"]

_log = logging.getLogger("coalmine.gateway")
_SOON = 0.05
_HEARTBEAT = 1.0
_BACKOFF_MAX = 5.0
_ATTEMPTS = 3
_REFUSED = "a batch could not be written, it is kept and tried again: %s"


class BatchWriter:
    """Writes the buffer's batches to the store until :meth:`stop`.

    ``replica`` is this process's id, ``interval`` the seconds between writes. A failed candidate is
    written within 50 ms, an applied split at once. While the store is down the batch is kept and
    tried again; what comes in meanwhile stays in the buffer, which sheds when it is full. A batch
    that the store refuses for another reason loses its captures after three attempts, not its
    counts: they then count as shed.
    """

    def __init__(
        self,
        store: Store,
        buffer: CaptureBuffer,
        *,
        replica: str,
        interval: float,
        store_up: Gauge,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._replica = replica
        self._interval = interval
        self._store_up = store_up
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="coalmine-writer", daemon=True)
        self._started_at = time.time()
        self._number = 0
        self._failing = False
        self._heartbeat_at = 0.0

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
        written_at = 0.0
        while not self._stop.is_set():
            if self._buffer.wake.wait(self._interval):
                self._buffer.wake.clear()
                if not self._buffer.hurry.is_set():
                    self._stop.wait(max(0.0, written_at + _SOON - time.time()))
            hurry = self._buffer.hurry.is_set()
            self._buffer.hurry.clear()
            batch = self._buffer.take(time.time())
            if hurry or not batch.empty or batch.to_at - self._heartbeat_at >= _HEARTBEAT:
                self._deliver(batch)
            written_at = time.time()
        self._deliver(self._buffer.take(time.time()), final=True)

    def _deliver(self, batch: Batch, *, final: bool = False) -> None:
        self._number += 1
        batch.number = self._number
        refused = tries = 0
        wait = _SOON
        try:
            while (error := self._attempt(batch, final=final)) is not None:
                if not isinstance(error, StoreUnavailable):
                    refused += 1
                    if refused > _ATTEMPTS:
                        return  # not even the counts are taken
                    if refused == _ATTEMPTS:
                        self._strip(batch, error)
                if self._stop.is_set():
                    tries += 1
                    if tries == _ATTEMPTS:
                        _log.error("stopping with a batch that the store did not take: %s", error)
                        return
                    time.sleep(_SOON)
                else:
                    self._stop.wait(wait)
                    wait = min(wait * 2, _BACKOFF_MAX)
        finally:
            self._buffer.free(sum(c.size for c in batch.captures), len(batch.captures))

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
        except StoreError as error:
            self._store_up.set(0)
            _log.log(logging.DEBUG if self._failing else logging.WARNING, _REFUSED, error)
            self._failing = True
            return error
        self._store_up.set(1)
        self._failing = False
        self._heartbeat_at = batch.to_at
        return None

    def _strip(self, batch: Batch, error: StoreError) -> None:
        if not batch.captures:
            return
        _log.error("dropping %d captures that the store refuses: %s", len(batch.captures), error)
        for capture in batch.captures:
            for rollout_id, stream in capture.pairs:
                batch.funnel[rollout_id, stream, "pending"] -= 1
                batch.funnel[rollout_id, stream, "shed"] += 1
        self._buffer.free(sum(c.size for c in batch.captures), len(batch.captures))
        batch.captures = []


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
    if batch.captures:
        connection.execute(insert(CaptureRow), [_capture_values(c) for c in batch.captures])
        pairs = [
            {
                "rollout_id": rollout_id,
                "capture_id": capture.id,
                "stream": stream,
                "state": "pending",
                "attempts": 0,
                "lease_until": LIVE_FIRST if stream == "live" else 0.0,
                "created_at": capture.created_at,
                "segment": capture.segment,
            }
            for capture in batch.captures
            for rollout_id, stream in capture.pairs
        ]
        connection.execute(insert(PairRow), pairs)
    move_funnel(store, session, [(*key, change) for key, change in batch.funnel.items()])
    evidence = _evidence(batch, replica)
    for rollout_id in sorted(evidence):
        append_evidence(store, session, rollout_id, evidence[rollout_id])
    return True


def _claim(
    session: Session, batch: Batch, *, replica: str, started_at: float, stopped: bool
) -> bool:
    found = session.exec(
        select(ReplicaRow.last_batch).where(ReplicaRow.id == replica).with_for_update()
    ).first()
    if found is None:
        session.add(
            ReplicaRow(
                id=replica,
                role="gateway",
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=started_at,
                heartbeat_at=batch.to_at,
                stopped_at=batch.to_at if stopped else None,
                last_batch=batch.number,
                revisions=batch.revisions,
            )
        )
        session.flush()
        return True
    if found >= batch.number:
        return False
    session.exec(
        update(ReplicaRow)
        .where(col(ReplicaRow.id) == replica)
        .values(
            heartbeat_at=batch.to_at,
            stopped_at=batch.to_at if stopped else None,
            last_batch=batch.number,
            revisions=batch.revisions,
        )
        .execution_options(synchronize_session=False)
    )
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
    for rollout_id, epoch, at, state in batch.breaker:
        item = Evidence("breaker", at, {"replica": replica, **state}, epoch=epoch)
        found.setdefault(rollout_id, []).append(item)
    return found


def _capture_values(capture: Capture) -> dict[str, Any]:
    limit = 8 * max(len(capture.response_body), 64 * 1024)
    body = decoded(capture.response_body, capture.content_encoding, limit)
    return {
        "id": capture.id,
        "route": capture.route,
        "request_id": capture.request_id,
        "created_at": capture.created_at,
        "endpoint": capture.endpoint,
        "variant": capture.variant,
        "reason": capture.reason,
        "deployment": capture.deployment,
        "stream": capture.stream,
        "request_body": _text(capture.request_body),
        "response_body": _text(body),
        "status": capture.status,
        "ttft_s": capture.ttft_s,
        "total_s": capture.total_s,
        "input_tokens": capture.input_tokens,
        "output_tokens": capture.output_tokens,
        "segment": capture.segment,
        "risk": capture.risk,
        "key_hash": capture.key_hash,
        "split_revision": capture.split_revision,
        "epoch": capture.epoch,
        "weight_bp": capture.weight_bp,
        "truncated": False,
    }


def decoded(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo gzip or deflate, up to ``limit`` bytes; anything else stays as it is."""
    if encoding not in (b"gzip", b"deflate"):
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, limit)
    except zlib.error:
        return body


def _text(body: bytes) -> str:
    # PostgreSQL's text holds no NUL; neither does any JSON
    return body.decode("utf-8", "replace").replace("\0", "\ufffd")
