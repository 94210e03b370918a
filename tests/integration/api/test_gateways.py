"""Having the gateways read their settings again, through the API: on both stores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from gateway.server import GatewayThread
from gateway.settings import Settings, load_settings
from gateway.store import Store
from gateway.store.tables import ReplicaRow
from rollout.api import create_app
from rollout.service import RolloutService

RELOAD = "/api/v1/gateways/reload"


class Fleet:
    """Two gateways with a settings file each, and control's API over the same store."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.files = [folder / "one.yaml", folder / "two.yaml"]
        self.gateways: list[GatewayThread] = []
        for file in self.files:
            self.write(file)
            source = partial(load_settings, file, {})
            self.gateways.append(GatewayThread(source(), environ={}, source=source))
        self.ids = [each.gateway.replica for each in self.gateways]

    def write(self, file: Path, *routes: str, **options: Any) -> None:
        """Write the settings with these routes more."""
        document = {
            "store": self.url,
            "data_dir": str(file.with_suffix("")),
            "gateway": {"port": 0, "metrics_port": 0, "flush_interval": 0.02, **options},
            "deployments": {"base": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}},
            "routes": {name: {"baseline": "base"} for name in ("bot", *routes)},
        }
        file.write_text(json.dumps(document))

    def models(self, index: int) -> list[str]:
        """Return the routes that a gateway serves."""
        answer = httpx.get(f"{self.gateways[index].base_url}/models", trust_env=False)
        return [each["id"] for each in answer.json()["data"]]


@pytest.fixture
def fleet(tmp_path: Path, store_url: str) -> Iterator[Fleet]:
    """Two running gateways."""
    fleet = Fleet(tmp_path, store_url)
    with ExitStack() as stack:
        for each in fleet.gateways:
            stack.enter_context(each)
        yield fleet


@pytest.fixture
def api(fleet: Fleet, store: Store) -> Iterator[TestClient]:
    """Control's API, once both gateways have said how they are."""
    settings = Settings()
    app = create_app(settings, store, RolloutService(store, settings, health=lambda _: None))
    with TestClient(app, base_url="http://127.0.0.1:8081") as client:
        # A gateway's first report comes with its first batch; a reload waits for one.
        until(lambda: len(listed(client)) == len(fleet.ids))
        yield client


def until(condition: Callable[[], bool]) -> None:
    """Wait until a gateway's thread has brought something about."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def listed(api: TestClient) -> dict[str, Any]:
    """Return the gateways by id."""
    return {each["id"]: each for each in api.get("/api/v1/gateways").json()["gateways"]}


def test_every_gateway_applies_and_acknowledges(fleet: Fleet, api: TestClient) -> None:
    """The answer comes when all serve by the new settings, and the list shows it."""
    first, second = fleet.ids
    before = listed(api)
    assert set(before) == {first, second}
    assert before[first]["settings_hash"] == before[second]["settings_hash"]
    assert (before[first]["last_reload"], before[first]["reload_number"]) == (None, None)
    for file in fleet.files:
        fleet.write(file, "new", port=1)
    answer = api.post(RELOAD, json={"reason": "a new route"}, params={"wait": 20})
    assert answer.status_code == 200
    done = answer.json()
    assert (done["number"], done["failed"], done["waiting"]) == (1, [], [])
    assert set(done["applied"]) == {first, second}
    assert done["needs_restart"] == ["gateway.port"]
    assert fleet.models(0) == fleet.models(1) == ["bot", "new"]
    after = listed(api)
    assert after[first]["settings_hash"] == after[second]["settings_hash"]
    assert after[first]["settings_hash"] != before[first]["settings_hash"]
    assert after[first]["reload_number"] == 1
    assert after[first]["last_reload"]["needs_restart"] == ["gateway.port"]
    (entry,) = api.get("/api/v1/audit").json()["entries"]
    assert (entry["action"], entry["actor"]) == ("gateways.reload", "local")
    assert entry["detail"] == {"number": 1, "reason": "a new route"}


def test_a_gateway_that_refuses_says_why_and_serves_on(fleet: Fleet, api: TestClient) -> None:
    """One wrong file fails one gateway, with the field; put right, the next reload takes it."""
    first, second = fleet.ids
    fleet.write(fleet.files[0], "new")
    fleet.write(fleet.files[1], "new", breaker_window=0)
    done = api.post(RELOAD, params={"wait": 20}).json()
    assert done["applied"] == [first]
    (failure,) = done["failed"]
    assert failure["id"] == second
    assert failure["error"].startswith("gateway.breaker_window: ")
    assert (fleet.models(0), fleet.models(1)) == (["bot", "new"], ["bot"])
    shown = listed(api)
    assert shown[second]["last_reload"]["error"] == failure["error"]
    assert shown[first]["settings_hash"] != shown[second]["settings_hash"]
    fleet.write(fleet.files[1], "new")
    done = api.post(RELOAD, params={"wait": 20}).json()
    assert (done["number"], set(done["applied"]), done["failed"]) == (2, {first, second}, [])
    assert fleet.models(1) == ["bot", "new"]


def test_a_gateway_that_hangs_is_told_apart(fleet: Fleet, api: TestClient, store: Store) -> None:
    """A gateway that says nothing is named; one that is gone is not waited for."""
    with store.write() as session:
        row = session.get(ReplicaRow, fleet.ids[0])
        assert row is not None
        for name, beat in (("silent", row.heartbeat_at), ("gone", row.heartbeat_at - 600)):
            document = row.model_dump() | {"id": name, "heartbeat_at": beat, "settings": None}
            session.add(ReplicaRow.model_validate(document))
    done = api.post(RELOAD, params={"wait": 0.5}).json()
    assert done["waiting"] == ["silent"]
    assert set(done["applied"]) == set(fleet.ids)
    assert done["failed"] == []
    shown = listed(api)
    assert (shown["gone"]["alive"], shown["silent"]["settings_hash"]) == (False, None)


def test_only_operators_reload(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    """A viewer sees the gateways and may not touch them; an unknown field is refused."""
    assert client.get("/api/v1/gateways", headers=tokens["viewer"]).status_code == 200
    for role in ("viewer", "reviewer"):
        assert client.post(RELOAD, headers=tokens[role], json={}).status_code == 403
    operator = tokens["operator"]
    assert client.post(RELOAD, headers=operator, json={"raeson": "x"}).status_code == 422
    done = client.post(RELOAD, headers=operator, json={}).json()
    assert done == {"number": 1, "applied": [], "failed": [], "waiting": [], "needs_restart": []}


def test_the_command_line_reloads_and_lists(
    control: Any, coalmine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with 1 where a gateway refused, and says which setting is wrong."""
    monkeypatch.setenv("COALMINE_URL", control.url)
    assert "no gateway is running" in coalmine("gateways", "reload").out
    assert "no gateway runs" in coalmine("gateways", "list").out
    file = tmp_path / "gateway.yaml"
    url = str(control.store.engine.url)
    document = {"store": url, "data_dir": str(tmp_path)}
    document |= {"gateway": {"port": 0, "metrics_port": 0}}  # type: ignore[dict-item]
    file.write_text(json.dumps(document))
    source = partial(load_settings, file, {})
    with GatewayThread(source(), environ={}, source=source) as served:
        replica = served.gateway.replica
        until(lambda: replica in coalmine("gateways", "list").out)
        done = coalmine("gateways", "reload", "--reason", "trying", "--wait", "20")
        assert (done.code, replica in done.out) == (0, True)
        file.write_text("gateway: {port: high}")
        failed = coalmine("gateways", "reload", "--wait", "20")
        assert failed.code == 1
        assert f"{replica} serves on by what it had: gateway.port: " in failed.err
        assert "gateway.port: " in coalmine("gateways", "list").out
        assert json.loads(coalmine("gateways", "list", "--json").out)["gateways"]
