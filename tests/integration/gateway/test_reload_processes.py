"""SIGHUP to `coalmine gateway`: one process and several, also the one in a dead one's place."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.store import open_store
from gateway.store.reloads import ask_reload

DEADLINE = 60


class Gateway:
    """The command with its settings in a file."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.config = folder / "coalmine.yaml"
        self.store = f"sqlite:///{folder / 'coalmine.db'}"
        self.workers = workers
        self.document: dict[str, Any] = {
            "store": self.store,
            "data_dir": str(folder),
            "gateway": {"port": 0, "metrics_port": 0, "workers": workers, "drain_timeout": 5},
            "deployments": {"base": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}},
            "routes": {"bot": {"baseline": "base"}},
        }
        self.config.write_text(json.dumps(self.document))
        self.port = 0
        self.process: Any = None

    async def said(self, pattern: str) -> re.Match[str]:
        """Read the log until a line says what is waited for."""
        while True:
            line = (await asyncio.wait_for(self.process.stderr.readline(), DEADLINE)).decode()
            assert line, "the process ended"
            if found := re.search(pattern, line):
                return found

    async def models(self) -> list[str]:
        """Return the routes as whichever process takes a new connection has them."""
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}/v1/models")
        return [each["id"] for each in answer.json()["data"]]

    def hang_up(self) -> None:
        """Send SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def ask(self) -> None:
        """Ask for a reload through the store."""
        store = open_store(self.store)
        with store.write() as session:
            ask_reload(store, session, by="test", now=time.time())
        store.close()


@asynccontextmanager
async def running(folder: Path, workers: int) -> AsyncIterator[Gateway]:
    """Run the command until every worker serves."""
    gateway = Gateway(folder, workers)
    gateway.process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rollout.cli", "gateway", "--config", str(gateway.config)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        for _ in range(workers):
            gateway.port = int((await gateway.said(r"serving on \S+ port (\d+)"))[1])
        yield gateway
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), DEADLINE) == 0
    finally:
        if gateway.process.returncode is None:
            gateway.process.kill()
        await gateway.process.wait()


def write(gateway: Gateway, *routes: str) -> None:
    """Declare these routes in the file."""
    gateway.document["routes"] = {name: {"baseline": "base"} for name in routes}
    gateway.config.write_text(json.dumps(gateway.document))


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_reaches_every_process(tmp_path: Path, workers: int) -> None:
    """All processes serve by the new settings, refuse wrong ones, and can be told again."""

    async def scenario() -> None:
        async with running(tmp_path, workers) as gateway:
            write(gateway, "bot", "new")
            gateway.hang_up()
            for _ in range(workers):
                await gateway.said(r"settings reloaded: routes\.new added")
            assert [await gateway.models() for _ in range(8)] == [["bot", "new"]] * 8

            gateway.config.write_text("gateway: {port: high}")
            gateway.hang_up()
            for _ in range(workers):
                await gateway.said(r"ERROR the settings stay as they are: gateway\.port: ")
            assert await gateway.models() == ["bot", "new"]

            write(gateway, "new")
            gateway.hang_up()
            for _ in range(workers):
                await gateway.said(r"settings reloaded: routes\.bot removed")
            assert [await gateway.models() for _ in range(8)] == [["new"]] * 8

    asyncio.run(scenario())


@pytest.mark.parametrize("how", [Gateway.hang_up, Gateway.ask])
def test_a_process_that_is_replaced_has_what_the_others_have(tmp_path: Path, how: Any) -> None:
    """A reload is not forgotten with the process that made it, however it was asked for."""

    async def scenario() -> None:
        async with running(tmp_path, 2) as gateway:
            write(gateway, "other")
            await asyncio.to_thread(how, gateway)
            for _ in range(2):
                await gateway.said(r"settings reloaded: routes\.other added, routes\.bot removed")
            if how is Gateway.hang_up:  # then the parent has read them before the others
                gateway.config.write_text("gateway: {port: high}")
            for worker in psutil.Process(gateway.process.pid).children():
                if "spawn_main" in " ".join(worker.cmdline()):
                    os.kill(worker.pid, signal.SIGKILL)
            for _ in range(2):
                await gateway.said(r"serving on ")
            assert [await gateway.models() for _ in range(8)] == [["other"]] * 8

    asyncio.run(scenario())
