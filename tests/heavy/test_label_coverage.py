"""Seeded simulation of the win rate by people: a biased judge, corrected and uncorrected."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.statistics import LabelState
from rollout.statistics.corrected import Labels

pytestmark = pytest.mark.heavy

RUNS = 16_000
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "evaluator" / "label_coverage.py"


@pytest.fixture(scope="module")
def simulation() -> dict[str, Any]:
    """Names of the benchmark's simulation."""
    return runpy.run_path(str(SCRIPT), run_name="label_coverage")


def test_sums_are_those_of_the_product(simulation: dict[str, Any]) -> None:
    """The simulation's sums are those that the product adds up label by label."""
    rng = np.random.default_rng(1)
    labels, scores = simulation["pairs"](rng, 50, 0.5)
    chances = rng.uniform(0.1, 1, 20)
    known = Labels()
    for score in scores.tolist():
        known = known.with_score(score)
    for label, score, chance in zip(labels[:20], scores[:20], chances, strict=True):
        known = known.with_label(float(label), float(score), float(chance))
    twin = simulation["sums"](labels[:20], scores[:20], scores, chances)
    assert known.corrected() == pytest.approx(twin.corrected(), rel=1e-9)
    assert known.interval(0.05) == pytest.approx(twin.interval(0.05), rel=1e-9)


@pytest.fixture(scope="module")
def coverage(simulation: dict[str, Any]) -> dict[str, float]:
    """Shares of runs in which a 95% lower bound or interval holds the truth."""
    found: dict[str, float] = simulation["coverage"](RUNS)
    return found


@pytest.mark.parametrize("labels", [60, 120, 240])
def test_corrected_lower_bound_covers(coverage: dict[str, float], labels: int) -> None:
    """The corrected 95% lower bound holds the truth in at least 94% of runs."""
    assert coverage[str(labels)] >= 0.94


def test_corrected_interval_covers(coverage: dict[str, float]) -> None:
    """So do the two-sided interval, and the bound from labels of unequal probability."""
    assert coverage["two-sided"] >= 0.94
    assert coverage["weighted"] >= 0.94


def test_three_looks_cover_together(coverage: dict[str, float]) -> None:
    """The bounds of all three pre-registered looks hold the truth together in 95% of runs."""
    assert coverage["looks"] >= 0.95


def test_the_judge_alone_never_covers(coverage: dict[str, float]) -> None:
    """A judge biased to 0.566 excludes the truth of 0.500 in every run."""
    assert coverage["judge"] == 0


def evidence(
    simulation: dict[str, Any],
    rng: np.random.Generator,
    design: str,
    truth: float,
    count: int,
) -> Iterator[LabelState]:
    """States after every label of one run."""
    every = design == "all pairs"
    state = LabelState.start(
        margin=0.05,
        min_probability=1.0 if every else simulation["SELDOM"],
        assisted=design == "assisted",
    )
    size = count if every else count * 8
    labels, scores = simulation["pairs"](rng, size, truth)
    chosen, chances = simulation["drawn"](rng, scores)
    for label, score, take, chance in zip(
        labels.tolist(), scores.tolist(), chosen.tolist(), chances.tolist(), strict=True
    ):
        if every or take:
            state = state.labelled(label, score, 1.0 if every else chance)
            yield state
        elif design == "assisted":
            state = state.judged(score, chance)


@pytest.mark.parametrize("design", ["all pairs", "unequal", "assisted"])
def test_the_gate_opens_falsely_in_at_most_alpha_of_runs(
    simulation: dict[str, Any], design: str
) -> None:
    """At a win rate of exactly 0.45, looked at after every label, at most 5% of runs pass.

    And in as few does the confidence sequence ever leave the truth out.
    """
    rng = np.random.default_rng(11)
    falsely = missed = 0
    for _ in range(300):
        states = list(evidence(simulation, rng, design, 0.45, 300))
        falsely += any(state.log_e_non_inferior >= log(20) for state in states)
        bounds = [state.bounds(0.05) for state in states]
        missed += not all(low <= 0.45 <= high for low, high in bounds)
    assert falsely <= 0.05 * 300
    assert missed <= 0.05 * 300


def test_the_judge_saves_labels_where_it_assists(simulation: dict[str, Any]) -> None:
    """A win rate of 0.55 is proven in most runs, with fewer labels where the judge assists."""
    rng = np.random.default_rng(12)
    medians = {}
    for design in ("all pairs", "unequal", "assisted"):
        opened: list[int | None] = []
        for _ in range(100):
            states = evidence(simulation, rng, design, 0.55, 300)
            opened.append(next((s.n for s in states if s.log_e_non_inferior >= log(20)), None))
        assert sum(first is not None for first in opened) >= 80
        medians[design] = np.median([first or 400 for first in opened])
    assert medians["all pairs"] < 180
    assert medians["assisted"] < medians["unequal"]
