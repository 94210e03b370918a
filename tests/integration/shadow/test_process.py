"""The worker as a process: it serves metrics, drains on SIGTERM, and survives SIGKILL."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from gateway.store import Store
from gateway.store.evidence import load_evidence, load_funnel
from gateway.store.tables import ReplicaRow

START = """
from pathlib import Path
from rollout.cli.worker import worker
worker(Path({!r}))
"""


@pytest.fixture
def store(sqlite_url: str, open_stores: Callable[[str], Store]) -> Store:
    """A store; which database it is makes no difference here."""
    return open_stores(sqlite_url)


async def start(config: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Start a worker process and wait until it serves its metrics."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START.format(str(config)), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    async with asyncio.timeout(20):
        while line := (await process.stderr.readline()).decode():
            if found := re.search(r"metrics at (http\S+)", line):
                return process, found[1]
    raise AssertionError("the worker ended before it started")


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds in the store."""
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def write_config(path: Path, store: Store, upstream: str, **worker: Any) -> Path:
    """Write settings for a worker on the store of the test."""
    document = {
        "store": f"sqlite:///{store.path}",
        "deployments": {
            "v6": {"base_url": upstream, "model": "model-v6"},
            "v7": {"base_url": upstream, "model": "model-v7"},
        },
        "routes": {"bot": {"baseline": "v6"}},
        "worker": {"metrics_port": 0, "claim_lease": 1.0, **worker},
    }
    path.write_text(json.dumps(document))
    return path


def test_a_killed_worker_is_replaced_and_nothing_counts_twice(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, tmp_path: Path
) -> None:
    """SIGKILL with mirrors in flight; a second worker finishes every pair, once."""

    async def scenario() -> None:
        arrived = asyncio.Event()
        hang = True

        def upstream(_request: Any) -> Any:
            arrived.set()
            return reply_with(hang=True) if hang else reply_with(chat_document("other"))

        now = time.time()
        rollout = rows.rollout()
        for _ in range(25):
            rows.pair(rollout, created_at=now)
        async with serving(upstream) as up:
            config = write_config(tmp_path / "c.yaml", store, up.url, concurrency=10)
            first, _ = await start(config)
            await asyncio.wait_for(arrived.wait(), 20)
            first.send_signal(signal.SIGKILL)
            await first.wait()
            hang = False
            second, url = await start(config)

            def all_done() -> bool:
                with store.read() as session:
                    funnel = load_funnel(session, rollout)["mirror"]
                return funnel["pending"] == 0 and funnel.get("compared") == 25

            await until(all_done)
            metrics = await asyncio.to_thread(httpx.get, url, trust_env=False)
            assert "coalmine_pairs_total" in metrics.text
            second.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(second.wait(), 20) == 0
        with store.read() as session:
            evidence = load_evidence(session, rollout, after=0)
            assert [seq for seq, _ in evidence] == list(range(1, 26))
            assert len({fact.payload["pair_id"] for _, fact in evidence}) == 25
            replicas = session.exec(select(ReplicaRow)).all()
            assert sorted(row.stopped_at is None for row in replicas) == [False, True]

    asyncio.run(scenario())
