"""Killed processes and a store that is down: no request fails, nothing is lost or counted twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url
from sqlmodel import select

from gateway.store import open_store
from gateway.store.tables import EvidenceRow, JudgmentRow, PairRow

_SIMULATOR: dict[str, Any] = {
    "models": {
        "support-v6": {"sampling": "per_request", "first_token": "10ms"},
        "support-v7": {"sampling": "per_request", "first_token": "10ms"},
        "judge": {"role": "judge"},
    }
}
_SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "shaken",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "mirror": {"percentage": 100, "adaptive": False, "timeout": "5s", "noise_probe": "10%"},
    "steps": [{"mirror": {"min_pairs": 100_000}}, {"set_weight": 50}],
}
_CHANGES = {"worker": {"claim_lease": "3s", "claim_batch": 16}, "control": {"lease_ttl": "2s"}}
_BACKENDS = pytest.mark.parametrize("backend", ["sqlite", "postgresql"])


@pytest.fixture
def store_of(request: pytest.FixtureRequest) -> Callable[[str], str | None]:
    """Give the store's URL for a back-end; ``None`` is the scene's own SQLite file."""

    def find(backend: str) -> str | None:
        return str(request.getfixturevalue("postgres_url")) if backend == "postgresql" else None

    return find


def _await(condition: Callable[[], bool], what: str, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _started(system: Any) -> None:
    system.apply(_SPEC)
    system.wait_for("shaken", lambda status: status["phase"] == "shadowing")

    def followed() -> bool:
        replicas = system.api.get("/routes/support-bot").json()["replicas"]
        return any(each["alive"] and each["is_current"] for each in replicas)

    _await(followed, "the gateway never followed the split")


def _funnel(system: Any) -> dict[str, dict[str, int]]:
    return dict(system.api.get("/rollouts/shaken/funnel").json()["streams"])


def _settled(system: Any, requests: int) -> None:
    """Wait until every request has ended in the funnel, then check the store row by row."""

    def done() -> bool:
        mirror = _funnel(system).get("mirror", {})
        return mirror.get("eligible", 0) >= requests and mirror.get("pending", 0) == 0

    _await(done, f"the funnel never settled: {_funnel(system)} of {requests}", within=90)
    _await(
        lambda: all(not each.get("pending") for each in _funnel(system).values()),
        "the noise stream never settled",
    )
    document = system.api.get("/rollouts/shaken/funnel").json()
    assert document["reconciles"]
    mirror = document["streams"]["mirror"]
    assert mirror["eligible"] == requests

    store = open_store(system.scene.settings.store)
    with store.read() as session:
        pairs = session.exec(select(PairRow)).all()
        evidence = session.exec(select(EvidenceRow)).all()
        judgments = session.exec(select(JudgmentRow)).all()
    store.close()
    finished = {pair.id: pair for pair in pairs}
    assert all(pair.state == "done" for pair in pairs)
    facts = Counter(row.payload["pair_id"] for row in evidence if row.kind in {"pair", "noise"})
    assert set(facts.values()) <= {1}
    assert facts.keys() <= finished.keys()
    for stream in ("mirror", "noise"):
        kept = Counter(pair.outcome for pair in pairs if pair.stream == stream)
        counted = document["streams"].get(stream, {})
        assert {name: counted.get(str(name), 0) for name in kept} == dict(kept)
    orders = Counter((row.pair_id, row.order) for row in judgments)
    assert set(orders.values()) <= {1}
    assert sorted(row.seq for row in evidence) == list(range(1, len(evidence) + 1))


@_BACKENDS
def test_killed_workers_and_controllers_lose_and_repeat_nothing(
    start_system: Callable[..., Any],
    users: Callable[..., Any],
    store_of: Callable[[str], str | None],
    backend: str,
) -> None:
    """SIGKILL to the worker and to control in mid-traffic; every request ends up counted once."""
    system = start_system(simulator=_SIMULATOR, store=store_of(backend), changes=_CHANGES)
    _started(system)
    with users(system) as traffic:
        for part in ("worker", "control", "worker"):
            seen = traffic.tally.requests
            _await(lambda seen=seen: traffic.tally.requests > seen + 60, "no traffic")  # type: ignore[misc]
            system.kill(part)
            system.ready(part)
    assert traffic.tally.failed == 0
    _settled(system, traffic.tally.requests)
    status = system.api.get("/rollouts/shaken").json()
    assert status["phase"] == "shadowing"


def test_a_postgres_that_is_down_is_not_noticed_by_users(
    start_system: Callable[..., Any],
    users: Callable[..., Any],
    postgres_server: str,
    postgres_url: str,
) -> None:
    """Requests go on while the store refuses everybody, and are counted once it is back."""
    system = start_system(simulator=_SIMULATOR, store=postgres_url, changes=_CHANGES)
    _started(system)
    name = make_url(postgres_url).database
    assert name is not None
    with psycopg.connect(postgres_server, autocommit=True) as admin, users(system) as traffic:
        _await(lambda: traffic.tally.requests > 60, "no traffic")
        admin.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name))
        )
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        seen = traffic.tally.requests
        _await(lambda: traffic.tally.requests > seen + 120, "users stopped being served")
        admin.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name))
        )
        back = traffic.tally.requests
        _await(lambda: traffic.tally.requests > back + 60, "no traffic")
    assert traffic.tally.failed == 0
    system.ready("control")
    _settled(system, traffic.tally.requests)


def test_a_sqlite_store_that_is_locked_is_not_noticed_by_users(
    start_system: Callable[..., Any],
    users: Callable[..., Any],
) -> None:
    """Requests go on while another process holds the database, and are counted afterwards."""
    system = start_system(simulator=_SIMULATOR, changes=_CHANGES)
    _started(system)
    store = open_store(system.scene.settings.store)
    with users(system) as traffic:
        _await(lambda: traffic.tally.requests > 60, "no traffic")
        with store.write():
            seen = traffic.tally.requests
            _await(lambda: traffic.tally.requests > seen + 120, "users stopped being served")
    store.close()
    assert traffic.tally.failed == 0
    _settled(system, traffic.tally.requests)


def test_a_gateway_starts_and_serves_while_its_store_is_down(
    start_system: Callable[..., Any],
    users: Callable[..., Any],
    postgres_server: str,
    postgres_url: str,
) -> None:
    """A restarted gateway serves the split of its snapshot when it can't ask the store."""
    system = start_system(simulator=_SIMULATOR, store=postgres_url, changes=_CHANGES)
    _started(system)
    answer = system.api.put("/rollouts/shaken/weight", json={"weight": 100, "reason": "test"})
    assert answer.status_code == 200, answer.text

    def served_by_candidate() -> bool:
        with users(system, rate=50) as traffic:
            _await(lambda: traffic.tally.requests >= 5, "no answers")
        assert traffic.tally.failed == 0
        return traffic.tally.variants["baseline"] == 0

    _await(served_by_candidate, "the weight never arrived")
    name = make_url(postgres_url).database
    assert name is not None
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name))
        )
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        system.kill("gateway")
        system.ready("gateway")
        with users(system, rate=50) as traffic:
            _await(lambda: traffic.tally.requests >= 20, "no answers")
        assert traffic.tally.failed == 0
        assert traffic.tally.variants["candidate"] == traffic.tally.requests
        admin.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name))
        )
