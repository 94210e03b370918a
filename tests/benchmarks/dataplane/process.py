"""Programs under measurement: started on one core, waited for, accounted from /proc, ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dataplane.proc import cpu_seconds, parent_of

__all__ = [
    "cpu_of",
    "free_port",
    "let_others_first",
    "on_core",
    "resident_mib",
    "running",
    "spawn",
    "stop",
    "tree_of",
    "wait_for",
]

_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let what is started inside run on ``core`` alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree_of(root: int) -> list[int]:
    """Return the process ids of ``root`` and all that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text(errors="replace")
                children.setdefault(parent_of(stat), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_of(pids: Iterable[int]) -> float:
    """Return the CPU seconds used so far by these processes, as far as they live."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            total += cpu_seconds(stat, _TICKS)
    return total


def resident_mib(pids: Iterable[int]) -> float:
    """Return the resident memory of these processes in MiB."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def spawn(
    command: Sequence[str], *, core: int, log: Path, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program on ``core`` in a process group of its own; its output goes to ``log``."""
    with on_core(core), log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environ or {})},
        )


def stop(process: subprocess.Popen[bytes], patience: float = 3.0) -> None:
    """End a program and its group: politely, then for good."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(5)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    core: int,
    log: Path,
    environ: Mapping[str, str] | None = None,
    patience: float = 3.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for as long as the block lasts; it then has ``patience`` seconds to end."""
    process = spawn(command, core=core, log=log, environ=environ)
    try:
        yield process
    finally:
        stop(process, patience)


def let_others_first(root: int) -> None:
    """Run all threads of a process only where its core would be idle."""
    for task in Path(f"/proc/{root}/task").iterdir():
        os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


def wait_for(
    port: int,
    body: bytes,
    headers: Mapping[str, str],
    process: subprocess.Popen[bytes],
    *,
    log: Path,
    seconds: float = 60.0,
) -> None:
    """Wait until a chat completion is answered with 200. Raises ``RuntimeError`` when it never is.

    The error ends with the last lines of ``log``.
    """
    deadline = time.monotonic() + seconds
    seen = "no answer"
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/v1/chat/completions", body, dict(headers))
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
        else:
            if status == 200:
                return
            seen = f"status {status}"
        finally:
            connection.close()
        time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    raise RuntimeError(f"{process.args!r} did not become ready ({seen}):\n{tail}")
