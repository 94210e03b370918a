"""A worker that dies at any of its commits: the funnel, the facts and the judgments still agree."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlmodel import select

from gateway.errors import StoreUnavailable
from gateway.intake import packets
from gateway.store import Store
from gateway.store.evidence import Evidence, load_funnel, move_funnel
from gateway.store.tables import (
    EvidenceHeadRow,
    EvidenceRow,
    IntakeRow,
    JudgmentRow,
    PairRow,
    RolloutRow,
)
from shadow.pairs import Claim, ClaimRules, Finished, claim_pairs, finish_pairs

_CAPTURES = 12
_LEASE_S = 60.0
_OUTCOMES = ("compared", "candidate_failed", "unjudgeable", "budget_exhausted", "judge_error")
_ENDINGS = ("before", "after", "unacknowledged")
_MOST_COMMITS = 40


def _rollouts(store: Store) -> list[int]:
    with store.write() as session:
        rows = [
            RolloutRow(
                name=name,
                generation=1,
                route="bot",
                spec={"candidate": {"deployment": name}},
                spec_hash="h",
                candidate_revision="c",
                phase="shadowing",
                state={},
                created_at=0.0,
                updated_at=0.0,
            )
            for name in ("one", "two", "three")
        ]
        session.add_all(rows)
        session.flush()
        return [int(row.id or 0) for row in rows]


def _hand_over(store: Store, make_capture: Callable[..., Any]) -> list[int]:
    """Hand captures over as a gateway does: all rollouts want each, one a second time as noise."""
    one, two, three = _rollouts(store)
    pairs = [(one, "mirror"), (one, "noise"), (two, "mirror"), (three, "mirror")]
    captures = [
        make_capture(id=f"c{n}", request_id=f"r{n}", segment="ab"[n % 2], pairs=pairs)
        for n in range(_CAPTURES)
    ]
    with store.write() as session:
        for packet in packets(captures):
            session.add(IntakeRow(**packet))
        moves = [
            (rollout_id, stream, outcome, _CAPTURES)
            for rollout_id, stream in pairs
            for outcome in ("eligible", "pending")
        ]
        move_funnel(store, session, moves)
    return [one, two, three]


def _result(claim: Claim) -> Finished:
    """What a pair comes to: always the same, whoever evaluates it."""
    number = int(claim.capture.id[1:]) + claim.rollout_id + len(claim.stream)
    outcome = _OUTCOMES[number % len(_OUTCOMES)]
    judgments = tuple(
        JudgmentRow(
            pair_id=claim.pair_id,
            rollout_id=claim.rollout_id,
            order=order,
            model="j",
            created_at=0.0,
        )
        for order in (("AB", "BA") if outcome in {"compared", "judge_error"} else ())
    )
    kind: Any = "noise" if claim.stream == "noise" else "pair"
    fact = Evidence(kind, 0.0, {"pair_id": claim.pair_id}, claim.segment)
    return Finished(claim, outcome, fact, judgments)


def _live(store: Store, name: str, now: float) -> None:
    """Work as a worker does until nothing is left: claim, evaluate, write in batches.

    A commit that was not acknowledged is written again, as :class:`shadow.finisher.Finisher` does.
    """
    rules = ClaimRules(name, lease_s=_LEASE_S, max_attempts=100, concurrency=6)
    while claims := _again(lambda: claim_pairs(store, rules, now=now, limit=7)):
        for start in range(0, len(claims), 3):
            batch = [_result(claim) for claim in claims[start : start + 3]]
            _again(lambda batch=batch: finish_pairs(store, batch, now=now))  # type: ignore[misc]


def _again(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except StoreUnavailable:
        return work()


def _checked(store: Store, rollout_ids: list[int]) -> dict[str, Any]:
    """Check that rows, funnel, facts and judgments agree, and return what they say together."""
    with store.read() as session:
        pairs = session.exec(select(PairRow)).all()
        facts = session.exec(select(EvidenceRow)).all()
        judgments = session.exec(select(JudgmentRow)).all()
        heads = {row.rollout_id: row.seq for row in session.exec(select(EvidenceHeadRow)).all()}
        funnels = {each: load_funnel(session, each) for each in rollout_ids}
    assert len(pairs) == 4 * _CAPTURES
    assert {pair.state for pair in pairs} == {"done"}
    told = Counter(fact.payload["pair_id"] for fact in facts)
    assert told == Counter(pair.id for pair in pairs)
    assert set(Counter((row.pair_id, row.order) for row in judgments).values()) == {1}
    for rollout_id in rollout_ids:
        own = [pair for pair in pairs if pair.rollout_id == rollout_id]
        for stream, outcomes in funnels[rollout_id].items():
            ended = Counter(pair.outcome for pair in own if pair.stream == stream)
            counted = {name: n for name, n in outcomes.items() if n and name != "eligible"}
            assert counted == dict(ended)
            assert outcomes["eligible"] == _CAPTURES == sum(counted.values())
        seqs = sorted(fact.seq for fact in facts if fact.rollout_id == rollout_id)
        assert seqs == list(range(1, heads[rollout_id] + 1))
    return {"funnels": funnels, "judged": len(judgments)}


def _deaths(store: Store, fragile: Any, killed: type[BaseException], ending: str, at: int) -> bool:
    """Let a worker die at its commit ``at``, and another finish; ``False``: it never got there."""
    dying = fragile(store, at=at, ending=ending)
    with contextlib.suppress(killed):
        _live(dying, "dying", now=0.0)
    _live(store, "heir", now=_LEASE_S + 1)
    return bool(dying.commits >= at)


def _moments(backend: Store) -> Iterator[int]:
    """Every commit on SQLite, a sample on PostgreSQL."""
    yield from range(1, _MOST_COMMITS) if backend.is_sqlite else (1, 2, 3, 5, 8, 13, 19)


@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_worker_that_dies_at_any_commit_loses_and_repeats_nothing(
    store: Store,
    fragile: Any,
    world: Any,
    empty: Callable[[Store], None],
    make_capture: Callable[..., Any],
    ending: str,
) -> None:
    """Killed before or after each commit, or not told of it: the same funnel as without a kill."""
    rollout_ids = _hand_over(store, make_capture)
    _live(store, "alone", now=0.0)
    expected = _checked(store, rollout_ids)
    reached = 0
    for at in _moments(store):
        empty(store)
        rollout_ids = _hand_over(store, make_capture)
        if not _deaths(store, fragile, world.Killed, ending, at):
            break
        reached += 1
        assert _checked(store, rollout_ids) == expected
    assert reached >= 7
