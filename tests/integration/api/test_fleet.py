"""Routes, deployments and replicas, as the API shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

from gateway.split import Mirror, Split
from gateway.store import Store
from gateway.store.splits import load_split, save_split
from gateway.store.tables import ReplicaRow


def _write(store: Store, now: float, **changes: Any) -> Split:
    with store.write() as session:
        split = load_split(session, "support-bot") or Split(
            route="support-bot", revision=0, baseline="support-v6"
        )
        return save_split(store, session, split.evolve(**changes), now=now)


def _serve(store: Store, replica: str, now: float, **applied: Any) -> None:
    with store.write() as session:
        session.merge(
            ReplicaRow(
                id=replica,
                role="gateway",
                host="one",
                pid=1,
                started_at=now,
                heartbeat_at=now,
                revisions={"support-bot": applied},
            )
        )


def test_route_without_a_rollout(client: TestClient) -> None:
    """A route that no rollout ever touched serves the declared baseline."""
    (route,) = client.get("/api/v1/routes").json()["routes"]
    assert (route["name"], route["baseline"], route["weight"]) == ("support-bot", "support-v6", 0)
    assert (route["revision"], route["candidate"], route["time_to_zero"]) == (0, None, None)


def test_unknown_route_says_which_exist(client: TestClient) -> None:
    """A misspelt route is a 404 that lists the declared ones."""
    answer = client.get("/api/v1/routes/suport-bot")
    assert answer.status_code == 404
    assert "support-bot" in answer.json()["detail"]


def test_route_shows_which_replica_serves_which_revision(
    client: TestClient, store: Store, clock: Callable[[], float]
) -> None:
    """During a change a user sees the gateways that have it and those that don't yet."""
    now = clock()
    _write(store, now, candidate="support-v7", weight_bp=525, rollout="v7", rollout_id=1)
    _serve(store, "a", now, revision=1, applied_at=now)
    _serve(store, "b", now, revision=0, applied_at=now - 9)
    route = client.get("/api/v1/routes/support-bot").json()
    assert (route["weight"], route["candidate"], route["revision"]) == (5.25, "support-v7", 1)
    assert {each["id"]: each["is_current"] for each in route["replicas"]} == {"a": True, "b": False}


def test_time_to_zero_waits_for_every_living_gateway(
    client: TestClient, store: Store, clock: Any
) -> None:
    """Time to zero is known once all living gateways serve weight 0, and is the slowest's."""
    start = clock()
    _write(store, start, candidate="support-v7", weight_bp=3000, rollout="v7", rollout_id=1)
    _write(store, start + 10, weight_bp=0)
    clock.now = start + 11
    _serve(store, "a", start + 11, revision=2, applied_at=start + 10.25, last_candidate_at=start)
    _serve(store, "b", start + 11, revision=1, applied_at=start, last_candidate_at=start + 11)
    assert client.get("/api/v1/routes/support-bot").json()["time_to_zero"] is None
    _serve(store, "b", start + 11, revision=2, applied_at=start + 10.75, last_candidate_at=start)
    assert client.get("/api/v1/routes/support-bot").json()["time_to_zero"] == 0.75


def test_dead_gateways_do_not_count(client: TestClient, store: Store, clock: Any) -> None:
    """A gateway that is gone can't serve anybody and does not hold up the time to zero."""
    start = clock()
    _write(store, start, candidate="support-v7", weight_bp=3000, rollout="v7", rollout_id=1)
    _serve(store, "dead", start, revision=1, applied_at=start)
    _write(store, start + 100, weight_bp=0)
    _serve(store, "a", start + 100, revision=2, applied_at=start + 100.5)
    clock.now = start + 101
    route = client.get("/api/v1/routes/support-bot").json()
    assert route["time_to_zero"] == 0.5
    assert {each["id"]: each["alive"] for each in route["replicas"]} == {"a": True, "dead": False}
    listed = client.get("/api/v1/replicas").json()["replicas"]
    assert {each["id"]: each["revisions"] for each in listed} == {
        "a": {"support-bot": 2},
        "dead": {"support-bot": 1},
    }


def test_promoted_baseline_overrides_the_settings(
    client: TestClient, store: Store, clock: Callable[[], float]
) -> None:
    """After a promotion the route's baseline is the former candidate, as gateways serve it."""
    _write(store, clock(), baseline="support-v7", promoted_from="support-v6")
    route = client.get("/api/v1/routes/support-bot").json()
    assert (route["baseline"], route["declared_baseline"]) == ("support-v7", "support-v6")


def test_deployments_show_revisions_and_never_keys(
    client: TestClient, store: Store, clock: Callable[[], float], monkeypatch: Any
) -> None:
    """A deployment shows its manifest, its revision and what it is used as; no key is shown."""
    monkeypatch.setenv("V7_KEY", "sk-very-secret")
    mirror = Mirror(1, "v7", "support-v7", 2000, 40, "salt")
    _write(store, clock(), mirrors=(mirror,))
    answer = client.get("/api/v1/deployments")
    assert "sk-very-secret" not in answer.text
    shown = {each["name"]: each for each in answer.json()["deployments"]}
    assert shown["support-v7"]["manifest"] == {"base_model": "base", "adapter": "sha256:abc"}
    assert shown["support-v7"]["api_key_env"] == "V7_KEY"
    assert len(shown["support-v7"]["revision"]) == 64
    assert {name: each["used_as"] for name, each in shown.items()} == {
        "support-v6": ["baseline of support-bot"],
        "support-v7": ["mirrored on support-bot"],
        "judge": ["judge"],
    }
