"""Plans and replays through the admin API and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from sqlmodel import select

from gateway.store import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.tables import RolloutRow, TransitionRow
from rollout.service import Actor, RolloutService

SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "analysis": {
        "metrics": [
            {"name": "judge_win_rate", "margin": 0.05},
            {"name": "format_valid", "margin": 0.02},
            {"name": "error_rate", "margin": 0.02},
        ]
    },
}


def _window(requests: int, at: float) -> Evidence:
    arms = {
        "baseline": {"requests": requests, "error_rate": 0},
        "candidate": {"requests": 0, "error_rate": 0},
    }
    payload = {
        "replica": "g", "weight_bp": 500, "split_revision": 1, "from_at": at - 10, "to_at": at,
        "arms": arms,
    }  # fmt: skip
    return Evidence("window", at, payload)


def test_plan_says_what_a_rollout_takes(client: TestClient) -> None:
    """A spec in JSON is planned at the traffic that the caller names, and nothing is created."""
    answer = client.post("/api/v1/plan", params={"requests_per_second": 5}, json=SPEC)
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["can_conclude"] is True, plan["warnings"]
    assert [each["name"] for each in plan["metrics"]] == [
        "judge_win_rate", "format_valid", "error_rate",
    ]  # fmt: skip
    assert plan["assumptions"]["traffic_from"] == "given"
    assert plan["shadow"]["hours"]["median"] > 0
    assert plan["shadow"]["judge_calls"]["median"] == 2 * plan["shadow"]["pairs"]["median"]
    assert plan["total"]["requests"] > 15_000
    assert client.get("/api/v1/rollouts").json() == {"rollouts": []}
    again = client.post("/api/v1/plan", params={"requests_per_second": 5}, json=SPEC)
    assert again.json() == plan


def test_plan_of_yaml_without_traffic_asks_for_it(client: TestClient) -> None:
    """A spec in YAML is planned too; hours are null where no traffic was ever seen."""
    answer = client.post(
        "/api/v1/plan",
        content=yaml.safe_dump(SPEC),
        headers={"content-type": "application/yaml"},
    )
    plan = answer.json()
    assert plan["assumptions"]["requests_per_second"] is None
    assert plan["assumptions"]["traffic_from"] == "unknown"
    assert plan["shadow"]["hours"] == {"median": None, "most": None}
    assert any(each["field"] == "requests_per_second" for each in plan["warnings"])


def test_plan_refuses_what_apply_refuses(client: TestClient) -> None:
    """A spec that is wrong, or does not fit the settings, is refused with the field."""
    wrong = client.post("/api/v1/plan", json={**SPEC, "route": "nowhere"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "route")
    wrong = client.post("/api/v1/plan", json={**SPEC, "analysis": {"min_samples": 0}})
    assert wrong.status_code == 422
    wrong = client.post("/api/v1/plan", params={"tie_share": 2}, json=SPEC)
    assert wrong.status_code == 422


def test_plan_measures_traffic_and_rates_on_the_route(
    client: TestClient, store: Store, service: RolloutService, clock: Any
) -> None:
    """What an earlier rollout saw takes the place of assumptions."""
    from gateway.store.evidence import move_funnel
    from rollout.folding import fold

    record = service.apply(SPEC, actor=Actor("a", "operator"), start=True).record
    pairs = [
        Evidence(
            "pair",
            clock.now,
            {
                "pair_id": n, "capture_id": "c", "cluster": None, "judge": "tie",
                "score": 0.0 if n % 2 else (1.0 if n % 4 else -1.0),
                "failures": {
                    "format_valid": [int(n % 20 == 0), int(n % 20 == 10)], "error_rate": [0, 0],
                },
                "values": {"latency": [1, 1], "ttft": [None, None], "output_tokens": [9, 9]},
            },
        )
        for n in range(1, 401)
    ]  # fmt: skip
    windows = [_window(70, clock.now + 10 * n) for n in range(1, 13)]
    evidence = fold(record.evidence, enumerate([*pairs, *windows], 1), record.spec)
    with store.write() as session:
        row = session.get(RolloutRow, record.id)
        assert row is not None
        row.state = {**row.state, "evidence": evidence.to_json()}
        session.add(row)
        counts = {"eligible": 2000, "not_sampled": 1500, "compared": 400, "expired": 100}
        move_funnel(store, session, [(record.id, "mirror", name, n) for name, n in counts.items()])
        append_evidence(store, session, record.id, [*pairs, *windows])
    assumed = client.post("/api/v1/plan", json=SPEC).json()["assumptions"]
    assert assumed["requests_per_second"] == pytest.approx(7.0)
    assert "v7" in assumed["traffic_from"]
    assert assumed["paired_share"] == pytest.approx(0.8)
    assert assumed["known"]["judge_win_rate"]["differing"] == pytest.approx(0.5, abs=0.01)
    assert assumed["known"]["format_valid"]["failure_rate"] == pytest.approx(0.05, abs=0.005)
    assert assumed["known"]["format_valid"]["differing"] == pytest.approx(0.1, abs=0.01)


def test_viewers_may_plan_and_replay(
    serve: Callable[..., TestClient], tokens: dict[str, dict[str, str]]
) -> None:
    """Both change nothing, so that the least of roles is enough."""
    client = serve()
    headers = tokens["viewer"]
    assert client.post("/api/v1/plan", json=SPEC, headers=headers).status_code == 200
    assert client.post("/api/v1/rollouts", json=SPEC, headers=headers).status_code == 403
    assert client.get("/api/v1/rollouts/v7/replay", headers=headers).status_code == 404
    assert client.post("/api/v1/plan", json=SPEC).status_code == 401


def test_replay_says_what_differs(
    client: TestClient, store: Store, service: RolloutService
) -> None:
    """An untouched history is the same; a receipt that was changed is shown with both figures."""
    service.apply(SPEC, actor=Actor("a", "operator"), start=True)
    service.abort("v7", actor=Actor("a", "operator"), reason="enough")
    found = client.get("/api/v1/rollouts/v7/replay").json()
    assert found["same"] is True, found
    assert [each["event"] for each in found["transitions"]] == ["start", "abort"]
    with store.write() as session:
        row = session.exec(select(TransitionRow).where(TransitionRow.number == 2)).one()
        row.receipt = {**row.receipt, "baseline": "somebody"}
        session.add(row)
    found = client.get("/api/v1/rollouts/v7/replay", params={"generation": 1}).json()
    assert found["same"] is False
    assert found["transitions"][1]["differences"] == [
        {"where": "receipt.baseline", "stored": "somebody", "recomputed": "support-v6"}
    ]


def test_plan_on_the_command_line(
    control: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """Status 0 for a plan that can conclude, 1 for one that can't, with what would do."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC))
    words = ("rollout", "plan", str(spec), "--url", control.url, "--requests-per-second")
    good = coalmine(*words, "5")
    assert good.code == 0, good.out + good.err
    assert "can conclude" in good.out
    assert "format_valid" in good.out
    slow = coalmine(*words, "0.01", "--json")
    assert slow.code == 1
    document = json.loads(slow.out)
    assert document["can_conclude"] is False
    assert any("would do" in each["message"] for each in document["warnings"])
    assert "blocks" in coalmine(*words, "0.01").out
    missing = coalmine("rollout", "plan", str(tmp_path / "none.yaml"), "--url", control.url)
    assert missing.code == 2
    assert "can't read" in missing.err


def test_replay_on_the_command_line(control: Any, coalmine: Callable[..., Any]) -> None:
    """`coalmine replay` and `coalmine rollout replay` are one command; a difference ends with 1."""
    actor = Actor("a", "operator")
    control.service.apply(SPEC, actor=actor, start=True)
    for words in (("replay",), ("rollout", "replay")):
        ran = coalmine(*words, "v7", "--url", control.url)
        assert ran.code == 0, ran.out + ran.err
        assert "same" in ran.out
    with control.store.write() as session:
        row = session.exec(select(TransitionRow)).one()
        row.receipt = {**row.receipt, "generation": 7}
        session.add(row)
    ran = coalmine("replay", "v7", "--url", control.url)
    assert ran.code == 1
    assert "DIFFERS" in ran.out
    assert "receipt.generation: stored 7, the facts give 1" in ran.out


@pytest.mark.parametrize(
    ("judge", "calls", "dollars"),
    [
        ({}, 2.0, 0.0015),
        ({"orders": "single", "audit": 0.25}, 1.25, 0.0015),
        ({"first_stage": {"deployment": "support-v7", "audit": 0.1}}, 4.0, 0.00075),
        ({"first_stage": {"local": {"path": "models/reward"}}}, 2.0, 0.0015),
    ],
)
def test_the_plan_knows_what_the_stages_cost(
    serve: Callable[..., TestClient],
    service: RolloutService,
    settings: Any,
    store: Store,
    judge: dict[str, Any],
    calls: float,
    dollars: float,
) -> None:
    """One order costs one call and the audit's share; a hosted first stage costs calls of its own.

    Until it is measured, every pair is taken to need both stages. A local model costs nothing.
    """
    from gateway.settings import JudgeSettings
    from rollout.plan_inputs import Given, measure
    from rollout.spec import load_spec

    declared = JudgeSettings.model_validate(
        {"deployment": "judge", "dollars_per_million_input_tokens": 1.0, **judge}
    )
    changed = settings.model_copy(update={"judge": declared})
    with store.read() as session:
        cost = measure(session, changed, load_spec(SPEC), Given(), now=1.0).assumptions.judge
    assert cost is not None
    assert (cost.calls, cost.dollars) == (calls, pytest.approx(dollars))
