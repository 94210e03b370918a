"""How fast a rollback is: `python tests/benchmarks/bench_rollback.py [--quick]`.

Eight gateway processes on PostgreSQL, the real controller, a simulated upstream, and users who ask
every gateway. The candidate serves half of them and then fails every request; the gateways'
breakers are out of the way, so that the controller alone has to notice. Measured of each rollback:
from the first failing answer to the decision, and from the decision to the last request that any
gateway gave to the candidate (goal: 250 ms at p99). The weight is set again through the API between
them.

Prints a table, writes `build/bench/rollback.json`, and ends with status 1 when a goal is missed.
30 rollbacks take about 90 seconds; the p99 of so few is their worst.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from dataplane.fleet import fleet, postgres
from dataplane.machine import whereabouts
from dataplane.rollbacks import Rollback, rollback_report
from rich.console import Console
from rich.table import Table

BENCH = Path(__file__).parents[2] / "build" / "bench"


def measure(options: argparse.Namespace, count: int, out: Console) -> tuple[list[Rollback], int]:
    """Roll back so often; also return how many requests failed for their users."""
    done: list[Rollback] = []
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="coalmine-bench-"))
        store = options.store or stack.enter_context(postgres())
        system = stack.enter_context(
            fleet(
                Path(scratch),
                store,
                gateways=options.gateways,
                rate=options.rate,
                weight=options.weight,
            )
        )
        for number in range(count):
            done.append(system.rollback(calm=options.calm, first=not number))
            last = done[-1]
            out.print(
                f"{number + 1}: decided {last.detection * 1000:.0f} ms after the first failing "
                f"answer, of {last.failures}; last request to the candidate "
                f"{last.last_candidate * 1000:.1f} ms after ({last.users * 1000:.1f} ms by the "
                f"users), applied everywhere {last.applied * 1000:.1f} ms after",
                highlight=False,
            )
        failed = system.users.failed
    return done, failed


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 when a goal is missed or a user's request failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="few rollbacks")
    parser.add_argument("--rollbacks", type=int, help="how many (30; quick: 6)")
    parser.add_argument("--gateways", type=int, default=8, help="gateway processes (8)")
    parser.add_argument("--rate", type=float, default=160.0, help="requests a second in all (160)")
    parser.add_argument("--weight", type=float, default=50.0, help="the candidate's percent (50)")
    parser.add_argument("--calm", type=float, default=0.7, help="seconds before it fails (0.7)")
    parser.add_argument("--store", help="URL of an empty store (a PostgreSQL of its own)")
    parser.add_argument("--out", type=Path, default=BENCH / "rollback.json", help="JSON report")
    options = parser.parse_args(arguments)
    began = perf_counter()
    out = Console(width=180)
    cores = sorted(os.sched_getaffinity(0))
    count = options.rollbacks or (6 if options.quick else 30)
    environment = whereabouts((cores[0], cores[-1])) | {
        "quick": options.quick,
        "rollbacks": count,
        "gateways": options.gateways,
        "load": f"{options.rate:g} requests/s, {options.weight:g}% to the candidate",
    }
    done, failed = measure(options, count, out)
    environment |= {"seconds": round(perf_counter() - began, 1), "failed_requests": failed}
    document = rollback_report(done, environment)
    table = Table(title=f"rollbacks: {count}; gateways: {options.gateways}")
    for column in ("", "value", "goal", "met"):
        table.add_column(column)
    for row in document["results"]:
        met = {True: "yes", False: "[red]NO[/red]", None: ""}[row["met"]]
        value = f"{row['value']:.1f} {row['unit']}"
        table.add_row(row["name"], value, f"{row['goal']} ms" if row["goal"] else "", met)
    out.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    missed = [row["name"] for row in document["results"] if row["met"] is False]
    sys.stdout.write(
        f"{environment['seconds']} s; requests that failed for their users: {failed}; "
        f"missed goals: {'; '.join(missed) or 'none'}\n"
    )
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
