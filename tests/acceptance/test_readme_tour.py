"""The commands of the README's tour work as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_SIMULATOR = {"models": {"support-v6": {}, "support-v7": {}, "judge": {"role": "judge"}}}


def _commands() -> list[list[str]]:
    """Return the arguments of every ``coalmine …`` line in the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", _README, flags=re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("coalmine ")]


def test_the_tour_can_be_walked(start_system: Callable[..., Any], tmp_path: Path) -> None:
    """Apply, explain, weight and watch do what the README says, on the README's own spec."""
    system = start_system(simulator=_SIMULATOR)
    _, spec, *_ = re.findall(r"```yaml\n(.*?)```", _README, flags=re.DOTALL)
    (tmp_path / "rollout.yaml").write_text(spec)
    (tmp_path / "coalmine.yaml").write_bytes(system.scene.config.read_bytes())
    environ = {**os.environ, "COALMINE_URL": system.scene.control_url}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rollout.cli", *arguments],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    commands = _commands()
    words = [tuple(command[:2]) for command in commands]
    assert words == [
        ("settings", "check"),
        ("up", "--config"),
        ("rollout", "apply"),
        ("rollout", "watch"),
        ("rollout", "explain"),
        ("rollout", "weight"),
        ("token", "create"),
        ("review", "status"),
        ("review", "agreement"),
        ("rollout", "apply"),
        ("rollout", "compare"),
        ("rollout", "compare"),
        ("judge", "health"),
        ("judge", "health"),
        ("rollout", "judging"),
        ("privacy", "check"),
        ("privacy", "delete"),
        ("rollout", "plan"),
        ("replay", "support-bot-v7"),
        ("rollout", "panel"),
        ("rollout", "panel"),
        ("export", "preferences"),
        ("export", "regressions"),
        ("export", "evalset"),
        ("dataset", "list"),
        ("dataset", "show"),
        ("dataset", "download"),
        ("dataset", "diff"),
        ("gateways", "reload"),
        ("gateways", "list"),
    ]
    by_word = dict(zip(reversed(words), reversed(commands), strict=True))  # the first of each
    for word in (("settings", "check"), ("rollout", "apply")):
        ended = run(*by_word[word])
        assert ended.returncode == 0, ended.stderr
    system.wait_for("support-bot-v7", lambda status: status["phase"] == "shadowing")
    (tmp_path / "support-bot-v8.yaml").write_text(spec.replace("support-bot-v7", "support-bot-v8"))
    (tmp_path / "letter.txt").write_text("Dear bob@mail.example")
    for word in ("apply", "compare"):
        for command in [each for each in commands if each[:2] == ["rollout", word]][-2:]:
            done = run(*command)
            assert done.returncode == 0, done.stdout + done.stderr
    assert {each["name"] for each in json.loads(done.stdout)["candidates"]} == {
        "support-bot-v7", "support-bot-v8",
    }  # fmt: skip
    explained = run(*by_word["rollout", "explain"])
    assert explained.returncode == 0, explained.stderr
    assert "shadowing" in explained.stdout
    weight = run(*by_word["rollout", "weight"])
    assert weight.returncode == 0, weight.stderr
    status = system.api.get("/rollouts/support-bot-v7").json()
    assert status["paused"]["reason"] == "manual_weight"
    assert run("rollout", "abort", "support-bot-v7", "--reason", "seen enough").returncode == 0
    watched = run(*by_word["rollout", "watch"])
    assert watched.returncode == 1, watched.stderr
    assert "aborted" in watched.stdout
    judging = run(*by_word["rollout", "judging"])
    assert judging.returncode == 0, judging.stdout + judging.stderr
    planned = run(*by_word["rollout", "plan"])
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "judge_win_rate" in planned.stdout
    for word in (
        ("gateways", "reload"),
        ("gateways", "list"),
        ("replay", "support-bot-v7"),
        ("review", "status"),
        ("review", "agreement"),
        ("judge", "health"),
        ("privacy", "check"),
    ):
        told = run(*by_word[word])
        assert told.returncode == 0, told.stdout + told.stderr
    assert "[EMAIL_1]" in told.stdout
    outcome, *_ = re.findall(r"-d '(\{.*?\})'", _README)
    assert system.api.post("/outcomes", json=json.loads(outcome)).status_code == 202
    for form in ("list", "status support-bot-v7", "explain support-bot-v7 --json"):
        assert run("rollout", *form.split()).returncode == 0
