"""From a user's request to the evidence of its outcome: through gateway, worker and control."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlmodel import select

from gateway.store.evidence import load_evidence
from gateway.store.tables import CaptureRow, RolloutRow
from rollout.joining import join_outcomes
from rollout.outcomes import Outcome, count_outcomes, post_outcomes

ROLLOUT: dict[str, Any] = {
    "id": 1,
    "name": "r1",
    "generation": 1,
    "route": "bot",
    "spec": {"analysis": {"metrics": [{"name": "solved", "source": {"outcome": "unsolved"}}]}},
    "spec_hash": "",
    "candidate_revision": "",
    "phase": "progressing",
    "state": {"epoch": 3},
    "created_at": 0.0,
    "updated_at": 0.0,
}
HALF = {"candidate": "cand", "salt": "s", "rollout": "r1", "rollout_id": 1, "weight_bp": 5000}


def test_the_id_that_a_client_saw_finds_its_request(world: Any, store_url: str) -> None:
    """Outcomes are posted with x-request-id alone; arm, weight and epoch are the gateway's."""

    async def scenario() -> None:
        async with world(url=store_url) as w:
            with w.store.write() as session:
                session.add(RolloutRow(**ROLLOUT))
            await w.split(**HALF, live_sample_bp=10_000, epoch=3)
            answers = [await w.chat(user=f"u{index}") for index in range(12)]
            served = {
                answer.headers["x-request-id"]: answer.headers["x-coalmine-variant"]
                for answer in answers
            }
            assert set(served.values()) == {"baseline", "candidate"}
            now = time.time()
            posted = [Outcome(each, "unsolved", index % 2) for index, each in enumerate(served)]
            post_outcomes(w.store, posted, by="app", now=now)
            deadline = time.monotonic() + 20
            while len(await w.rows(select(CaptureRow))) < len(served):
                assert time.monotonic() < deadline, "the captures did not come in time"
                await asyncio.sleep(0.02)
            assert join_outcomes(w.store, now=now + 1, wait_s=600) == len(served)
            with w.store.read() as session:
                facts = [fact for _, fact in load_evidence(session, 1, after=0)]
                counts = count_outcomes(session, rollout_id=1)
            found = {fact.payload["request_id"]: fact for fact in facts if fact.kind == "outcome"}
            assert {each: fact.payload["variant"] for each, fact in found.items()} == served
            assert {fact.payload["failure"] for fact in found.values()} == {0, 1}
            assert {(fact.payload["weight_bp"], fact.epoch) for fact in found.values()} == {
                (5000, 3)
            }
            assert all(fact.payload["cluster"] for fact in found.values())
            assert {each.state for each in counts} == {"joined"}

    asyncio.run(scenario())
