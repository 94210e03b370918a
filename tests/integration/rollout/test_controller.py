"""The controller over a store, with facts appended by hand: what it does and never does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import Conflict
from gateway.store.evidence import load_evidence
from gateway.store.tables import LeaseRow
from rollout.folding import fold
from rollout.ledger import find_id
from rollout.service import Actor
from rollout.states import Phase

OPERATOR = Actor("alice", "operator")


def _to_first_weight(world: Any) -> None:
    world.apply()
    world.tick()
    world.pairs(300)
    assert world.tick(10).phase is Phase.PROGRESSING


def test_good_candidate_reaches_100_percent_step_by_step(world: Any) -> None:
    """A candidate that is as good goes from shadow to baseline, through every weight in order."""
    world.apply()
    assert world.tick().phase is Phase.SHADOWING
    assert [mirror.candidate for mirror in world.split().mirrors] == ["new"]
    world.pairs(300)
    world.tick(10)
    weights = [world.weight()]
    for _ in range(30):
        if world.record().phase is Phase.SUCCEEDED:
            break
        world.live(600)
        world.tick(15)
        weights.append(world.weight())
    assert world.record().phase is Phase.SUCCEEDED
    assert list(dict.fromkeys(weights)) == [10.0, 50.0, 98.0, 0.0]
    split = world.split()
    assert (split.baseline, split.former_baseline, split.candidate) == ("new", "old", None)
    assert split.mirrors == ()
    assert world.events() == ["start", "shadow", "progress", "progress", "bake", "succeed"]
    assert [each.event for each in world.heard] == world.events()[1:]


def test_candidate_that_breaks_json_is_rolled_back_in_shadow(world: Any) -> None:
    """Format failures in 6% of pairs end the rollout before any user was served."""
    world.apply()
    world.tick()
    world.pairs(600, bad={"format_valid": 0.06})
    record = world.tick(5)
    assert record.phase is Phase.ROLLED_BACK
    assert world.weight() == 0.0
    assert world.split().mirrors == ()
    rollback = next(t for t in world.service.transitions("bot-v2") if t.event == "rollback")
    assert "format_valid" in rollback.reason
    assert rollback.receipt["heaviest_metric"] == "format_valid"
    assert rollback.receipt["heaviest_pairs"]["format_valid"]
    assert rollback.receipt["last_seq"] == record.evidence.last_seq < 600
    assert rollback.weight_before_bp == rollback.weight_after_bp == 0


@pytest.mark.parametrize("fault", ["errors", "broken"])
def test_failure_under_live_traffic_is_rolled_back_and_time_to_zero_measured(
    world: Any, fault: str
) -> None:
    """A fault that only live traffic shows takes the weight to 0, and the time it took is kept."""
    _to_first_weight(world)
    world.gateway()
    world.live(1000, **{fault: 0.3})
    record = world.tick(1)
    assert record.phase is Phase.ROLLING_BACK
    assert world.weight() == 0.0
    assert world.split().candidate is None
    world.tick(0.01)
    assert "g1" in world.record().note
    world.gateway(delay=0.035, last=0.03)
    world.gateway("g2", delay=0.04, last=-2)
    assert world.tick(0.2).phase is Phase.ROLLED_BACK
    last = world.service.transitions("bot-v2")[-1]
    assert last.event == "drained"
    drained = last.receipt["drained"]
    assert drained["time_to_zero"] == pytest.approx(0.03)
    assert drained["applied"] == pytest.approx(0.04)
    assert drained["replicas"]["g1"] == pytest.approx({"applied": 0.035, "last_candidate": 0.03})
    assert drained["replicas"]["g2"] == pytest.approx({"applied": 0.04, "last_candidate": 0})
    assert "0.030 s" in last.reason


def test_gateway_that_is_gone_does_not_keep_a_rollback_open(world: Any) -> None:
    """Only living gateways have to report the split of a rollback."""
    _to_first_weight(world)
    world.gateway("dead", serves=False)
    world.now += 60
    world.gateway("g1")
    world.service.rollback("bot-v2", actor=OPERATOR, reason="enough")
    world.gateway("g1")
    assert world.tick(0.1).phase is Phase.ROLLED_BACK


def test_no_data_never_widens_and_says_why(world: Any) -> None:
    """Without a single pair the rollout holds, then pauses for no data, at weight 0."""
    document = {"on_no_data": {"action": "hold", "after": "10m", "then": "pause"}}
    world.apply({**_spec(world), **document})
    world.tick()
    assert world.tick(60).phase is Phase.SHADOWING
    assert "no data" in world.record().note
    record = world.tick(600)
    assert record.phase is Phase.PAUSED
    assert record.paused.reason == "no_data"
    assert "no pair" in record.paused.message
    assert world.weight() == 0.0
    explained = world.service.explain("bot-v2")
    assert "no_data" in explained["reason"]


def test_dead_judge_never_widens_and_says_why(world: Any) -> None:
    """Four judge errors in a row pause the rollout; checks alone don't promote."""
    world.apply()
    world.tick()
    world.pairs(400, judge="error", score=None)
    record = world.tick(5)
    assert record.phase is Phase.PAUSED
    assert record.paused.reason == "evaluator_error"
    assert "judge failed 4 times" in record.paused.message
    assert world.weight() == 0.0


def test_judge_that_follows_the_order_never_widens_and_says_why(world: Any) -> None:
    """A judge whose verdict turns with the order proves nothing, though its scores are ties."""
    world.apply()
    world.tick()
    world.pairs(400, judge="inconsistent", score=0.0)
    record = world.tick(5)
    assert record.phase is Phase.PAUSED
    assert "contradicts itself" in record.paused.message
    assert world.weight() == 0.0


def test_baseline_against_baseline_alarm_distrusts_the_evaluator(world: Any) -> None:
    """When A/A pairs differ the rollout pauses and does not roll back, however bad the pairs."""
    world.apply()
    world.tick()
    facts = [world.pair(kind="noise", bad={"refusal_rate": 0.5}) for _ in range(80)]
    world.append(*facts)
    world.pairs(200, bad={"refusal_rate": 0.5})
    record = world.tick(5)
    assert record.phase is Phase.PAUSED
    assert record.paused.reason == "evaluator_error"
    assert "refusal_rate" in record.paused.message


def test_unhealthy_candidate_gets_no_weight(world: Any) -> None:
    """A proven candidate that does not answer waits at weight 0, and goes on when it does."""
    world.apply()
    world.tick()
    world.sick.add("new")
    world.pairs(300)
    assert world.tick(10).phase is Phase.SHADOWING
    assert "can't be reached" in world.record().note
    assert world.weight() == 0.0
    world.sick.clear()
    assert world.tick(1).phase is Phase.PROGRESSING
    assert world.weight() == 10.0


def test_two_rollouts_may_shadow_but_one_holds_live_traffic(world: Any) -> None:
    """The second proven rollout waits until the first has given the route's traffic back."""
    _to_first_weight(world)
    second = {**_spec(world), "name": "bot-v3", "candidate": {"deployment": "newer"}}
    rollout_id = world.service.apply(second, actor=OPERATOR, start=True).record.id
    world.tick()
    assert len(world.split().mirrors) == 2
    from gateway.store.evidence import append_evidence

    with world.store.write() as session:
        append_evidence(world.store, session, rollout_id, [world.pair() for _ in range(300)])
    world.tick(10)
    assert world.record("bot-v3").phase is Phase.SHADOWING
    assert "bot-v2" in world.record("bot-v3").note
    world.service.abort("bot-v2", actor=OPERATOR)
    world.tick(1)
    assert world.record("bot-v3").phase is Phase.PROGRESSING
    assert world.split().rollout == "bot-v3"


def test_controller_whose_lease_ran_out_is_fenced(world: Any) -> None:
    """A leader that slept past its lease writes nothing once another one leads."""
    world.apply()
    world.tick()
    world.pairs(300)
    with world.store.write() as session:
        row = session.get(LeaseRow, "controller")
        row.expires_at = 0.0
        session.add(row)
    other = world.new_controller()
    assert other.lease.acquire()
    before = world.record()
    assert not world.controller.tick(world.now + 10)
    after = world.record()
    assert (after.revision, after.evidence.last_seq) == (before.revision, before.evidence.last_seq)
    assert other.tick(world.now + 10)
    assert world.record().phase is Phase.PROGRESSING
    with world.store.write() as session, pytest.raises(Conflict):
        world.controller.lease.guard(session)


def test_only_one_of_two_controllers_leads(world: Any) -> None:
    """The second controller waits until the first has given the lease up."""
    other = world.new_controller()
    assert world.controller.tick()
    assert not other.tick()
    world.controller.lease.release()
    assert other.tick()


def test_crash_between_persist_and_emit_leaves_the_same_history(
    make_world: Callable[..., Any],
) -> None:
    """A listener that kills the controller after a commit changes nothing of what was decided."""

    class Killed(BaseException):
        """What a kill looks like from inside."""

    world = make_world()
    world.apply()

    def kill(_transition: Any) -> None:
        raise Killed

    def tick(seconds: float) -> None:
        world.now += seconds
        while True:
            controller = world.new_controller()
            controller._emitter._listeners = (kill,)
            try:
                assert controller.tick()
            except Killed:
                controller.lease.release()
                continue
            controller.lease.release()
            return

    tick(0)
    world.pairs(300)
    tick(10)
    for _ in range(30):
        if world.record().phase is Phase.SUCCEEDED:
            break
        world.live(600)
        tick(15)
    assert world.events() == ["start", "shadow", "progress", "progress", "bake", "succeed"]


def test_restart_after_every_fact_decides_as_one_long_run(make_world: Callable[..., Any]) -> None:
    """The rollback falls at the same fact whether facts come one by one or all at once."""
    world = make_world()
    world.apply()
    world.tick()
    facts = [world.pair(bad={"format_valid": 0.1}) for _ in range(200)]
    world.controller.lease.release()
    for fact in facts:
        if world.record().phase is not Phase.SHADOWING:
            break
        world.append(fact)
        controller = world.new_controller()
        assert controller.tick()
        controller.lease.release()
    assert world.record().phase is Phase.ROLLED_BACK
    one_by_one = world.record().evidence.last_seq

    world.service.retry("bot-v2", actor=OPERATOR)
    assert world.controller.tick()
    world.append(*facts)
    assert world.controller.tick()
    assert world.record().generation == 2
    assert world.record().phase is Phase.ROLLED_BACK
    assert world.record().evidence.last_seq == one_by_one


def test_stored_statistics_are_what_the_facts_fold_to(world: Any) -> None:
    """Folding the stored facts anew gives the stored paired statistics, bit for bit."""
    world.apply()
    world.tick()
    started = world.record().evidence
    for _ in range(5):
        world.pairs(37, bad={"refusal_rate": 0.02})
        world.tick(1)
    record = world.record()
    with world.store.read() as session:
        facts = load_evidence(session, record.id, after=0)
        assert find_id(session, record.id).evidence == record.evidence
    assert fold(started, facts, record.spec) == record.evidence


def test_changed_candidate_manifest_pauses_until_it_is_applied_again(
    make_world: Callable[..., Any],
) -> None:
    """Evidence about another revision of the candidate counts for nothing."""
    world = make_world()
    _to_first_weight(world)
    world.controller.lease.release()
    deployments = world.settings.model_dump()["deployments"]
    deployments["new"]["system_prompt"] = "Be brief."
    changed = make_world(deployments=deployments)
    changed.now = world.now
    record = changed.tick(1)
    assert record.phase is Phase.PAUSED
    assert record.paused.reason == "candidate_changed"
    again = changed.apply()
    assert again.generation == 2
    assert again.evidence.pairs == 0
    assert changed.weight() == 0.0
    assert changed.service.get("bot-v2", generation=1).phase is Phase.SUPERSEDED


def test_preflight_waits_for_an_approval(world: Any) -> None:
    """A preflight step without an offline report fails closed and says so."""
    steps = [{"preflight": {"eval_set": "s1"}}, *_spec(world)["steps"]]
    world.apply({**_spec(world), "steps": steps})
    record = world.tick()
    assert record.phase is Phase.PAUSED
    assert "preflight needs an offline report" in record.paused.message
    assert world.split() is None
    world.service.approve("bot-v2", actor=OPERATOR, reason="seen by hand")
    assert world.tick(1).phase is Phase.SHADOWING


def test_run_loop_wakes_when_evidence_arrives(world: Any) -> None:
    """The running controller acts on new facts at once and hands its lease over at the end."""
    world.now = time.time()
    world.settings.control.__dict__["tick_interval"] = 30.0

    async def scenario() -> None:
        await world.controller.start()
        try:
            world.apply()
            await _until(lambda: world.record().phase is Phase.SHADOWING)
            world.pairs(300, bad={"format_valid": 0.2})
            await _until(lambda: world.record().phase is Phase.ROLLED_BACK)
        finally:
            await world.controller.stop()

    asyncio.run(scenario())
    assert world.new_controller().tick()


async def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def _spec(world: Any) -> dict[str, Any]:
    return dict(world.default_spec)
