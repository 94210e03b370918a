"""Seeded simulation of the decision targets: `python tests/benchmarks/decisions_targets.py`.

Each case draws many independent streams, finds the first observation at which the evidence reaches
its threshold, and holds the median and the 80% quantile over the runs against a goal; the A/A cases
count the runs that ever reach it within 10,000 observations, looked at after every one. Prints a
table, writes `build/bench/decisions-targets.json`, and ends with status 1 when a goal is missed by
more than the noise of the simulation.

For speed the processes are computed by numpy twins over whole streams. `test_statistics_targets.py`
shows that the twins equal the product's states observation by observation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import betaln

from rollout.statistics.bets import RATE_RATIO_WEIGHTS, RATE_RATIOS
from rollout.statistics.paired import AMOUNT_BETS, FAILURE_BETS, PRIOR_SQUARES, HarmBets

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

OUT = Path(__file__).parents[2] / "build" / "bench" / "decisions-targets.json"
LOOKS = 10_000
BLOCK = 50  # runs computed at once, so that the arrays stay in the cache
NOISE = 2.6  # standard errors: a goal is missed by chance alone in 1 of 200 cases
ALPHA = 0.05


def mixture(capitals: list[Floats], weights: tuple[float, ...] | None = None) -> Floats:
    """Log of the weighted mean of capitals given as logs, element by element."""
    total = np.array(weights if weights is not None else [1.0] * len(capitals))
    top = np.maximum.reduce(capitals)
    mean = np.zeros_like(top)
    for capital, share in zip(capitals, total / total.sum(), strict=True):
        mean += share * np.exp(capital - top)
    result: Floats = top + np.log(mean)
    return result


def paired_twin(
    worse: Floats, margin: float, bets: HarmBets = FAILURE_BETS
) -> tuple[Floats, Floats]:
    """Harm and non-inferiority of `PairedState` after every observation: runs by observations.

    `worse` holds d, or -s for scores (with their `bets`), and `margin` is the one on its mean, 2δ
    for scores.
    """
    looks = np.arange(1, worse.shape[1] + 1)
    past = np.cumsum(worse * worse, axis=1) - worse * worse
    moment = (past + PRIOR_SQUARES) / looks
    harm, proof = [], []
    for factor in (0.5, 1.0, 2.0):
        effect = factor * margin
        stake = np.minimum((np.sqrt(moment**2 + 4 * effect**2) - moment) / (2 * effect), 0.9)
        harm.append(np.cumsum(np.log1p(stake * worse), axis=1))
        proof.append(np.cumsum(np.log1p(stake * (margin - worse)), axis=1))
    counts = [(value, np.cumsum(worse == value, axis=1)) for value in np.unique(worse)]
    grid = [sum(count * np.log1p(bet * value) for value, count in counts) for bet in bets.stakes]
    shares = (*bets.weights, *bets.design)
    return mixture([*grid, *harm], shares), mixture(proof, (0.1, 0.8, 0.1))


def tilt_twin(hits: Floats, trials: Floats, share: float) -> Floats:
    """Harm of `LiveState` and `RateLimitState` for running counts."""
    capitals = [hits * log(ratio) - trials * np.log1p(share * (ratio - 1)) for ratio in RATE_RATIOS]
    return mixture(capitals, RATE_RATIO_WEIGHTS)


def sample_ratio_twin(candidate: Floats, total: Floats, share: float) -> Floats:
    """Log e-value of `SampleRatioState` for running counts at a constant share."""
    first, second = 100 * share, 100 * (1 - share)
    other = total - candidate
    result: Floats = (
        betaln(first + candidate, second + other)
        - betaln(first, second)
        - candidate * log(share)
        - other * log(1 - share)
    )
    return result


def first_reach(log_e: Floats, times: Floats, threshold: float) -> Floats:
    """Time at which each run first reaches the threshold, infinite when it never does."""
    reached = log_e >= threshold
    first = reached.argmax(axis=1)
    found: Floats = np.where(reached.any(axis=1), times[np.arange(len(times)), first], np.inf)
    return found


def differences(
    better: float, worse: float, looks: int
) -> Callable[[np.random.Generator, int], Floats]:
    """Draw streams of -1, 0 and 1 with the given probabilities of -1 and 1."""

    def draw(rng: np.random.Generator, runs: int) -> Floats:
        uniform = rng.random((runs, looks))
        return (uniform < worse).astype(float) - (uniform >= 1 - better)

    return draw


def paired(
    draw: Draw,
    margin: float,
    alpha: float,
    *,
    prove: bool = False,
    bets: HarmBets = FAILURE_BETS,
) -> Callable[[np.random.Generator, int], Floats]:
    """Observations until harm, or with `prove` non-inferiority, reaches 1/alpha."""

    def stops(rng: np.random.Generator, runs: int) -> Floats:
        worse = draw(rng, runs)
        times = np.broadcast_to(np.arange(1.0, worse.shape[1] + 1), worse.shape)
        return first_reach(paired_twin(worse, margin, bets)[prove], times, log(1 / alpha))

    return stops


def live(
    share: float, candidate: float, baseline: float, looks: int
) -> Callable[[np.random.Generator, int], Floats]:
    """Requests in all until `LiveState` proves harm.

    Only failures move the evidence, so the gaps between them are drawn instead of requests.
    """

    def stops(rng: np.random.Generator, runs: int) -> Floats:
        rate = share * candidate + (1 - share) * baseline
        failures = int(looks * rate + 8 * sqrt(looks * rate))
        times = np.cumsum(rng.geometric(rate, (runs, failures)), axis=1).astype(float)
        hits = np.cumsum(rng.random((runs, failures)) < share * candidate / rate, axis=1)
        log_e = tilt_twin(hits, np.arange(1.0, failures + 1), share)
        found = first_reach(log_e, times, log(1 / ALPHA))
        return np.where(found <= looks, found, np.inf)

    return stops


def running(
    rate: float, twin: Callable[[Floats, Floats], Floats]
) -> Callable[[np.random.Generator, int], Floats]:
    """Observations until the e-process of running counts of hits at `rate` reaches 1/alpha."""

    def stops(rng: np.random.Generator, runs: int) -> Floats:
        hits = np.cumsum(rng.random((runs, LOOKS)) < rate, axis=1).astype(float)
        trials = np.broadcast_to(np.arange(1.0, LOOKS + 1), hits.shape)
        return first_reach(twin(hits, trials), trials, log(1 / ALPHA))

    return stops


def any_guardrail(rng: np.random.Generator, runs: int) -> Floats:
    """Observations until the mean of format's and judge's e-values falsely reaches 1/alpha."""
    binary, _ = paired_twin(differences(0.005, 0.005, LOOKS)(rng, runs), 0.01)
    score, _ = paired_twin(differences(0.35, 0.35, LOOKS)(rng, runs), 0.1, AMOUNT_BETS)
    times = np.broadcast_to(np.arange(1.0, LOOKS + 1), binary.shape)
    return first_reach(mixture([binary, score]), times, log(1 / ALPHA))


@dataclass(frozen=True)
class Case:
    """One row: how to draw stopping times, and either goals for their quantiles or a false rate."""

    name: str
    stops: Callable[[np.random.Generator, int], Floats]
    unit: str = "pairs"
    median: float | None = None
    most: float | None = None
    fixed: float | None = None
    false_rate: float | None = None


CASES = (
    Case("format 99% to 97%, harm", paired(differences(0.008, 0.028, 4000), 0.01, ALPHA),
         median=610, most=1040, fixed=554),
    Case("format 99% to 97%, harm at alpha/8",
         paired(differences(0.008, 0.028, 5000), 0.01, ALPHA / 8), median=1080, most=1620),
    Case("win rate 0.45, no ties, harm",
         paired(differences(0.45, 0.55, 5000), 0.1, ALPHA, bets=AMOUNT_BETS),
         median=680, most=1270, fixed=616),
    Case("score 0.45, 30% ties, harm",
         paired(differences(0.30, 0.40, 4000), 0.1, ALPHA, bets=AMOUNT_BETS),
         median=455, most=850, fixed=431),
    Case("win rate >= 0.45 at 0.50, 30% ties, proof",
         paired(differences(0.35, 0.35, 4000), 0.1, ALPHA, prove=True), median=410, most=810),
    Case("format drop < 1 pp, 0.5% / 0.5%, proof",
         paired(differences(0.005, 0.005, 5000), 0.01, ALPHA, prove=True), median=760, most=1460),
    Case("live failures 1% to 3% at 5%, harm", live(0.05, 0.03, 0.01, 60_000),
         unit="requests", median=6200, most=11_500),
    Case("live failures 1% to 3% at 25%, harm", live(0.25, 0.03, 0.01, 20_000),
         unit="requests", median=1560, most=2760),
    Case("live failures 1% to 3% at 50%, harm", live(0.5, 0.03, 0.01, 20_000),
         unit="requests", fixed=1210),
    Case("A/A format", paired(differences(0.005, 0.005, LOOKS), 0.01, ALPHA), false_rate=ALPHA),
    Case("A/A judge, 30% ties",
         paired(differences(0.35, 0.35, LOOKS), 0.1, ALPHA, bets=AMOUNT_BETS),
         false_rate=ALPHA),
    Case("A/A judge, no ties", paired(differences(0.5, 0.5, LOOKS), 0.1, ALPHA, bets=AMOUNT_BETS),
         false_rate=ALPHA),
    Case("A/A mean of format and judge", any_guardrail, false_rate=ALPHA),
    Case("A/A live at 5%", live(0.05, 0.01, 0.01, LOOKS), unit="requests", false_rate=ALPHA),
    Case("A/A live at 50%", live(0.5, 0.01, 0.01, LOOKS), unit="requests", false_rate=ALPHA),
    Case("rate exactly at the limit of 2%", running(0.02, lambda c, n: tilt_twin(c, n, 0.02)),
         unit="requests", false_rate=ALPHA),
    Case("sample ratio as declared, 5%", running(0.05, lambda c, n: sample_ratio_twin(c, n, 0.05)),
         unit="keys", false_rate=ALPHA),
    Case("false proof at a format drop of 1 pp",
         paired(differences(0.005, 0.015, LOOKS), 0.01, ALPHA, prove=True), false_rate=ALPHA),
    Case("false proof at a win rate of 0.45",
         paired(differences(0.30, 0.40, LOOKS), 0.1, ALPHA, prove=True), false_rate=ALPHA),
)  # fmt: skip


def quantile(stops: Floats, level: float) -> tuple[float, float, float]:
    """Quantile of stopping times with the order statistics that bound it within the noise."""
    ordered = np.sort(stops)
    spread = NOISE * sqrt(len(ordered) * level * (1 - level))
    places = [level * len(ordered) + shift for shift in (0.0, -spread, spread)]
    found = [float(ordered[min(max(int(place), 0), len(ordered) - 1)]) for place in places]
    return found[0], found[1], found[2]


def result(
    name: str, unit: str, value: float, spread: tuple[float, float], goal: float | None, **more: Any
) -> dict[str, Any]:
    """One entry of the report; met when the goal lies not below the noise."""
    return {
        "name": name,
        "value": value if value < float("inf") else None,
        "unit": unit,
        "goal": None if goal is None else f"<= {goal:g}",
        "met": None if goal is None else spread[0] <= goal,
        "spread": [None if end == float("inf") else end for end in spread],
        **more,
    }


def run_case(case: Case, rng: np.random.Generator, runs: int) -> list[dict[str, Any]]:
    """Simulate one case in blocks and hold it against its goals."""
    blocks = [case.stops(rng, min(BLOCK, runs - done)) for done in range(0, runs, BLOCK)]
    stops = np.concatenate(blocks)
    if case.false_rate is not None:
        rate = float(np.isfinite(stops).mean())
        noise = NOISE * sqrt(max(rate, 1 / runs) * (1 - rate) / runs)
        spread = (max(0.0, rate - noise), rate + noise)
        return [
            result(
                f"{case.name}: alarms", "share of runs", rate, spread, case.false_rate, runs=runs
            )
        ]
    rows = []
    for label, level, goal in (("median", 0.5, case.median), ("80% of runs", 0.8, case.most)):
        value, low, high = quantile(stops, level)
        more: dict[str, Any] = {"runs": runs}
        if case.fixed is not None and level == 0.8:
            more |= {"fixed_n": case.fixed, "ratio_to_fixed_n": round(value / case.fixed, 3)}
        rows.append(result(f"{case.name}: {label}", case.unit, value, (low, high), goal, **more))
    return rows


def print_table(results: list[dict[str, Any]]) -> None:
    """Print the results as a table."""
    table = Table(title="Decision targets", title_justify="left")
    for heading in ("case", "value", "spread", "goal", "fixed n", "met"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for row in results:
        form = ".4f" if row["unit"] == "share of runs" else ",.0f"
        numbers = [row["value"], *row["spread"]]
        value, low, high = ("never" if one is None else format(one, form) for one in numbers)
        met = {True: "yes", False: "NO", None: ""}[row["met"]]
        fixed = row.get("fixed_n")
        table.add_row(
            row["name"], f"{value} {row['unit']}", f"{low} to {high}", row["goal"] or "",
            "" if fixed is None else f"{fixed:,.0f}", met,
        )  # fmt: skip
    Console(width=130).print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; the exit status is 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="600 runs a case instead of 2,000")
    parser.add_argument("--seed", type=int, default=20, help="seed of all streams")
    parser.add_argument("--out", type=Path, default=OUT, help="where the JSON report goes")
    options = parser.parse_args(arguments)
    runs = 600 if options.quick else 2000
    began = perf_counter()
    results: list[dict[str, Any]] = []
    for number, case in enumerate(CASES):
        rng = np.random.default_rng([options.seed, number])
        results += run_case(case, rng, runs)
    print_table(results)
    environment = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "seed": options.seed,
        "runs": runs,
        "seconds": round(perf_counter() - began, 1),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"environment": environment, "results": results}
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    missed = [row["name"] for row in results if row["met"] is False]
    sys.stdout.write(f"{environment['seconds']} s; missed goals: {', '.join(missed) or 'none'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
