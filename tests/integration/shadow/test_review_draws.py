"""Pairs drawn for people while they are finished, on both databases."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlmodel import select

from gateway.settings_review import RouteReview
from gateway.store import Store
from gateway.store.evidence import Evidence, load_evidence
from gateway.store.tables import PairRow, ReviewItemRow, ReviewPoolRow
from shadow.drawing import WEEK_S, Askable
from shadow.metrics import WorkerMetrics
from shadow.pairs import Claim, ClaimRules, Finished, claim_pairs, finish_pairs
from shadow.serve import build_worker

ONE = ClaimRules("one", lease_s=60)


def done(claim: Claim, **rules: Any) -> Finished:
    """A comparison that people may be asked about."""
    review = RouteReview(**{"probability": 0.5, **rules})
    return Finished(
        claim,
        "compared",
        Evidence("pair", 1.0, {"pair_id": claim.pair_id}, claim.segment, 3),
        reviewed=True,
        askable=Askable("bot", review, claim.capture.id, disagreement=False, score=0.75),
    )


def items(store: Store) -> list[ReviewItemRow]:
    """All items."""
    with store.read() as session:
        return list(session.exec(select(ReviewItemRow)).all())


def chances(store: Store, rollout_id: int) -> dict[int, Any]:
    """The probabilities in the facts, by pair."""
    with store.read() as session:
        facts = load_evidence(session, rollout_id, after=0)
    return {fact.payload["pair_id"]: fact.payload["review_probability"] for _, fact in facts}


def test_what_is_drawn_is_written_with_the_pair(store: Store, rows: Any) -> None:
    """An item for each drawn pair, with the probability that its fact says too."""
    rollout = rows.rollout()
    for n in range(40):
        rows.pair(rollout, f"answer {n}")
    claims = claim_pairs(store, ONE, now=10.0, limit=100)
    finish_pairs(store, [done(claim, expert_only=True) for claim in claims], now=11.0)
    drawn = items(store)
    assert 5 < len(drawn) < 35
    known = chances(store, rollout)
    assert set(known.values()) == {0.5}
    for item in drawn:
        assert (item.probability, item.source, item.segment) == (0.5, "random", "billing")
        assert (item.state, item.score, item.expert_only, item.wanted) == ("open", 0.75, True, 1)
    with store.read() as session:
        pool = session.get(ReviewPoolRow, "bot")
    assert pool is not None
    assert (pool.pairs, pool.disagreed) == (40, 0)


def test_a_pair_that_another_worker_finished_is_not_drawn_again(store: Store, rows: Any) -> None:
    """Killed after its draw or before it, a pair is drawn once at most."""
    rollout = rows.rollout()
    rows.pair(rollout)
    (dead,) = claim_pairs(store, ONE, now=10.0, limit=5)
    (taken,) = claim_pairs(store, ClaimRules("two", lease_s=60), now=71.0, limit=5)
    assert finish_pairs(store, [done(taken, probability=1)], now=72.0) == [True]
    assert finish_pairs(store, [done(dead, probability=1)], now=73.0) == [False]
    assert len(items(store)) == 1


def test_workers_that_finish_at_once_stay_within_the_quota(store: Store, rows: Any) -> None:
    """The quota counts what others drew; what it leaves out could not be drawn, and says so."""
    rollout = rows.rollout()
    for n in range(120):
        rows.pair(rollout, f"answer {n}")
    claims = claim_pairs(store, ONE, now=10.0, limit=200)
    errors: list[BaseException] = []

    def work(mine: list[Claim]) -> None:
        try:
            for claim in mine:
                finish_pairs(store, [done(claim, probability=1, weekly_quota=20)], now=11.0)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=work, args=(claims[n::3],)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert 10 < len(items(store)) <= 20
    left_out = [pair for pair, chance in chances(store, rollout).items() if chance is None]
    assert len(left_out) == 120 - len(items(store))
    rows.pair(rollout, "a week later", created_at=WEEK_S)
    (later,) = claim_pairs(store, ONE, now=12.0 + WEEK_S, limit=5)
    finish_pairs(store, [done(later, probability=1, weekly_quota=20)], now=12.0 + WEEK_S)
    assert items(store)[-1].pair_id == later.pair_id


def test_deleting_a_pair_deletes_its_item(store: Store, rows: Any) -> None:
    """Retention that removes captures and pairs leaves no review behind."""
    rollout = rows.rollout()
    pair = rows.pair(rollout)
    (claim,) = claim_pairs(store, ONE, now=10.0, limit=5)
    finish_pairs(store, [done(claim, probability=1)], now=11.0)
    assert len(items(store)) == 1
    with store.write() as session:
        row = session.get(PairRow, pair)
        session.delete(row)
    assert items(store) == []


@pytest.mark.parametrize(
    ("spec", "review", "drawn"),
    [
        ({"metrics": [{"name": "judge_win_rate", "min_human_labels": 60}]}, None, True),
        ({"metrics": [{"name": "judge_win_rate"}]}, None, False),
        ({}, {"probability": 1}, True),
    ],
    ids=["labels asked for", "no labels", "route's review"],
)
def test_people_are_asked_where_spec_or_route_say_so(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any, spec: Any, review: Any, drawn: bool,
) -> None:  # fmt: skip
    """Comparisons may be drawn; what was not compared, or is identical, is marked as left out."""
    rollout = rows.rollout(analysis=spec)
    compared = rows.pair(rollout, "plain")
    same = rows.pair(rollout, "GOOD answer")
    refused = rows.pair(rollout, status=422)

    async def scenario() -> None:
        async with (
            serving(lambda _: reply_with(chat_document("GOOD answer"))) as up,
            serving(fair_judge) as judge,
        ):
            routes = {"bot": {"baseline": "v6", "review": review}}
            settings = settings_for(up.url, judge.url, routes=routes)
            worker = build_worker(
                settings,
                store,
                environ={},
                metrics=WorkerMetrics(CollectorRegistry()),
                rubric="r",
                clock=lambda: 100.0,
            )
            stop = asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            async with asyncio.timeout(20):
                while any(rows.get(each).state != "done" for each in (compared, same, refused)):
                    await asyncio.sleep(0.02)
            stop.set()
            await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
    with store.read() as session:
        facts = {
            f.payload["pair_id"]: f.payload for _, f in load_evidence(session, rollout, after=0)
        }
    if not drawn:
        assert not any("review_probability" in payload for payload in facts.values())
        assert items(store) == []
        return
    assert facts[compared]["review_probability"] >= 0.05
    assert facts[same]["review_probability"] is None
    assert facts[refused]["review_probability"] is None
    assert {item.pair_id for item in items(store)} <= {compared}
    if review:
        (item,) = items(store)
        assert (item.probability, item.score) == (1, 1.0)
