"""Risk tiers that join step by step, and the way back after a promotion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import TransitionError
from rollout.replaying import replay_stored
from rollout.service import Actor
from rollout.states import Phase
from rollout.traffic import mirror_of

OPERATOR = Actor("alice", "operator")


def test_a_new_tier_joins_in_a_new_epoch_with_the_same_salt(
    world: Any, spec: Callable[..., dict[str, Any]]
) -> None:
    """Users of the new tier start their own live evidence; the others keep arm and proof."""
    steps = [
        {"mirror": {"min_pairs": 200}},
        {"set_weight": 50},
        {"set_eligible": {"risk": ["low", "medium"]}},
        {"set_eligible": {"risk": ["any"]}},
        {"set_weight": 100},
    ]
    world.apply(spec(eligible={"risk": ["low"]}, steps=steps))
    world.tick()
    assert world.split().eligible.risk == ("low",)
    world.pairs(300)
    world.tick(10)
    seen = []
    for _ in range(12):
        split, record = world.split(), world.record()
        seen.append((split.weight_bp, split.eligible.risk, split.epoch, split.salt))
        assert record.epoch == record.evidence.epoch == split.epoch
        if split.weight_bp == 10_000:
            break
        world.live(1200)
        world.tick(30)
    first, salt = seen[0][2], seen[0][3]
    assert list(dict.fromkeys(seen)) == [
        (5000, ("low",), first, salt),
        (5000, ("low", "medium"), first + 1, salt),
        (5000, None, first + 2, salt),
        (10_000, None, first + 2, salt),
    ]
    assert replay_stored(world.store, "bot-v2").same


def test_evidence_from_before_a_tier_joined_is_not_its_own(
    world: Any, spec: Callable[..., dict[str, Any]]
) -> None:
    """Live counts of the former epoch arrive late and count for the former users only."""
    steps = [
        {"mirror": {"min_pairs": 200}},
        {"set_weight": 50},
        {"set_eligible": {"risk": ["any"]}},
    ]
    world.apply(spec(eligible={"risk": ["low"]}, steps=steps))
    world.tick()
    world.pairs(300)
    world.tick(10)
    first = record = world.record()
    while record.step_index == first.step_index:
        assert world.now < 1_000_300, record.note
        world.live(1200)
        record = world.tick(15)
    live = record.evidence.metrics["error_rate"].live
    assert all(state.n == 0 for state in live.values())
    paired = record.evidence.metrics["format_valid"].paired
    assert paired[""].n > 300


def test_a_bake_gathers_pairs_in_both_directions(
    world: Any, spec: Callable[..., dict[str, Any]]
) -> None:
    """With 2% left to the baseline it is the candidate's requests that bring the pairs."""
    _to(world, spec, Phase.BAKING)
    split = world.split()
    assert split.weight_bp == 9800
    mirror = mirror_of(split, world.record().id)
    assert mirror is not None
    assert split.reverse_mirrors == (mirror,)


def test_one_command_returns_to_the_former_baseline(
    world: Any, spec: Callable[..., dict[str, Any]]
) -> None:
    """After a promotion a rollback serves everybody from the former baseline, measured."""
    _to(world, spec, Phase.SUCCEEDED)
    split = world.split()
    assert (split.baseline, split.former_baseline, split.mirrors) == ("new", "old", ())
    world.gateway()
    record = world.service.rollback("bot-v2", actor=OPERATOR, reason="complaints")
    assert record.phase is Phase.ROLLING_BACK
    split = world.split()
    assert (split.baseline, split.candidate, split.weight_bp) == ("old", None, 0)
    world.gateway(delay=0.1)
    assert world.tick(1).phase is Phase.ROLLED_BACK
    last = world.service.transitions("bot-v2")[-1]
    assert last.receipt["drained"]["time_to_zero"] is not None
    with pytest.raises(TransitionError, match="was rolled back on route"):
        world.apply()


def _to(world: Any, spec: Callable[..., dict[str, Any]], phase: Phase) -> None:
    world.apply(spec())
    world.tick()
    world.pairs(300)
    world.tick(10)
    for _ in range(30):
        if world.record().phase is phase:
            return
        world.live(600)
        world.tick(15)
    raise AssertionError(f"it is {world.record().phase}")
