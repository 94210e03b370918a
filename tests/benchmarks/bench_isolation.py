"""Whether the shadow can hurt: `python tests/benchmarks/bench_isolation.py [--quick]`.

Baseline traffic at 500 requests a second through a split at 0%, once without a shadow and once with
every request to be mirrored and the shadow in trouble: the candidate hangs, the judge is dead, the
store is locked, the disk full, the capture buffer full. Both are measured in turn, each in a fresh
process, over several rounds; p50 and p99 with trouble may be 1.05 times those without. One case
compares without with without: as far as its ratios are from 1, the machine is noisy, and the others
can't be told apart from that.

Prints a table, writes `build/bench/isolation.json`, and ends with status 1 when a goal is missed or
a trouble did not happen. Five rounds take about 10 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from dataplane.isolation import CASES, Case, Place, measure, ports
from dataplane.load import build, upstream
from dataplane.machine import in_words, two_cores, whereabouts
from dataplane.names import names
from dataplane.plans import Phase
from dataplane.ratios import Sides, isolation_report
from dataplane.tables import print_goals
from rich.console import Console

BENCH = Path(__file__).parents[2] / "build" / "bench"
QUICK = Phase("paced", 16, 0.8, 1.2, rate=500.0)
FULL = Phase("paced", 16, 1.5, 6.0, rate=500.0)


def in_turn(
    place: Place, phase: Phase, chosen: list[Case], rounds: int, out: Console
) -> dict[str, list[Sides]]:
    """Measure each case beside the same without a shadow; which comes first changes."""
    done: dict[str, list[Sides]] = {case.name: [] for case in chosen}
    with tempfile.TemporaryDirectory(prefix="coalmine-bench-") as scratch:
        for number in range(rounds):
            for case in chosen:
                sides = {}
                turn = [("without", False), ("with", True)]
                for side, shadow in turn if number % 2 == 0 else reversed(turn):
                    folder = Path(scratch) / f"{number}" / case.name / side
                    sides[side] = measure(case, place, phase, folder, shadow=shadow)
                done[case.name].append(sides)
                p50, p99 = (
                    f"{sides['without'][name]:,.0f} without, {sides['with'][name]:,.0f} with"
                    for name in ("latency_p50_us", "latency_p99_us")
                )
                out.print(f"{number + 1}, {case.name}: p50 {p50}; p99 {p99} µs", highlight=False)
    return done


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="rounds (5; quick: 1)")
    parser.add_argument(
        "--cases",
        type=names(tuple(case.name for case in CASES)),
        help="names with commas (all)",
    )
    parser.add_argument("--out", type=Path, default=BENCH / "isolation.json", help="JSON report")
    options = parser.parse_args(arguments)
    began = perf_counter()
    out = Console(width=180)
    cores = two_cores()
    if cores is None:
        sys.stderr.write("the benchmark needs a C compiler (cc) and two cores\n")
        return 2
    build(BENCH)
    phase = QUICK if options.quick else FULL
    rounds = options.rounds or (1 if options.quick else 5)
    chosen = [case for case in CASES if options.cases is None or case.name in options.cases]
    environment = whereabouts(cores) | {
        "quick": options.quick,
        "rounds": rounds,
        "load": f"{phase.rate:g} requests/s, {phase.seconds:g} s a measurement",
    }
    out.print(in_words(environment), highlight=False)
    os.sched_setaffinity(0, {cores[0]})
    lifetime = 60.0 + 60.0 * rounds * len(chosen)
    with (
        ports() as (silent, dead),
        upstream(BENCH, core=cores[0], chunks=1, interval_ms=50.0, lifetime_s=lifetime) as port,
    ):
        place = Place(BENCH, *cores, port, silent, dead)
        done = in_turn(place, phase, chosen, rounds, out)
    environment["seconds"] = round(perf_counter() - began, 1)
    document = isolation_report(done, environment)
    print_goals(document, out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    missed = [row["name"] for row in document["results"] if row["met"] is False]
    sys.stdout.write(f"{environment['seconds']} s; missed goals: {'; '.join(missed) or 'none'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
