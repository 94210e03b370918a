"""The C programs: compiled at run, and one window of load with its CPU and memory account."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.plans import Phase
from dataplane.process import cpu_of, on_core, resident_mib, stop, tree_of

__all__ = ["Window", "build", "load", "request_bytes", "upstream"]

_HERE = Path(__file__).parent


def build(folder: Path) -> None:
    """Compile the upstream and the load generator into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(source.stat().st_mtime for source in _HERE.glob("*.[ch]"))
    for name in ("upstream", "loadgen"):
        target = folder / name
        if not target.exists() or target.stat().st_mtime < newest:
            subprocess.run(["cc", "-O2", "-o", target, _HERE / f"{name}.c"], check=True, timeout=60)


@contextlib.contextmanager
def upstream(
    folder: Path, *, core: int, chunks: int, interval_ms: float, lifetime_s: float
) -> Iterator[int]:
    """Run the upstream for as long as the block lasts; gives its port."""
    with on_core(core):
        process = subprocess.Popen(
            [folder / "upstream", str(chunks), str(interval_ms), str(lifetime_s)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        stop(process)
        if process.stdout is not None:
            process.stdout.close()


def request_bytes(*, mode: str, headers: Mapping[str, str]) -> bytes:
    """Return the request that the generator sends in ``mode``: about 1 KB, a user that changes."""
    text = "My parcel has not arrived and the tracking page shows nothing new. " * 12
    document: dict[str, Any] = {
        "model": "bench",
        "messages": [
            {"role": "system", "content": "You answer customers of a shop."},
            # the upstream then sends as fast as it is read
            {"role": "user", "content": f"{text}[[flood]]" if mode == "stalled" else text},
        ],
        "temperature": 0.2,
    }
    if mode in {"stream", "stalled"}:
        document["stream"] = True
    body = json.dumps(document, separators=(",", ":")).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        "x-user-id: @@@@@@@@",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Window:
    """What the generator saw in one window, and what its subject used.

    ``cpu_s`` are the CPU seconds of the window, ``resident_mib`` the memory at its end.
    """

    seen: Mapping[str, Any]
    cpu_s: float
    resident_mib: float

    def quantile(self, samples: str, name: str) -> float:
        """Return a quantile in microseconds. Raises ``RuntimeError`` where nothing was seen."""
        found = self.seen[samples].get(name)
        if found is None:
            raise RuntimeError(f"no {samples} was measured: {self.seen}")
        return float(found)


def load(
    folder: Path, phase: Phase, *, port: int, request: Path, core: int, subject: int | None
) -> Window:
    """Put one window of load on ``port`` and account for the process tree of ``subject``.

    Raises ``RuntimeError`` where more than one request in a thousand failed.
    """
    command = [
        *(str(folder / "loadgen"), phase.mode, str(port), str(request), str(phase.connections)),
        *(str(phase.warmup_s), str(phase.seconds), str(phase.rate), str(phase.stagger_s)),
    ]
    processes = [] if subject is None else tree_of(subject)
    with on_core(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    try:
        window = _account(process, processes)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    seen = window.seen
    whole = seen["requests"] + seen["events"]
    if seen["errors"] > whole / 1000 or not whole:
        raise RuntimeError(f"{phase.mode}: {seen['errors']} errors, {whole} answers")
    return window


def _account(generator: subprocess.Popen[str], processes: Sequence[int]) -> Window:
    assert generator.stdin is not None
    assert generator.stdout is not None
    cpu: list[float] = []
    resident = 0.0
    for line in generator.stdout:
        if line.startswith("{"):
            generator.wait(5)
            return Window(json.loads(line), cpu[1] - cpu[0], resident)
        cpu.append(cpu_of(processes))
        if line.startswith("measured"):
            resident = resident_mib(processes)
            generator.stdin.close()  # stalled streams stand until now
    raise RuntimeError(f"the load generator failed with status {generator.wait(5)}")
