"""The data plane beside its peers: `python tests/benchmarks/bench_gateway.py [--quick]`.

A C upstream and load generator run on one core, the gateway or a peer on another. In each round all
are measured in turn: requests at full speed over kept connections (CPU and requests a second), at
100 requests a second (latency added to the direct way), and 512 paced event streams (CPU a chunk).
`ours` is the gateway with a client key, a split at 50%, metrics, a 10% mirror and live checks that
together capture a tenth of all answers into SQLite; `ours-bare` has a route and nothing else.

Prints a table of medians, writes `build/bench/gateway.json`, and ends with status 1 when a measured
goal is missed. A quick run sees 200 latencies a subject and round: its p99 is a rough figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from dataplane.goals import METRICS, Round, report, summary
from dataplane.load import Phase, Window, build, load, request_bytes, upstream
from dataplane.process import resident_mib, running, wait_for
from dataplane.subjects import INSTALLABLE, Subject, captured, install, subjects
from rich.console import Console
from rich.table import Table

BENCH = Path(__file__).parents[2] / "build" / "bench"
PEERS = BENCH / "peers"
RATE = 100.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The phases of one subject, and the streams that the upstream sends."""

    closed: Phase
    paced: Phase
    stream: Phase
    chunks: int
    interval_ms: float = 50.0


QUICK = Plan(
    Phase("closed", 64, 0.5, 1.5),
    Phase("paced", 16, 0.3, 2.0, rate=RATE),
    Phase("stream", 512, 2.2, 2.0, stagger_s=2.0),
    chunks=40,
)
FULL = Plan(
    Phase("closed", 64, 1.0, 4.0),
    Phase("paced", 16, 0.5, 8.0, rate=RATE),
    Phase("stream", 512, 5.5, 5.0, stagger_s=5.0),
    chunks=100,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a run happens: its plan, the cores of load and subject, the upstream's port."""

    plan: Plan
    load_core: int
    subject_core: int
    upstream: int

    def direct(self, folder: Path) -> dict[str, float]:
        """Measure the upstream without anything between, which bounds what can be seen."""
        closed, paced, stream = self._windows(folder, self.upstream, {}, None)
        return {
            "requests_per_second": closed.seen["requests"] / closed.seen["seconds"],
            "latency_p50_us": paced.quantile("latency", "p50"),
            "latency_p99_us": paced.quantile("latency", "p99"),
            "first_chunk_p50_us": stream.quantile("first_event", "p50"),
            "first_chunk_p99_us": stream.quantile("first_event", "p99"),
        }

    def measure(self, subject: Subject, folder: Path, direct: dict[str, float]) -> dict[str, float]:
        """Start ``subject``, put the three loads on it and stop it."""
        started = subject.prepare(folder, self.upstream)
        log = folder / "output.log"
        body = request_bytes(stream=False, headers={}).partition(b"\r\n\r\n")[2]
        with running(
            started.command, core=self.subject_core, log=log, environ=started.environ
        ) as process:
            headers = {"content-type": "application/json", **started.headers}
            wait_for(started.port, body, headers, process, log=log)
            closed, paced, stream = self._windows(
                folder, started.port, started.headers, process.pid
            )
            resident = resident_mib(process.pid)
        found = {
            "cpu_us_per_request": closed.cpu_s * 1e6 / closed.seen["requests"],
            "requests_per_second": closed.seen["requests"] / closed.seen["seconds"],
            "cpu_busy": closed.cpu_s / closed.seen["seconds"],
            "added_p50_us": paced.quantile("latency", "p50") - direct["latency_p50_us"],
            "added_p99_us": paced.quantile("latency", "p99") - direct["latency_p99_us"],
            "cpu_us_per_chunk": stream.cpu_s * 1e6 / stream.seen["events"],
            "first_chunk_p50_us": stream.quantile("first_event", "p50"),
            "first_chunk_p99_us": stream.quantile("first_event", "p99"),
            "rss_mib": resident,
        }
        if subject.name == "ours":
            sent = sum(window.seen["sent"] for window in (closed, paced, stream))
            found["captured_share"] = captured(folder) / sent
            if not found["captured_share"]:
                raise RuntimeError("the gateway captured nothing; its features are not on")
        return found

    def _windows(
        self, folder: Path, port: int, headers: Any, pid: int | None
    ) -> tuple[Window, ...]:
        windows = []
        for phase in (self.plan.closed, self.plan.paced, self.plan.stream):
            request = folder / f"{phase.mode}.http"
            request.write_bytes(request_bytes(stream=phase.mode == "stream", headers=headers))
            windows.append(
                load(BENCH, phase, port=port, request=request, core=self.load_core, subject=pid)
            )
        return tuple(windows)


def run_rounds(
    plan: Plan, chosen: Sequence[Subject], rounds: int, *, cores: tuple[int, int], out: Console
) -> list[Round]:
    """Measure all subjects in turn, ``rounds`` times, each in a fresh process and folder.

    The order turns by one from round to round. A subject that fails is reported and left out of
    its round; the gateway's own failure ends the benchmark.
    """
    lifetime = 120.0 + 60.0 * rounds * (len(chosen) + 1)
    done: list[Round] = []
    with upstream(
        BENCH,
        core=cores[0],
        chunks=plan.chunks,
        interval_ms=plan.interval_ms,
        lifetime_s=lifetime,
    ) as port:
        bench = Bench(plan, *cores, port)
        for number in range(rounds):
            turn = number % len(chosen)
            one: dict[str, dict[str, float]] = {}
            with tempfile.TemporaryDirectory(prefix="coalmine-bench-") as scratch:
                direct = one["direct"] = bench.direct(Path(scratch))
                for subject in [*chosen[turn:], *chosen[:turn]]:
                    folder = Path(scratch) / subject.name
                    folder.mkdir()
                    folder.chmod(0o755)
                    try:
                        one[subject.name] = bench.measure(subject, folder, direct)
                    except RuntimeError as error:
                        if subject.name.startswith("ours"):
                            raise
                        out.print(f"[red]{subject.name}: {error}[/red]")
            done.append(one)
    return done


def number(value: float) -> str:
    """Return a number short enough for a table."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def print_tables(rounds: Sequence[Round], document: dict[str, Any], out: Console) -> None:
    """Print the medians by subject, then the goals."""
    table = Table(
        title=f"medians; rounds: {len(rounds)}; in brackets: (largest - smallest) / median"
    )
    table.add_column("")
    for metric, unit in METRICS.items():
        table.add_column(f"{metric.removesuffix('_us').replace('_', ' ')}\n{unit}", justify="right")
    for subject in dict.fromkeys(name for one in rounds for name in one):
        cells = []
        for metric in METRICS:
            values = [one[subject][metric] for one in rounds if metric in one.get(subject, {})]
            found = summary(values) if values else None
            cells.append(f"{number(found['value'])} ({found['spread']:.0%})" if found else "")
        table.add_row(subject, *cells)
    out.print(table)
    goals = Table(title="goals")
    for column in ("goal", "value", "limit", "spread", "met"):
        goals.add_column(column)
    for row in document["results"]:
        if row["goal"] is not None:
            value = row["note"] if row["value"] is None else f"{row['value']:.3g} {row['unit']}"
            met = {True: "yes", False: "[red]NO[/red]", None: "not measured"}[row["met"]]
            goals.add_row(row["name"], value, row["goal"], str(row.get("spread", "")), met)
    out.print(goals)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 when a measured goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute")
    parser.add_argument("--rounds", type=int, help="rounds (5; quick: 1)")
    parser.add_argument("--peers", help="names with commas, or 'none' (all that are installed)")
    parser.add_argument(
        "--install-peers",
        nargs="?",
        const="envoy,vllm-router",
        help=f"first install these into build/bench/peers ({', '.join(INSTALLABLE)})",
    )
    parser.add_argument("--out", type=Path, default=BENCH / "gateway.json", help="JSON report")
    options = parser.parse_args(arguments)
    began = perf_counter()
    out = Console(width=170)
    cpus = sorted(os.sched_getaffinity(0))
    if shutil.which("cc") is None or len(cpus) < 2:
        sys.stderr.write("the benchmark needs a C compiler (cc) and two cores\n")
        return 2
    build(BENCH)
    for name in (options.install_peers or "").split(","):
        if name:
            install(name, PEERS)
    wanted = options.peers.split(",") if options.peers else None
    if options.quick and wanted is None:
        wanted = ["nginx", "haproxy"]
    chosen, missing = subjects(PEERS, wanted)
    rounds = run_rounds(
        QUICK if options.quick else FULL,
        chosen,
        options.rounds or (1 if options.quick else 5),
        cores=(cpus[0], cpus[-1]),
        out=out,
    )
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "quick": options.quick,
        "rounds": len(rounds),
        "peers_missing": missing,
        "seconds": round(perf_counter() - began, 1),
    }
    document = report(rounds, environment)
    print_tables(rounds, document, out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    missed = [row["name"] for row in document["results"] if row["met"] is False]
    sys.stdout.write(f"{environment['seconds']} s; missed goals: {'; '.join(missed) or 'none'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
