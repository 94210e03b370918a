"""The controller keeps mirrors at the pace of their steps, and writes it as the leader only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from gateway.errors import Conflict
from gateway.store.evidence import move_funnel
from gateway.store.tables import JudgeBudgetRow
from rollout.pacing import Pacer
from rollout.sampling import FIRST_BP
from rollout.service import Actor
from rollout.states import Phase
from rollout.traffic import mirror_of
from shadow.budget import day_of

OPERATOR = Actor("alice", "operator")
MIRROR = {"percentage": 20, "target_duration": "1h"}


def count(world: Any, outcome: str, number: int) -> None:
    """Count eligible requests of the rollout's mirror, as a gateway or a worker does."""
    changes = [(world.record().id, "mirror", name, number) for name in ("eligible", outcome)]
    with world.store.write() as session:
        move_funnel(world.store, session, changes)


def live(world: Any, **changes: int) -> None:
    """Count what became of live answers, as gateways and workers do."""
    moved = [(world.record().id, "live", name, number) for name, number in changes.items()]
    with world.store.write() as session:
        move_funnel(world.store, session, moved)


def share(world: Any) -> float:
    """Read the share that gateways are told, in basis points."""
    mirror = mirror_of(world.split(), world.record().id)
    assert mirror is not None
    return float(mirror.percentage_bp)


def traffic(world: Any, rate: int, seconds: int = 40) -> None:
    """Let so many eligible requests a second come, and the controller look every two seconds."""
    for _ in range(seconds // 2):
        count(world, "not_sampled", 2 * rate)
        world.tick(2)


@pytest.fixture
def shadowing(world: Any, spec: Callable[..., dict[str, Any]]) -> Any:
    """A world whose rollout of 900 pairs an hour has just begun to mirror."""
    steps = [{"mirror": {"min_pairs": 900, "max_duration": "3h"}}, *spec()["steps"][1:]]
    world.apply(spec(mirror=MIRROR, steps=steps))
    assert world.tick().phase is Phase.SHADOWING
    return world


def test_the_share_follows_the_traffic_and_nothing_else_changes(shadowing: Any) -> None:
    """A hundred times the traffic is sampled a hundredth as much; nobody's assignment moves."""
    world = shadowing
    before = world.split()
    assert share(world) == FIRST_BP
    traffic(world, 10)
    calm = share(world)
    assert calm == pytest.approx(250, rel=0.26)
    traffic(world, 1000, seconds=60)
    assert share(world) == pytest.approx(calm / 100, rel=0.6)
    after = world.split()
    assert after.revision > before.revision
    assert after.evolve(mirrors=(), revision=0, updated_at=0) == before.evolve(
        mirrors=(), revision=0, updated_at=0
    )
    assert world.events() == ["start", "shadow"]


def test_changes_are_rare(shadowing: Any) -> None:
    """Every gateway reads a change, so there is none within ten seconds, and none without need."""
    world = shadowing
    traffic(world, 10)
    settled = world.split().revision
    traffic(world, 11, seconds=60)
    assert world.split().revision == settled
    changed_at = []
    for rate in (100, 1000, 100, 1000):
        for _ in range(4):
            revision = world.split().revision
            traffic(world, rate, seconds=2)
            if world.split().revision != revision:
                changed_at.append(world.now)
    assert len(changed_at) >= 2
    assert all(later - earlier >= 10 for earlier, later in pairwise(changed_at))


def test_the_next_step_goes_on_with_the_share(shadowing: Any) -> None:
    """A new weight does not open the mirror wide until the traffic is known again."""
    world = shadowing
    traffic(world, 1000)
    found = share(world)
    assert found < 10
    world.pairs(1000)
    assert world.tick(2).phase is Phase.PROGRESSING
    assert share(world) <= found


def test_a_rollout_that_waits_for_another_is_mirrored_no_more_than_needed(
    world: Any, spec: Callable[..., dict[str, Any]]
) -> None:
    """Its proof is there and only has to stay: a pair a minute, until the other one ends."""
    steps = [{"mirror": {"min_pairs": 200, "max_duration": "3h"}}, *spec()["steps"][1:]]
    world.apply(spec(name="first", candidate={"deployment": "newer"}, steps=steps))
    world.controller.tick()
    world.pairs(300, name="first")
    world.now += 10
    world.controller.tick()
    assert world.split().rollout == "first"
    world.apply(spec(mirror={**MIRROR, "target_duration": "60s"}, steps=steps))
    traffic(world, 10)
    busy = share(world)
    world.pairs(300)
    traffic(world, 10)
    assert world.record().waiting == "live_traffic_held"
    assert share(world) == pytest.approx(10_000 / 60 / 10, rel=0.26)
    assert share(world) < busy / 4


def test_workers_that_lag_are_given_less(shadowing: Any) -> None:
    """Pairs that nobody evaluates lower the share to one pair a minute."""
    world = shadowing
    traffic(world, 10)
    count(world, "pending", 300)
    traffic(world, 10)
    assert share(world) == pytest.approx(10_000 / 60 / 10, rel=0.3)


def test_live_checks_that_lag_are_fewer_until_they_are_done(shadowing: Any) -> None:
    """Workers that can't check every live answer are given what they manage, then all again."""
    world = shadowing
    world.pairs(1000)
    assert world.tick(2).phase is Phase.PROGRESSING
    assert world.split().live_sample_bp == 10_000
    for _ in range(10):
        live(world, eligible=2000, pending=1800, checked=200)
        world.tick(2)
    lowered = world.split()
    assert lowered.live_sample_bp == pytest.approx(500, rel=0.5)
    live(world, pending=-17_900, checked=17_900)
    for _ in range(60):
        live(world, eligible=100, checked=100)
        world.tick(2)
    after = world.split()
    assert after.live_sample_bp == 10_000
    assert (after.epoch, after.salt, after.weight_bp) == (
        lowered.epoch,
        lowered.salt,
        lowered.weight_bp,
    )


def test_a_budget_bounds_what_is_gathered(world: Any, spec: Callable[..., dict[str, Any]]) -> None:
    """A judge's budget for the day that is nearly spent is spread over the rest of the day."""
    world.apply(spec(mirror={**MIRROR, "budget": {"calls_per_day": 10_000}}))
    world.tick()
    traffic(world, 10)
    assert share(world) == pytest.approx(10_000 * 200 / 3600 / 10, rel=0.3)
    with world.store.write() as session:
        session.add(JudgeBudgetRow(rollout_id=world.record().id, day=day_of(world.now), calls=9990))
    traffic(world, 10)
    assert share(world) == pytest.approx(10_000 / 60 / 10, rel=0.3)


def test_a_paused_rollout_keeps_the_floor(shadowing: Any) -> None:
    """While a person thinks, a pair a minute shows that the evidence goes on."""
    world = shadowing
    traffic(world, 10)
    world.service.pause("bot-v2", actor=OPERATOR)
    traffic(world, 10)
    assert share(world) == pytest.approx(10_000 / 60 / 10, rel=0.3)
    world.service.resume("bot-v2", actor=OPERATOR)
    traffic(world, 10)
    assert share(world) > 200


def test_a_fixed_mirror_is_left_alone(world: Any, spec: Callable[..., dict[str, Any]]) -> None:
    """Without adaptation the whole percentage is mirrored from the first request on."""
    world.apply(spec(mirror={"percentage": 20, "adaptive": False}))
    world.tick()
    revision = world.split().revision
    traffic(world, 1000)
    assert (share(world), world.split().revision) == (2000, revision)


def test_a_leader_that_was_replaced_changes_nothing(shadowing: Any) -> None:
    """A share is fenced by the lease like every other write of the leader."""
    world = shadowing
    pacer = Pacer(world.store, lease=world.controller.lease)
    record = world.record()
    count(world, "not_sampled", 10)
    assert pacer.adapt(record, world.now) is None
    count(world, "not_sampled", 1000)
    world.controller.lease.release()
    other = world.new_controller()
    assert other.lease.acquire()
    before = world.split()
    with pytest.raises(Conflict, match="does not lead"):
        pacer.adapt(record, world.now + 10)
    assert world.split() == before


def test_an_operator_comes_first(shadowing: Any) -> None:
    """A share worked out for a rollout that was changed meanwhile is not written."""
    world = shadowing
    pacer = Pacer(world.store, lease=world.controller.lease)
    record = world.record()
    pacer.adapt(record, world.now)
    count(world, "not_sampled", 1000)
    world.service.abort("bot-v2", actor=OPERATOR)
    assert pacer.adapt(record, world.now + 10) is None  # it mirrors no more
    world.service.retry("bot-v2", actor=OPERATOR)
    world.tick()
    fresh = world.record()
    pacer.adapt(fresh, world.now)
    count(world, "not_sampled", 1000)
    world.service.pause("bot-v2", actor=OPERATOR)
    with pytest.raises(Conflict, match="changed by an operator"):
        pacer.adapt(fresh, world.now + 10)
