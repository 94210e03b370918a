"""A worker that can't start says which setting is to blame."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import httpx
import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings
from shadow.serve import read_rubric, serve_worker


def test_a_metrics_port_that_is_taken_is_named(sqlite_url: str) -> None:
    """The error points at the setting, not at a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings.model_validate({"store": sqlite_url, "worker": {"metrics_port": port}})
        with pytest.raises(SettingsError, match=r"worker\.metrics_port: can't listen"):
            asyncio.run(serve_worker(settings, environ={}, stop=asyncio.Event()))


def test_the_rubric_is_the_settings_file_or_the_built_in_one(tmp_path: Path) -> None:
    """Without a rubric of one's own the built-in one is used; a missing file is named."""
    deployments = {"j": {"base_url": "http://127.0.0.1:1/v1", "model": "j"}}
    file = tmp_path / "rubric.md"
    document = {"deployments": deployments, "judge": {"deployment": "j", "rubric": str(file)}}
    with pytest.raises(SettingsError, match=r"judge\.rubric"):
        read_rubric(Settings.model_validate(document))
    file.write_text("be strict")
    assert read_rubric(Settings.model_validate(document)) == "be strict"
    assert "Accuracy" in read_rubric(Settings.model_validate({}))


def test_a_worker_waits_for_a_store_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """It serves its metrics and says what it waits for, until it is told to stop."""
    caplog.set_level(logging.WARNING)
    settings = Settings.model_validate(
        {
            "store": "postgresql+psycopg://nobody@127.0.0.1:1/none",
            "worker": {"metrics_port": 0},
        }
    )

    async def scenario() -> None:
        stop = asyncio.Event()
        urls: list[str] = []
        serving = asyncio.create_task(
            serve_worker(settings, environ={}, stop=stop, started=urls.append)
        )
        async with asyncio.timeout(20):
            while "waiting for the store" not in caplog.text:
                await asyncio.sleep(0.01)
        metrics = await asyncio.to_thread(httpx.get, urls[0], trust_env=False)
        assert "coalmine_pairs_pending" in metrics.text
        stop.set()
        await asyncio.wait_for(serving, 20)

    asyncio.run(scenario())
