"""Taking traffic back no faster than the baseline can take it, where the spec says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rollout.service import Actor
from rollout.states import Phase

OPERATOR = Actor("alice", "operator")


@pytest.fixture
def at_half(world: Any, spec: Callable[..., dict[str, Any]]) -> Any:
    """A world whose candidate serves half of the users, with a gateway."""
    steps = [{"mirror": {"min_pairs": 200}}, {"set_weight": 50}, {"set_weight": 100}]
    rollback = {"mode": "gradual", "step": "20%", "interval": "30s"}
    world.apply(spec(steps=steps, rollback=rollback))
    world.tick()
    world.pairs(300)
    assert world.tick(10).phase is Phase.PROGRESSING
    world.gateway()
    return world


def test_traffic_goes_back_in_steps_and_ends_at_zero(at_half: Any) -> None:
    """Every part is a transition of its own; the time to zero is that of the last one."""
    world = at_half
    before = world.split()
    world.live(1000, broken=0.3)
    assert world.tick(1).phase is Phase.ROLLING_BACK
    weights = [world.weight()]
    assert (world.split().salt, world.split().epoch) == (before.salt, before.epoch)
    assert world.split().mirrors == ()
    for _ in range(12):
        world.gateway(delay=0.02)
        record = world.tick(10)
        weights.append(world.weight())
    assert list(dict.fromkeys(weights)) == [30.0, 10.0, 0.0]
    assert weights.count(30.0) >= 3
    assert record.phase is Phase.ROLLED_BACK
    history = world.service.transitions("bot-v2")
    assert [each.event for each in history][-4:] == ["rollback"] * 3 + ["drained"]
    assert [(each.weight_before_bp, each.weight_after_bp) for each in history][-4:] == [
        (5000, 3000),
        (3000, 1000),
        (1000, 0),
        (0, 0),
    ]
    assert history[-1].receipt["drained"]["time_to_zero"] is not None


def test_the_baselines_health_comes_first(at_half: Any) -> None:
    """While the baseline does not answer it is sent no more users, and the status says why."""
    world = at_half
    world.live(1000, broken=0.3)
    world.tick(1)
    world.sick.add("old")
    record = world.tick(60)
    assert world.weight() == 30.0
    assert "'old' can't take the 30% that is left" in record.note
    world.sick.clear()
    world.tick(1)
    assert world.weight() == 10.0


def test_users_without_an_answer_go_back_at_once(at_half: Any) -> None:
    """Proven errors are hard failures: a baseline under load is better than none."""
    world = at_half
    world.live(1000, errors=0.3)
    world.tick(1)
    assert world.weight() == 0.0


@pytest.mark.parametrize("deed", ["rollback", "abort"])
def test_an_operator_ends_it_at_once(at_half: Any, deed: str) -> None:
    """Whoever has seen enough need not wait for the steps."""
    world = at_half
    world.live(1000, broken=0.3)
    world.tick(1)
    assert world.weight() == 30.0
    getattr(world.service, deed)("bot-v2", actor=OPERATOR)
    assert world.weight() == 0.0
