"""`coalmine gateway` as a process: one and several, ended by SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

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


async def said(stream: Any, pattern: str) -> re.Match[str]:
    """Read lines until one says what is waited for."""
    while True:
        line = (await asyncio.wait_for(stream.readline(), DEADLINE)).decode()
        assert line, "the process ended"
        if found := re.search(pattern, line):
            return found


async def serving(running: Any) -> int:
    """Read the log until a worker says that it serves, and return the port."""
    return int((await said(running.stderr, r"serving on \S+ port (\d+)"))[1])


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
            os.kill(workers_of(running)[0], signal.SIGKILL)
            assert await serving(running) == port
            running.send_signal(signal.SIGTERM)
            await asyncio.wait_for(running.stderr.read(), DEADLINE)
            assert await asyncio.wait_for(running.wait(), DEADLINE) == 0

    asyncio.run(scenario())


def workers_of(running: Any) -> list[int]:
    """Return the process ids of the workers."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


class Clients:
    """Clients with a connection each, so that the kernel spreads them over the processes."""

    def __init__(self, port: int, metrics_port: int) -> None:
        self.port = port
        self.metrics_port = metrics_port
        self.requests = 0
        self._clients: list[httpx.AsyncClient] = []

    async def ask_until(self, done: Callable[[], bool]) -> None:
        """Send requests, each on a new connection that stays open."""
        for _ in range(64):
            client = httpx.AsyncClient(trust_env=False, timeout=DEADLINE)
            self._clients.append(client)
            body = {"model": "bot", "messages": [{"role": "user", "content": "hi"}]}
            answer = await client.post(
                f"http://127.0.0.1:{self.port}/v1/chat/completions", json=body
            )
            assert answer.status_code == 502, "there is no deployment"
            self.requests += 1
            if done():
                return
        pytest.fail("one process took all connections")

    async def scrape(self) -> dict[str, float]:
        """Return requests and processes as the metrics port shows them."""
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
            text = (await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in ("coalmine_requests_total", "coalmine_gateway_processes")
        }

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()


def has_served(pid: int, port: int) -> bool:
    """Tell whether a process holds a connection of a client."""
    return any(
        each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
        for each in psutil.Process(pid).net_connections("tcp")
    )


def test_one_scrape_shows_all_processes_and_totals_survive_a_death(tmp_path: Path) -> None:
    """Requests to either process are in one sum, which a process that is killed takes nothing from.

    The one in its place counts on from there.
    """

    async def scenario() -> None:
        async with process(tmp_path, 2) as running:
            metrics_port = int((await said(running.stderr, r"metrics on \S+ port (\d+)"))[1])
            clients = Clients(await serving(running), metrics_port)
            assert await serving(running) == clients.port
            first, second = workers_of(running)
            await clients.ask_until(
                lambda: all(has_served(pid, clients.port) for pid in (first, second))
            )
            served = clients.requests
            expected = {"coalmine_requests_total": served, "coalmine_gateway_processes": 2}
            assert await clients.scrape() == expected

            os.kill(first, signal.SIGKILL)
            await said(running.stderr, r"worker \d died with -9")
            expected["coalmine_gateway_processes"] = 1
            assert await clients.scrape() == expected

            assert await serving(running) == clients.port
            (third,) = set(workers_of(running)) - {second}
            await clients.ask_until(lambda: has_served(third, clients.port))
            assert clients.requests > served
            assert await clients.scrape() == {
                "coalmine_requests_total": clients.requests,
                "coalmine_gateway_processes": 2,
            }
            await clients.close()

    asyncio.run(scenario())


SUPERVISING = """
import os, signal, sys, threading, time
from prometheus_client import CollectorRegistry
from gateway.errors import SettingsError
from gateway.exposition import answer_scrapes
from gateway.settings import Settings
from gateway.workers import supervise

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def work(settings, port, index, pipe):
    stop, parent = threading.Event(), os.getppid()
    while index and not os.path.exists(sys.argv[1]) and os.getppid() == parent:
        time.sleep(0.01)  # until the test lets it start
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: say("renewed", index))
    with answer_scrapes(CollectorRegistry(), pipe):
        say("started", index, os.getpid(), settings.log_level)
        while not stop.wait(0.01) and os.getppid() == parent:
            pass

LEVELS = ["debug"]

def reload():
    if not LEVELS:
        raise SettingsError("nothing new")
    return settings.model_copy(update={"log_level": LEVELS.pop()})

if __name__ == "__main__":
    settings = Settings.model_validate({"gateway": {"workers": 2, "metrics_port": 0}})
    stop = threading.Event()
    supervise(settings, work, address=("127.0.0.1", 9), ready=None, stop=stop, reload=reload)
"""


def test_sighup_reaches_every_process_also_one_that_starts(tmp_path: Path) -> None:
    """A reload is passed on, to a process in its start once it takes signals, and stays.

    Processes started later have the new settings; settings that are wrong change nothing.
    """
    script, gate = tmp_path / "supervising.py", tmp_path / "gate"
    script.write_text(SUPERVISING)

    async def scenario() -> None:
        running: Any = await asyncio.create_subprocess_exec(
            *(sys.executable, str(script), str(gate)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = running.stdout, running.stderr
        try:
            pid = int((await said(output, r"started 0 (\d+) info"))[1])
            running.send_signal(signal.SIGHUP)
            await said(output, "renewed 0")
            gate.touch()  # the other one is still in its start
            await said(output, r"started 1 \d+ info")
            await said(output, "renewed 1")

            os.kill(pid, signal.SIGKILL)
            await said(output, r"started 0 \d+ debug")
            running.send_signal(signal.SIGHUP)
            await said(errors, "the settings stay as they are: nothing new")
            running.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(output.read(), DEADLINE) == b""
            assert await asyncio.wait_for(running.wait(), DEADLINE) == 0
        finally:
            if running.returncode is None:
                running.kill()
            await running.wait()

    asyncio.run(scenario())


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
