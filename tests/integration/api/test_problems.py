"""Every error of the API is a problem that names the field and says what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gateway.settings import Settings
from gateway.store import Store, open_store
from rollout.api import create_app
from rollout.api.gatekeeper import MAX_BODY_BYTES
from rollout.service import RolloutService

JSON = {"content-type": "application/json"}


def test_unknown_address(client: TestClient) -> None:
    """An address that does not exist is a problem too, and says where to look."""
    answer = client.get("/api/v1/rolouts")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:coalmine:problem:not-found",
        "title": "Nothing at this address",
        "status": 404,
        "detail": "there is nothing at /api/v1/rolouts; /docs lists all addresses",
    }


def test_wrong_method(client: TestClient) -> None:
    """A wrong method is told which one is possible."""
    answer = client.put("/api/v1/tokens", json={})
    assert answer.status_code == 405
    assert "GET" in answer.json()["detail"] or "POST" in answer.json()["detail"]
    assert answer.headers["allow"]


def test_missing_and_unknown_fields(client: TestClient) -> None:
    """A body with several faults lists all, and the first as field and detail."""
    answer = client.post("/api/v1/tokens", json={"nam": "x"})
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, "name")
    assert problem["detail"] == "name is missing; add it (and 2 more)"
    assert {each["field"] for each in problem["errors"]} == {"name", "role", "nam"}


def test_value_out_of_range(client: TestClient) -> None:
    """A query parameter out of range is named with its limit."""
    answer = client.get("/api/v1/audit", params={"limit": "501"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "limit"
    assert "500" in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_body_that_is_not_json(client: TestClient, body: bytes) -> None:
    """A body that can't be parsed is a clear 4xx, never a traceback."""
    answer = client.post("/api/v1/tokens", content=body, headers=JSON)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "body" in answer.json()["detail"]


def test_body_over_the_cap(client: TestClient) -> None:
    """A body over the cap is refused, announced or not."""
    announced = client.post("/api/v1/tokens", content=b"x" * (MAX_BODY_BYTES + 1), headers=JSON)
    assert announced.status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 65_536

    chunked = client.post("/api/v1/tokens", content=pieces(), headers=JSON)
    assert chunked.status_code == 413, chunked.text
    assert chunked.headers["content-type"] == "application/problem+json"


def test_store_that_is_down(settings: Settings, clock: Callable[[], float], tmp_path: Path) -> None:
    """Without the store the API answers 503 and to try again; liveness does not depend on it."""
    folder = tmp_path / "store"
    store = open_store(f"sqlite:///{folder / 'coalmine.db'}")
    folder.rmdir()
    client = TestClient(
        create_app(settings, store, _service(settings, store), clock=clock),
        base_url="http://127.0.0.1:8081",
    )
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 200
    for path in ("/api/v1/routes", "/readyz"):
        answer = client.get(path)
        assert answer.status_code == 503, path
        assert answer.json()["type"] == "urn:coalmine:problem:store-unavailable"
        assert answer.headers["retry-after"] == "1"
    store.close()


def test_tables_of_another_version(
    settings: Settings, clock: Callable[[], float], tmp_path: Path
) -> None:
    """Control is not ready before the store is migrated, and says how to migrate it."""
    store = open_store(f"sqlite:///{tmp_path / 'empty.db'}")
    client = TestClient(
        create_app(settings, store, _service(settings, store), clock=clock),
        base_url="http://127.0.0.1:8081",
    )
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "store migrate" in answer.json()["detail"]
    store.close()


def test_answers_are_never_cached(client: TestClient) -> None:
    """A proxy or browser never keeps an answer, least of all one with a secret."""
    answer = client.post("/api/v1/tokens", json={"name": "me", "role": "admin"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def _service(settings: Settings, store: Store) -> RolloutService:
    return RolloutService(store, settings, health=lambda _: None)
