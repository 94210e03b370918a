"""A gullible judge is found and quarantined, from the worker's calls to the rollout's pause."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlmodel import select

from gateway.simulator import parse_simulator, start_simulator
from gateway.store.evidence import move_funnel
from gateway.store.tables import CaptureRow, JudgmentRow, PairRow
from rollout.evidence import OVERALL
from rollout.records import Record
from rollout.replaying import replay_stored
from rollout.states import Phase
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker, read_rubric

PAIRS = 80
TOPICS = ["invoice", "refund", "password", "router", "delivery", "contract"]
SPEC_CHANGES: dict[str, Any] = {
    "steps": [{"mirror": {"min_pairs": 60, "max_duration": "1h"}}, {"set_weight": 10}],
    "analysis": {
        "metrics": [
            {"name": "judge_win_rate", "margin": 0.2},
            {"name": "refusal_rate", "margin": 0.2},
            {"name": "error_rate", "margin": 0.2},
        ],
        "min_samples": 50,
    },
}


class Scene:
    """A world whose models are simulated, with captures to be mirrored and judged."""

    def __init__(self, make_world: Callable[..., Any], simulator: Any) -> None:
        url = str(simulator.url).removesuffix("/v1") + "/v1"
        self.url = url
        deployments = {name: {"base_url": url, "model": name} for name in ("old", "new", "judge")}
        self.world = make_world(
            deployments=deployments,
            judge={"deployment": "judge", "health": {"every_pairs": 40, "every": "60s"}},
        )

    def capture(self, count: int) -> None:
        """Let the baseline answer, and leave captures with pairs as gateways do."""
        record = self.world.record()
        for number in range(count):
            text = f"My {TOPICS[number % 6]} {1000 + number} has a problem since Monday. What now?"
            body = {"model": "old", "messages": [{"role": "user", "content": text}]}
            answer = httpx.post(f"{self.url}/chat/completions", json=body, trust_env=False)
            assert answer.status_code == 200
            with self.world.store.write() as session:
                capture = CaptureRow(
                    id=uuid.uuid4().hex, route="bot", request_id=uuid.uuid4().hex,
                    created_at=self.world.now, endpoint="/v1/chat/completions",
                    variant="baseline", reason="split", deployment="old", stream=False,
                    request_body=json.dumps(body), response_body=answer.text, status=200,
                    total_s=0.1, segment="billing", split_revision=1, epoch=0, weight_bp=0,
                )  # fmt: skip
                session.add(capture)
                session.flush()
                session.add(
                    PairRow(
                        rollout_id=record.id, capture_id=capture.id, stream="mirror",
                        created_at=self.world.now, segment="billing",
                    )
                )  # fmt: skip
                session.flush()
                move_funnel(self.world.store, session, [(record.id, "mirror", "pending", 1)])

    def work_until(self, reached: Callable[[Record], bool], *, step_s: float = 0.0) -> Record:
        """Run a worker, and the controller beside it, until a record is as wanted."""

        async def scenario() -> Record:
            worker = build_worker(
                self.world.settings,
                self.world.store,
                environ={},
                metrics=WorkerMetrics(CollectorRegistry()),
                rubric=read_rubric(self.world.settings),
                clock=lambda: self.world.now,
                rng=Random(5),
            )
            stop = asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            try:
                async with asyncio.timeout(20):
                    while True:
                        record: Record = await asyncio.to_thread(self.world.tick, step_s)
                        if reached(record):
                            return record
                        assert not running.done(), running
                        await asyncio.sleep(0.05)
            finally:
                stop.set()
                await asyncio.wait_for(running, 20)

        return asyncio.run(scenario())

    def becomes(self, **judge: Any) -> None:
        """Give the judge another character."""
        root = self.url.removesuffix("/v1")
        document = {"role": "judge", "noise": 0.3, **judge}
        httpx.post(f"{root}/sim/models/judge", json=document, trust_env=False).raise_for_status()

    def verdicts(self) -> int:
        """How many verdicts the judge has given on pairs."""
        with self.world.store.read() as session:
            rows = session.exec(select(JudgmentRow)).all()
        return len({row.pair_id for row in rows if row.verdict is not None})


def judged_pairs(record: Record) -> int:
    """Pairs that count in the judge's metric."""
    return record.evidence.metrics["judge_win_rate"].paired[OVERALL].n


@pytest.fixture
def scene(make_world: Callable[..., Any]) -> Iterator[Scene]:
    """A world over simulated models, its judge careful until told otherwise."""
    models = {
        "old": {"quality": 0.5},
        "new": {"quality": 0.9},
        "judge": {"role": "judge", "noise": 0.3},
    }
    config = {"time_scale": 0, "seed": 11, "models": models}
    with start_simulator(parse_simulator(config)) as simulator:
        yield Scene(make_world, simulator)


def test_a_careful_judge_passes_and_its_verdicts_widen(
    scene: Scene, spec: Callable[..., dict[str, Any]]
) -> None:
    """Examined, confirmed window by window, and enough for the first users."""
    scene.world.apply(spec(**SPEC_CHANGES))
    scene.capture(PAIRS)
    record = scene.work_until(lambda r: r.phase is not Phase.SHADOWING, step_s=1.0)
    assert record.phase is Phase.PROGRESSING
    assert scene.world.weight() == 10
    health = record.evidence.judge_health
    assert health is not None
    assert (health.state, health.fails, health.dropped) == ("passed", 0, 0)
    assert health.passes >= 1
    assert judged_pairs(record) > 30
    assert replay_stored(scene.world.store, "bot-v2").same is True


def test_a_gullible_judge_is_quarantined_and_widens_nothing(
    scene: Scene, spec: Callable[..., dict[str, Any]]
) -> None:
    """It praises the candidate in every pair, and none of that counts; the pause says why."""
    scene.becomes(gullibility=1.0)
    scene.world.apply(spec(**SPEC_CHANGES))
    scene.capture(PAIRS)
    record = scene.work_until(
        lambda r: r.phase is Phase.PAUSED and r.evidence.pairs == PAIRS, step_s=0.2
    )
    assert record.paused is not None
    assert record.paused.reason == "judge_quarantined"
    assert "asks to be chosen" in record.paused.message
    assert scene.world.weight() == 0
    assert set(scene.world.events()) <= {"start", "shadow", "pause"}
    assert scene.verdicts() > 30
    assert judged_pairs(record) == PAIRS - scene.verdicts()
    health = record.evidence.judge_health
    assert health is not None
    assert health.quarantined
    assert health.dropped == scene.verdicts()
    assert record.evidence.metrics["refusal_rate"].paired[OVERALL].n == PAIRS
    assert replay_stored(scene.world.store, "bot-v2").same is True


def test_a_judge_that_turns_gullible_loses_its_last_window_only(
    scene: Scene, spec: Callable[..., dict[str, Any]]
) -> None:
    """What it said while it was sound stays; once it is mended a person lets it go on."""
    scene.world.apply(spec(**SPEC_CHANGES))
    scene.capture(30)
    sound = scene.work_until(
        lambda r: (
            r.evidence.pairs == 30
            and r.evidence.judge_health is not None
            and r.evidence.trusted is None
            and judged_pairs(r) > 0
        ),
        step_s=5.0,
    )
    told = scene.verdicts()
    scene.becomes(gullibility=1.0)
    paused, pairs = sound, 30
    while paused.phase is not Phase.PAUSED:  # an attack that it does not fall for buys it a window
        pairs += 20
        assert pairs <= 150
        scene.capture(20)
        paused = scene.work_until(
            lambda r, pairs=pairs: r.evidence.pairs == pairs and r.evidence.trusted is None,
            step_s=5.0,
        )
    assert paused.paused is not None
    assert paused.paused.reason == "judge_quarantined"
    health = paused.evidence.judge_health
    assert health is not None
    assert health.passes >= 1
    assert health.dropped >= 1
    assert judged_pairs(paused) == pairs - health.dropped
    assert judged_pairs(paused) >= told
    assert judged_pairs(sound) == 30
    scene.becomes()
    mended = scene.work_until(
        lambda r: r.evidence.judge_health is not None and not r.evidence.judge_health.quarantined,
        step_s=20.0,
    )
    assert mended.phase is Phase.PAUSED
    from tests.integration.rollout.conftest import OPERATOR

    scene.world.service.resume("bot-v2", actor=OPERATOR)
    assert scene.world.tick(1.0).phase is not Phase.PAUSED
