"""The C programs: compiled at run, and one window of load with its CPU account."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.process import cpu_of, on_core, stop

__all__ = ["Phase", "Window", "build", "load", "request_bytes", "upstream"]

_HERE = Path(__file__).parent


def build(folder: Path) -> None:
    """Compile the upstream and the load generator into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("upstream", "loadgen"):
        source, target = _HERE / f"{name}.c", folder / name
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["cc", "-O2", "-o", target, source], check=True, timeout=60)


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


def request_bytes(*, stream: bool, headers: Mapping[str, str]) -> bytes:
    """Return the request that the generator sends: about 1 KB, with a user that changes."""
    text = "My parcel has not arrived and the tracking page shows nothing new. " * 12
    document: dict[str, Any] = {
        "model": "bench",
        "messages": [
            {"role": "system", "content": "You answer customers of a shop."},
            {"role": "user", "content": text},
        ],
        "temperature": 0.2,
    }
    if stream:
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
class Phase:
    """One kind of load: its mode, connections, times in seconds and rate per second."""

    mode: str
    connections: int
    warmup_s: float
    seconds: float
    rate: float = 0.0
    stagger_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """What the generator saw in one window, and the CPU seconds that the subject used in it."""

    seen: Mapping[str, Any]
    cpu_s: float

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
        *(folder / "loadgen", phase.mode, str(port), request, str(phase.connections)),
        *(str(phase.warmup_s), str(phase.seconds), str(phase.rate), str(phase.stagger_s)),
    ]
    with on_core(core):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
    try:
        assert process.stdout is not None
        marks: list[float] = []
        for line in process.stdout:
            if line.startswith("{"):
                seen = json.loads(line)
                break
            marks.append(0.0 if subject is None else cpu_of(subject))
        else:
            raise RuntimeError(f"the load generator failed with status {process.wait(5)}")
        process.wait(5)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
        process.stdout.close()
    whole = seen["requests"] + (seen["events"] if phase.mode == "stream" else 0)
    if seen["errors"] > whole / 1000 or not whole:
        raise RuntimeError(f"{phase.mode}: {seen['errors']} errors, {whole} answers")
    return Window(seen, marks[1] - marks[0])
