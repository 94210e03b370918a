"""All candidates on a route side by side, through the API and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

from gateway.store import Store
from gateway.store.evidence import move_funnel
from gateway.store.splits import load_split
from gateway.store.tables import CaptureRow, JudgeBudgetRow, PairRow
from rollout.service import Actor

ALICE = Actor("alice", "operator")


def _spec(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "Rollout",
        "name": name,
        "route": "support-bot",
        "candidate": {"deployment": "support-v7"},
        "mirror": {"budget": {"calls_per_day": 100}},
        "steps": [{"mirror": {"min_pairs": 100}}, {"set_weight": 100}],
        "analysis": {"metrics": [{"name": "judge_win_rate"}, {"name": "format_valid"}]},
        **changes,
    }


def _capture(store: Store, name: str, *rollout_ids: int) -> None:
    """Write a capture that these rollouts were given."""
    values: dict[str, Any] = {
        "id": name,
        "route": "support-bot",
        "request_id": name,
        "created_at": 0.0,
        "endpoint": "/chat/completions",
        "variant": "baseline",
        "reason": "default",
        "deployment": "support-v6",
        "stream": False,
        "request_body": "{}",
        "response_body": "{}",
        "status": 200,
        "total_s": 0.1,
        "split_revision": 1,
        "epoch": 0,
        "weight_bp": 0,
    }
    with store.write() as session:
        session.add(CaptureRow(**values))
        session.flush()
        for rollout_id in rollout_ids:
            session.add(
                PairRow(rollout_id=rollout_id, capture_id=name, stream="mirror", created_at=0.0)
            )
            moves = [(rollout_id, "mirror", outcome, 1) for outcome in ("eligible", "pending")]
            move_funnel(store, session, moves)


def test_candidates_are_shown_side_by_side(
    client: TestClient, store: Store, service: Any, clock: Any
) -> None:
    """Each with its own evidence, funnel and spend, and how many captures it shares."""
    one = service.apply(_spec("one"), actor=ALICE, start=True).record
    two = service.apply(_spec("two", mirror={}), actor=ALICE, start=True).record
    service.apply(_spec("gone"), actor=ALICE, start=True)
    service.abort("gone", actor=ALICE)
    _capture(store, "a", one.id, two.id)
    _capture(store, "b", one.id)
    with store.write() as session:
        day = "2027-01-15"
        session.add(JudgeBudgetRow(rollout_id=one.id, day=day, calls=4, microusd=20_000))
    answer = client.get("/api/v1/compare", params={"route": "support-bot"})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["baseline"], document["holder"], document["weight"]) == ("support-v6", None, 0)
    first, second = document["candidates"]
    assert (first["name"], second["name"]) == ("one", "two")
    assert (first["captures"], second["captures"]) == (
        {"taken": 2, "shared": 1},
        {"taken": 1, "shared": 1},
    )
    assert first["judge"] == {
        "calls": 4,
        "dollars": 0.02,
        "calls_per_day": 100,
        "usd_per_day": None,
    }
    assert second["judge"]["calls"] == 0
    assert first["funnel"] == {"mirror": {"eligible": 2, "pending": 2}}
    assert first["reconciles"] is True
    assert [metric["name"] for metric in first["metrics"]] == ["judge_win_rate", "format_valid"]
    everything = client.get("/api/v1/compare", params={"route": "support-bot", "finished": True})
    assert [each["name"] for each in everything.json()["candidates"]] == ["one", "two", "gone"]


def test_an_unknown_route_is_not_found(client: TestClient) -> None:
    """The answer says which routes there are."""
    answer = client.get("/api/v1/compare", params={"route": "nope"})
    assert answer.status_code == 404
    assert "declared are: support-bot" in answer.json()["detail"]
    assert answer.json()["field"] == "route"


def test_a_wait_has_a_word_for_programs(client: TestClient, store: Store, service: Any) -> None:
    """Where nothing is waited for it is null, and never missing."""
    service.apply(_spec("one"), actor=ALICE, start=True)
    with store.read() as session:
        assert load_split(session, "support-bot") is None
    assert client.get("/api/v1/rollouts/one").json()["waiting"] is None


def test_the_command_prints_a_column_for_each_candidate(
    control: Any, coalmine: Callable[..., Any]
) -> None:
    """Metrics stand in rows; --json prints what the API says."""
    for name in ("one", "two"):
        control.service.apply(_spec(name), actor=ALICE, start=True)
    words = ("rollout", "compare", "--route", "support-bot", "--url", control.url)
    ran = coalmine(*words)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "support-bot: baseline support-v6"
    assert "one #1" in lines[2]
    assert "two #1" in lines[2]
    rows = {line.split("  ")[0]: line for line in lines[3:]}
    assert rows["format_valid"].count("no_data") == 2
    assert rows["judge today"].count("0 calls, $0.00 of 100 calls") == 2
    document = json.loads(coalmine(*words, "--json").out)
    assert [each["name"] for each in document["candidates"]] == ["one", "two"]
    control.service.abort("one", actor=ALICE)
    control.service.abort("two", actor=ALICE)
    assert "no candidates; --all shows those that are over" in coalmine(*words).out
    assert "aborted" in coalmine(*words, "--all").out
