"""The demo ends as announced, and says so with its status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rollout.demo.acts import Outcome, acts, unexpected
from rollout.demo.scene import FAST
from rollout.states import Phase


def test_the_fast_demo_ends_as_announced(tmp_path: Path) -> None:
    """All three acts run on the real processes; no user's request fails; the status is 0."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "rollout.cli",
            "demo",
            "--fast",
            "--seed",
            "7",
            "--folder",
            str(tmp_path / "demo"),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "All three acts ended as announced." in ended.stdout
    assert " 0 failed" in ended.stdout
    assert "simulated" in ended.stdout
    assert "base_url" in ended.stdout


def test_an_act_that_ends_otherwise_is_noticed() -> None:
    """Each way of not keeping what was announced is told from keeping it."""
    good, broken, live = acts(FAST)
    assert unexpected(good, Outcome(Phase.SUCCEEDED, True, "")) is None
    assert unexpected(good, Outcome(Phase.ROLLED_BACK, True, "harm")) is not None
    assert unexpected(broken, Outcome(Phase.ROLLED_BACK, False, "")) is None
    assert unexpected(broken, Outcome(Phase.ROLLED_BACK, True, "")) is not None
    assert unexpected(live, Outcome(Phase.ROLLED_BACK, True, "")) is None
    assert unexpected(live, Outcome(Phase.ROLLED_BACK, False, "")) is not None
