"""Everything that can lose a pair, at once: each eligible request still ends in one outcome."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url
from sqlmodel import select

from gateway.store import Store, open_store
from gateway.store.tables import EvidenceRow, JudgmentRow, PairRow, RolloutRow

_FAST: dict[str, Any] = {"sampling": "per_request", "first_token": "10ms"}
_SIMULATOR: dict[str, Any] = {
    "models": {
        "support-v6": _FAST,
        "steady": _FAST,
        "failing": {**_FAST, "error_rate": 0.3},
        "stuck": {**_FAST, "hang_rate": 1.0},
        "judge": {"role": "judge"},
    }
}
_ROLLOUTS = ("steady", "failing", "stuck")
_CHANGES: dict[str, dict[str, Any]] = {
    "gateway": {
        "capture_buffer_count": 12,
        "max_capture_bytes": 20_000,
        "flush_interval": "400ms",
        "drain_timeout": "5s",
    },
    "worker": {"claim_lease": "3s", "claim_batch": 8, "concurrency": 12, "capture_ttl": "6s"},
    "control": {"lease_ttl": "2s"},
}
_BODY: dict[str, Any] = {
    "model": "support-bot",
    "messages": [{"role": "user", "content": "Where is my parcel?"}],
}


def _spec(name: str) -> dict[str, Any]:
    budget = {"calls_per_day": 4} if name == "steady" else {}
    return {
        "kind": "Rollout",
        "name": name,
        "route": "support-bot",
        "candidate": {"deployment": name},
        "mirror": {
            "percentage": 90 if name == "steady" else 60,
            "adaptive": False,
            "timeout": "2s",
            "max_concurrency": 4,
            "noise_probe": "10%",
            "budget": budget,
        },
        "steps": [{"mirror": {"min_pairs": 100_000}}, {"set_weight": 50}],
        # Nothing may end a rollout here: what is lost is what is looked at.
        "on_failure": "pause",
    }


@pytest.fixture
def store_of(request: pytest.FixtureRequest) -> Callable[[str], str | None]:
    """Give the store's URL for a back-end; ``None`` is the scene's own SQLite file."""

    def find(backend: str) -> str | None:
        return str(request.getfixturevalue("postgres_url")) if backend == "postgresql" else None

    return find


@contextmanager
def _away(system: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """Take the store away from everybody: PostgreSQL refuses, SQLite is locked."""
    url = make_url(system.scene.settings.store)
    if url.get_backend_name() == "sqlite":
        store = open_store(system.scene.settings.store)
        try:
            with store.write():
                yield
        finally:
            store.close()
        return
    server = str(request.getfixturevalue("postgres_server"))
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(str(url.database))
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(allow.format(name, sql.SQL("false")))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (url.database,),
        )
        try:
            yield
        finally:
            admin.execute(allow.format(name, sql.SQL("true")))


def _await(condition: Callable[[], bool], what: Callable[[], object], within: float = 90) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def _more(traffic: Any, requests: int) -> None:
    seen = traffic.tally.requests
    _await(lambda: traffic.tally.requests >= seen + requests, lambda: traffic.tally)


def _funnel(system: Any, name: str) -> dict[str, dict[str, int]]:
    try:
        document = system.api.get(f"/rollouts/{name}/funnel").json()
    except (httpx.HTTPError, ValueError):
        return {}  # the store is on its way back
    return dict(document.get("streams", {}))


def _settled(system: Any, name: str, requests: int) -> bool:
    streams = _funnel(system, name)
    return streams.get("mirror", {}).get("eligible", 0) >= requests and not any(
        each.get("pending") for each in streams.values()
    )


def _seen(system: Any, name: str, outcome: str) -> None:
    """Wait until one of a rollout's pairs has ended so."""

    def some() -> bool:
        return bool(_funnel(system, name).get("mirror", {}).get(outcome))

    _await(some, partial(_funnel, system, name))


def _special(system: Any) -> int:
    """Send requests that may not be captured, and some that are too long; return how many."""
    url = f"{system.scene.gateway_url}/chat/completions"
    long = {**_BODY, "messages": [{"role": "user", "content": "why? " * 5000}]}
    with httpx.Client(trust_env=False, timeout=30) as client:
        for _ in range(8):
            off = client.post(url, json=_BODY, headers={"x-coalmine-shadow": "off"})
            over = client.post(url, json=long)
            assert (off.status_code, over.status_code) == (200, 200)
    return 16


def _checked(store: Store, system: Any, requests: int) -> Counter[str]:
    """Check every rollout's rows, funnel, facts and judgments; return where requests ended."""
    ended: Counter[str] = Counter()
    for name in _ROLLOUTS:
        status = system.api.get(f"/rollouts/{name}").json()
        document = system.api.get(f"/rollouts/{name}/funnel").json()
        assert document["reconciles"], document
        streams = document["streams"]
        mirror = {outcome: n for outcome, n in streams["mirror"].items() if n}
        assert mirror.pop("eligible") == requests == sum(mirror.values())
        with store.read() as session:
            every = session.exec(select(PairRow)).all()
            judgments = session.exec(select(JudgmentRow)).all()
            rollout_id = session.exec(select(RolloutRow.id).where(RolloutRow.name == name)).one()
            query = select(EvidenceRow).where(EvidenceRow.rollout_id == rollout_id)
            facts = session.exec(query).all()
        pairs = [pair for pair in every if pair.rollout_id == rollout_id]
        for stream, outcomes in streams.items():
            rows = Counter(pair.outcome for pair in pairs if pair.stream == stream)
            assert {outcome: outcomes.get(str(outcome), 0) for outcome in rows} == dict(rows)
        told = Counter(fact.payload["pair_id"] for fact in facts if fact.kind in {"pair", "noise"})
        finished = {pair.id for pair in pairs if pair.outcome != "expired"}
        assert told == dict.fromkeys(finished, 1)
        assert sorted(fact.seq for fact in facts) == list(range(1, len(facts) + 1))
        orders = Counter((row.pair_id, row.order) for row in judgments)
        assert set(orders.values()) <= {1}
        lost = Counter[str]()
        for fact in facts:
            for outcomes in fact.payload["segments"].values() if fact.kind == "dropped" else ():
                lost.update(outcomes)
        assert lost == {o: mirror[o] for o in ("shed", "over_size", "expired") if o in mirror}
        assert status["phase"] in {"shadowing", "paused"}
        ended.update(mirror)
    return ended


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_the_funnel_reconciles_whatever_goes_wrong(
    start_system: Callable[..., Any],
    users: Callable[..., Any],
    store_of: Callable[[str], str | None],
    request: pytest.FixtureRequest,
    backend: str,
) -> None:
    """Buffer full, over size, opted out, expired, budget spent, judge dead, killed, store away.

    Three rollouts share the captures: one candidate answers, one fails at times, one hangs.
    """
    system = start_system(simulator=_SIMULATOR, store=store_of(backend), changes=_CHANGES)
    for name in _ROLLOUTS:
        system.apply(_spec(name))
    for name in _ROLLOUTS:
        system.wait_for(name, lambda status: status["phase"] == "shadowing")

    def followed() -> bool:
        route = system.api.get("/routes/support-bot").json()
        current = any(each["alive"] and each["is_current"] for each in route["replicas"])
        return current and len(route["mirrors"]) == len(_ROLLOUTS)

    _await(followed, lambda: "the gateway never followed the split")
    sent = _special(system)
    with users(system, rate=50) as traffic:
        _seen(system, "steady", "budget_exhausted")
        _seen(system, "failing", "candidate_failed")
        for _ in range(3):
            system.kill("worker")
            system.ready("worker")
            _more(traffic, 30)
        system.simulator.post("/sim/models/judge", json={"error_rate": 1.0}).raise_for_status()
        _seen(system, "failing", "judge_error")
        with _away(system, request):
            _more(traffic, 80)
        system.kill("worker")
        _more(traffic, 40)
    assert traffic.tally.failed == 0
    sent += traffic.tally.requests
    system.ready("control")
    for name in _ROLLOUTS:
        _await(partial(_settled, system, name, sent), partial(_funnel, system, name))
    store = open_store(system.scene.settings.store)
    ended = _checked(store, system, sent)
    store.close()
    wanted = {
        *("not_sampled", "withheld", "over_size", "shed", "expired", "compared"),
        *("candidate_failed", "budget_exhausted", "judge_error"),
    }
    assert wanted <= ended.keys(), ended
