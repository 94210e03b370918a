"""``coalmine control`` as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from gateway.store import Store
from gateway.store.tables import LeaseRow, ReplicaRow

SETTINGS = """
store: {store}
control: {{port: 0}}
deployments:
  a: {{base_url: http://127.0.0.1:1/v1, model: a}}
  b: {{base_url: http://127.0.0.1:1/v1, model: b}}
routes: {{bot: {{baseline: a}}}}
"""
SPEC = {
    "kind": "Rollout",
    "name": "v7",
    "route": "bot",
    "candidate": {"deployment": "b"},
}


@pytest.fixture
def start(
    store: Store, store_url: str, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts control processes over the store; they are killed after the test."""
    config = tmp_path / "coalmine.yaml"
    config.write_text(SETTINGS.format(store=store_url))
    started: list[subprocess.Popen[str]] = []
    environ = {name: value for name, value in os.environ.items() if "COALMINE" not in name}

    def run(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rollout.cli", "control", "--config", str(config), *options],
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


def _address(process: subprocess.Popen[str]) -> str:
    """Return where a control listens, as its log says."""
    assert process.stderr is not None
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            found = re.search(r"control started; (http://[^/]+)", line)
            if found:
                return found[1]
    finally:
        watchdog.cancel()
    raise AssertionError("control ended before it had started")


def test_serves_leads_and_stops_cleanly(
    start: Callable[..., subprocess.Popen[str]], store: Store
) -> None:
    """One process serves the API, leads the rollouts, and on SIGTERM gives up the lease."""
    process = start()
    url = _address(process)
    assert httpx.get(f"{url}/readyz").json() == {"status": "ok"}
    applied = httpx.post(f"{url}/api/v1/rollouts", json=SPEC)
    assert applied.status_code == 201, applied.text
    _wait_for_phase(url, "shadowing")
    httpx.post(f"{url}/api/v1/rollouts/v7/abort", json={"reason": "test"})
    watched = subprocess.run(
        [sys.executable, "-m", "rollout.cli", "rollout", "watch", "v7", "--url", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (watched.returncode, watched.stderr) == (1, "")
    assert "shadow → shadowing" in watched.stdout
    assert "coalmine_controller_leader 1.0" in httpx.get(f"{url}/metrics").text
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    with store.read() as session:
        lease = session.get(LeaseRow, "controller")
        assert lease is not None
        assert lease.expires_at == 0
        (replica,) = session.exec(select(ReplicaRow)).all()
        assert replica.stopped_at is not None


def _wait_for_phase(url: str, phase: str) -> None:
    deadline = time.monotonic() + 30
    while (status := httpx.get(f"{url}/api/v1/rollouts/v7").json())["phase"] != phase:
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def test_refuses_other_addresses_without_a_token(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """Beyond loopback control ends at once and says how to make the first token."""
    process = start("--host", "0.0.0.0")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "control.host" in said
    assert "coalmine token create" in said
    assert "Traceback" not in said


def test_port_that_is_taken(start: Callable[..., subprocess.Popen[str]]) -> None:
    """A taken port is named as the setting that it is."""
    port = _address(start()).rpartition(":")[2]
    second = start("--port", port)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "control.port" in said
    assert "Traceback" not in said


def test_store_that_is_down(tmp_path: Path) -> None:
    """Without its store control does not start, and says so in one line."""
    config = tmp_path / "coalmine.yaml"
    config.write_text("store: postgresql://nobody@127.0.0.1:1/none\ncontrol: {port: 0}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "rollout.cli", "control", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("coalmine: the store failed")
    assert "Traceback" not in ended.stderr
