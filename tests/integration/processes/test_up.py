"""``coalmine up`` as a user runs it: started, killed in parts, and stopped in mid-answer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from gateway.simulator import parse_simulator, start_simulator
from rollout.demo.scene import Scene, build_scene

_SIMULATOR: dict[str, Any] = {
    "models": {
        "support-v6": {},
        "patient": {"tokens_per_second": 30, "tokens_per_chunk": 2},
        "judge": {"role": "judge"},
    }
}


def _await(condition: Callable[[], bool], what: str, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _child(up: subprocess.Popen[str], command: str) -> psutil.Process | None:
    for child in psutil.Process(up.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if command in child.cmdline():
                return child
    return None


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Give settings whose deployments are simulated in this process."""
    with start_simulator(parse_simulator(_SIMULATOR)) as simulator:
        models = {
            name: {"base_url": simulator.base_url, "model": name} for name in _SIMULATOR["models"]
        }
        yield build_scene(
            tmp_path,
            simulator=_SIMULATOR,
            changes={"deployments": models, "routes": {"patient": {"baseline": "patient"}}},
        )


@pytest.fixture
def up(scene: Scene) -> Iterator[subprocess.Popen[str]]:
    """Run ``coalmine up`` until it says where everything is, and end it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rollout.cli", "up", "--config", str(scene.config)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert [line.split("  ")[0] for line in lines] == ["OpenAI API", "Admin API", "Metrics"]
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def test_a_killed_part_comes_back(scene: Scene, up: subprocess.Popen[str]) -> None:
    """Gateway, worker and control are each replaced after SIGKILL, and serve again."""
    settings = scene.settings
    urls = {
        "gateway": f"http://127.0.0.1:{settings.gateway.port}/readyz",
        "worker": f"http://127.0.0.1:{settings.worker.metrics_port}/metrics",
        "control": f"http://127.0.0.1:{settings.control.port}/readyz",
    }
    for name, url in urls.items():
        before = _child(up, name)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)

        def replaced(name: str = name, old: int = before.pid) -> bool:
            child = _child(up, name)
            return child is not None and child.pid != old

        _await(replaced, f"{name} was not replaced")
        _await(lambda url=url: _answers(url), f"{name} never served again")  # type: ignore[misc]


def test_sighup_reaches_the_gateway_and_nobody_else(
    scene: Scene, up: subprocess.Popen[str]
) -> None:
    """Settings changed under a running `coalmine up` serve after SIGHUP; no process is replaced."""
    before = {child.pid for child in psutil.Process(up.pid).children()}
    document = yaml.safe_load(scene.config.read_text(encoding="utf-8"))
    document["routes"]["new"] = {"baseline": "patient"}
    scene.config.write_text(yaml.safe_dump(document), encoding="utf-8")
    up.send_signal(signal.SIGHUP)
    _await(lambda: _answers(f"{scene.gateway_url}/models/new"), "the new route never served")
    assert {child.pid for child in psutil.Process(up.pid).children()} == before
    assert _answers(f"http://127.0.0.1:{scene.settings.control.port}/readyz")


def test_sigterm_finishes_the_streams_under_way(scene: Scene, up: subprocess.Popen[str]) -> None:
    """A stream that is open at SIGTERM arrives whole; then everything ends with status 0."""
    children = psutil.Process(up.pid).children()
    assert len(children) == 3
    body = {"model": "patient", "messages": [{"role": "user", "content": "Tell me more"}]}
    with httpx.stream(
        "POST",
        f"{scene.gateway_url}/chat/completions",
        json={**body, "stream": True},
        timeout=60,
        trust_env=False,
    ) as answer:
        pieces = answer.iter_text()
        text = next(pieces)
        up.send_signal(signal.SIGTERM)
        text += "".join(pieces)
    assert text.endswith("data: [DONE]\n\n")
    assert up.wait(60) == 0
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert len(gone) == 3
    assert alive == []


def test_wrong_settings_end_with_one_line(tmp_path: Path) -> None:
    """Nothing is started on settings that are wrong; the setting is named on stderr."""
    config = tmp_path / "coalmine.yaml"
    config.write_text("gateway: {port: high}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "rollout.cli", "up", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "gateway.port" in ended.stderr
    assert "Traceback" not in ended.stderr
