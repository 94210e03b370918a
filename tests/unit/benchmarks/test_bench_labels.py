"""The simulation of labels that the evaluator's benchmark reports."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "evaluator" / "label_coverage.py"


@pytest.fixture(scope="module")
def simulation() -> dict[str, Any]:
    """Names of the benchmark's simulation."""
    return runpy.run_path(str(SCRIPT), run_name="label_coverage")


def test_the_judge_is_biased_as_it_says(simulation: dict[str, Any]) -> None:
    """Over many pairs people say 0.500 and the judge 0.566."""
    labels, scores = simulation["pairs"](np.random.default_rng(1), 200_000, 0.5)
    assert labels.mean() == pytest.approx(0.5, abs=0.003)
    assert scores.mean() == pytest.approx(0.566, abs=0.003)


def test_labels_cover_and_the_judge_does_not(simulation: dict[str, Any]) -> None:
    """In a few hundred runs the corrected bounds hold about as often as they say."""
    held = simulation["coverage"](300, seed=5)
    assert set(held) == {"60", "120", "240", "looks", "two-sided", "weighted", "judge"}
    assert held.pop("judge") == 0
    assert min(held.values()) > 0.9


def test_a_seed_gives_the_same_figures(simulation: dict[str, Any]) -> None:
    """A report can be made again."""
    assert simulation["coverage"](40, seed=3) == simulation["coverage"](40, seed=3)
