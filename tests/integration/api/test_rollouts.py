"""Rollouts through the API: applied, operated, read, over the real service and store."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from gateway.split import Split
from gateway.store import Store
from gateway.store.evidence import Evidence, append_evidence, move_funnel
from gateway.store.splits import load_split
from gateway.store.tables import CaptureRow, JudgmentRow, PairRow, RolloutRow, TransitionRow

SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "steps": [
        {"mirror": {"min_pairs": 100}},
        {"set_weight": 5},
        {"pause": {"approval": True}},
        {"set_weight": 100},
    ],
}
YAML = {"content-type": "application/yaml"}


def _apply(client: TestClient, *, start: bool = True, **changes: Any) -> Any:
    query = {} if start else {"start": "false"}
    return client.post("/api/v1/rollouts", json={**SPEC, **changes}, params=query)


def _split(store: Store) -> Split | None:
    with store.read() as session:
        return load_split(session, "support-bot")


def _enter(store: Store, phase: str, **changes: Any) -> None:
    """Put the rollout where its controller would have brought it."""
    with store.write() as session:
        row = session.get(RolloutRow, 1)
        assert row is not None
        row.phase = phase
        for name, value in changes.items():
            setattr(row, name, value)
        session.add(row)


def test_apply_json(client: TestClient) -> None:
    """A spec sent as JSON becomes a rollout that waits to be started."""
    answer = _apply(client, start=False)
    assert answer.status_code == 201, answer.text
    applied = answer.json()
    assert applied["created"] is True
    rollout = applied["rollout"]
    assert (rollout["name"], rollout["phase"], rollout["generation"]) == ("v7", "pending", 1)
    assert (rollout["weight"], rollout["why"]) == (0, "it waits to be started")
    assert (rollout["step"], rollout["steps"]) == (1, 4)
    plan = client.get("/api/v1/rollouts/v7").json()["plan"]
    assert [step["weight"] for step in plan] == [0, 5, 5, 100]


@pytest.mark.parametrize(
    "kind",
    ["application/yaml", "application/x-yaml", "text/yaml", "application/yaml; charset=utf-8"],
)
def test_apply_yaml(client: TestClient, kind: str) -> None:
    """A spec sent as YAML, comments and all, is the same spec."""
    text = "# mine\n" + yaml.safe_dump(SPEC)
    answer = client.post(
        "/api/v1/rollouts?start=false", content=text, headers={"content-type": kind}
    )
    assert answer.status_code == 201, answer.text
    again = _apply(client, start=False)
    assert (again.status_code, again.json()["created"]) == (200, False)


def test_changed_spec_is_a_new_generation(client: TestClient) -> None:
    """A changed spec supersedes the unfinished generation; both can be read."""
    _apply(client)
    second = _apply(client, mirror={"percentage": 50}).json()["rollout"]
    assert second["generation"] == 2
    first = client.get("/api/v1/rollouts/v7", params={"generation": 1}).json()
    assert first["phase"] == "superseded"
    assert first["next"] == "nothing by itself"
    assert len(client.get("/api/v1/rollouts").json()["rollouts"]) == 1
    every = client.get("/api/v1/rollouts", params={"every_generation": "true"}).json()
    assert [each["generation"] for each in every["rollouts"]] == [2, 1]


@pytest.mark.parametrize(
    ("body", "headers", "status", "field", "words"),
    [
        (json.dumps({**SPEC, "route": "nope"}), {}, 422, "route", "support-bot"),
        (json.dumps({**SPEC, "colour": 1}), {}, 422, "colour", "not known"),
        (json.dumps({"kind": "Rollout"}), {}, 422, "name", "is missing"),
        (json.dumps([]), {}, 422, None, "mapping"),
        ("[" * 50_000, {}, 400, None, "deep"),
        ("{", {}, 400, None, "not JSON"),
        (b"\xff", {}, 400, None, "UTF-8"),
        ("a: [", YAML, 422, None, "not YAML"),
        ("just words", YAML, 422, None, "mapping"),
        ("", YAML, 422, None, "mapping"),
        ("a: " + "[" * 5_000, YAML, 422, None, "deep"),
    ],
)
def test_bad_specs_name_field_and_remedy(
    client: TestClient,
    body: str | bytes,
    headers: dict[str, str],
    status: int,
    field: str | None,
    words: str,
) -> None:
    """Whatever is wrong with a spec, the answer is a problem that says where and what."""
    kind = {"content-type": "application/json", **headers}
    answer = client.post("/api/v1/rollouts", content=body, headers=kind)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field
    assert words in answer.json()["detail"]


def test_expanding_yaml_is_harmless(client: TestClient) -> None:
    """A few lines of YAML that mean a billion values are refused, not expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    text = "\n".join([*lines, "kind: *a9", "name: *a9"])
    answer = client.post("/api/v1/rollouts", content=text, headers=YAML)
    assert answer.status_code == 422
    assert len(answer.content) < 2_000


def test_unknown_content_type(serve: Any, tokens: dict[str, dict[str, str]]) -> None:
    """A body of another type is told which types are understood."""
    answer = serve().post(
        "/api/v1/rollouts",
        content=b"x",
        headers={"content-type": "text/plain", **tokens["operator"]},
    )
    assert answer.status_code == 415
    assert answer.json()["type"] == "urn:coalmine:problem:media-type"
    assert "application/yaml" in answer.json()["detail"]


def test_unknown_rollout(client: TestClient) -> None:
    """Every address of a rollout that does not exist is a 404 that names the field."""
    for path in ("", "/evidence", "/transitions", "/pairs", "/funnel", "/explain"):
        answer = client.get(f"/api/v1/rollouts/nope{path}")
        assert (answer.status_code, answer.json()["field"]) == (404, "name"), path
    for operation in ("start", "pause", "abort", "rollback"):
        answer = client.post(f"/api/v1/rollouts/nope/{operation}", json={})
        assert answer.status_code == 404, operation


def test_operations_are_refused_where_the_phase_forbids(client: TestClient) -> None:
    """An operation that the phase does not allow is a 409 that lists what is possible."""
    _apply(client, start=False)
    answer = client.post("/api/v1/rollouts/v7/resume", json={"reason": "go"})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:coalmine:problem:transition"
    assert "possible: start" in answer.json()["detail"]
    assert client.get("/api/v1/rollouts/v7").json()["phase"] == "pending"


def test_pause_and_resume(client: TestClient, store: Store) -> None:
    """A paused rollout says who decides, with which operations, and keeps the reason given."""
    _apply(client)
    paused = client.post("/api/v1/rollouts/v7/pause", json={"reason": "lunch"}).json()
    assert (paused["phase"], paused["why"]) == ("paused", "lunch")
    assert paused["paused"]["reason"] == "manual"
    status = client.get("/api/v1/rollouts/v7").json()
    assert "resume" in status["possible"]
    assert "approve" not in status["possible"]
    assert status["next"].startswith("a person decides: resume")
    resumed = client.post("/api/v1/rollouts/v7/resume").json()
    assert resumed["phase"] == "preflight"


def test_approval(client: TestClient, store: Store) -> None:
    """Where a step waits for an approval, approve is possible and resume is not."""
    _apply(client)
    paused = {"reason": "approval", "message": "step 3 waits", "phase": "progressing", "at": 1.0}
    _enter(store, "paused", step=2, paused=paused)
    assert "resume" not in client.get("/api/v1/rollouts/v7").json()["possible"]
    assert client.post("/api/v1/rollouts/v7/resume", json={}).status_code == 409
    approved = client.post("/api/v1/rollouts/v7/approve", json={"reason": "looks good"})
    assert (approved.status_code, approved.json()["phase"]) == (200, "progressing")


def test_weight_by_hand(client: TestClient, store: Store) -> None:
    """A weight set by hand reaches the split, pauses the automation and is audited."""
    _apply(client)
    _enter(store, "shadowing")
    answer = client.put("/api/v1/rollouts/v7/weight", json={"weight": 12.5, "reason": "try"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["phase"], answer.json()["weight"]) == ("paused", 12.5)
    split = _split(store)
    assert split is not None
    assert (split.candidate, split.weight_bp) == ("support-v7", 1250)
    (entry, *_) = client.get("/api/v1/audit", params={"target": "v7"}).json()["entries"]
    assert (entry["actor"], entry["action"]) == ("local", "set_weight")
    assert entry["detail"]["weight"] == 12.5
    assert entry["detail"]["reason"] == "try"


@pytest.mark.parametrize("weight", [-1, 100.5, "many", None, True])
def test_bad_weights(client: TestClient, weight: Any) -> None:
    """A weight outside 0 to 100 percent, or no number at all, names the field."""
    _apply(client)
    answer = client.put("/api/v1/rollouts/v7/weight", json={"weight": weight})
    assert (answer.status_code, answer.json()["field"]) == (422, "weight")


def test_weight_is_refused_while_the_candidate_is_sick(
    client: TestClient, store: Store, sick: dict[str, str]
) -> None:
    """No traffic goes to a deployment that does not answer."""
    _apply(client)
    _enter(store, "shadowing")
    sick["support-v7"] = "it does not answer"
    answer = client.put("/api/v1/rollouts/v7/weight", json={"weight": 5})
    assert answer.status_code == 409
    assert "does not answer" in answer.json()["detail"]
    split = _split(store)
    assert split is None or split.weight_bp == 0


def test_if_revision_refuses_what_was_decided_on_old_news(client: TestClient) -> None:
    """Two operators who looked at the same moment can't both act: the second gets a 409."""
    _apply(client)
    seen = client.get("/api/v1/rollouts/v7").json()["revision"]
    first = client.post("/api/v1/rollouts/v7/pause", json={"if_revision": seen})
    assert first.status_code == 200
    second = client.post("/api/v1/rollouts/v7/abort", json={"if_revision": seen})
    assert second.status_code == 409
    assert second.json()["type"] == "urn:coalmine:problem:conflict"
    assert second.json()["field"] == "if_revision"
    assert client.get("/api/v1/rollouts/v7").json()["phase"] == "paused"


def test_unknown_body_fields_are_refused(client: TestClient) -> None:
    """A misspelt if_revision must not be ignored."""
    _apply(client)
    answer = client.post("/api/v1/rollouts/v7/abort", json={"if_revison": 1})
    assert (answer.status_code, answer.json()["field"]) == (422, "if_revison")
    assert client.get("/api/v1/rollouts/v7").json()["phase"] == "preflight"


def test_viewers_and_reviewers_change_nothing(
    client: TestClient, tokens: dict[str, dict[str, str]]
) -> None:
    """Only operators and admins operate; everybody may read."""
    applied = client.post("/api/v1/rollouts?start=false", json=SPEC, headers=tokens["operator"])
    assert applied.status_code == 201
    for role in ("viewer", "reviewer"):
        headers = tokens[role]
        assert client.post("/api/v1/rollouts", json=SPEC, headers=headers).status_code == 403
        for operation in ("start", "pause", "resume", "approve", "promote", "abort", "rollback"):
            path = f"/api/v1/rollouts/v7/{operation}"
            assert client.post(path, json={}, headers=headers).status_code == 403, operation
        weight = client.put("/api/v1/rollouts/v7/weight", json={"weight": 5}, headers=headers)
        assert weight.status_code == 403
        assert client.get("/api/v1/rollouts/v7", headers=headers).status_code == 200
    started = client.post("/api/v1/rollouts/v7/start", json={}, headers=tokens["operator"])
    assert started.status_code == 200
    transitions = client.get("/api/v1/rollouts/v7/transitions", headers=tokens["viewer"]).json()
    assert transitions["transitions"][0]["actor"] == "a-operator"


def test_promote_and_return(client: TestClient, store: Store) -> None:
    """A promotion makes the candidate the baseline; rollback returns to the former one."""
    _apply(client)
    _enter(store, "progressing", step=1)
    promoted = client.post("/api/v1/rollouts/v7/promote", json={"reason": "sure"}).json()
    assert (promoted["phase"], promoted["why"]) == ("succeeded", "sure")
    assert client.get("/api/v1/routes/support-bot").json()["baseline"] == "support-v7"
    status = client.get("/api/v1/rollouts/v7").json()
    assert status["next"] == "nothing more; rollback returns to support-v6"
    back = client.post("/api/v1/rollouts/v7/rollback", json={"reason": "no"}).json()
    assert back["phase"] == "rolling_back"
    assert client.get("/api/v1/routes/support-bot").json()["baseline"] == "support-v6"


def test_abort_and_retry(client: TestClient) -> None:
    """An aborted rollout is over until somebody retries it, as a new generation."""
    _apply(client)
    aborted = client.post("/api/v1/rollouts/v7/abort", json={"reason": "stop"}).json()
    assert (aborted["phase"], aborted["why"]) == ("aborted", "stop")
    assert "retry" in client.get("/api/v1/rollouts/v7").json()["possible"]
    again = client.post("/api/v1/rollouts/v7/retry", json={}).json()
    assert (again["generation"], again["phase"]) == (2, "preflight")


def test_status_shows_metrics_progress_and_plan(client: TestClient, clock: Any) -> None:
    """A running rollout's status has every metric with a verdict, and how far the step is."""
    _apply(client)
    clock.now += 30
    status = client.get("/api/v1/rollouts/v7").json()
    overall = [metric for metric in status["metrics"] if metric["segment"] is None]
    assert {metric["name"] for metric in overall} >= {"judge_win_rate", "format_valid"}
    assert {metric["verdict"] for metric in overall} == {"no_data"}
    assert status["progress"]["elapsed"] == 30
    assert status["progress"]["min_pairs"] == 100
    assert 1.3 < status["rollback_at"] < 1.31
    assert [step["state"] for step in status["plan"]] == ["current", "ahead", "ahead", "ahead"]
    assert status["next"].endswith("step 2 of 4: 5%, 600 requests")
    assert status["spec"]["name"] == "v7"


def test_evidence_tells_what_is_recorded_and_folded(client: TestClient, store: Store) -> None:
    """Facts that the controller has not folded yet are visible as recorded."""
    _apply(client)
    with store.write() as session:
        fact = Evidence("breaker", 1.0, {"replica": "a", "state": "open", "failures": 5, "of": 9})
        append_evidence(store, session, 1, [fact])
    report = client.get("/api/v1/rollouts/v7/evidence").json()
    assert (report["recorded"], report["counts"]["last_seq"]) == (1, 0)
    assert report["last_pair_at"] is None


def test_transitions_have_receipts_and_pages(client: TestClient) -> None:
    """Every transition says who, when, from where to where and why, with its receipt."""
    _apply(client)
    for operation in ("pause", "resume", "pause", "abort"):
        client.post(f"/api/v1/rollouts/v7/{operation}", json={"reason": f"because {operation}"})
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/rollouts/v7/transitions", params=query).json()
        found += page["transitions"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [each["number"] for each in found] == [1, 2, 3, 4, 5]
    assert [each["event"] for each in found] == ["start", "pause", "resume", "pause", "abort"]
    assert found[-1]["reason"] == "because abort"
    assert len(found[-1]["receipt"]["spec_hash"]) == 64
    explained = client.get("/api/v1/rollouts/v7/explain").json()
    assert explained["decided_by"] == found[-1]
    assert explained["why"] == "because abort"


def test_funnel_reconciles(client: TestClient, store: Store) -> None:
    """The funnel says of itself whether it adds up."""
    _apply(client)
    counts = [("eligible", 10), ("not_sampled", 7), ("shed", 1), ("compared", 2)]
    with store.write() as session:
        move_funnel(store, session, [(1, "mirror", name, count) for name, count in counts])
    funnel = client.get("/api/v1/rollouts/v7/funnel").json()
    assert funnel["streams"] == {"mirror": dict(counts)}
    assert funnel["reconciles"] is True
    with store.write() as session:
        move_funnel(store, session, [(1, "mirror", "compared", 1)])
    assert client.get("/api/v1/rollouts/v7/funnel").json()["reconciles"] is False


def _pairs(store: Store, count: int) -> None:
    with store.write() as session:
        for number in range(1, count + 1):
            session.add(
                CaptureRow(
                    id=f"c{number}",
                    route="support-bot",
                    request_id=f"r{number}",
                    created_at=float(number),
                    endpoint="chat/completions",
                    variant="baseline",
                    reason="split",
                    deployment="support-v6",
                    stream=False,
                    request_body=f'{{"n": {number}}}',
                    response_body='{"from": "baseline"}',
                    status=200,
                    total_s=0.5,
                    split_revision=1,
                    epoch=1,
                    weight_bp=0,
                )
            )
            session.flush()
            session.add(
                PairRow(
                    rollout_id=1,
                    capture_id=f"c{number}",
                    stream="live" if number == 5 else "mirror",
                    state="done",
                    outcome="judge_error" if number % 2 else "compared",
                    created_at=float(number),
                    segment="billing",
                    candidate_response='{"from": "candidate"}',
                    candidate_status=200,
                    checks={"format_valid": {}},
                    comparison={"decided_by": "judge"},
                )
            )
        session.flush()
        session.add(
            JudgmentRow(
                pair_id=1,
                rollout_id=1,
                order="AB",
                verdict="A",
                evidence="It is shorter.",
                model="judge",
                transcript="long",
                created_at=1.0,
            )
        )


def test_pairs_side_by_side(client: TestClient, store: Store) -> None:
    """A pair shows the request, both answers, the checks and what the judge said."""
    _apply(client)
    _pairs(store, 5)
    page = client.get("/api/v1/rollouts/v7/pairs", params={"id": [1, 2]}).json()
    assert [pair["id"] for pair in page["pairs"]] == [2, 1]
    pair = page["pairs"][1]
    assert pair["request"] == '{"n": 1}'
    assert pair["captured"]["response"] == '{"from": "baseline"}'
    assert pair["mirrored"]["response"] == '{"from": "candidate"}'
    (judgment,) = pair["judgments"]
    assert (judgment["order"], judgment["verdict"]) == ("AB", "A")


def test_pairs_are_filtered_and_paged(client: TestClient, store: Store) -> None:
    """Pairs can be narrowed to an outcome and read page by page, each once."""
    _apply(client)
    _pairs(store, 5)
    query: dict[str, Any] = {"outcome": "judge_error", "limit": 2}
    first = client.get("/api/v1/rollouts/v7/pairs", params=query).json()
    assert [pair["id"] for pair in first["pairs"]] == [5, 3]
    assert first["pairs"][0]["mirrored"] is None
    rest = client.get(
        "/api/v1/rollouts/v7/pairs", params={**query, "cursor": first["next_cursor"]}
    ).json()
    assert [pair["id"] for pair in rest["pairs"]] == [1]
    assert rest["next_cursor"] is None
    live = client.get("/api/v1/rollouts/v7/pairs", params={"stream": "live"}).json()
    assert [pair["id"] for pair in live["pairs"]] == [5]


def test_spec_schema_accepts_what_apply_accepts(client: TestClient) -> None:
    """The published JSON Schema is of the spec that apply reads."""
    import jsonschema_rs

    schema = client.get("/api/v1/spec-schema").json()
    assert jsonschema_rs.is_valid(schema, SPEC)
    assert not jsonschema_rs.is_valid(schema, {**SPEC, "colour": 1})


def test_a_finished_rollback_says_why_and_how_fast(
    client: TestClient, store: Store, clock: Any
) -> None:
    """What a rolled-back rollout tells is why it was, not that the rollback is complete."""
    _apply(client)
    client.post("/api/v1/rollouts/v7/rollback", json={"reason": "it swears"})
    with store.write() as session:
        session.add(
            TransitionRow(
                rollout_id=1,
                number=3,
                at=clock(),
                actor="controller",
                event="drained",
                from_phase="rolling_back",
                to_phase="rolled_back",
                step=0,
                weight_before_bp=0,
                weight_after_bp=0,
                reason="the last gateway left the candidate 0.021 s after",
                receipt={"drained": {"time_to_zero": 0.021, "replicas": {"a": 0.021}}},
            )
        )
    _enter(store, "rolled_back")
    explained = client.get("/api/v1/rollouts/v7/explain").json()
    assert explained["why"] == "it swears"
    assert explained["decided_by"]["event"] == "rollback"
    assert explained["time_to_zero"] == 0.021
    assert client.get("/api/v1/rollouts").json()["rollouts"][0]["why"] == "it swears"
