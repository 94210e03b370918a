"""Sample sizes by blocks are those of the states, observation by observation."""

from __future__ import annotations

from math import inf, log
from typing import Any, cast

import numpy as np
import pytest

from rollout.statistics import LiveState, PairedState
from rollout.statistics.power import (
    Differences,
    Window,
    first_reach,
    live_harm,
    live_proof,
    looks,
    paired_harm,
    paired_proof,
    quantiles,
)

PROOF = log(20)

# Kind, truth, margin in the spec's unit, and what is reached: STATISTICS' targets among them.
CASES = [
    ("binary", Differences(0.028, 0.008), 0.01, "harm"),
    ("binary", Differences(0.105, 0.005), 0.01, "harm"),
    ("binary", Differences(0.045, 0.005), 0.02, "harm"),
    ("binary", Differences(0.005, 0.005), 0.01, "proof"),
    ("binary", Differences(0.01, 0.01), 0.02, "proof"),
    ("binary", Differences(0.03, 0.03), 0.03, "proof"),
    ("binary", Differences(0.0, 0.0), 0.01, "proof"),
    ("score", Differences(0.4, 0.3), 0.05, "harm"),
    ("score", Differences(0.45, 0.25), 0.05, "harm"),
    ("score", Differences(0.35, 0.35), 0.05, "proof"),
    ("score", Differences(0.2, 0.2), 0.05, "proof"),
    ("mean", Differences(0.5, 0.5, 0.2), 0.1, "proof"),
]


def _one_by_one(
    kind: str, truth: Differences, margin: float, what: str, seed: int, most: int
) -> float:
    """When the product's own state gets there, looked at after every observation."""
    rng = np.random.default_rng(seed)
    drawn = rng.random(most)
    worse = np.where(drawn < truth.worse, truth.size, 0.0)
    worse -= np.where(drawn >= 1 - truth.better, truth.size, 0.0)
    sign = -1.0 if kind == "score" else 1.0
    state = PairedState.start(kind=kind, margin=margin)  # type: ignore[arg-type]
    block = 8
    for start in range(0, most, block):
        state = state.update_many((sign * worse[start : start + block]).tolist())
        log_e = state.log_e_harm if what == "harm" else state.log_e_non_inferior
        if log_e >= PROOF:
            return float(start + block / 2)
    return inf


@pytest.mark.parametrize(("kind", "truth", "margin", "what"), CASES)
def test_paired_times_are_those_of_the_state(
    kind: str, truth: Differences, margin: float, what: str
) -> None:
    """The median and the 80% quantile lie within 15%, and the noise of 150 runs, of the truth."""
    scaled = 2 * margin if kind == "score" else margin
    at, rng = looks(6000), np.random.default_rng(3)
    if what == "harm":
        log_e = paired_harm(rng, truth, scaled, at, 2000, kind=cast("Any", kind))
    else:
        log_e = paired_proof(rng, truth, scaled, at, 2000)
    found = first_reach(log_e, at, PROOF)
    median, most = quantiles(found)
    limit = min(6000, int(3 * most))
    times = sorted(_one_by_one(kind, truth, margin, what, seed, limit) for seed in range(150))
    # Order statistics three standard errors around each quantile bound it, then 15% on top.
    for value, low, high in ((median, 56, 94), (most, 105, 135)):
        assert 0.85 * times[low] <= value <= 1.15 * times[high]


@pytest.mark.parametrize(
    ("truth", "margin", "kind", "median", "most"),
    [
        (Differences(0.028, 0.008), 0.01, "binary", 466, 853),
        (Differences(0.55, 0.45), 0.1, "score", 562, 1125),
        (Differences(0.35, 0.35), 0.1, "proof", 337, 636),
    ],
)
def test_paired_times_stay_where_they_were(
    truth: Differences, margin: float, kind: Any, median: float, most: float
) -> None:
    """Figures of the seeded benchmark, which runs every observation, within 15%."""
    rng, at = np.random.default_rng(1), looks(20_000)
    if kind == "proof":
        log_e = paired_proof(rng, truth, margin, at, 2000)
    else:
        log_e = paired_harm(rng, truth, margin, at, 2000, kind=kind)
    found = first_reach(log_e, at, PROOF)
    assert quantiles(found) == pytest.approx((median, most), rel=0.15)


def test_live_times_are_those_of_the_state() -> None:
    """Failures of 1% and 3% at a weight of 25% are found where `LiveState` finds them."""
    rng = np.random.default_rng(5)
    log_e, served = live_harm(rng, [Window(0.25, 8000)], baseline=0.01, candidate=0.03, runs=1000)
    median = float(np.median(first_reach(log_e, served, PROOF))) / 0.25
    times = []
    for seed in range(80):
        own = np.random.default_rng(seed)
        state, seen = LiveState.start(margin=0.01), 0
        while state.log_e_harm < PROOF and seen < 8000:
            hits, misses = int(own.binomial(25, 0.03)), int(own.binomial(75, 0.01))
            state = state.update(
                candidate_failures=hits, failures=hits + misses, share=0.25,
                candidate_requests=25, requests=100,
            )  # fmt: skip
            seen += 100
        times.append(seen if state.log_e_harm >= PROOF else inf)
    times.sort()
    assert 0.85 * times[26] <= median <= 1.15 * times[53]


def test_live_evidence_goes_on_from_weight_to_weight() -> None:
    """Two windows at one share are as one window of both."""
    split = [Window(0.25, 2000), Window(0.25, 2000)]
    counted = {}
    for name, windows in (("split", split), ("whole", [Window(0.25, 4000)])):
        rng = np.random.default_rng(2)
        log_e, served = live_harm(rng, windows, baseline=0.01, candidate=0.02, runs=3000)
        assert served[-1] == 1000
        counted[name] = float(np.mean(log_e[:, -1] >= PROOF))
    assert counted["split"] == pytest.approx(counted["whole"], abs=0.04)


def test_live_proof_is_that_of_the_state() -> None:
    """For the same counts, an arm without any failure is proven at the same request."""
    log_e, at = live_proof(
        np.random.default_rng(1), Window(0.5, 5000), rate=0.0, margin=0.01, runs=2
    )
    place = len(at) - 1
    half = round(at[place] / 2)
    state = LiveState.start(margin=0.01).update(
        candidate_failures=0, failures=0, share=0.5, candidate_requests=half,
        requests=int(at[place]),
    )  # fmt: skip
    assert log_e[0, place] == pytest.approx(state.log_e_non_inferior)


def test_what_never_gets_there_is_infinite() -> None:
    """A quantile beyond the runs that ever get there is infinite, not the last one that did."""
    times = np.array([10.0, 20.0, inf, inf])
    assert quantiles(times) == (20.0, inf)
    assert first_reach(np.zeros((1, 3)), np.array([1, 2, 3]), 1.0).tolist() == [inf]


def test_reach_lies_between_two_looks_in_proportion() -> None:
    """Half way up between two looks is half way in time."""
    log_e = np.array([[0.0, 2.0, 4.0], [3.0, 3.0, 3.0]])
    found = first_reach(log_e, np.array([10, 20, 40]), 3.0)
    assert found.tolist() == [30.0, 10.0]


def test_impossible_truths_are_refused() -> None:
    """Probabilities that add up to more than one are a mistake of the caller."""
    with pytest.raises(ValueError, match="probabilities"):
        Differences(0.7, 0.5)
