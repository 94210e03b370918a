"""The README's way back into training, walked with pairs of a running system."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs

from shadow.offline.cases import schema_of

_README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_SIMULATOR = {
    "models": {
        "support-v6": {},
        "support-v7": {"quality": 0.2, "refusal_rate": 0.4, "json_break_rate": 0.5},
        "judge": {"role": "judge", "noise": 0.2},
    },
}
_SPEC = {
    "kind": "Rollout",
    "name": "support-bot-v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "mirror": {"percentage": 100, "adaptive": False},
    "analysis": {"metrics": [{"name": "latency", "slo": "60s"}]},
}


def _commands(section: str) -> list[list[str]]:
    """Return the arguments of every ``coalmine …`` line of a section."""
    _, _, rest = _README.partition(f"### {section}\n")
    block = re.search(r"```sh\n(.*?)```", rest, flags=re.DOTALL)
    assert block, section
    lines = [line.partition("#")[0].strip() for line in block[1].splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("coalmine ")]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs_go_back_into_training(
    start_system: Callable[..., Any], users: Callable[..., Any], tmp_path: Path
) -> None:
    """Panel, exports, download and difference work as the README says, on real traffic."""
    system = start_system(simulator=_SIMULATOR)
    system.apply(_SPEC)
    with users(system, rate=40):
        system.wait_for(
            "support-bot-v7",
            lambda status: status["funnel"].get("mirror", {}).get("compared", 0) >= 40,
        )
    environ = {**os.environ, "COALMINE_URL": system.scene.control_url, "COLUMNS": "160"}

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "rollout.cli", *arguments],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        return ended.stdout

    panel, samples = (run(*command) for command in _commands("What moved"))
    assert "refusal_rate" in panel
    assert samples.count("pair ") == 3
    printed = [run(*command) for command in _commands("Back into training")]
    assert "removed        0" in printed[-1]
    preferences = _lines(tmp_path / "preferences.jsonl")
    assert preferences
    for kind in ("preferences", "regressions", "evalset"):
        rows = _lines(tmp_path / f"{kind}.jsonl")
        assert rows, kind
        validator = jsonschema_rs.validator_for(schema_of(kind))
        assert all(validator.is_valid(row) for row in rows), kind
        manifest = json.loads((tmp_path / f"{kind}.jsonl.manifest.json").read_text())
        text = (tmp_path / f"{kind}.jsonl").read_bytes()
        assert manifest["sha256"] == hashlib.sha256(text).hexdigest()
        assert manifest["items"] == len(rows)
    train = [row for row in preferences if row["metadata"]["split"] == "train"]
    assert _lines(tmp_path / "train.jsonl") == train
