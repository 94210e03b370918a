"""`coalmine gateway` as a process: one and several, ended by SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

DEADLINE = 60.0


@asynccontextmanager
async def process(folder: Path, workers: int) -> AsyncIterator[Any]:
    """Run the command with free ports, until every worker says that it serves."""
    config = folder / "coalmine.yaml"
    document = {
        "store": f"sqlite:///{folder / 'coalmine.db'}",
        "data_dir": str(folder),
        "gateway": {"port": 0, "metrics_port": 0, "workers": workers, "drain_timeout": 5},
        "deployments": {"base": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}},
        "routes": {"bot": {"baseline": "base"}},
    }
    config.write_text(json.dumps(document))
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "rollout.cli", "gateway", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def serving(running: Any) -> int:
    """Read the log until a worker says that it serves, and return the port."""
    while True:
        line = (await asyncio.wait_for(running.stderr.readline(), DEADLINE)).decode()
        assert line, "the gateway ended"
        if found := re.search(r"serving on \S+ port (\d+)", line):
            return int(found[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_serves_until_sigterm_and_ends_with_zero(tmp_path: Path, workers: int) -> None:
    """All workers answer on one port, and a shutdown that was asked for is no failure."""

    async def scenario() -> None:
        async with process(tmp_path, workers) as running:
            ports = {await serving(running) for _ in range(workers)}
            (port,) = ports
            async with httpx.AsyncClient(trust_env=False) as client:
                models = await client.get(f"http://127.0.0.1:{port}/v1/models")
            assert models.json()["data"][0]["id"] == "bot"
            running.send_signal(signal.SIGTERM)
            rest = await asyncio.wait_for(running.stderr.read(), DEADLINE)
            assert await asyncio.wait_for(running.wait(), DEADLINE) == 0
            assert b"Traceback" not in rest

    asyncio.run(scenario())


def test_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    """One of several processes dying costs capacity for a moment, not the service."""

    async def scenario() -> None:
        async with process(tmp_path, 2) as running:
            port = await serving(running)
            assert await serving(running) == port
            task = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            workers = [int(pid) for pid in task.read_text().split() if _is_worker(int(pid))]
            os.kill(workers[0], signal.SIGKILL)
            assert await serving(running) == port
            running.send_signal(signal.SIGTERM)
            await asyncio.wait_for(running.stderr.read(), DEADLINE)
            assert await asyncio.wait_for(running.wait(), DEADLINE) == 0

    asyncio.run(scenario())


def _is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_wrong_settings_end_it_with_the_field(tmp_path: Path) -> None:
    """A port in use is said so in one line, with status 2."""

    async def scenario() -> None:
        taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = taken.sockets[0].getsockname()[1]
        (tmp_path / "coalmine.yaml").write_text("{}")
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "rollout.cli", "gateway", "--port", str(port)),
            *("--config", str(tmp_path / "coalmine.yaml")),
            cwd=tmp_path,
            stderr=asyncio.subprocess.PIPE,
        )
        error = await asyncio.wait_for(running.stderr.read(), DEADLINE)  # type: ignore[union-attr]
        assert await asyncio.wait_for(running.wait(), DEADLINE) == 2
        assert f"gateway.port: can't listen on 127.0.0.1 port {port}" in error.decode()
        assert b"Traceback" not in error
        taken.close()

    asyncio.run(scenario())
