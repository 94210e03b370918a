"""What evaluating costs, and whether it is right: `python tests/benchmarks/bench_evaluator.py`.

A real worker on SQLite over an upstream without latency (pairs a second of a core, memory for a
pair in work), all checks on a pair of 1,000-token answers, thousands of judge calls in flight, what
redaction costs, and seeded simulations: a judge with position bias, and a judge that says 0.566
where people say 0.500, corrected by their labels and taken at its word.

Prints a table, writes `build/bench/evaluator.json`, and ends with status 1 when a goal is missed.
Takes about five minutes; `--quick` under one, with fewer pairs and runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from dataplane.machine import in_words, whereabouts
from evaluator.figures import bias_rows, checks_rows, coverage_rows, flight_rows
from evaluator.rows import Row
from rich.console import Console
from rich.table import Table

BENCH = Path(__file__).parents[2] / "build" / "bench"
PARTS = Path(__file__).parent / "evaluator"

Cores = tuple[int, int]
Measure = Callable[[bool, Cores], list[Row]]


def worker(quick: bool, cores: Cores) -> list[Row]:
    """Measure a worker's CPU and memory."""
    from evaluator import worker_cost

    return worker_cost.measure(quick=quick, cores=cores)


def checks(quick: bool, cores: Cores) -> list[Row]:
    """Measure all checks on a pair."""
    from evaluator import checks_cost

    pairs, rounds = (20, 2) if quick else (50, 5)
    costs = [checks_cost.checks_cost_us(pairs, rounds=1) for _ in range(rounds)]
    return checks_rows(costs, checks_cost.cost_by_check_us(pairs))


def flight(quick: bool, cores: Cores) -> list[Row]:
    """Measure judge calls in flight, in a process of its own: it is memory that is measured."""
    in_flight = 500 if quick else 4000
    command = [
        *(sys.executable, str(PARTS / "judge_flight.py")),
        *("--pairs", str(in_flight), "--in-flight", str(in_flight)),
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return flight_rows(json.loads(said.stdout), wanted=round(in_flight * 0.9))


def bias(quick: bool, cores: Cores) -> list[Row]:
    """Simulate a judge that prefers what stands first."""
    from evaluator import judge_bias

    return bias_rows(judge_bias.simulate(runs=40 if quick else 400))


def labels(quick: bool, cores: Cores) -> list[Row]:
    """Simulate a biased judge that people's labels correct."""
    from evaluator import label_coverage

    runs = 1500 if quick else 16_000
    # So few runs are off by half a point and more.
    return coverage_rows(label_coverage.coverage(runs), runs=runs, goal=0.925 if quick else 0.94)


def redaction(quick: bool, cores: Cores) -> list[Row]:
    """Measure what redaction costs."""
    from evaluator import redaction_cost

    return redaction_cost.measure(quick=quick)


MEASURES: dict[str, Measure] = {
    "worker": worker,
    "checks": checks,
    "flight": flight,
    "redaction": redaction,
    "bias": bias,
    "labels": labels,
}


def main(arguments: Sequence[str] | None = None, measures: Mapping[str, Measure] = MEASURES) -> int:
    """Measure, print and write the report; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--only", nargs="+", choices=sorted(measures), help="only these parts")
    parser.add_argument("--out", type=Path, default=BENCH / "evaluator.json", help="JSON report")
    options = parser.parse_args(arguments)
    available = sorted(os.sched_getaffinity(0))
    cores = available[0], available[-1]
    environment: dict[str, Any] = whereabouts(cores) | {"quick": options.quick}
    out = Console(width=170)
    out.print(in_words(environment), highlight=False)
    began, rows = perf_counter(), []
    for name in options.only or measures:
        rows += measures[name](options.quick, cores)
        out.print(f"{perf_counter() - began:6.0f} s  {name}", highlight=False)
    environment["seconds"] = round(perf_counter() - began, 1)
    out.print(table(rows))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {"environment": environment, "results": [row.to_json() for row in rows]}
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    missed = [row.name for row in rows if row.met is False]
    sys.stdout.write(f"{environment['seconds']} s; missed goals: {'; '.join(missed) or 'none'}\n")
    return 1 if missed else 0


def table(rows: Sequence[Row]) -> Table:
    """Return the table that is printed."""
    shown = Table(title="the evaluator")
    for column in ("", "value", "goal", "met", "rounds", "spread", ""):
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(
            row.name,
            f"{row.value:.4g} {row.unit}".strip(),
            row.goal,
            {True: "yes", False: "[red]NO[/red]", None: ""}[row.met],
            str(row.rounds),
            "" if row.spread is None else f"{row.spread:.0%}",
            row.note,
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
