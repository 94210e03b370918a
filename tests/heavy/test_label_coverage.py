"""Seeded simulation of the win rate by people: a biased judge, corrected and uncorrected."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from rollout.statistics import LabelState
from rollout.statistics.corrected import Labels

pytestmark = pytest.mark.heavy

Scores = NDArray[np.float64]

RUNS = 16_000
LOOKS = (60, 120, 240)
JUDGED = 2000
TRUTH = 0.5
BIAS = 0.066
OFTEN, SELDOM = 0.3, 0.1


def pairs(rng: np.random.Generator, count: int, truth: float) -> tuple[Scores, Scores]:
    """Labels with 30% ties and the scores of a judge that adds 0.066 to a win rate of 0.500.

    The judge sees the label in 70% of pairs and something at random in the others, and then calls
    13% of all pairs wins.
    """
    edges = (0.85 - truth, 1.15 - truth)
    labels, noise = np.digitize(rng.random((2, count)), edges) / 2
    scores = np.where(rng.random(count) < 0.7, labels, noise)
    return labels, np.where(rng.random(count) < BIAS / (1 - truth), 1.0, scores)


def drawn(rng: np.random.Generator, scores: Scores) -> tuple[NDArray[np.bool_], Scores]:
    """Which pairs are drawn for labelling: unclear ones three times as often."""
    chances = np.where(scores == 0.5, OFTEN, SELDOM)
    return rng.random(len(scores)) < chances, chances


def sums(labels: Scores, scores: Scores, judged: Scores, chances: Scores | None = None) -> Labels:
    """Sums over pairs as `Labels.with_label` and `with_score` would add them one by one."""
    weights = 1 / (np.full(len(labels), 0.1) if chances is None else chances)
    rows = np.stack((labels**0, labels, scores, labels**2, labels * scores, scores**2))
    document = (
        len(labels),
        (rows * weights).sum(axis=1).tolist(),
        (rows * weights**2).sum(axis=1).tolist(),
        (len(judged), judged.sum(), (judged**2).sum()),
    )
    return Labels.from_json(document)


def test_sums_are_those_of_the_product() -> None:
    """The simulation's sums are those that the product adds up label by label."""
    rng = np.random.default_rng(1)
    labels, scores = pairs(rng, 50, TRUTH)
    chances = rng.uniform(0.1, 1, 20)
    known = Labels()
    for score in scores.tolist():
        known = known.with_score(score)
    for label, score, chance in zip(labels[:20], scores[:20], chances, strict=True):
        known = known.with_label(float(label), float(score), float(chance))
    twin = sums(labels[:20], scores[:20], scores, chances)
    assert known.corrected() == pytest.approx(twin.corrected(), rel=1e-9)
    assert known.interval(0.05) == pytest.approx(twin.interval(0.05), rel=1e-9)


@pytest.fixture(scope="module")
def coverage() -> dict[str, float]:
    """Shares of runs in which a 95% lower bound or interval holds the truth."""
    rng = np.random.default_rng(20261121)
    names = (*map(str, LOOKS), "looks", "two-sided", "weighted", "judge")
    held = dict.fromkeys(names, 0)
    for _ in range(RUNS):
        labels, scores = pairs(rng, JUDGED, TRUTH)
        looks = []
        for number, n in enumerate(LOOKS, 1):
            known = sums(labels[:n], scores[:n], scores)
            held[str(n)] += known.interval(0.05)[0] <= TRUTH
            looks.append(known.interval(0.05 / 2**number)[0])
        held["looks"] += max(looks) <= TRUTH
        low, high = known.interval(0.025)
        held["two-sided"] += low <= TRUTH <= high
        chosen, chances = drawn(rng, scores)
        weighted = sums(labels[chosen], scores[chosen], scores, chances[chosen])
        held["weighted"] += weighted.interval(0.05)[0] <= TRUTH
        reach = 1.96 * scores.std() / sqrt(JUDGED)
        held["judge"] += bool(abs(scores.mean() - TRUTH) <= reach)
    return {name: count / RUNS for name, count in held.items()}


@pytest.mark.parametrize("labels", LOOKS)
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
    rng: np.random.Generator, design: str, truth: float, count: int
) -> Iterator[LabelState]:
    """States after every label of one run."""
    every = design == "all pairs"
    state = LabelState.start(
        margin=0.05, min_probability=1.0 if every else SELDOM, assisted=design == "assisted"
    )
    size = count if every else count * 8
    labels, scores = pairs(rng, size, truth)
    chosen, chances = drawn(rng, scores)
    for label, score, take, chance in zip(
        labels.tolist(), scores.tolist(), chosen.tolist(), chances.tolist(), strict=True
    ):
        if every or take:
            state = state.labelled(label, score, 1.0 if every else chance)
            yield state
        elif design == "assisted":
            state = state.judged(score, chance)


@pytest.mark.parametrize("design", ["all pairs", "unequal", "assisted"])
def test_the_gate_opens_falsely_in_at_most_alpha_of_runs(design: str) -> None:
    """At a win rate of exactly 0.45, looked at after every label, at most 5% of runs pass.

    And in as few does the confidence sequence ever leave the truth out.
    """
    rng = np.random.default_rng(11)
    falsely = missed = 0
    for _ in range(300):
        states = list(evidence(rng, design, 0.45, 300))
        falsely += any(state.log_e_non_inferior >= log(20) for state in states)
        bounds = [state.bounds(0.05) for state in states]
        missed += not all(low <= 0.45 <= high for low, high in bounds)
    assert falsely <= 0.05 * 300
    assert missed <= 0.05 * 300


def test_the_judge_saves_labels_where_it_assists() -> None:
    """A win rate of 0.55 is proven in most runs, with fewer labels where the judge assists."""
    rng = np.random.default_rng(12)
    medians = {}
    for design in ("all pairs", "unequal", "assisted"):
        opened: list[int | None] = []
        for _ in range(100):
            states = evidence(rng, design, 0.55, 300)
            opened.append(next((s.n for s in states if s.log_e_non_inferior >= log(20)), None))
        assert sum(first is not None for first in opened) >= 80
        medians[design] = np.median([first or 400 for first in opened])
    assert medians["all pairs"] < 180
    assert medians["assisted"] < medians["unequal"]
