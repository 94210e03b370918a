"""Two controllers, clocks that jump, facts that come twice or late, weights changed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.batch import Batch, Tally, WindowKey
from gateway.errors import Conflict
from gateway.store.evidence import Evidence
from gateway.store.tables import SplitRow
from gateway.writer import write_batch
from rollout.clock import SteadyClock
from rollout.controller import Controller
from rollout.service import Actor

OPERATOR = Actor("bob", "operator")


def _live(world: Any) -> None:
    """Bring the good rollout to its first weight."""
    world.apply()
    world.tick()
    world.pairs(40)
    assert world.tick(1).phase.value == "progressing"


def _interrupted(world: Any, fragile: Any, meanwhile: Callable[[], None], *, at: int) -> Controller:
    """Return the leader, which is held up before its ``at``-th write while other things happen."""
    world.controller.lease.release()
    store = fragile(world.store)
    happened: list[int] = []

    def pause(number: int) -> None:
        if number == at and not happened:
            happened.append(number)
            meanwhile()

    store.pause = pause
    leader: Controller = world.new_controller(store)
    return leader


@pytest.mark.parametrize("what", ["advance", "rollback", "save"])
def test_a_leader_that_slept_writes_nothing_of_what_it_had_decided(
    world: Any, fragile: Any, what: str
) -> None:
    """Between decision and commit another controller takes over: one history, without repeats."""
    world.apply()
    world.tick()
    seen: list[Any] = []

    def take_over() -> None:
        world.expire()
        assert world.controller.tick(world.now)
        seen.append((world.record(), world.split()))

    leader = _interrupted(world, fragile, take_over, at=2)
    world.controller = world.new_controller()
    count, broken = {"advance": (40, 0), "rollback": (60, 1), "save": (4, 0)}[what]
    world.pairs(count, broken=broken)
    world.now += 1
    assert not leader.tick(world.now)
    record, split = seen[0]
    after = {"advance": ["progress"], "rollback": ["rollback", "drained"], "save": []}[what]
    assert world.events() == ["start", "shadow", *after]
    assert replace(world.record(), leader_token=0) == replace(record, leader_token=0)
    assert world.split() == split
    assert not leader.tick(world.now)
    assert world.controller.tick(world.now)


def test_a_leader_whose_lease_ran_out_alone_goes_on_with_a_new_token(
    world: Any, fragile: Any
) -> None:
    """Nobody else came: what was decided is given up, read again and decided once."""
    world.apply()
    world.tick()
    leader = _interrupted(world, fragile, world.expire, at=2)
    world.pairs(40)
    world.now += 1
    assert not leader.tick(world.now)
    assert world.events() == ["start", "shadow"]
    assert leader.tick(world.now)
    assert world.events() == ["start", "shadow", "progress"]


def test_an_operator_who_comes_first_is_not_overruled(world: Any, fragile: Any) -> None:
    """A weight set while the controller was about to widen stays, and is decided upon anew."""
    world.apply()
    world.tick()

    def by_hand() -> None:
        world.service.set_weight("good", 3, actor=OPERATOR, reason="slowly")

    leader = _interrupted(world, fragile, by_hand, at=2)
    world.pairs(40)
    world.now += 1
    assert leader.tick(world.now)
    assert leader.tick(world.now)
    record = world.record()
    assert (record.phase.value, record.paused.reason) == ("paused", "manual_weight")
    assert world.split().weight_bp == 300
    assert world.events() == ["start", "shadow", "set_weight"]


def test_an_operator_does_not_shield_from_proven_harm(world: Any, fragile: Any) -> None:
    """A weight set while the controller was about to roll back does not keep it from doing so."""
    _live(world)

    def by_hand() -> None:
        world.service.set_weight("good", 50, actor=OPERATOR)

    leader = _interrupted(world, fragile, by_hand, at=2)
    world.pairs(80, broken=1)
    world.now += 1
    assert leader.tick(world.now)
    assert leader.tick(world.now)
    assert world.events()[-3:] == ["set_weight", "rollback", "drained"]
    assert world.split().weight_bp == 0


@pytest.mark.parametrize("weight_bp", [7000, 0])
def test_a_weight_edited_in_the_store_is_noticed(world: Any, weight_bp: int) -> None:
    """Who goes around the API gets what the API would have done: a pause, and a new epoch."""
    _live(world)
    before = world.split()
    world.edit_split(weight_bp=weight_bp)
    record = world.tick(1)
    assert (record.phase.value, record.paused.reason) == ("paused", "manual_weight")
    assert f"{weight_bp / 100:g}% instead of 20%" in record.paused.message
    split = world.split()
    assert split.weight_bp == weight_bp == record.evidence.weight_bp
    assert split.revision == before.revision + 1
    assert (split.epoch > before.epoch) == bool(weight_bp)
    last = world.service.transitions("good")[-1]
    assert (last.event, last.actor) == ("set_weight", "controller")
    assert world.tick(1).revision == record.revision
    world.service.resume("good", actor=OPERATOR)
    assert world.split().weight_bp == 2000


def test_a_split_deleted_from_the_store_pauses(world: Any) -> None:
    """Without its row every gateway serves the baseline; the rollout says so and waits."""
    _live(world)
    with world.store.write() as session:
        session.delete(session.get(SplitRow, "one"))
    record = world.tick(1)
    assert (record.phase.value, record.paused.reason) == ("paused", "manual_weight")
    assert "0% instead of 20%" in record.paused.message
    assert world.split().weight_bp == 0


def test_a_weight_given_in_shadow_by_hand_is_noticed(world: Any) -> None:
    """Nobody is served by an unproven candidate without the rollout knowing of it."""
    world.apply()
    world.tick()
    world.edit_split(weight_bp=3000, candidate="new")
    record = world.tick(1)
    assert (record.phase.value, record.paused.reason) == ("paused", "manual_weight")
    split = world.split()
    assert (split.weight_bp, split.rollout, split.rollout_id) == (3000, "good", record.id)


def test_a_clock_that_jumps_ahead_passes_no_step(world: Any) -> None:
    """The minimum duration is counted by the facts' clock too, whatever the controller's says."""
    _live(world)
    began = world.now
    world.now += 2
    world.live()
    world.controller.tick(began + 900)
    assert world.record().phase.value == "progressing"
    assert "13 s to go" in world.record().note
    world.now = began + 21
    world.live()
    assert world.tick().phase.value == "baking"


def test_a_clock_that_is_set_back_delays_by_a_step_at_most(world: Any) -> None:
    """A step that began in the future counts from the present on, and no time is negative."""
    world.apply()
    world.now += 3600
    world.tick()
    world.pairs(40)
    assert world.tick(1).phase.value == "progressing"
    world.now -= 3600
    record = world.tick()
    assert record.step_started_at == world.now
    assert "-" not in record.note
    began = world.now
    for _ in range(8):
        world.now += 3
        world.live()
        world.settle()
    assert world.record().phase.value == "baking"
    assert world.record().step_started_at - began < 30


def test_evidence_is_saved_although_the_clock_was_set_back(world: Any) -> None:
    """What bounds how often is written does not keep it from being written."""
    world.controller.lease.release()
    world.controller = Controller(
        world.store, world.settings, health=lambda _: None, clock=lambda: world.now
    )
    world.apply()
    world.tick()
    world.pairs(2)
    world.tick(1)
    world.now -= 3600
    world.pairs(2)
    assert world.tick().evidence.last_seq == 4


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_gateways_with_wrong_clocks_widen_nothing_early(world: Any, skew: float) -> None:
    """Facts from an hour ahead or behind: neither time nor silence is made up from them."""
    _live(world)
    facts = [world.window(at=world.now + skew) for _ in range(3)]
    world.append(*facts, *(world.pair() for _ in range(20)))
    record = world.tick(2)
    assert record.phase.value == "progressing"
    world.live()
    assert world.tick(3).phase.value == "progressing"


def test_backlog_after_an_outage_is_not_silence(world: Any, spec: Any) -> None:
    """Facts that wait to be folded are data, however late the controller comes to them."""
    world.apply(spec(on_no_data={"action": "hold", "after": "5m", "then": "pause"}))
    world.tick()
    world.pairs(3)
    # Enough for several reads, and only the last of them is fresh.
    world.append(*(Evidence("noise", world.now, {"judge": "?"}) for _ in range(1200)))
    world.now += 600
    world.pairs(1)
    record = world.tick(1)
    assert record.phase.value == "shadowing"
    assert record.evidence.last_seq == 1204
    assert world.tick(301).paused.reason == "no_data"


def test_a_momentary_jump_of_the_clock_is_no_silence(world: Any, spec: Any) -> None:
    """A controller's clock that jumps three hours ahead and back pauses nothing."""
    jump, began = [0.0], world.now
    clock = SteadyClock(
        wall=lambda: world.now + jump[0], monotonic=lambda: world.now - began, patience=60
    )
    world.controller.lease.release()
    leader = Controller(world.store, world.settings, health=lambda _: None, clock=clock)
    world.apply(spec(on_no_data={"action": "hold", "after": "1h", "then": "pause"}))
    assert leader.tick()
    world.pairs(2)
    for ahead in (10_800.0, 10_800.0, 0.0):
        world.now += 5
        jump[0] = ahead
        assert leader.tick()
        assert world.record().phase.value == "shadowing"
    world.now += 3600
    assert leader.tick()
    assert world.record().paused.reason == "no_data"


def test_a_rollback_by_a_fast_clock_waits_for_its_gateways(world: Any) -> None:
    """To a clock an hour ahead every gateway looks gone; the rollback asks them all the same."""
    _live(world)
    world.gateway("g1", skew=-3600)
    world.gateway("g2", skew=-3600)
    world.service.rollback("good", actor=OPERATOR)
    assert world.tick(0.5).phase.value == "rolling_back"
    assert "g1, g2" in world.record().note
    world.gateway("g1", skew=-3600)
    world.gateway("g2", skew=-3600)
    assert world.tick(0.5).phase.value == "rolled_back"


def test_a_batch_written_twice_counts_once(world: Any) -> None:
    """A gateway that was not told of its commit writes again, and no request counts twice."""
    _live(world)
    split, rollout = world.split(), world.record()
    key = WindowKey(rollout.id, split.revision, split.weight_bp, split.epoch)
    batch = Batch(number=7, from_at=world.now, to_at=world.now)
    batch.windows[key] = {
        "baseline": Tally(requests=80, error_rate=0, timeout_rate=0, latency=0),
        "candidate": Tally(requests=20, error_rate=1, timeout_rate=0, latency=0),
    }
    for _ in range(2):
        with world.store.write() as session:
            write_batch(world.store, session, batch, replica="g1", started_at=0.0)
    evidence = world.tick(1).evidence
    assert (evidence.step_candidate, evidence.step_baseline) == (20, 80)


def test_facts_of_an_earlier_epoch_come_late_and_count_for_nothing_live(world: Any) -> None:
    """After a weight by hand the assignment is another; what was seen under the old one is past."""
    _live(world)
    late = [world.window(errors=20) for _ in range(20)]
    world.service.set_weight("good", 20, actor=OPERATOR)
    world.append(*late)
    record = world.tick(1)
    assert record.phase.value == "paused"
    assert (record.evidence.step_candidate, record.evidence.step_baseline) == (0, 0)
    world.append(*(world.window(errors=20) for _ in range(20)))
    assert world.tick(1).phase.value == "rolled_back"


def test_facts_of_an_earlier_weight_are_no_samples_of_this_step(world: Any) -> None:
    """Within an epoch late requests still speak of harm, but they do not complete the next step."""
    _live(world)
    late = world.window()
    world.now += 21
    world.live()
    assert world.tick().phase.value == "baking"
    world.append(late)
    assert world.tick(1).evidence.step_candidate == 0


def test_a_fenced_leader_does_not_save_over_a_newer_one(world: Any) -> None:
    """Evidence that a former leader folded is not written once another one leads."""
    world.apply()
    world.tick()
    former, record = world.controller, world.record()
    world.expire()
    world.controller = world.new_controller()
    world.pairs(5)
    world.tick(1)
    with pytest.raises(Conflict):
        former._executor.save(record)
    assert world.record().evidence.last_seq == 5


def test_a_momentary_jump_of_the_wall_clock_is_not_seen() -> None:
    """The clock goes on steadily, and believes a jump only when it has lasted."""
    wall, moment = [1000.0], [0.0]
    clock = SteadyClock(wall=lambda: wall[0], monotonic=lambda: moment[0])

    def after(seconds: float, jump: float = 0.0) -> float:
        moment[0] += seconds
        wall[0] += seconds + jump
        return clock()

    assert after(5) == 1005
    assert after(1, jump=3600) == 1006
    assert after(10) == 1016
    assert after(1, jump=-3600) == 1017
    assert after(1, jump=-3600) == 1018
    assert after(59) == 1077
    assert after(1) == wall[0] == 1078 - 3600
    assert after(1, jump=1.5) == wall[0]
