"""What operators can do to a rollout, on both stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import select

from gateway.errors import Conflict, NotFound, SpecError, TransitionError
from gateway.store.tables import AuditRow
from rollout import service
from rollout.service import Actor
from rollout.states import Phase

ALICE = Actor("alice", "operator")


def _progressing(world: Any) -> None:
    world.apply()
    world.tick()
    world.pairs(300)
    assert world.tick(10).phase is Phase.PROGRESSING


def test_apply_waits_to_be_started(world: Any) -> None:
    """A new rollout is pending, touches no traffic, and starts when told to."""
    record = world.apply(start=False)
    assert (record.phase, record.generation) == (Phase.PENDING, 1)
    world.tick(1)
    assert world.split() is None
    world.service.start("bot-v2", actor=ALICE)
    assert world.tick(1).phase is Phase.SHADOWING


def test_apply_of_the_same_spec_changes_nothing(world: Any) -> None:
    """Applying twice is one rollout; a changed spec is a new generation with fresh evidence."""
    _progressing(world)
    again = world.service.apply(world.default_spec, actor=ALICE)
    assert not again.created
    assert again.record.phase is Phase.PROGRESSING
    changed = world.service.apply(
        {**world.default_spec, "on_inconclusive": "rollback"}, actor=ALICE
    )
    assert changed.created
    assert (changed.record.generation, changed.record.evidence.pairs) == (2, 0)
    assert world.service.get("bot-v2", generation=1).phase is Phase.SUPERSEDED
    assert world.weight() == 0.0
    assert world.split().mirrors == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"route": "nope"}, r"^route: no route is called 'nope'; declared are: bot"),
        ({"candidate": {"deployment": "x"}}, r"^candidate.deployment: no deployment is called"),
        ({"candidate": {"deployment": "old"}}, r"^candidate.deployment: 'old' is the baseline"),
        (
            {"candidate": {"deployment": "judge"}},
            r"^candidate.deployment: 'judge' is also the candidate",
        ),
    ],
)
def test_spec_that_does_not_fit_the_settings_is_refused(
    world: Any, changes: dict[str, Any], message: str
) -> None:
    """Unknown routes and deployments, and candidates that can't be, are refused by field."""
    with pytest.raises(SpecError, match=message):
        world.apply({**world.default_spec, **changes})
    assert world.service.rollouts() == []


def test_apply_warns_of_what_can_never_be_proven(make_world: Callable[..., Any]) -> None:
    """A judged guardrail without a judge is accepted, with a warning that says what to do."""
    world = make_world(judge=None)
    applied = world.service.apply(world.default_spec, actor=ALICE)
    assert any("no judge is set" in warning for warning in applied.warnings)


@pytest.mark.parametrize(
    ("quota", "said"),
    [(200, "`coalmine review bot-v2` asks people"), (25, "take 3 weeks"), (0, "none will come")],
)
def test_apply_says_what_human_labels_take(
    make_world: Callable[..., Any], quota: int, said: str
) -> None:
    """A spec that asks for labels says who has to give them, and where the quota is in the way."""
    route = {"baseline": "old", "segment": "metadata.category", "review": {"weekly_quota": quota}}
    world = make_world(routes={"bot": route})
    metrics = [{"name": "judge_win_rate", "margin": 0.1, "min_human_labels": 60}]
    analysis = {**world.default_spec["analysis"], "metrics": metrics}
    applied = world.service.apply({**world.default_spec, "analysis": analysis}, actor=ALICE)
    assert any(said in warning for warning in applied.warnings)


def test_manual_weight_pauses_and_starts_a_new_epoch(world: Any) -> None:
    """A weight by hand keeps the salt, so users stay sticky, and stops the automation."""
    _progressing(world)
    before = world.split()
    record = world.service.set_weight("bot-v2", 30, actor=ALICE, reason="load test")
    split = world.split()
    assert (record.phase, record.paused.reason) == (Phase.PAUSED, "manual_weight")
    assert split.weight_bp == 3000
    assert split.salt == before.salt
    assert split.epoch == before.epoch + 1 == record.evidence.epoch
    world.live(2000)
    assert world.tick(60).phase is Phase.PAUSED
    assert world.weight() == 30
    world.service.resume("bot-v2", actor=ALICE)
    assert world.weight() == 10
    assert world.record().phase is Phase.PROGRESSING
    assert world.split().epoch == split.epoch + 1


def test_manual_weight_still_rolls_back_on_harm(world: Any) -> None:
    """A person's weight does not keep the engine from protecting users."""
    _progressing(world)
    world.service.set_weight("bot-v2", 30, actor=ALICE)
    world.live(1000, errors=0.3)
    world.tick(1)
    assert world.weight() == 0.0
    assert world.record().phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}


def test_weight_is_refused_while_the_candidate_does_not_answer(world: Any) -> None:
    """Nobody is sent to a deployment that is down; going down to 0 is always possible."""
    _progressing(world)
    world.sick.add("new")
    before = world.split()
    with pytest.raises(TransitionError, match="'new' can't take traffic: it can't be reached"):
        world.service.set_weight("bot-v2", 40, actor=ALICE)
    assert world.split() == before
    world.service.set_weight("bot-v2", 0, actor=ALICE)
    assert world.weight() == 0.0


@pytest.mark.parametrize("weight", [-1, 100.5, float("nan")])
def test_impossible_weight_is_refused(world: Any, weight: float) -> None:
    """A weight is a share of the traffic."""
    _progressing(world)
    with pytest.raises(SpecError, match="between 0 and 100"):
        world.service.set_weight("bot-v2", weight, actor=ALICE)


def test_stale_revision_is_a_conflict_and_changes_nothing(world: Any) -> None:
    """if_revision protects what somebody else has done since; new evidence does not count."""
    _progressing(world)
    seen = world.record().revision
    world.pairs(10)
    world.tick(1)
    assert world.record().revision == seen
    world.service.pause("bot-v2", actor=ALICE, if_revision=seen)
    with pytest.raises(Conflict, match=f"not {seen}"):
        world.service.abort("bot-v2", actor=ALICE, if_revision=seen)
    assert world.record().phase is Phase.PAUSED


def test_two_who_apply_at_once_are_a_conflict(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who read before the other had written is told so, and one generation is there."""
    first = world.apply(start=False)
    monkeypatch.setattr(service, "latest", lambda session, name: None)
    with pytest.raises(Conflict, match="applied by someone else meanwhile; read it again"):
        world.apply(start=False)
    assert world.record() == first


def test_abort_wins_over_the_automation(world: Any) -> None:
    """After an abort traffic and mirrors are gone and the controller does nothing any more."""
    _progressing(world)
    world.live(1000)
    world.service.abort("bot-v2", actor=ALICE, reason="wrong weights")
    assert (world.weight(), world.split().mirrors) == (0.0, ())
    assert world.tick(60).phase is Phase.ABORTED
    with pytest.raises(TransitionError, match=r"resume is not possible while .* aborted"):
        world.service.resume("bot-v2", actor=ALICE)


def test_rolled_back_candidate_starts_again_only_by_retry(world: Any) -> None:
    """The rollback is latched to the candidate revision, under any name and spec."""
    _progressing(world)
    world.service.rollback("bot-v2", actor=ALICE)
    assert world.tick(1).phase is Phase.ROLLED_BACK
    with pytest.raises(TransitionError, match="use retry"):
        world.apply({**world.default_spec, "name": "again"})
    with pytest.raises(TransitionError, match="use retry"):
        world.apply()
    record = world.service.retry("bot-v2", actor=ALICE, reason="it was the judge")
    assert (record.generation, record.phase) == (2, Phase.PREFLIGHT)
    assert record.evidence.pairs == 0
    assert world.service.get("bot-v2", generation=1).phase is Phase.ROLLED_BACK
    assert world.tick(1).phase is Phase.SHADOWING


def test_promotion_and_return_to_the_former_baseline(world: Any) -> None:
    """Promote makes the candidate the baseline; rollback brings the former one back."""
    _progressing(world)
    world.service.promote("bot-v2", actor=ALICE, reason="we know it")
    split = world.split()
    assert (split.baseline, split.promoted_from, split.weight_bp) == ("new", "old", 0)
    assert world.record().phase is Phase.SUCCEEDED
    with pytest.raises(SpecError, match="is the baseline of route"):
        world.apply({**world.default_spec, "on_inconclusive": "rollback"})
    world.gateway()
    world.service.rollback("bot-v2", actor=ALICE)
    split = world.split()
    assert (split.baseline, split.former_baseline, split.promoted_from) == ("old", None, None)
    assert world.tick(0.1).phase is Phase.ROLLING_BACK
    world.gateway()
    assert world.tick(0.1).phase is Phase.ROLLED_BACK
    last = world.service.transitions("bot-v2")[-1]
    drained = last.receipt["drained"]
    # as baseline its requests are not told apart: the split's application is what is known
    assert drained["replicas"]["g1"] == {"applied": pytest.approx(0.02), "last_candidate": None}
    assert drained["time_to_zero"] == pytest.approx(0.02)


def test_approval_step_waits_for_a_person(world: Any) -> None:
    """A pause for approval is not ended by resume, and goes on after approve."""
    steps = [
        {"mirror": {"min_pairs": 100}},
        {"pause": {"approval": True}},
        {"set_weight": 100},
    ]
    world.apply({**world.default_spec, "steps": steps})
    world.tick()
    world.pairs(300)
    assert world.tick(10).paused.reason == "approval"
    with pytest.raises(TransitionError, match="use approve"):
        world.service.resume("bot-v2", actor=ALICE)
    world.service.approve("bot-v2", actor=ALICE)
    assert world.tick(1).phase is Phase.PROGRESSING
    assert world.weight() == 100
    with pytest.raises(TransitionError, match="approve is not possible"):
        world.service.approve("bot-v2", actor=ALICE)


def test_every_deed_is_in_the_audit_log_and_refused_ones_are_not(world: Any) -> None:
    """Who, what and why are kept with the deed; an operation that failed left nothing."""
    world.apply()
    world.service.pause("bot-v2", actor=ALICE, reason="lunch")
    with pytest.raises(TransitionError):
        world.service.pause("bot-v2", actor=ALICE)
    with world.store.read() as session:
        rows = session.exec(select(AuditRow).order_by(AuditRow.id)).all()
    assert [(row.actor, row.action) for row in rows] == [("alice", "apply"), ("alice", "pause")]
    assert rows[-1].detail["reason"] == "lunch"
    last = world.service.transitions("bot-v2")[-1]
    assert (last.actor, last.event, last.reason) == ("alice", "pause", "lunch")


def test_unknown_rollout_is_not_found(world: Any) -> None:
    """A name that does not exist is an error that says so."""
    for operation in ("start", "pause", "resume", "approve", "promote", "abort", "retry"):
        with pytest.raises(NotFound, match="no rollout called 'nope'"):
            getattr(world.service, operation)("nope", actor=ALICE)
    with pytest.raises(NotFound):
        world.service.explain("nope")


def test_explain_says_where_why_and_what_is_needed(world: Any) -> None:
    """The explanation has the reason, each metric's numbers and what would come next."""
    world.apply()
    world.tick()
    world.pairs(100)
    world.tick(5)
    explained = world.service.explain("bot-v2")
    assert explained["phase"] == "shadowing"
    assert "100 of 200 pairs" in explained["reason"]
    assert any("100 more pairs" in need for need in explained["needs"])
    assert "abort" in explained["possible"]
    judge = next(each for each in explained["metrics"] if each["metric"] == "judge_win_rate")
    assert judge["low"] <= judge["estimate"] <= judge["high"]
    assert explained["last_transition"]["event"] == "shadow"
    shown = world.service.show("bot-v2")
    assert shown["spec"]["name"] == "bot-v2"
    assert [step["weight"] for step in shown["steps"]] == [0, 10, 50, 98]
    assert [each["name"] for each in world.service.rollouts()] == ["bot-v2"]
