"""Isolation: baseline traffic while all that evaluates is in trouble, beside the same without it.

Each measurement has a gateway, a store and a folder of its own. The worker runs on the load's core
with idle priority, so that it takes little from generator and upstream. Little, not nothing: a
kernel need not interrupt its system calls. Where the worker is busy, the side without a shadow
therefore runs beside a worker that is as busy, with captures in a store of its own: what is seen is
what the shadow does to the gateway, not the loss of a core that they would not share.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataplane.load import load, request_bytes
from dataplane.ours import captured, hand_over, pairs, settings, split, start, write_store
from dataplane.plans import Phase
from dataplane.process import let_others_first, running, tree_of, wait_for
from dataplane.ratios import AGAIN
from dataplane.started import Started

__all__ = ["CASES", "Case", "Place", "Seen", "measure", "ports"]

_ROOM = 256 * 1024
"""Bytes that a full disk still takes: the first batches, so that it fills under load."""


@dataclass(frozen=True, slots=True)
class Here:
    """A gateway under load: its folder, and the processes that write there."""

    folder: Path
    pids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a measurement left in the store: requests sent, captures, pairs by state or outcome."""

    sent: int
    captures: int
    pairs: Mapping[str, int]

    @property
    def lost(self) -> bool:
        """Whether most captures never came into the store."""
        return self.captures < self.sent / 2


Trouble = Callable[[Here], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A state of the shadow: whether there is one, what ails it, and how that is told.

    ``change`` alters the settings, ``trouble`` works while the load runs; ``happened`` says from
    the store that the trouble was real. ``worker`` says what the worker does meanwhile.
    """

    name: str
    happened: Callable[[Seen], bool]
    shadow: bool = True
    change: Callable[[dict[str, Any], int], None] = lambda _settings, _port: None
    trouble: Trouble = field(default=lambda _here: contextlib.nullcontext())
    worker: Literal["absent", "waits", "busy"] = "waits"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a measurement happens.

    ``silent`` is a port whose connections are accepted and never answered, ``dead`` one that
    refuses them.
    """

    programs: Path
    load_core: int
    subject_core: int
    upstream: int
    silent: int
    dead: int


def _candidate_hangs(document: dict[str, Any], silent: int) -> None:
    document["deployments"]["tuned"]["base_url"] = f"http://127.0.0.1:{silent}/v1"


def _judge_is_dead(document: dict[str, Any], dead: int) -> None:
    url = f"http://127.0.0.1:{dead}/v1"
    document["deployments"]["critic"] = {"base_url": url, "model": "critic"}
    document["judge"] = {"deployment": "critic"}


def _small_buffer(document: dict[str, Any], _port: int) -> None:
    document["gateway"]["capture_buffer_bytes"] = 4096


@contextlib.contextmanager
def _store_locked(here: Here) -> Iterator[None]:
    """Hold the store's write lock from outside, as a backup or a stuck process would."""
    connection = sqlite3.connect(here.folder / "coalmine.db", timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


@contextlib.contextmanager
def _disk_full(here: Here) -> Iterator[None]:
    """Let no file of the processes grow further; needs no file system of its own.

    SQLite meets a failed write either way (EFBIG here, ENOSPC on a full disk).
    """
    size = max(path.stat().st_size for path in here.folder.iterdir()) + _ROOM
    for pid in here.pids:
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    yield


CASES = (
    Case(AGAIN, lambda seen: not seen.captures, shadow=False, worker="absent"),
    Case(
        "candidate hung",
        lambda seen: seen.pairs.get("claimed", 0) > 0 and "compared" not in seen.pairs,
        change=_candidate_hangs,
        worker="busy",
    ),
    Case(
        "judge dead",
        lambda seen: seen.pairs.get("claimed", 0) > 0 or seen.pairs.get("judge_error", 0) > 0,
        change=_judge_is_dead,
        worker="busy",
    ),
    Case("store locked", lambda seen: seen.captures < 100, trouble=_store_locked),
    Case("disk full", lambda seen: seen.lost, trouble=_disk_full),
    Case("capture buffer full", lambda seen: seen.lost, change=_small_buffer, worker="absent"),
)


def measure(
    case: Case, place: Place, phase: Phase, folder: Path, *, shadow: bool
) -> dict[str, float]:
    """Put baseline traffic on a gateway whose shadow is in the state of ``case``, or has none.

    All requests take the baseline (a split at 0%); with a shadow each of them is to be captured.
    Raises ``RuntimeError`` where the trouble did not happen.
    """
    folder.mkdir(parents=True)
    shadow = shadow and case.shadow
    document = settings(folder, place.upstream)
    case.change(document, place.silent if case.name == "candidate hung" else place.dead)
    write_store(folder, split(mirror_bp=10_000 if shadow else 0))
    ready = start(folder, document, "gateway")
    body = request_bytes(mode="paced", headers={}).partition(b"\r\n\r\n")[2]
    request = folder / "paced.http"
    request.write_bytes(request_bytes(mode="paced", headers=ready.headers))
    log = folder / "gateway.log"
    with contextlib.ExitStack() as stack:

        def run(program: Started, core: int, log: Path) -> subprocess.Popen[bytes]:
            return stack.enter_context(
                running(program.command, core=core, log=log, environ=program.environ, patience=0.0)
            )

        gateway = run(ready, place.subject_core, log)
        headers = {"content-type": "application/json", **ready.headers}
        wait_for(ready.port, body, headers, gateway, log=log)
        pids = tree_of(gateway.pid)
        if case.worker == "busy" or (shadow and case.worker == "waits"):
            where = folder if shadow else _elsewhere(folder, body, phase)
            document["store"], document["data_dir"] = f"sqlite:///{where}/coalmine.db", str(where)
            worker = run(start(where, document, "worker"), place.load_core, where / "worker.log")
            _wait_for_claim(where)
            let_others_first(worker.pid)
            pids.append(worker.pid)
        if shadow:
            stack.enter_context(case.trouble(Here(folder, pids)))
        window = load(
            place.programs,
            phase,
            port=ready.port,
            request=request,
            core=place.load_core,
            subject=gateway.pid,
        )
        seen = Seen(window.seen["sent"], captured(folder), pairs(folder))
    if not (case.happened(seen) if shadow else seen.captures == 0):
        tail = log.read_text(errors="replace")[-500:]
        raise RuntimeError(f"{case.name} did not happen: {seen}\n{tail}")
    return {
        "latency_p50_us": window.quantile("latency", "p50"),
        "latency_p99_us": window.quantile("latency", "p99"),
        "latencies": window.seen["latency"]["count"],
        "cpu_us_per_request": window.cpu_s * 1e6 / window.seen["requests"],
        "captures": seen.captures,
    }


def _elsewhere(folder: Path, body: bytes, phase: Phase) -> Path:
    """Make a store whose captures keep a worker busy for as long as the load runs."""
    where = folder / "elsewhere"
    where.mkdir()
    write_store(where, split(mirror_bp=10_000))
    hand_over(where, body, count=int(phase.rate * (phase.warmup_s + phase.seconds)))
    return where


def _wait_for_claim(folder: Path, seconds: float = 60.0) -> None:
    """Wait until the worker has begun with the first request's pair."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pairs(folder).keys() - {"pending"}:
            return
        time.sleep(0.1)
    tail = (folder / "worker.log").read_text(errors="replace")[-500:]
    raise RuntimeError(f"the worker claimed nothing:\n{tail}")


@contextlib.contextmanager
def ports() -> Iterator[tuple[int, int]]:
    """Give a port that accepts connections and never answers, and one that refuses them."""
    with socket.socket() as silent, socket.socket() as dead:
        silent.bind(("127.0.0.1", 0))
        silent.listen(4096)
        dead.bind(("127.0.0.1", 0))
        yield silent.getsockname()[1], dead.getsockname()[1]
