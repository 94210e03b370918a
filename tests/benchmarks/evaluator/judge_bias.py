"""Position bias, simulated: what two orders and one random order make of it, and a fixed one.

A judge that names the answer shown first in 15 points more of its verdicts compares candidates of a
known win rate. The scores are the product's (`shadow.judge.pairwise`), as are the orders that are
drawn. Seeded: the same arguments give the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random

import numpy as np

from shadow.judge.pairwise import Order, OrderPolicy, Side, compared

_Z95 = 1.959963984540054
_SIDES: tuple[Side, ...] = ("A", "B", "tie")
_TIES = 0.2


@dataclass(frozen=True)
class Row:
    """What one way of asking makes of one truth, over all runs.

    `mean` is the mean estimate of the win rate, `error` its Monte Carlo standard error, `covered`
    the share of runs whose 95% interval (normal, of the mean score) holds the truth.
    """

    truth: float
    asked: str
    mean: float
    error: float
    covered: float
    calls: float

    @property
    def bias(self) -> float:
        """Mean estimate less truth."""
        return self.mean - self.truth


WAYS: dict[str, OrderPolicy | None] = {
    "both orders": OrderPolicy(),
    "one random order, 20% in both": OrderPolicy(single=True, audit=0.2),
    "one random order": OrderPolicy(single=True, audit=0.0),
    "always the baseline first": None,
}


def simulate(
    *, bias: float = 0.15, pairs: int = 1000, runs: int = 400, seed: int = 7,
    truths: Sequence[float] = (0.45, 0.5, 0.55),
) -> list[Row]:  # fmt: skip
    """Return a row for each truth and way of asking. `bias` is P(first wins) - P(second wins)."""
    rows = []
    for number, truth in enumerate(truths):
        for way, policy in WAYS.items():
            rng = np.random.default_rng([seed, number])
            drawn = Random(f"{seed} {number} {way}")
            estimates, covered, calls = [], 0, 0
            for _ in range(runs):
                scores, asked = _run(rng, drawn, policy, truth, bias, pairs)
                mean, half = scores.mean(), _Z95 * scores.std(ddof=1) / np.sqrt(pairs)
                estimates.append((1 + mean) / 2)
                covered += abs(mean - (2 * truth - 1)) <= half
                calls += asked
            rows.append(
                Row(
                    truth=truth,
                    asked=way,
                    mean=float(np.mean(estimates)),
                    error=float(np.std(estimates, ddof=1) / np.sqrt(runs)),
                    covered=covered / runs,
                    calls=calls / (runs * pairs),
                )
            )
    return rows


def _run(
    rng: np.random.Generator,
    drawn: Random,
    policy: OrderPolicy | None,
    truth: float,
    bias: float,
    pairs: int,
) -> tuple[np.ndarray, int]:
    """Return the scores of one run and the calls that it took."""
    orders: list[tuple[Order, ...]] = [
        ("AB",) if policy is None else policy.draw(drawn) for _ in range(pairs)
    ]
    won = truth - _TIES / 2
    verdicts = {}
    for order, shift in (("AB", -bias / 2), ("BA", bias / 2)):  # AB: the candidate is second
        u = rng.random(pairs)
        candidate, baseline = (1, 0) if order == "AB" else (0, 1)
        chosen = np.where(u < won + shift, candidate, np.where(u < 1 - _TIES, baseline, 2))
        verdicts[order] = chosen
    scores = np.array(
        [
            compared({order: _SIDES[verdicts[order][n]] for order in asked}).score
            for n, asked in enumerate(orders)
        ]
    )
    return scores, sum(map(len, orders))


def main(arguments: Sequence[str]) -> int:
    """Print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    rows = simulate(runs=options.runs, seed=options.seed)
    print(json.dumps([{**asdict(row), "bias": row.bias} for row in rows], indent=2))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
