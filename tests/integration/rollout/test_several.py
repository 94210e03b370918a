"""Several candidates on one route: side by side in shadow, one with live traffic at most."""

from __future__ import annotations

from typing import Any

import pytest

from rollout.replaying import replay_stored
from rollout.service import Actor
from rollout.states import Phase

ALICE = Actor("alice", "operator")


def _another(world: Any, name: str = "bot-v3", **changes: Any) -> dict[str, Any]:
    return {**world.default_spec, "name": name, "candidate": {"deployment": "newer"}, **changes}


def _both(world: Any, **changes: Any) -> None:
    """Start two rollouts, and let both shadow."""
    world.apply()
    world.apply(_another(world, **changes))
    world.tick()
    assert {world.record(name).phase for name in ("bot-v2", "bot-v3")} == {Phase.SHADOWING}


def _promoted(world: Any) -> None:
    """Promote the first of two while the second shadows, with evidence of its own."""
    world.pairs(40, name="bot-v3")
    world.pairs(300)
    world.tick(10)
    assert world.record().phase is Phase.PROGRESSING
    world.service.promote("bot-v2", actor=ALICE, reason="we know it")
    world.tick(1)


def test_a_second_rollout_starts_beside_the_first(world: Any) -> None:
    """Nothing of the first changes: not its phase, its share, nor whose requests it takes."""
    first = {**world.default_spec, "eligible": {"risk": ["low"]}}
    world.apply(first)
    world.tick()
    before = world.split().mirrors[0]
    world.apply(_another(world))
    world.tick(1)
    one, two = world.split().mirrors
    assert one == before
    assert (one.eligible.risk, two.eligible.risk) == (("low",), None)
    assert (one.salt, one.rollout_id) == (two.salt, one.rollout_id)
    assert world.split().eligible.risk == ("low",)
    assert world.record().phase is Phase.SHADOWING
    assert world.events("bot-v3") == ["start", "shadow"]


def test_a_live_rollout_leaves_the_others_terms_alone(world: Any) -> None:
    """Who holds the live traffic says whom the split assigns, and not whom others mirror."""
    world.apply({**world.default_spec, "eligible": {"risk": ["low"]}})
    world.apply(_another(world, eligible={"headers": {"X-Beta": "1"}}))
    world.tick()
    world.pairs(300)
    world.tick(10)
    split = world.split()
    assert (split.rollout, split.eligible.risk, split.eligible.headers) == ("bot-v2", ("low",), ())
    terms = {each.rollout: each.eligible for each in split.mirrors}
    assert terms["bot-v3"].headers == (("x-beta", "1"),)


def test_one_waits_while_another_holds_the_live_traffic(world: Any) -> None:
    """It waits with a word for programs, is mirrored less meanwhile, and goes on afterwards."""
    _both(world)
    world.pairs(300)
    world.tick(10)
    assert world.split().rollout == "bot-v2"
    world.pairs(300, name="bot-v3")
    world.tick(10)
    waiting = world.record("bot-v3")
    assert (waiting.phase, waiting.waiting) == (Phase.SHADOWING, "live_traffic_held")
    assert "'bot-v2' holds the live traffic" in waiting.note
    assert world.split().rollout == "bot-v2"
    world.service.abort("bot-v2", actor=ALICE)
    world.tick(1)
    gone_on = world.record("bot-v3")
    assert (gone_on.phase, gone_on.waiting) == (Phase.PROGRESSING, "")
    assert world.split().rollout == "bot-v3"
    assert replay_stored(world.store, "bot-v3").same is True


@pytest.mark.parametrize("end", ["rollback", "abort"])
def test_the_end_of_one_leaves_the_others_untouched(world: Any, end: str) -> None:
    """Mirror, evidence and phase of the other stay as they were, to the last field."""
    _both(world)
    world.pairs(50, name="bot-v3")
    world.tick(1)
    before = world.record("bot-v3")
    mirror = next(each for each in world.split().mirrors if each.rollout == "bot-v3")
    getattr(world.service, end)("bot-v2", actor=ALICE)
    world.tick(1)
    assert world.split().mirrors == (mirror,)
    after = world.record("bot-v3")
    assert (after.phase, after.evidence, after.revision) == (
        before.phase,
        before.evidence,
        before.revision,
    )


def test_proven_harm_of_one_rolls_back_that_one_alone(world: Any) -> None:
    """Each has evidence of its own."""
    _both(world)
    world.pairs(200, bad={"format_valid": 0.3})
    world.pairs(200, name="bot-v3")
    world.tick(1)
    world.tick(1)
    assert world.record().phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}
    assert world.record("bot-v3").phase is not Phase.ROLLED_BACK
    assert [each.rollout for each in world.split().mirrors] == ["bot-v3"]


def test_a_promotion_starts_the_others_again(world: Any) -> None:
    """Fresh evidence against the new baseline, in a generation of its own; receipts say why."""
    _both(world)
    _promoted(world)
    fresh, former = world.record("bot-v3"), world.service.get("bot-v3", generation=1)
    assert (fresh.generation, fresh.baseline, fresh.evidence.pairs) == (2, "new", 0)
    assert (former.phase, former.evidence.pairs) == (Phase.SUPERSEDED, 40)
    ended = world.service.transitions("bot-v3", generation=1)[-1]
    began = world.service.transitions("bot-v3")[0]
    assert (ended.event, ended.actor, began.event) == ("supersede", "controller", "start")
    for receipt in (ended.receipt["restart"], began.receipt["restart"]):
        assert (receipt["from_baseline"], receipt["to_baseline"]) == ("old", "new")
        assert (receipt["from_generation"], receipt["to_generation"]) == (1, 2)
    assert "started again against 'new'" in began.reason
    world.tick(1)
    assert world.record("bot-v3").phase is Phase.SHADOWING
    assert [each.rollout_id for each in world.split().mirrors] == [fresh.id]
    world.pairs(10, name="bot-v3")
    world.tick(1)
    assert world.record("bot-v3").evidence.pairs == 10
    for generation in (1, 2):
        assert replay_stored(world.store, "bot-v3", generation=generation).same is True


def test_the_return_of_the_former_baseline_starts_the_others_again(world: Any) -> None:
    """A promotion that is rolled back is one more change of the baseline."""
    _both(world)
    _promoted(world)
    world.tick(1)
    world.service.rollback("bot-v2", actor=ALICE)
    world.tick(1)
    record = world.record("bot-v3")
    assert (record.generation, record.baseline) == (3, "old")


@pytest.mark.parametrize(
    ("setting", "phase", "reason"),
    [("supersede", Phase.SUPERSEDED, None), ("pause", Phase.PAUSED, "baseline_changed")],
)
def test_the_spec_says_what_a_change_of_the_baseline_does(
    world: Any, setting: str, phase: Phase, reason: str | None
) -> None:
    """It ends, or waits for a person, who can apply the same spec again."""
    _both(world, on_baseline_change=setting)
    _promoted(world)
    record = world.record("bot-v3")
    assert (record.phase, record.generation) == (phase, 1)
    assert (record.paused.reason if record.paused else None) == reason
    again = world.service.apply(
        _another(world, on_baseline_change=setting), actor=ALICE, start=True
    )
    assert again.created
    assert (again.record.generation, again.record.baseline) == (2, "new")


def test_what_a_person_paused_waits_for_that_person(world: Any) -> None:
    """A pause by hand outlasts a change of the baseline; resumed, it starts again."""
    _both(world)
    world.service.pause("bot-v3", actor=ALICE)
    _promoted(world)
    assert (world.record("bot-v3").generation, world.record("bot-v3").phase) == (1, Phase.PAUSED)
    world.service.resume("bot-v3", actor=ALICE)
    world.tick(1)
    assert world.record("bot-v3").generation == 2


def test_the_same_candidate_under_another_name_ends(world: Any) -> None:
    """What has become the baseline can't be compared with itself."""
    _both(world, candidate={"deployment": "new"})
    _promoted(world)
    record = world.record("bot-v3")
    assert (record.phase, record.generation) == (Phase.SUPERSEDED, 1)
    assert "'new' is the baseline of route 'bot' already" in (
        world.service.transitions("bot-v3")[-1].reason
    )
