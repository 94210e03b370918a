"""A history that the real controller made is decided again from the store, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import select

from gateway.errors import NotFound
from gateway.store.tables import EvidenceRow, RolloutRow, SplitRow, TransitionRow
from rollout.replaying import replay_stored
from rollout.service import Actor
from rollout.states import Phase

OPERATOR = Actor("alice", "operator")


def _spec(world: Any, **changes: Any) -> dict[str, Any]:
    analysis = {**world.default_spec["analysis"], "min_samples": 60}
    return {**world.default_spec, "analysis": analysis, **changes}


def _promote(world: Any) -> None:
    world.apply(_spec(world))
    world.tick()
    world.pairs(300)
    world.tick(10)
    for _ in range(30):
        if world.record().phase is Phase.SUCCEEDED:
            return
        world.live(200)
        world.tick(15)
    raise AssertionError("it was not promoted")


def _check(world: Any, name: str = "bot-v2", **which: Any) -> Any:
    found = replay_stored(world.store, name, **which)
    wrong = [each for each in (*found.transitions, found.state) if each.same is not True]
    assert not wrong, wrong
    assert found.same is True
    return found


def test_promotion_is_decided_again(world: Any) -> None:
    """Every step of a promotion, over two controllers, follows from the facts."""
    _promote(world)
    found = _check(world)
    assert [each.event for each in found.transitions] == world.events()
    decided = [each.event for each in found.transitions if each.why.startswith("decided again")]
    assert decided == ["progress", "progress", "bake", "succeed"]
    world.service.rollback("bot-v2", actor=OPERATOR, reason="after all")
    world.tick(1)
    assert world.record().phase is Phase.ROLLED_BACK
    _check(world)


def test_rollback_is_decided_again(world: Any) -> None:
    """A proof of harm in the middle of a batch stands at the fact that completed it."""
    world.apply()
    world.tick()
    world.pairs(600, bad={"format_valid": 0.06})
    assert world.tick(5).phase is Phase.ROLLED_BACK
    found = _check(world)
    rollback = next(each for each in found.transitions if each.event == "rollback")
    assert rollback.last_seq < 600
    assert rollback.why == "decided again: the same"


def test_what_operators_did_is_done_again(world: Any) -> None:
    """Weights by hand, pauses, approvals and a restart in between change what is known after."""
    steps = [
        {"mirror": {"min_pairs": 200, "max_duration": "1h"}},
        {"set_weight": 10},
        {"pause": {"approval": True}},
        {"set_weight": 100},
    ]
    world.apply(_spec(world, steps=steps))
    world.tick()
    world.pairs(150)
    world.tick(5)
    world.service.pause("bot-v2", actor=OPERATOR, reason="lunch")
    world.pairs(30)
    world.tick(60)
    world.service.resume("bot-v2", actor=OPERATOR)
    world.pairs(250)
    world.tick(10)
    assert world.weight() == 10.0
    world.gateway()
    world.live(400)
    world.tick(5)
    world.service.set_weight("bot-v2", 30, actor=OPERATOR, reason="faster")
    world.live(200)
    world.controller.lease.release()
    world.controller = world.new_controller()
    world.tick(5)
    world.service.resume("bot-v2", actor=OPERATOR)
    for _ in range(20):
        if world.record().phase is Phase.PAUSED:
            break
        world.live(800)
        world.tick(15)
    assert world.record().paused.reason == "approval"
    world.service.approve("bot-v2", actor=OPERATOR)
    world.tick(5)
    world.live(400)
    world.tick(25)
    world.service.abort("bot-v2", actor=OPERATOR, reason="enough")
    found = _check(world)
    events = [each.event for each in found.transitions]
    assert {"pause", "resume", "set_weight", "approve", "abort"} <= set(events)


def test_gradual_rollback_and_a_weight_changed_in_the_store_are_done_again(world: Any) -> None:
    """Neither a rollback in parts nor a hand in the store leaves a history that can't be told."""
    world.apply(_spec(world, rollback={"mode": "gradual", "step": 4, "interval": "5s"}))
    world.tick()
    world.pairs(300)
    world.tick(10)
    with world.store.write() as session:
        row = session.get(SplitRow, "bot")
        row.document = {**row.document, "weight_bp": 1700}
        session.add(row)
    assert world.tick(1).paused.reason == "manual_weight"
    world.service.resume("bot-v2", actor=OPERATOR)
    world.gateway()
    world.live(1000, broken=0.5)
    weights = []
    for _ in range(6):
        world.gateway()
        world.tick(6)
        weights.append(world.weight())
    assert weights[:3] == [6.0, 2.0, 0.0]
    world.gateway()
    world.tick(1)
    assert world.record().phase is Phase.ROLLED_BACK
    assert _check(world).transitions[-1].event == "drained"


def test_step_that_began_ahead_of_the_clock_is_told(world: Any) -> None:
    """When the clock was set back the step counts from then, and the replay says so."""
    world.apply(_spec(world))
    world.tick(3600)
    world.now -= 3600
    world.tick(1)
    world.pairs(300)
    world.tick(10)
    assert world.record().phase is Phase.PROGRESSING
    found = _check(world)
    assert "clock had been set back" in found.transitions[2].why


def test_each_generation_is_decided_again(world: Any) -> None:
    """A retry begins with fresh evidence; the generation before stays as it was."""
    world.apply()
    world.tick()
    world.pairs(600, bad={"format_valid": 0.06})
    world.tick(5)
    world.service.retry("bot-v2", actor=OPERATOR, reason="fixed")
    world.tick(1)
    world.pairs(300)
    world.tick(10)
    assert world.record().generation == 2
    assert _check(world).transitions[0].event == "retry"
    assert _check(world, generation=1).transitions[-1].event == "drained"
    with pytest.raises(NotFound):
        replay_stored(world.store, "bot-v2", generation=3)


def test_pauses_that_no_evidence_decided_are_replayed(make_world: Callable[..., Any]) -> None:
    """No data, and a judge that fails, pause for a reason that the facts give again."""
    world = make_world()
    world.apply()
    world.tick()
    world.pairs(20)
    world.tick(1)
    world.pairs(10, judge="error", score=None)
    assert world.tick(5).paused.reason == "evaluator_error"
    world.service.resume("bot-v2", actor=OPERATOR)
    world.tick(10)
    assert world.tick(7300).paused.reason in {"no_data", "inconclusive"}
    _check(world)


def test_fact_that_was_changed_in_the_store_is_found(world: Any) -> None:
    """Nobody can turn one verdict around without the replay telling."""
    _promote(world)
    rollout_id = world.record().id
    with world.store.write() as session:
        row = session.exec(
            select(EvidenceRow).where(EvidenceRow.rollout_id == rollout_id, EvidenceRow.seq == 40)
        ).one()
        row.payload = {**row.payload, "score": -0.5}
        session.add(row)
    found = replay_stored(world.store, "bot-v2")
    assert found.same is False
    first = next(each for each in found.transitions if each.same is False)
    assert first.event == "progress"
    assert any("judge_win_rate" in str(each.stored) or "log_e" in each.where
               for each in first.differences)  # fmt: skip


def test_receipt_and_state_that_were_changed_in_the_store_are_found(world: Any) -> None:
    """Nor one figure of a receipt, nor what is known now."""
    _promote(world)
    with world.store.write() as session:
        row = session.exec(select(TransitionRow).where(TransitionRow.number == 4)).one()
        row.receipt = {**row.receipt, "log_e_harm": row.receipt["log_e_harm"] + 1e-12}
        session.add(row)
        own = session.get(RolloutRow, world.record().id)
        evidence = {**own.state["evidence"], "pairs": own.state["evidence"]["pairs"] + 1}
        own.state = {**own.state, "evidence": evidence}
        session.add(own)
    found = replay_stored(world.store, "bot-v2")
    wrong = [each.number for each in found.transitions if each.same is False]
    assert wrong == [4]
    assert [each.where for each in found.state.differences] == ["evidence.pairs"]


def test_evidence_that_was_deleted_is_told(world: Any) -> None:
    """When retention has taken the facts, the replay says so and accuses nobody."""
    _promote(world)
    with world.store.write() as session:
        for row in session.exec(select(EvidenceRow).where(EvidenceRow.seq <= 100)).all():
            session.delete(row)
    found = replay_stored(world.store, "bot-v2")
    assert found.same is None
    assert [each.same for each in found.transitions[:2]] == [True, True]
    assert "facts 1 to 100 are not stored any more" in found.transitions[2].why
