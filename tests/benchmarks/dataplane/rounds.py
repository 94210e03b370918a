"""Measuring: each subject in turn, over several rounds, with the loads that it can bear."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dataplane.goals import Round
from dataplane.load import Window, load, request_bytes, upstream
from dataplane.ours import captured
from dataplane.plans import LIMITS, Phase, Plan, fitted
from dataplane.process import resident_mib, running, tree_of, wait_for
from dataplane.subjects import Subject

__all__ = ["Bench", "Running", "run_rounds"]


@dataclass(frozen=True, slots=True)
class Running:
    """A subject that answers: its port, the headers it wants, its process id and its folder."""

    port: int
    headers: Mapping[str, str]
    pid: int | None
    folder: Path


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a run happens: its plan, the cores of load and subject, the upstream's port.

    ``programs`` holds the compiled programs.
    """

    programs: Path
    plan: Plan
    load_core: int
    subject_core: int
    upstream: int

    def direct(self, folder: Path) -> dict[str, float]:
        """Measure the upstream without anything between, which bounds what can be seen."""
        alone = Running(self.upstream, {}, None, folder)
        closed = self.window(self.plan.closed, alone)
        paced = self.window(self.plan.paced, alone)
        stream = self.window(self.plan.stream, alone)
        return {
            "requests_per_second": closed.seen["requests"] / closed.seen["seconds"],
            "latency_p50_us": paced.quantile("latency", "p50"),
            "latency_p99_us": paced.quantile("latency", "p99"),
            **_first_chunks(stream),
        }

    def measure(
        self,
        subject: Subject,
        folder: Path,
        direct: Mapping[str, float],
        failed: Callable[[str, RuntimeError], None],
    ) -> dict[str, float]:
        """Start ``subject``, put the loads on it and stop it.

        A phase that fails is told to ``failed`` and leaves its metrics out; that may raise.
        """
        plan = fitted(self.plan, LIMITS.get(subject.name))
        found: dict[str, float] = {}
        sent = 0
        with self.started(subject, folder / "loaded") as here:
            for phase in (plan.closed, plan.paced, plan.stream):
                try:
                    window = self.window(phase, here)
                    found |= _METRICS[phase.mode](window, direct)
                    sent += window.seen["sent"]
                except RuntimeError as error:
                    failed(f"{subject.name}, {phase.mode}", error)
        if subject.name == "ours":
            found["captured_share"] = captured(here.folder) / sent
            if not found["captured_share"]:
                raise RuntimeError("the gateway captured nothing; its features are not on")
        with self.started(subject, folder / "stalled", patience=0.0) as here:
            before = resident_mib(tree_of(here.pid or 0))
            try:
                window = self.window(plan.stalled, here)
                grown = window.resident_mib - before
                found["stalled_kib_per_stream"] = grown * 1024 / plan.stalled.connections
            except RuntimeError as error:
                failed(f"{subject.name}, stalled", error)
        return found

    @contextmanager
    def started(self, subject: Subject, folder: Path, patience: float = 3.0) -> Iterator[Running]:
        """Run ``subject`` in ``folder``, once it answers; then it has ``patience`` s to end."""
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # nginx's workers are another user
        ready = subject.prepare(folder, self.upstream)
        log = folder / "output.log"
        body = request_bytes(mode="closed", headers={}).partition(b"\r\n\r\n")[2]
        headers = {"content-type": "application/json", **ready.headers}
        with running(
            ready.command,
            core=self.subject_core,
            log=log,
            environ=ready.environ,
            patience=patience,
        ) as process:
            wait_for(ready.port, body, headers, process, log=log)
            yield Running(ready.port, ready.headers, process.pid, folder)

    def window(self, phase: Phase, subject: Running) -> Window:
        """Put one phase on a running subject. Raises ``RuntimeError`` where it fails."""
        request = subject.folder / f"{phase.mode}.http"
        request.write_bytes(request_bytes(mode=phase.mode, headers=subject.headers))
        return load(
            self.programs,
            phase,
            port=subject.port,
            request=request,
            core=self.load_core,
            subject=subject.pid,
        )


def _first_chunks(stream: Window) -> dict[str, float]:
    return {
        "first_chunk_p50_us": stream.quantile("first_event", "p50"),
        "first_chunk_p99_us": stream.quantile("first_event", "p99"),
    }


def _closed(window: Window, _direct: Mapping[str, float]) -> dict[str, float]:
    seen = window.seen
    return {
        "cpu_us_per_request": window.cpu_s * 1e6 / seen["requests"],
        "requests_per_second": seen["requests"] / seen["seconds"],
        "cpu_busy": window.cpu_s / seen["seconds"],
    }


def _paced(window: Window, direct: Mapping[str, float]) -> dict[str, float]:
    return {
        "added_p50_us": window.quantile("latency", "p50") - direct["latency_p50_us"],
        "added_p99_us": window.quantile("latency", "p99") - direct["latency_p99_us"],
        "latencies": window.seen["latency"]["count"],
    }


def _stream(window: Window, _direct: Mapping[str, float]) -> dict[str, float]:
    return {
        "cpu_us_per_chunk": window.cpu_s * 1e6 / window.seen["events"],
        "rss_mib": window.resident_mib,
        **_first_chunks(window),
    }


_METRICS = {"closed": _closed, "paced": _paced, "stream": _stream}


def run_rounds(
    programs: Path,
    plan: Plan,
    chosen: Sequence[Subject],
    rounds: int,
    *,
    cores: tuple[int, int],
    tell: Callable[[str], None],
) -> list[Round]:
    """Measure all subjects in turn, ``rounds`` times, each in fresh processes and folders.

    The order turns by one from round to round. A peer that fails is told and left out as far as it
    failed; the gateway's own failure ends the benchmark.
    """

    def failed(what: str, error: RuntimeError) -> None:
        if what.startswith("ours"):
            raise error
        tell(f"{what}: {error}")

    lifetime = 300.0 + 120.0 * rounds * (len(chosen) + 1)
    done: list[Round] = []
    with upstream(
        programs,
        core=cores[0],
        chunks=plan.chunks,
        interval_ms=plan.interval_ms,
        lifetime_s=lifetime,
    ) as port:
        bench = Bench(programs, plan, *cores, port)
        for number in range(rounds):
            turn = number % len(chosen)
            one: dict[str, dict[str, float]] = {}
            with tempfile.TemporaryDirectory(prefix="coalmine-bench-") as scratch:
                Path(scratch).chmod(0o755)
                direct = one["direct"] = bench.direct(Path(scratch))
                for subject in [*chosen[turn:], *chosen[:turn]]:
                    folder = Path(scratch) / subject.name
                    try:
                        one[subject.name] = bench.measure(subject, folder, direct, failed)
                    except RuntimeError as error:
                        failed(subject.name, error)
            done.append(one)
    return done
