"""The decision targets: the simulation's twins are the product, and the goals are met."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.statistics import LiveState, PairedState, RateLimitState, SampleRatioState
from rollout.statistics.paired import HARM_BETS

SCRIPT = Path(__file__).with_name("decisions_targets.py")


@pytest.fixture(scope="module")
def simulation() -> dict[str, Any]:
    """Names of the simulation's script."""
    return runpy.run_path(str(SCRIPT), run_name="decisions_targets")


@pytest.mark.parametrize("kind", ["binary", "score"])
def test_paired_twin_is_the_product(simulation: dict[str, Any], kind: str) -> None:
    """After every pair the simulated evidence equals that of the state that decides."""
    rng = np.random.default_rng(1)
    values = [-1.0, 0.0, 1.0] if kind == "binary" else [-1.0, -0.5, 0.0, 0.5, 1.0]
    sign, margin = (1, 0.01) if kind == "binary" else (-1, 0.05)
    worse = rng.choice(values, size=(2, 400))
    scaled = margin if kind == "binary" else 2 * margin
    harm, proof = simulation["paired_twin"](worse, scaled, HARM_BETS[kind])  # type: ignore[index]
    for run, stream in enumerate(worse):
        state = PairedState.start(kind=kind, margin=margin)  # type: ignore[arg-type]
        for look, value in enumerate(stream):
            state = state.update(float(sign * value))
            assert state.log_e_harm == pytest.approx(harm[run, look], abs=1e-9)
            assert state.log_e_non_inferior == pytest.approx(proof[run, look], abs=1e-9)


def test_running_count_twins_are_the_product(simulation: dict[str, Any]) -> None:
    """After every observation the simulated live, limit and ratio evidence equals the states'."""
    rng = np.random.default_rng(2)
    hits = np.cumsum(rng.random((1, 300)) < 0.2, axis=1).astype(float)
    trials = np.arange(1.0, 301.0)[None, :]
    live = simulation["tilt_twin"](hits, trials, 0.05)
    limit = simulation["tilt_twin"](hits, trials, 0.1)
    ratio = simulation["sample_ratio_twin"](hits, trials, 0.25)
    states = (
        LiveState.start(margin_ratio=2.0),
        RateLimitState.start(limit=0.1),
        SampleRatioState.start(share=0.25),
    )
    before = 0
    for look, total in enumerate(hits[0]):
        hit = int(total) - before
        before = int(total)
        states = (
            states[0].update(
                candidate_failures=hit, failures=1, share=0.05, candidate_requests=hit, requests=1
            ),
            states[1].update(requests=1, failures=hit),
            states[2].update(hit, 1),
        )
        assert states[0].log_e_harm == pytest.approx(live[0, look], abs=1e-9)
        assert states[1].log_e_harm == pytest.approx(limit[0, look], abs=1e-9)
        assert states[2].log_e == pytest.approx(ratio[0, look], abs=1e-8)


def test_a_missed_goal_is_reported(simulation: dict[str, Any]) -> None:
    """A value beyond its goal by more than the noise is not met, one within the noise is."""
    result = simulation["result"]
    assert result("x", "pairs", 700.0, (650.0, 750.0), 600)["met"] is False
    assert result("x", "pairs", 700.0, (650.0, 750.0), 660)["met"] is True
    never = result("x", "pairs", float("inf"), (float("inf"), float("inf")), 660)
    assert (never["met"], never["value"], never["goal"]) == (False, None, "<= 660")


@pytest.mark.heavy
def test_targets_are_met(tmp_path: Path) -> None:
    """All goals of the decision hold over 2,000 seeded runs a case."""
    report = tmp_path / "decisions-targets.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(report)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(report.read_text(encoding="utf-8"))
    assert document["environment"]["runs"] == 2000
    assert sum(row["met"] is True for row in document["results"]) == 26
