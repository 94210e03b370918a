"""Business outcomes through the API: posted, counted, and by whom."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from gateway.store import Store
from gateway.store.tables import CaptureRow, OutcomeRow, PairRow
from rollout.joining import join_outcomes

OUTCOMES = "/api/v1/outcomes"

SPEC = {
    "kind": "Rollout",
    "name": "bot-v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "analysis": {
        "metrics": [
            {"name": "error_rate"},
            {"name": "reopened", "source": {"outcome": "reopened"}, "role": "signal"},
        ]
    },
}


def outcome(request_id: str = "r1", *, failure: bool = True, **more: Any) -> dict[str, Any]:
    """An outcome to post."""
    return {"request_id": request_id, "name": "reopened", "failure": failure, **more}


def capture(store: Store, rollout_id: int, request_id: str) -> None:
    """Write a capture of the candidate at 10%, in the live sample."""
    with store.write() as session:
        session.add(
            CaptureRow(
                id=f"c-{request_id}",
                route="support-bot",
                request_id=request_id,
                created_at=1_800_000_000.0,
                endpoint="chat/completions",
                variant="candidate",
                reason="split",
                deployment="support-v7",
                stream=False,
                request_body="{}",
                response_body="{}",
                status=200,
                total_s=1.0,
                split_revision=1,
                epoch=1,
                weight_bp=1000,
            )
        )
        session.flush()
        session.add(
            PairRow(
                rollout_id=rollout_id, capture_id=f"c-{request_id}", stream="live", created_at=0.0
            )
        )


def test_one_and_many_are_accepted(client: TestClient, store: Store) -> None:
    """A single outcome and a list are both kept, and repeated ones once."""
    first = client.post(OUTCOMES, json=outcome("r1"))
    assert first.status_code == 202, first.text
    assert first.json() == {"received": 1, "new": 1, "known": 0, "replaced": 0, "refused": []}
    many = [outcome(f"r{index % 600}", value=1.5) for index in range(1000)]
    answer = client.post(OUTCOMES, json=many).json()
    assert (answer["received"], answer["new"]) == (1000, 599)
    assert (answer["known"], answer["replaced"]) == (400, 1)
    again = client.post(OUTCOMES, json=many).json()
    assert (again["new"], again["known"], again["replaced"]) == (0, 1000, 0)
    with store.read() as session:
        rows = session.exec(select(OutcomeRow)).all()
    assert len(rows) == 600
    assert {row.posted_by for row in rows} == {"local"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ([], 422, ""),
        ([outcome(str(index)) for index in range(1001)], 422, ""),
        ([outcome(), {"request_id": "r2", "name": "x"}], 422, "1.failure"),
        (outcome(failure="yes"), 422, "0.failure"),  # type: ignore[arg-type]
        (outcome(variant="candidate"), 422, "0"),
        (outcome(rollout="bot-v7"), 422, "0"),
        (outcome(variant="other", rollout="bot-v7"), 422, "0.variant"),
        (outcome(name="a b"), 422, "0.name"),
        (outcome("r\u0000"), 422, "0.request_id"),
        (outcome(unknown=1), 422, "0.unknown"),
        ("text", 422, ""),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_field(
    client: TestClient, store: Store, body: Any, status: int, field: str
) -> None:
    """A wrong field is named with its place in the list, and nothing of the list is kept."""
    answer = client.post(OUTCOMES, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json().get("field", "") == field
    with store.read() as session:
        assert session.exec(select(OutcomeRow)).all() == []


def test_another_answer_counts_until_it_is_evidence(
    client: TestClient, store: Store, clock: Any
) -> None:
    """A changed mind replaces what is pending; what is evidence stays, and that is said."""
    created = client.post("/api/v1/rollouts", json=SPEC)
    assert created.status_code == 201, created.text
    client.post(OUTCOMES, json=outcome("r1"))
    changed = client.post(OUTCOMES, json=outcome("r1", failure=False)).json()
    assert (changed["new"], changed["replaced"]) == (0, 1)
    with store.read() as session:
        (row,) = session.exec(select(OutcomeRow)).all()
    assert row.failure == 0
    capture(store, 1, "r1")
    assert join_outcomes(store, now=clock(), wait_s=600) == 1
    known = client.post(OUTCOMES, json=outcome("r1", failure=False))
    assert known.json()["known"] == 1
    refused = client.post(OUTCOMES, json=outcome("r1"))
    assert refused.status_code == 409
    assert refused.json()["field"] == "failure"
    listed = client.post(OUTCOMES, json=[outcome("r1"), outcome("r2")])
    assert listed.status_code == 202
    assert listed.json()["new"] == 1
    assert listed.json()["refused"] == [{"request_id": "r1", "name": "reopened"}]
    with store.read() as session:
        rows = {row.request_id: row for row in session.exec(select(OutcomeRow)).all()}
    assert (rows["r1"].state, rows["r1"].failure) == ("joined", 0)


def test_summary_counts_by_variant_and_state(client: TestClient, store: Store, clock: Any) -> None:
    """What was joined is seen by arm, what waits and what never came too."""
    assert client.post("/api/v1/rollouts", json=SPEC).status_code == 201
    for index in range(4):
        capture(store, 1, f"r{index}")
    posted = [outcome(f"r{index}", failure=index == 0) for index in range(4)]
    posted += [outcome("lost"), {"request_id": "r0", "name": "other", "failure": True}]
    client.post(OUTCOMES, json=posted)
    join_outcomes(store, now=clock(), wait_s=600)
    clock.now += 601
    join_outcomes(store, now=clock(), wait_s=600)
    client.post(OUTCOMES, json=outcome("late"))
    everything = client.get(f"{OUTCOMES}/summary").json()["outcomes"]
    seen = {
        (each["name"], each["variant"], each["state"], each["detail"]): (
            each["count"],
            each["failures"],
        )
        for each in everything
    }
    assert seen == {
        ("other", "candidate", "ignored", "no_metric"): (1, 1),
        ("reopened", "candidate", "joined", None): (4, 1),
        ("reopened", None, "pending", None): (1, 1),
        ("reopened", None, "unmatched", "no_capture"): (1, 1),
    }
    own = client.get(f"{OUTCOMES}/summary", params={"rollout": "bot-v7"}).json()["outcomes"]
    assert [(each["name"], each["state"], each["count"]) for each in own] == [
        ("other", "ignored", 1),
        ("reopened", "joined", 4),
    ]
    assert client.get(f"{OUTCOMES}/summary", params={"rollout": "nobody"}).status_code == 404


def test_reviewers_post_and_viewers_only_look(
    client: TestClient, tokens: dict[str, dict[str, str]], store: Store
) -> None:
    """An application's token needs no right to change a rollout, and one that only looks can't."""
    denied = client.post(OUTCOMES, json=outcome(), headers=tokens["viewer"])
    assert denied.status_code == 403
    assert "reviewer" in denied.json()["detail"]
    assert client.post(OUTCOMES, json=outcome()).status_code == 401
    posted = client.post(OUTCOMES, json=outcome(), headers=tokens["reviewer"])
    assert posted.status_code == 202
    with store.read() as session:
        (row,) = session.exec(select(OutcomeRow)).all()
    assert row.posted_by == "a-reviewer"
    seen = client.get(f"{OUTCOMES}/summary", headers=tokens["viewer"])
    assert seen.status_code == 200


def test_the_document_describes_both_forms(client: TestClient) -> None:
    """A generated client can send one outcome or a list."""
    document = client.get("/api/v1/openapi.json").json()
    body = document["paths"][OUTCOMES]["post"]["requestBody"]["content"]["application/json"]
    name = body["schema"]["$ref"].rpartition("/")[2]
    one, several = document["components"]["schemas"][name]["anyOf"]
    assert one == {"$ref": "#/components/schemas/OutcomePost"}
    assert (several["type"], several["maxItems"]) == ("array", 1000)


def test_a_spec_with_queries_needs_a_server(client: TestClient) -> None:
    """A metric that nobody could ever read is refused when it is applied, with its field."""
    source = {"prometheus": {"query": "vllm:gpu_cache_usage_perc", "max": 0.9}}
    metrics = [{"name": "error_rate"}, {"name": "gpu_cache", "source": source, "role": "signal"}]
    answer = client.post("/api/v1/rollouts", json={**SPEC, "analysis": {"metrics": metrics}})
    assert answer.status_code == 422
    assert answer.json()["field"] == "analysis.metrics.1.source.prometheus"
    assert "control.prometheus_url" in answer.json()["detail"]
