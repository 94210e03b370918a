"""The data plane beside its peers: `python tests/benchmarks/bench_gateway.py [--quick]`.

A C upstream and load generator run on one core, the gateway or a peer on another. In each round all
are measured in turn: requests at full speed over kept connections (CPU and requests a second), at
100 requests a second (latency added to the direct way), 512 paced event streams (CPU a chunk), and,
in a process of its own, 512 streams whose clients stop reading (resident memory a stream; the
kernel's socket buffers are not in it). A peer that can't follow gets less; what each gets is
printed and written.

`ours` is the gateway with a client key, a split at 50%, metrics, a 10% mirror and live checks that
together capture a tenth of all answers into SQLite; `ours-bare` has a route and nothing else. Both
run with the hot path compiled (`python -m gateway.compile`, in a copy); `ours-interpreted` is
`ours` without. The worker that mirrors and judges is another process, wherever one likes, and is no
part of any.

Prints a table of medians, writes `build/bench/gateway.json`, and ends with status 1 when a measured
goal is missed. Five full rounds of all peers take about 40 minutes. A quick run sees 150 latencies
a subject and round: its p99 is a rough figure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from time import perf_counter

from dataplane.goals import report
from dataplane.load import build
from dataplane.machine import in_words, two_cores, whereabouts
from dataplane.names import names
from dataplane.ours import compiled_copy
from dataplane.peers import INSTALLABLE, PEERS, install
from dataplane.plans import FULL, LIMITS, QUICK, fitted, loads
from dataplane.rounds import run_rounds
from dataplane.subjects import subjects
from dataplane.tables import print_goals, print_loads, print_measurements
from rich.console import Console

BENCH = Path(__file__).parents[2] / "build" / "bench"


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute")
    parser.add_argument("--rounds", type=int, help="rounds (5; quick: 1)")
    parser.add_argument(
        "--peers",
        type=names(tuple(PEERS)),
        help="names with commas, or 'none' (all that are installed; quick: nginx,haproxy)",
    )
    parser.add_argument(
        "--install-peers",
        type=names(tuple(INSTALLABLE)),
        nargs="?",
        const=list(INSTALLABLE),
        default=[],
        help=f"first install these, or all of {', '.join(INSTALLABLE)}, into build/bench/peers",
    )
    parser.add_argument("--out", type=Path, default=BENCH / "gateway.json", help="JSON report")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 when a measured goal is missed."""
    options = options_of(arguments)
    out = Console(width=180)
    cores = two_cores()
    if cores is None:
        sys.stderr.write("the benchmark needs a C compiler (cc) and two cores\n")
        return 2
    build(BENCH)
    for name in options.install_peers:
        out.print(f"installing {name} ({INSTALLABLE[name]})", highlight=False)
        install(name, BENCH / "peers")
    wanted = options.peers
    if options.quick and wanted is None:
        wanted = ["nginx", "haproxy"]
    out.print("compiling the hot path", highlight=False)
    chosen, unmeasured = subjects(BENCH / "peers", wanted, compiled=compiled_copy(BENCH))
    plan = QUICK if options.quick else FULL
    load = {each.name: loads(fitted(plan, LIMITS.get(each.name))) for each in chosen}
    versions = {each.name: each.version for each in chosen}
    environment = whereabouts(cores) | {"quick": options.quick, "versions": versions, "load": load}
    out.print(in_words(environment), highlight=False)
    out.print("; ".join(f"{name} {text}" for name, text in versions.items()), highlight=False)
    print_loads(load, out)
    os.sched_setaffinity(0, {cores[0]})
    began = perf_counter()
    rounds = run_rounds(
        BENCH,
        plan,
        chosen,
        options.rounds or (1 if options.quick else 5),
        cores=cores,
        tell=lambda text: out.print(text, style="red", markup=False, highlight=False),
    )
    environment |= {"rounds": len(rounds), "seconds": round(perf_counter() - began, 1)}
    environment["unmeasured"] = unmeasured
    document = report(rounds, environment, unmeasured=unmeasured)
    print_measurements(rounds, out)
    print_goals(document, out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    missed = [row["name"] for row in document["results"] if row["met"] is False]
    sys.stdout.write(f"{environment['seconds']} s; missed goals: {'; '.join(missed) or 'none'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
