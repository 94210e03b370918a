"""What it costs to fold one pair into the evidence: `python tests/benchmarks/bench_evidence.py`.

Folds seeded pairs with the ten default metrics, overall and in a segment, in blocks, and reports
the fastest and the median block in microseconds of CPU a pair, beside one decision on what was
folded. Also with users, whose pairs count as one, and with a judge that is examined: then each
verdict is on trial until the end of a window, and the pair is folded with it and without. Writes
`build/bench/evidence.json` and ends with status 1 when the median pair misses its goal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from time import thread_time
from typing import Any

from rich.console import Console

from gateway.store.evidence import Evidence
from rollout.evidence import start_evidence
from rollout.folding import fold
from rollout.policy import Status, decide
from rollout.spec import RolloutSpec, load_spec
from rollout.steps import plan

OUT = Path(__file__).parents[2] / "build" / "bench" / "evidence.json"
GOAL_US = 200.0
CHECKS = (
    "format_valid",
    "tool_contract",
    "refusal_rate",
    "truncation_rate",
    "empty_rate",
    "error_rate",
    "timeout_rate",
)


def spec(*, segments: bool, clusters: str = "mean") -> RolloutSpec:
    """Return a spec with the default metrics."""
    analysis = {"segments": ["category"] if segments else [], "clusters": clusters}
    return load_spec(
        {"name": "x", "route": "r", "candidate": {"deployment": "c"}, "analysis": analysis}
    )


def pair(rng: Random, number: int, *, users: int, watched: bool) -> Evidence:
    """Return one pair of an equal candidate: scores with ties, rare failures, latencies, tokens."""
    failures = {name: [int(rng.random() < 0.01), int(rng.random() < 0.01)] for name in CHECKS}
    values = {
        "latency": [rng.lognormvariate(0, 0.5), rng.lognormvariate(0, 0.5)],
        "ttft": [rng.lognormvariate(-1, 0.5), rng.lognormvariate(-1, 0.5)],
        "output_tokens": [rng.randint(50, 400), rng.randint(50, 400)],
    }
    payload: dict[str, Any] = {
        "pair_id": number,
        "capture_id": f"{number:032x}",
        "cluster": f"user-{rng.randrange(users)}" if users else None,
        "judge": "tie",
        "score": rng.choice([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0]),
        "failures": failures,
        "values": values,
        "watched": watched,
    }
    return Evidence("pair", float(number), payload, segment="billing")


def passed(number: int) -> Evidence:
    """Return the end of a window of which the judge has passed the control pairs."""
    payload = {"window": number, "result": "pass", "limit": 1000}
    return Evidence("judge_health", float(number), payload)


def fold_cost(
    asked: RolloutSpec, *, blocks: int, size: int, users: int = 0, watched: bool = False
) -> dict[str, float]:
    """Return the fastest and the median block in microseconds a pair, and one decision's cost.

    Where the judge is watched, each block ends with a window.
    """
    rng = Random(20_260)
    state = start_evidence(asked)
    pairs = [pair(rng, n, users=users, watched=watched) for n in range(1, blocks * size + 1)]
    status = Status(plan(asked)[0].phase, plan(asked)[0], is_last=False, step_started_at=0.0)
    costs, decisions = [], []
    for block in range(blocks):
        began = thread_time()
        facts = enumerate(pairs[block * size : (block + 1) * size], state.last_seq + 1)
        state = fold(state, facts, asked)
        folded = thread_time()
        decide(state, asked, status, 1e9, with_verdicts=False)
        costs.append((folded - began) / size * 1e6)
        decisions.append((thread_time() - folded) * 1e6)
        if watched:
            state = fold(state, [(state.last_seq + 1, passed(block + 1))], asked)
    return {"min_us": min(costs), "median_us": median(costs), "decision_us": median(decisions)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description="What one pair costs the controller.")
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--size", type=int, default=100, help="pairs in a block")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    cases: dict[str, dict[str, Any]] = {
        "10 metrics, one segment": {"segments": True},
        "10 metrics, no segments": {"segments": False},
        "10 metrics, one segment, 500 users": {"segments": True, "users": 500},
        "10 metrics, one segment, judge on trial": {"segments": True, "watched": True},
        "the same, 500 users": {"segments": True, "users": 500, "watched": True},
    }
    console = Console(highlight=False, soft_wrap=True)
    results: list[dict[str, Any]] = []
    for name, case in cases.items():
        cost = fold_cost(
            spec(segments=case["segments"]),
            blocks=asked.blocks,
            size=asked.size,
            users=case.get("users", 0),
            watched=case.get("watched", False),
        )
        met = cost["median_us"] < GOAL_US
        results.append({"name": name, "goal": f"< {GOAL_US:g}", "met": met, **cost})
        console.print(
            f"{name:40} {cost['median_us']:7.1f} us a pair at the median, {cost['min_us']:7.1f} at "
            f"best; a decision {cost['decision_us']:7.1f} us"
        )
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(
        json.dumps({"environment": environment, "results": results}, indent=2) + "\n",
        encoding="utf-8",
    )
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
