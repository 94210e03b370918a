"""People's labels decide: from a verdict through the API to the promotion, on both databases."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from gateway.store.tables import CaptureRow, PairRow, ReviewItemRow
from rollout.api import create_app
from rollout.controller import Controller
from rollout.feeding import FedController
from rollout.metrics import ControlMetrics
from rollout.replaying import replay_stored
from rollout.reviews import settle_items
from rollout.states import Phase

LABELS = 60


def _apply(world: Any) -> None:
    """A rollout in shadow with pairs enough for everything but people."""
    metrics = [
        {"name": "judge_win_rate", "margin": 0.1, "min_human_labels": LABELS},
        *world.default_spec["analysis"]["metrics"][1:],
    ]
    analysis = {**world.default_spec["analysis"], "metrics": metrics, "min_samples": 60}
    world.apply({**world.default_spec, "analysis": analysis})
    world.tick()
    facts = [world.pair(judge="win", score=1.0) for _ in range(300)]
    world.append(*(replace(f, payload={**f.payload, "review_probability": 0.25}) for f in facts))
    world.tick(10)


def _draw(world: Any, count: int) -> None:
    """Draw pairs for people; the candidate stands left in every other one."""
    rollout_id = world.record().id
    answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": "yes"}}]})
    request = {"model": "bot", "messages": [{"role": "user", "content": "q"}]}
    with world.store.write() as session:
        for n in range(count):
            session.add(
                CaptureRow(
                    id=f"d{n}",
                    route="bot",
                    request_id=f"d{n}",
                    created_at=world.now,
                    endpoint="/v1/chat/completions",
                    variant="baseline",
                    reason="split",
                    deployment="old",
                    stream=False,
                    request_body=json.dumps(request),
                    response_body=answer,
                    status=200,
                    total_s=0.5,
                    split_revision=1,
                    epoch=1,
                    weight_bp=0,
                )
            )
            session.flush()
            pair = PairRow(
                rollout_id=rollout_id,
                capture_id=f"d{n}",
                stream="mirror",
                state="done",
                outcome="compared",
                created_at=world.now,
                segment="billing",
                candidate_response=answer,
                comparison={"decided_by": "judge", "score": 1.0},
            )
            session.add(pair)
            session.flush()
            session.add(
                ReviewItemRow(
                    rollout_id=rollout_id,
                    pair_id=pair.id,
                    route="bot",
                    segment="billing",
                    source="random" if n % 3 else "disagreement",
                    probability=0.1 if n % 3 else 0.5,
                    score=1.0,
                    position=n / count,
                    left_arm="candidate" if n % 2 else "baseline",
                    created_at=world.now,
                )
            )


def _review(world: Any, client: TestClient, *, good: Any) -> int:
    """Review everything that waits, by what the arms are; return how many verdicts were given."""
    given = 0
    path = "/api/v1/rollouts/bot-v2/reviews"
    while (item := client.post(f"{path}/next").json()["item"]) is not None:
        with world.store.read() as session:
            left = session.get(ReviewItemRow, item["id"]).left_arm
        candidate, other = ("left", "right") if left == "candidate" else ("right", "left")
        verdict = {"candidate": candidate, "baseline": other}.get(good(given), good(given))
        body = {"verdict": verdict, "categories": ["safety"] if given == 4 else []}
        assert client.post(f"/api/v1/reviews/{item['id']}", json=body).status_code == 200
        given += 1
    settle_items(world.store, now=world.now + 60)
    return given


@pytest.fixture
def client(world: Any) -> TestClient:
    """The local user's client of the world's API."""
    app = create_app(world.settings, world.store, world.service, clock=lambda: world.now)
    return TestClient(app, base_url="http://127.0.0.1:8081")


def _serve_users(world: Any) -> None:
    for _ in range(40):
        if world.record().phase is Phase.SUCCEEDED:
            return
        world.live(200)
        world.tick(15)


def test_labels_through_the_api_promote_a_candidate(world: Any, client: TestClient) -> None:
    """Without labels it holds; with them it goes on to 100%, and is decided again bit for bit."""
    _apply(world)
    _draw(world, 80)
    world.pairs(300, judge="win", score=1.0)
    record = world.tick(60)
    assert record.phase is Phase.SHADOWING
    status = client.get("/api/v1/rollouts/bot-v2").json()
    assert any("60 human labels" in need for need in status["needs"])
    labels = next(m for m in status["metrics"] if m["name"] == "judge_win_rate")["labels"]
    assert labels["claim"] == "no blind label yet: nobody has checked what the judge says"
    assert (labels["judge_estimate"], labels["people_estimate"]) == (1.0, None)

    mostly = {0: "baseline", 5: "tie", 7: "both_bad"}
    assert _review(world, client, good=lambda n: mostly.get(n % 10, "candidate")) == 80
    world.tick(1)
    reviews = client.get("/api/v1/rollouts/bot-v2/reviews/status").json()
    assert (reviews["items"], reviews["labels"]) == ({"open": 0, "done": 80, "withdrawn": 0}, 80)
    assert (reviews["sources"], reviews["reviewers"]) == ({"random": 53, "disagreement": 27}, 1)
    told = reviews["evidence"]
    assert told["n"] == 80
    assert "better than the baseline according to your reviewers, lower bound 0." in told["claim"]
    assert told["claim"].endswith("from 80 blind labels")
    assert 0.6 < told["estimate"] < 0.95 < told["judge_estimate"]
    assert told["people_low"] < told["people_estimate"] < 0.95
    explained = client.get("/api/v1/rollouts/bot-v2/explain").json()
    assert told["claim"] in {(m["labels"] or {}).get("claim") for m in explained["metrics"]}

    _serve_users(world)
    assert world.record().phase is Phase.SUCCEEDED
    found = replay_stored(world.store, "bot-v2")
    assert all(each.same is True for each in (*found.transitions, found.state))


def test_labels_against_a_candidate_keep_it_from_users(world: Any, client: TestClient) -> None:
    """The judge says it wins everywhere, people say the opposite: it is not widened."""
    _apply(world)
    _draw(world, 80)
    _review(world, client, good=lambda _n: "baseline")
    record = world.tick(60)
    assert record.phase is Phase.SHADOWING
    assert world.weight() == 0
    told = client.get("/api/v1/rollouts/bot-v2/reviews/status").json()["evidence"]
    assert "more labels like these would not show it" in told["claim"]
    assert told["needed"] is None


def test_agreement_is_told_by_segment_and_harms_are_bounded(world: Any, client: TestClient) -> None:
    """Judge and people side by side, by how items were drawn; one marked harm is bounded."""
    _apply(world)
    _draw(world, 60)
    _review(world, client, good=lambda n: "both_bad" if n == 4 else "candidate")
    told = client.get("/api/v1/rollouts/bot-v2/reviews/agreement").json()
    overall, billing = told["judge_and_people"]
    assert (overall["segment"], billing["segment"], billing["items"]) == (None, "billing", 60)
    assert overall["confusion"] == {"1": {"0.5": 1, "1": 59}}
    assert 0.9 < overall["observed"] < 1
    assert overall["cohen_kappa"] == 0
    assert overall["gwet_ac1"] > 0.9
    assert told["people"] == {"items": 0, "krippendorff_alpha": None}
    assert (told["harms"]["harms"], told["harms"]["labels"]) == (1, 40)
    assert 0.05 < told["harms"]["upper"] < 0.2


def test_the_leader_settles_what_cant_be_corrected_any_more(world: Any, client: TestClient) -> None:
    """A running control turns a verdict into evidence by itself, and folds it."""
    _apply(world)
    _draw(world, 1)
    item = client.post("/api/v1/rollouts/bot-v2/reviews/next").json()["item"]
    client.post(f"/api/v1/reviews/{item['id']}", json={"verdict": "tie"})
    world.now += 61
    world.controller.lease.release()
    controller = world.new_controller()
    fed = FedController(world.store, world.settings, controller, clock=lambda: world.now)

    def labels() -> int:
        known = world.record().evidence.metrics["judge_win_rate"].labels
        return 0 if known is None else int(known.n)

    async def run() -> None:
        await fed.start()
        try:
            async with asyncio.timeout(20):
                while not await asyncio.to_thread(labels):
                    await asyncio.sleep(0.02)
        finally:
            await fed.stop()

    asyncio.run(run())
    assert labels() == 1


def test_control_shows_the_queue_and_the_labels(world: Any, client: TestClient) -> None:
    """Open items and labels are gauges of the leader, under names that are bounded."""
    registry = CollectorRegistry()
    world.controller = Controller(
        world.store,
        world.settings,
        health=world.health,
        metrics=ControlMetrics(registry),
        clock=lambda: world.now,
        persist_interval=0.0,
    )
    _apply(world)
    _draw(world, 12)
    _review(world, client, good=lambda n: "tie" if n else "candidate")
    world.tick(60)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"rollout": "bot-v2", **labels})

    assert value("coalmine_review_items", state="done") == 12
    assert value("coalmine_review_items", state="open") == 0
    assert value("coalmine_review_labels", label="candidate") == 1
    assert value("coalmine_review_labels", label="neither") == 11
    assert value("coalmine_review_win_rate", bound="point") is not None
