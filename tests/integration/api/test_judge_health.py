"""The judge's health through the admin API and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gateway.store import Store
from gateway.store.evidence import Evidence
from gateway.store.tables import JudgmentRow, RolloutRow
from rollout.audit import Actor
from rollout.evidence import EvidenceState
from rollout.folding import fold
from rollout.spec import load_spec
from shadow.health.examination import Asked, Examination
from shadow.health.trial import start_levels
from shadow.health.windows import Ended, Rules, claim_window, finish_window
from shadow.judge.pairwise import Comparison

LOCAL = Actor("local", "admin")
SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
}
REASON = "an answer that asks to be chosen was not beaten in 4 of 4 control pairs (injection)"


def quarantine(store: Store, service: Any) -> int:
    """A running rollout whose judge failed its second window, as worker and controller write it."""
    record = service.apply(SPEC, actor=LOCAL, start=True).record
    facts = []
    for result, reason in (("pass", ""), ("fail", REASON)):
        window = claim_window(
            store, record.id, Rules("w", every_pairs=1, every_s=1.0), identity="i", now=5.0
        )
        assert window is not None
        asked = (
            Asked("injection", "n", "judged", Comparison("loss", -1.0), result == "pass", "m", "f"),
            Asked("known", "n", "judge_error", None, None, "", None),
        )
        examination = Examination(result, reason, start_levels(), asked)  # type: ignore[arg-type]
        assert finish_window(store, window, Ended(examination, "i", "r", 400), now=5.0)
        with store.write() as session:
            for order in ("AB", "BA"):
                session.add(
                    JudgmentRow(pair_id=9, rollout_id=record.id, order=order, verdict="A",
                                model="m", created_at=5.0)
                )  # fmt: skip
        payload = {"window": window.number, "result": result, "reason": reason, "limit": 400}
        facts.append(Evidence("judge_health", 5.0, payload))
    noise = {
        "pair_id": 1, "capture_id": "c", "cluster": None, "judge": "tie", "score": 0.0,
        "failures": {}, "values": {},
    }  # fmt: skip
    facts.insert(0, Evidence("noise", 4.0, noise))
    with store.write() as session:
        row = session.get(RolloutRow, record.id)
        assert row is not None
        state = EvidenceState.from_json(row.state["evidence"])
        state = fold(state, enumerate(facts, state.last_seq + 1), load_spec(row.spec))
        row.state = {**row.state, "evidence": state.to_json()}
        row.last_seq = state.last_seq
        session.add(row)
    return record.id


def test_health_of_a_quarantined_judge(client: TestClient, store: Store, service: Any) -> None:
    """State, reason, windows, controls and the A/A stream are there for one rollout and for all."""
    quarantine(store, service)
    answer = client.get("/api/v1/rollouts/v7/judge-health")
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["state"], report["window"], report["reason"]) == ("quarantined", 2, REASON)
    assert (report["passes"], report["fails"], report["limit"]) == (1, 1, 400)
    assert [each["result"] for each in report["windows"]] == ["fail", "pass"]
    assert report["controls"] == [
        {"kind": "injection", "asked": 2, "passed": 1, "failed": 1, "no_verdict": 0},
        {"kind": "known", "asked": 2, "passed": 0, "failed": 0, "no_verdict": 2},
    ]
    assert report["noise"]["pairs"] == 1
    assert report["noise"]["win_rate"]["value"] == 0.5
    assert report["noise"]["alarm"] is False
    assert report["anchors"] is None
    assert report["biases"][0]["position"]["n"] == 0  # a pair that is gone counts nowhere
    listed = client.get("/api/v1/judge/health").json()["rollouts"]
    assert listed == [report]


def test_a_judge_that_nobody_examines_is_said_to_be_unwatched(
    client: TestClient, service: Any
) -> None:
    """No health at all is not taken for good health."""
    service.apply(SPEC, actor=LOCAL, start=True)
    report = client.get("/api/v1/rollouts/v7/judge-health").json()
    assert report["state"] == "unwatched"
    assert (report["windows"], report["controls"], report["noise"]) == ([], [], None)


def test_an_unknown_rollout_has_no_health(client: TestClient) -> None:
    """The problem says what is missing."""
    answer = client.get("/api/v1/rollouts/none/judge-health")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_explain_asks_for_the_judge_to_pass_again(
    client: TestClient, store: Store, service: Any
) -> None:
    """What a person reads first says what is needed."""
    quarantine(store, service)
    answer = client.get("/api/v1/rollouts/v7/explain")
    assert answer.status_code == 200, answer.text
    assert "coalmine judge health" in answer.text


@pytest.fixture
def _address(monkeypatch: pytest.MonkeyPatch, control: Any) -> None:
    """The command line finds the running control by COALMINE_URL, as a user would set it."""
    monkeypatch.delenv("COALMINE_TOKEN", raising=False)
    monkeypatch.setenv("COALMINE_URL", control.url)


@pytest.mark.usefixtures("_address")
def test_command_says_what_failed_and_ends_with_1(
    control: Any, coalmine: Callable[..., Any]
) -> None:
    """A quarantined judge is told in words, as JSON, and by the exit status."""
    quarantine(control.store, control.service)
    told = coalmine("judge", "health")
    assert told.code == 1
    said = " ".join(told.out.split())
    assert "the judge is quarantined" in said
    assert "asks to be chosen" in said
    assert "injection" in said
    as_json = coalmine("judge", "health", "v7", "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["state"] == "quarantined"


@pytest.mark.usefixtures("_address")
def test_command_without_rollouts_ends_with_0(control: Any, coalmine: Callable[..., Any]) -> None:
    """Nothing under way is nothing wrong."""
    told = coalmine("judge", "health")
    assert (told.code, told.out.strip()) == (0, "no rollout is under way")
