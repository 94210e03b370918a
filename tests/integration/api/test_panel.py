"""The reward-hacking panel: figures before and after, and the samples that moved them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from gateway.store import Store
from gateway.store.evidence import Evidence, append_evidence
from rollout.metrics import ControlMetrics
from rollout.panel_feed import PanelFeed

SPEC = {
    "kind": "Rollout",
    "name": "bot-v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
}
SHORT = "Your refund takes five days."
LONG = "Thank you so much for asking. " * 6 + SHORT
REFUSAL = "I'm sorry, but I can't help with that."
PATH = "/api/v1/rollouts/bot-v7/panel"

Finish = Callable[..., int]


@pytest.fixture
def rollout(client: TestClient) -> int:
    """A rollout without pairs; its id in the store."""
    answer = client.post("/api/v1/rollouts", json=SPEC)
    assert answer.status_code == 201, answer.text
    return 1


def line(panel: dict[str, Any], metric: str, segment: str | None = None) -> dict[str, Any]:
    """One figure of a panel."""
    [found] = [
        each for each in panel["lines"] if each["metric"] == metric and each["segment"] == segment
    ]
    return dict(found)


def test_the_panel_shows_what_moved(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """A candidate that grew longer everywhere and refuses in one segment: both are seen."""
    for number in range(60):
        orders = number % 2 == 0
        finish_pair(
            store, rollout, f"question {number}", SHORT,
            REFUSAL if orders and number < 40 else LONG, segment="orders" if orders else "billing",
        )  # fmt: skip
    panel = client.get(PATH).json()
    assert (panel["pairs"], panel["complete"], panel["interval"]) == (60, True, "anytime")
    refused = line(panel, "refusal_rate")
    assert (refused["before"], refused["status"]) == (0, "moved")
    assert refused["after"] == pytest.approx(20 / 60)
    assert refused["change"] == pytest.approx(20 / 60)
    assert refused["margin"] < refused["low"] < 20 / 60 < refused["high"]
    assert line(panel, "refusal_rate", "orders")["after"] == pytest.approx(20 / 30)
    assert line(panel, "refusal_rate", "billing")["after"] == 0
    tokens = line(panel, "output_tokens")
    assert tokens["status"] == "moved"
    assert tokens["after"] > 3 * tokens["before"]
    assert line(panel, "citation_valid")["status"] == "no_data"
    assert line(panel, "tool_call_rate")["status"] == "no_data"


def test_a_candidate_like_the_baseline_moves_nothing(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """Equal answers never count as moved, and with enough pairs the figure is proven steady."""
    for number in range(40):
        finish_pair(store, rollout, f"question {number}", SHORT, SHORT)
    panel = client.get(PATH).json()
    assert {each["status"] for each in panel["lines"]} <= {"steady", "unclear", "no_data"}
    assert line(panel, "output_tokens")["change"] == 0


def test_pairs_of_one_user_are_no_proof(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """Sixteen refusals of one user in a row are one observation, however many pairs they are."""
    for number in range(16):
        finish_pair(store, rollout, f"question {number}", SHORT, REFUSAL, user="u1")
    refused = line(client.get(PATH).json(), "refusal_rate")
    assert (refused["n"], refused["observations"]) == (16, 1)
    assert refused["status"] == "leaning"


def test_only_the_newest_are_a_single_look(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """With a limit the newest count, and the panel says that its intervals hold at this look."""
    for number in range(10):
        finish_pair(store, rollout, f"question {number}", SHORT, REFUSAL if number < 5 else SHORT)
    panel = client.get(PATH, params={"limit": 5}).json()
    assert (panel["pairs"], panel["complete"], panel["interval"]) == (5, False, "per_look")
    assert line(panel, "refusal_rate")["after"] == 0


def test_live_answers_are_two_samples(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """What users got of either arm is compared, apart from the pairs."""
    for number in range(50):
        finish_pair(store, rollout, f"question {number}", SHORT, None)
        finish_pair(store, rollout, f"query {number}", None, REFUSAL if number % 2 else LONG)
    panel = client.get(PATH, params={"source": "live"}).json()
    assert (panel["pairs"], panel["interval"]) == (100, "per_look")
    refused = line(panel, "refusal_rate")
    assert (refused["before"], refused["after"], refused["n"]) == (0, 0.5, 50)
    assert refused["low"] < 0.5 < refused["high"]
    assert refused["status"] == "moved"
    assert line(client.get(PATH).json(), "refusal_rate")["status"] == "no_data"
    samples = client.get(
        f"{PATH}/refusal_rate/samples", params={"source": "live", "count": 3}
    ).json()["samples"]
    assert [each["baseline"] for each in samples] == [None] * 3
    assert {each["candidate"]["text"] for each in samples} == {REFUSAL}


def test_samples_are_the_pairs_that_moved_the_figure(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """Both answers, findings and verdict of what moved it most, the newest first among equals."""
    refused = [
        finish_pair(store, rollout, f"question {number}", SHORT, REFUSAL, result="loss")
        for number in range(3)
    ]
    finish_pair(store, rollout, "other", REFUSAL, SHORT)
    for number in range(5):
        finish_pair(store, rollout, f"fine {number}", SHORT, SHORT)
    document = client.get(f"{PATH}/refusal_rate/samples", params={"count": 2}).json()
    assert document["direction"] == "increase"
    assert [each["pair"]["id"] for each in document["samples"]] == [refused[2], refused[1]]
    first = document["samples"][0]
    assert first["prompt"] == "question 2"
    assert first["baseline"]["text"] == SHORT
    assert first["baseline"]["finding"]["outcome"] == "pass"
    assert first["candidate"]["text"] == REFUSAL
    assert first["candidate"]["finding"]["outcome"] == "fail"
    assert (first["verdict"], first["decided_by"], first["contribution"]) == ("loss", "judge", 1)
    back = client.get(f"{PATH}/refusal_rate/samples", params={"direction": "decrease"}).json()
    assert [each["prompt"] for each in back["samples"]] == ["other"]


def test_the_longest_answers_are_the_samples_of_length(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """An amount is ranked by how much one arm's exceeds the other's, within a segment if asked."""
    finish_pair(store, rollout, "a little", SHORT, f"{SHORT} Bye.")
    finish_pair(store, rollout, "a lot", SHORT, LONG)
    finish_pair(store, rollout, "elsewhere", SHORT, LONG, segment="orders")
    params = {"segment": "billing"}
    found = client.get(f"{PATH}/output_tokens/samples", params=params).json()["samples"]
    assert [each["prompt"] for each in found] == ["a lot", "a little"]
    assert found[0]["contribution"] > found[1]["contribution"] > 0


def test_calling_tools_is_a_figure(
    client: TestClient, store: Store, rollout: int, finish_pair: Finish
) -> None:
    """A candidate that calls a tool where the baseline answered moves tool_call_rate."""
    tool = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": "refund", "arguments": "{}"}}
    for number in range(4):
        finish_pair(
            store, rollout, f"question {number}", SHORT, "", request={"tools": [tool]},
            candidate_message={"tool_calls": [call]},
        )  # fmt: skip
    called = line(client.get(PATH).json(), "tool_call_rate")
    assert (called["before"], called["after"], called["n"]) == (0, 1, 4)
    samples = client.get(f"{PATH}/tool_call_rate/samples", params={"count": 1}).json()["samples"]
    assert samples[0]["candidate"]["text"] == "refund({})"


def test_what_there_is_not_is_said(client: TestClient, rollout: int) -> None:
    """An unknown figure names those that there are; an unknown rollout is not found."""
    answer = client.get(f"{PATH}/charm/samples")
    assert answer.status_code == 404
    assert "it has output_tokens" in answer.json()["detail"]
    assert answer.json()["field"] == "metric"
    assert client.get("/api/v1/rollouts/none/panel").status_code == 404
    assert client.get(PATH, params={"limit": 0}).status_code == 422


def test_roles(client: TestClient, rollout: int, tokens: dict[str, dict[str, str]]) -> None:
    """A viewer may look, and nobody may without a token."""
    assert client.get(PATH, headers=tokens["viewer"]).status_code == 200
    samples = f"{PATH}/refusal_rate/samples"
    assert client.get(samples, headers=tokens["viewer"]).json()["samples"] == []
    assert client.get(PATH).status_code == 401


def test_prometheus_hears_of_new_evidence_from_the_leader(
    store: Store, client: TestClient, rollout: int, finish_pair: Finish
) -> None:
    """The leader shows the panel of running rollouts, again when there is new evidence only."""
    registry = CollectorRegistry()
    leading = [False]
    feed = PanelFeed(store, ControlMetrics(registry), leads=lambda: leading[0])

    def after() -> float | None:
        feed.look()
        labels = {"rollout": "bot-v7", "metric": "refusal_rate", "segment": "all"}
        return registry.get_sample_value("coalmine_panel_value", {**labels, "variant": "candidate"})

    def add(answer: str, *, told: bool = True) -> None:
        finish_pair(store, rollout, "question", SHORT, answer)
        with store.write() as session:
            append_evidence(store, session, rollout, [Evidence("pair", 1.0, {})] if told else [])

    add(REFUSAL)
    assert after() is None
    leading[0] = True
    assert after() == 1
    add(SHORT, told=False)
    assert after() == 1  # not read again
    add(SHORT)
    assert after() == pytest.approx(1 / 3)
