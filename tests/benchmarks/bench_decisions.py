"""Our decisions beside other tools': `python tests/benchmarks/bench_decisions.py [--quick]`.

A seeded simulation of this engine with the default spec and of the rules of Argo Rollouts, Flagger,
Kayenta and GrowthBook and of a z-test that is peeked at, all on the same streams of requests:
healthy candidates, regressions that shadow can see, one in a single segment, some that only live
traffic shows, and some that start at 100%. Reported are false rollbacks, missed regressions,
observations until the decision, users served by a worse candidate, requests until a good one has
everybody, and judge calls.

Prints tables, writes `build/bench/decisions.json` and plots under `build/bench/decisions/`, and
ends with status 1 when a goal is missed by more than the noise of the simulation. The engine's
defaults were tuned on other seeds than the one of the report, which is the default.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from decisions.plan import run_all
from decisions.report import document, print_goals, print_rules, write_plots
from rich.console import Console

BENCH = Path(__file__).parents[2] / "build" / "bench"
SEED = 20261127
RUNS, QUICK_RUNS = 1000, 40


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs a case")
    parser.add_argument("--runs", type=int, help=f"runs a case ({RUNS:,})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of all streams ({SEED})")
    parser.add_argument(
        "--cases", nargs="+", default=[], metavar="PART", help="only cases with PART in their name"
    )
    parser.add_argument("--out", type=Path, help="JSON report")
    options = parser.parse_args(arguments)
    runs = options.runs or (QUICK_RUNS if options.quick else RUNS)
    out = Console(width=170)
    began = perf_counter()

    def tell(name: str) -> None:
        out.print(f"{perf_counter() - began:6.0f} s  {name}", highlight=False)

    try:
        found = run_all(options.seed, runs, tell, options.cases)
    except ValueError as error:
        parser.error(str(error))
    report_at = options.out or BENCH / f"decisions{'-some' if options.cases else ''}.json"
    environment = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "seed": options.seed,
        "runs": runs,
        "seconds": round(perf_counter() - began, 1),
    }
    print_rules(found.summaries, out)
    print_goals(found.goals, out)
    report_at.parent.mkdir(parents=True, exist_ok=True)
    report = document(found.goals, found.summaries, environment)
    report_at.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for path in write_plots(report_at.with_suffix(""), found.summaries, found.detection):
        out.print(f"wrote {path}", highlight=False)
    missed = [row["name"] for row in found.goals if row["met"] is False]
    sys.stdout.write(f"{environment['seconds']} s; missed goals: {'; '.join(missed) or 'none'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
