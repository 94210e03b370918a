"""Claims, leases and the one transaction that finishes a pair, on both databases."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gateway.store import Store
from gateway.store.evidence import Evidence, load_evidence, load_funnel
from gateway.store.tables import JudgmentRow
from shadow.pairs import (
    Claim,
    ClaimRules,
    Finished,
    claim_pairs,
    count_pending,
    finish_pairs,
    release_pairs,
    renew_leases,
)

ONE, TWO = ClaimRules("one", lease_s=60), ClaimRules("two", lease_s=60)


def done(claim: Claim, outcome: str = "compared") -> Finished:
    """Build a result with evidence and a judgment."""
    judgment = JudgmentRow(
        pair_id=claim.pair_id, rollout_id=claim.rollout_id, order="AB", model="j", created_at=1.0
    )
    fact = Evidence("pair", 1.0, {"pair_id": claim.pair_id}, claim.segment, 3)
    return Finished(claim, outcome, fact, (judgment,), columns={"comparison": {"result": "win"}})


def facts(store: Store, rollout_id: int) -> list[tuple[int, Evidence]]:
    """Read all evidence."""
    with store.read() as session:
        return load_evidence(session, rollout_id, after=0)


def funnel(store: Store, rollout_id: int) -> dict[str, dict[str, int]]:
    """Read the funnel."""
    with store.read() as session:
        return load_funnel(session, rollout_id)


def test_pairs_are_claimed_oldest_first_and_once(store: Store, rows: Any) -> None:
    """Two workers never hold the same pair, and a claim brings its capture along."""
    rollout = rows.rollout()
    ids = [rows.pair(rollout, f"answer {n}") for n in range(5)]
    first = claim_pairs(store, ONE, now=10.0, limit=3)
    second = claim_pairs(store, TWO, now=10.0, limit=3)
    assert [claim.pair_id for claim in first] == ids[:3]
    assert [claim.pair_id for claim in second] == ids[3:]
    assert "answer 0" in first[0].capture.response_body
    assert claim_pairs(store, ONE, now=10.0, limit=3) == []
    assert count_pending(store) == 0


def test_live_answers_are_checked_before_mirrored_ones(store: Store, rows: Any) -> None:
    """However many mirrored pairs wait, what users are being served now comes first."""
    rollout = rows.rollout()
    waiting = [rows.pair(rollout) for _ in range(3)]
    live = [rows.pair(rollout, stream="live") for _ in range(2)]
    claims = claim_pairs(store, ONE, now=10.0, limit=3)
    assert [claim.pair_id for claim in claims] == [*live, waiting[0]]


def test_mirrored_pairs_have_places_of_their_own_in_a_backlog(store: Store, rows: Any) -> None:
    """Reserved places go to the oldest of them, where some wait; live ones take the others."""
    rollout = rows.rollout()
    waiting = [rows.pair(rollout) for _ in range(3)]
    live = [rows.pair(rollout, stream="live") for _ in range(5)]

    def claimed(limit: int, reserved: int) -> list[int]:
        rules = ClaimRules("one", lease_s=60, concurrency=8, reserved=reserved)
        return [claim.pair_id for claim in claim_pairs(store, rules, now=10.0, limit=limit)]

    assert claimed(2, 1) == [live[0], waiting[0]]
    assert claimed(1, 1) == [waiting[1]]
    assert claimed(1, 0) == [live[1]]
    assert claimed(4, 2) == [*live[2:], waiting[2]]
    assert claimed(4, 2) == []


def test_a_backlog_of_one_rollout_does_not_hold_up_another(store: Store, rows: Any) -> None:
    """Each rollout with pairs gets an equal part of the worker; alone, one gets all of it."""
    rules = ClaimRules("one", concurrency=8)
    one, two = rows.rollout(name="one"), rows.rollout(name="two")
    first = [rows.pair(one) for _ in range(20)]
    assert len(claim_pairs(store, rules, now=10.0, limit=3)) == 3
    second = [rows.pair(two) for _ in range(3)]
    claims = claim_pairs(store, rules, now=10.0, limit=5, busy={one: 3})
    assert [claim.pair_id for claim in claims] == [*second, first[3]]
    assert claim_pairs(store, rules, now=10.0, limit=1, busy={one: 4, two: 3}) == []
    live = rows.pair(one, stream="live")
    (checked,) = claim_pairs(store, rules, now=10.0, limit=1, busy={one: 4, two: 3})
    assert checked.pair_id == live
    assert len(claim_pairs(store, rules, now=10.0, limit=4, busy={one: 4})) == 4


def test_what_a_finished_rollout_left_expires_beside_others(store: Store, rows: Any) -> None:
    """However many rollouts have pairs, those of one that is over are cleared away."""
    over, going = rows.rollout(name="over"), rows.rollout(name="going")
    for rollout in (over, over, over, going):
        rows.pair(rollout)
    rows.set_phase(over, "superseded")
    (claim,) = claim_pairs(store, ClaimRules("one", concurrency=4), now=10.0, limit=4)
    assert claim.rollout_id == going
    claim_pairs(store, ClaimRules("one", concurrency=4), now=10.0, limit=3, busy={going: 1})
    assert funnel(store, over) == {"mirror": {"pending": 0, "expired": 3}}


def test_claiming_at_the_same_time_shares_the_work_out(store: Store, rows: Any) -> None:
    """Workers that race get different pairs, and together all of them."""
    rollout = rows.rollout()
    ids = {rows.pair(rollout) for _ in range(40)}
    claimed: list[int] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        try:
            barrier.wait(20)
            while claims := claim_pairs(store, ClaimRules(name), now=10.0, limit=3):
                claimed.extend(claim.pair_id for claim in claims)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not errors
    # A racer may have met only rows that others held; nobody got a row twice.
    claimed += [c.pair_id for c in claim_pairs(store, ONE, now=10.0, limit=40)]
    assert sorted(claimed) == sorted(ids)


def test_a_finished_pair_moves_everything_at_once(store: Store, rows: Any) -> None:
    """Row, judgments, funnel and evidence change in one transaction."""
    rollout = rows.rollout()
    pair = rows.pair(rollout)
    (claim,) = claim_pairs(store, ONE, now=10.0, limit=5)
    assert finish_pairs(store, [done(claim)], now=11.0) == [True]
    row = rows.get(pair)
    assert (row.state, row.outcome, row.finished_at) == ("done", "compared", 11.0)
    assert row.comparison == {"result": "win"}
    assert funnel(store, rollout) == {"mirror": {"pending": 0, "compared": 1}}
    ((seq, fact),) = facts(store, rollout)
    assert (seq, fact.segment, fact.epoch, fact.payload) == (1, "billing", 3, {"pair_id": pair})


def test_a_worker_that_dies_loses_nothing_and_counts_nothing_twice(store: Store, rows: Any) -> None:
    """The lease ends, another worker takes over, and the late first result is thrown away."""
    rollout = rows.rollout()
    pair = rows.pair(rollout)
    (dead,) = claim_pairs(store, ONE, now=10.0, limit=5)
    assert claim_pairs(store, TWO, now=69.0, limit=5) == []
    (taken,) = claim_pairs(store, TWO, now=71.0, limit=5)
    assert (taken.pair_id, taken.attempt) == (pair, 2)
    assert finish_pairs(store, [done(dead, "judge_error")], now=72.0) == [False]
    assert finish_pairs(store, [done(taken)], now=73.0) == [True]
    assert finish_pairs(store, [done(taken), done(dead)], now=74.0) == [False, False]
    assert funnel(store, rollout) == {"mirror": {"pending": 0, "compared": 1}}
    assert len(facts(store, rollout)) == 1


def test_the_same_worker_can_lose_its_own_lease(store: Store, rows: Any) -> None:
    """A claim is known by its attempt as well: the older attempt of one worker counts nothing."""
    rollout = rows.rollout()
    rows.pair(rollout)
    (old,) = claim_pairs(store, ONE, now=10.0, limit=5)
    (new,) = claim_pairs(store, ONE, now=100.0, limit=5)
    assert finish_pairs(store, [done(old)], now=101.0) == [False]
    assert finish_pairs(store, [done(new)], now=101.0) == [True]


def test_a_result_that_cannot_be_written_changes_nothing(store: Store, rows: Any) -> None:
    """An error in the middle of the transaction leaves pair, funnel and evidence as they were."""
    rollout = rows.rollout()
    pair = rows.pair(rollout)
    (claim,) = claim_pairs(store, ONE, now=10.0, limit=5)
    broken = Finished(
        claim, "compared", Evidence("pair", 1.0, {"x": object()}), columns={"comparison": {}}
    )
    with pytest.raises(Exception, match="serializable"):
        finish_pairs(store, [broken], now=11.0)
    assert rows.get(pair).state == "claimed"
    assert funnel(store, rollout) == {"mirror": {"pending": 1}}
    assert facts(store, rollout) == []
    assert finish_pairs(store, [done(claim)], now=12.0) == [True]


def test_a_pair_that_keeps_failing_expires(store: Store, rows: Any) -> None:
    """After the last attempt it is counted as expired, once, and claimed no more."""
    rollout = rows.rollout()
    pair = rows.pair(rollout)
    heard: list[tuple[str, str, str]] = []
    rules = ClaimRules("one", lease_s=10, max_attempts=2)
    for now in (0.0, 20.0):
        assert len(claim_pairs(store, rules, now=now, limit=5)) == 1
    claims = claim_pairs(store, rules, now=40.0, limit=5, expired=lambda *each: heard.append(each))
    assert claims == []
    assert (rows.get(pair).state, rows.get(pair).outcome) == ("done", "expired")
    assert funnel(store, rollout) == {"mirror": {"pending": 0, "expired": 1}}
    assert heard == [("bot", "r1", "mirror")]


def test_old_pairs_and_pairs_of_finished_rollouts_expire(store: Store, rows: Any) -> None:
    """Neither is sent to a candidate; fresh pairs behind them are claimed in the same look."""
    over, going = rows.rollout(name="over"), rows.rollout(name="going")
    for _ in range(7):
        rows.pair(over, created_at=100.0)
    old = rows.pair(going, created_at=0.0)
    fresh = rows.pair(going, created_at=100.0)
    rows.set_phase(over, "rolled_back")
    rules = ClaimRules("one", ttl_s=50)
    claims = claim_pairs(store, rules, now=110.0, limit=4)
    assert [claim.pair_id for claim in claims] == [fresh]
    assert rows.get(old).outcome == "expired"
    assert funnel(store, over) == {"mirror": {"pending": 0, "expired": 7}}
    assert funnel(store, going) == {"mirror": {"pending": 1, "expired": 1}}


def test_leases_are_renewed_and_given_back(store: Store, rows: Any) -> None:
    """A slow pair is kept; a pair given back is taken at once and has lost no attempt."""
    rollout = rows.rollout()
    rows.pair(rollout)
    (claim,) = claim_pairs(store, ONE, now=0.0, limit=5)
    renew_leases(store, [claim], now=50.0, lease_s=60)
    assert claim_pairs(store, TWO, now=70.0, limit=5) == []
    release_pairs(store, [claim])
    (again,) = claim_pairs(store, TWO, now=70.0, limit=5)
    assert again.attempt == 1
    renew_leases(store, [claim], now=70.0, lease_s=600)
    release_pairs(store, [claim])
    assert claim_pairs(store, ONE, now=80.0, limit=5) == []
