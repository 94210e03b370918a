"""The worker against simulated models and a simulated judge: the evidence has the right sign."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gateway.simulator import parse_simulator, start_simulator
from gateway.store import Store
from gateway.store.evidence import Evidence, load_evidence
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker, read_rubric

PAIRS = 30
TOPICS = ["invoice", "refund", "password", "router", "delivery", "contract"]
TICKET = {
    "type": "json_schema",
    "json_schema": {
        "name": "ticket",
        "schema": {
            "type": "object",
            "properties": {"summary": {"type": "string"}, "priority": {"type": "integer"}},
            "required": ["summary", "priority"],
        },
    },
}


@pytest.fixture
def store(sqlite_url: str, open_stores: Callable[[str], Store]) -> Store:
    """A store; which database it is makes no difference here."""
    return open_stores(sqlite_url)


def question(number: int) -> str:
    """Write a question with terms of its own."""
    topic = TOPICS[number % len(TOPICS)]
    return f"My {topic} number {1000 + number} has a problem since Monday. How do I solve it?"


def evaluate(
    store: Store, rows: Any, settings_for: Any, models: dict[str, Any], **request: Any
) -> dict[str, list[Evidence]]:
    """Let the baseline answer, mirror and judge every pair, and return the evidence by kind."""
    config = {
        "time_scale": 0,
        "models": {
            "model-v6": {},
            "judge-1": {"role": "judge", "noise": 0.3, "position_bias": 0.1},
            **models,
        },
    }
    with start_simulator(parse_simulator(config)) as simulator:
        rollout = rows.rollout()
        url = simulator.url if simulator.url.endswith("/v1") else f"{simulator.url}/v1"
        for number in range(PAIRS):
            body = {
                "model": "model-v6",
                "messages": [{"role": "user", "content": question(number)}],
                **request,
            }
            answer = httpx.post(f"{url}/chat/completions", json=body, trust_env=False)
            assert answer.status_code == 200, answer.text
            for stream in ("mirror", "noise") if number < 10 else ("mirror",):
                rows.pair(
                    rollout, stream=stream, request_body=json.dumps(body),
                    response_body=answer.text,
                )  # fmt: skip

        async def scenario() -> None:
            settings = settings_for(url, url)
            worker = build_worker(
                settings,
                store,
                environ={},
                metrics=WorkerMetrics(CollectorRegistry()),
                rubric=read_rubric(settings),
                clock=lambda: 100.0,
            )
            stop = asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            async with asyncio.timeout(60):
                while len(await asyncio.to_thread(facts, store, rollout)) < PAIRS + 10:
                    assert not running.done()
                    await asyncio.sleep(0.02)
            stop.set()
            await asyncio.wait_for(running, 20)

        asyncio.run(scenario())
        found = facts(store, rollout)
    return {kind: [f for f in found if f.kind == kind] for kind in ("pair", "noise")}


def facts(store: Store, rollout_id: int) -> list[Evidence]:
    """Read all evidence."""
    with store.read() as session:
        return [fact for _, fact in load_evidence(session, rollout_id, after=0)]


def mean_score(evidence: list[Evidence]) -> float:
    """Average the scores; every pair must have one."""
    scores = [fact.payload["score"] for fact in evidence]
    assert None not in scores, [fact.payload for fact in evidence]
    return float(sum(scores) / len(scores))


def test_a_worse_candidate_loses_and_a_better_one_wins(
    store: Store, rows: Any, settings_for: Any
) -> None:
    """Judged pairs show the direction, through real prompts, fences and verdicts."""
    worse = evaluate(store, rows, settings_for, {"model-v7": {"quality": 0.2}})
    assert mean_score(worse["pair"]) < -0.5
    assert abs(mean_score(worse["noise"])) < 0.4


def test_a_candidate_that_breaks_json_is_seen_by_the_check(
    store: Store, rows: Any, settings_for: Any
) -> None:
    """Broken contracts are failures of the candidate, whoever is asked about style."""
    made = evaluate(
        store, rows, settings_for, {"model-v7": {"json_break_rate": 0.5}}, response_format=TICKET
    )
    failures = [fact.payload["failures"]["format_valid"] for fact in made["pair"]]
    assert all(baseline == 0 for baseline, _ in failures)
    broken = [fact for fact in made["pair"] if fact.payload["failures"]["format_valid"][1]]
    assert 5 <= len(broken) <= 25
    assert all((f.payload["judge"], f.payload["score"]) == ("not_needed", -1) for f in broken)
