"""Outcomes become evidence: of the right rollout, arm and weight, and once."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlmodel import select

from gateway.batch import Capture
from gateway.intake import packets, unpack
from gateway.store import Store
from gateway.store.evidence import append_evidence, load_evidence
from gateway.store.tables import CaptureRow, IntakeRow, OutcomeRow, PairRow
from rollout.joining import join_outcomes
from rollout.outcomes import Outcome, forget_outcomes, post_outcomes
from rollout.service import Actor
from rollout.states import Phase

OPERATOR = Actor("alice", "operator")
WAIT_S = 600.0


@pytest.fixture
def live(make_world: Callable[..., Any]) -> Any:
    """A world whose rollout asks for two outcomes and serves 10% of users."""
    world = make_world()
    world.apply(spec_of(world))
    world.tick()
    world.pairs(300)
    assert world.tick(20).phase is Phase.PROGRESSING
    assert world.weight() == 10
    return world


def spec_of(world: Any) -> dict[str, Any]:
    """The world's spec, and two outcomes."""
    document = dict(world.default_spec)
    asked = [
        {"name": name, "source": {"outcome": name}, "role": "signal"}
        for name in ("reopened", "thumbs_down")
    ]
    analysis = document["analysis"]
    return {**document, "analysis": {**analysis, "metrics": [*analysis["metrics"], *asked]}}


def capture(world: Any, request_id: str, *, live: bool = True, **changes: Any) -> str:
    """Write a capture of the present split, and its pair where it is in the live sample."""
    split = world.split()
    row = CaptureRow(
        **{
            "id": f"c-{request_id}",
            "route": "bot",
            "request_id": request_id,
            "created_at": world.now,
            "endpoint": "chat/completions",
            "variant": "candidate",
            "reason": "split",
            "deployment": "new",
            "stream": False,
            "request_body": "{}",
            "response_body": "{}",
            "status": 200,
            "total_s": 1.0,
            "segment": "billing",
            "key_hash": "k1",
            "split_revision": split.revision,
            "epoch": split.epoch,
            "weight_bp": split.weight_bp,
            **changes,
        }
    )
    with world.store.write() as session:
        session.add(row)
        session.flush()
        stream = "live" if live else "mirror"
        session.add(
            PairRow(
                rollout_id=world.record().id, capture_id=row.id, stream=stream, created_at=world.now
            )
        )
    return row.id


def post(
    world: Any, request_id: str, *, failure: int = 1, name: str = "reopened", **more: Any
) -> None:
    """Post one outcome."""
    post_outcomes(
        world.store, [Outcome(request_id, name, failure, **more)], by="app", now=world.now
    )


def join(world: Any, seconds: float = 0.0) -> int:
    """Move the clock and look at what is pending."""
    world.now += seconds
    return join_outcomes(world.store, now=world.now, wait_s=WAIT_S)


def facts(world: Any) -> list[Any]:
    """The evidence that came of outcomes."""
    with world.store.read() as session:
        all_ = load_evidence(session, world.record().id, after=0, limit=100_000)
    return [fact for _, fact in all_ if fact.kind == "outcome"]


def state(world: Any, request_id: str) -> tuple[str, str | None]:
    """What became of an outcome."""
    with world.store.read() as session:
        row = session.exec(select(OutcomeRow).where(OutcomeRow.request_id == request_id)).one()
    return row.state, row.detail


def test_an_outcome_becomes_evidence_of_its_request(live: Any) -> None:
    """Arm, weight, epoch, segment and user are those of the request, whenever the outcome came."""
    capture(live, "r1")
    at, epoch = live.now, live.split().epoch
    live.now += 3600
    post(live, "r1")
    assert join(live) == 1
    (fact,) = facts(live)
    assert (fact.at, fact.epoch, fact.segment) == (at, epoch, "billing")
    assert fact.payload == {
        "request_id": "r1",
        "capture_id": "c-r1",
        "name": "reopened",
        "variant": "candidate",
        "weight_bp": 1000,
        "failure": 1,
        "cluster": "k1",
    }
    assert state(live, "r1") == ("joined", None)
    assert join(live, 10) == 0
    assert len(facts(live)) == 1


def test_a_capture_that_comes_later_is_waited_for(
    live: Any, make_capture: Callable[..., Capture]
) -> None:
    """An outcome may be faster than the capture, which a worker unpacks first."""
    post(live, "r1", failure=0)
    assert join(live) == 1
    assert state(live, "r1") == ("pending", None)
    split = live.split()
    packed = make_capture(
        request_id="r1",
        created_at=live.now,
        split_revision=split.revision,
        epoch=split.epoch,
        weight_bp=split.weight_bp,
        pairs=[(live.record().id, "live")],
    )
    with live.store.write() as session:
        for packet in packets([packed]):
            session.add(IntakeRow(**packet))
    assert join(live, 2) == 1
    assert facts(live) == []
    assert unpack(live.store) == 1
    assert join(live, 2) == 1
    (fact,) = facts(live)
    assert (fact.payload["variant"], fact.payload["failure"]) == ("baseline", 0)


def test_what_never_comes_is_unmatched_and_not_asked_for_ever(live: Any) -> None:
    """A request that was not captured is given up in the end, after a bounded number of looks."""
    post(live, "r1")
    looks = sum(join(live, 1) for _ in range(620))
    assert state(live, "r1") == ("unmatched", "no_capture")
    assert 5 < looks < 60
    capture(live, "r1")
    assert join(live, 100) == 0


@pytest.mark.parametrize(
    ("changes", "in_live", "why"),
    [
        ({"reason": "forced"}, True, "not_random"),
        ({"reason": "fallback", "variant": "baseline"}, False, "not_random"),
        ({"reason": "split", "variant": "baseline"}, False, "not_sampled"),
        ({"weight_bp": 0, "variant": "baseline"}, True, "no_traffic"),
    ],
)
def test_only_the_live_sample_of_random_requests_counts(
    live: Any, changes: dict[str, Any], in_live: bool, why: str
) -> None:
    """A forced arm says nothing about users, and a mirror's sample is not drawn alike in both."""
    capture(live, "r1", live=in_live, **changes)
    post(live, "r1")
    join(live)
    assert state(live, "r1") == ("ignored", why)
    assert facts(live) == []


def test_an_outcome_that_no_metric_asks_for_is_kept_only(live: Any) -> None:
    """Evidence is what the spec asks for; the rest can be counted all the same."""
    capture(live, "r1")
    post(live, "r1", name="curious")
    join(live)
    assert state(live, "r1") == ("ignored", "no_metric")
    assert facts(live) == []


def test_what_the_application_read_counts_without_a_capture(live: Any) -> None:
    """Variant and rollout of the response suffice; weight and epoch are those of that time."""
    asked_at = live.now + 30
    live.now += 40
    claim = {"variant": "candidate", "rollout": "bot-v2", "request_at": asked_at}
    post(live, "r1", **claim)
    join(live)
    assert state(live, "r1") == ("pending", None)
    assert join(live, 16) == 1
    (fact,) = facts(live)
    assert (fact.at, fact.epoch) == (asked_at, live.split().epoch)
    assert fact.payload["capture_id"] is None
    assert (fact.payload["variant"], fact.payload["weight_bp"]) == ("candidate", 1000)


def test_the_capture_is_believed_before_the_application(live: Any) -> None:
    """What the gateway wrote down is exact; a claim that differs changes nothing."""
    capture(live, "r1", variant="baseline")
    post(live, "r1", variant="candidate", rollout="bot-v2")
    join(live)
    (fact,) = facts(live)
    assert fact.payload["variant"] == "baseline"


def test_a_fallback_is_charged_to_the_arm_that_chance_gave(live: Any) -> None:
    """Leaving out the requests that the candidate could not serve would flatter it."""
    claim: dict[str, Any] = {"variant": "baseline", "reason": "fallback", "rollout": "bot-v2"}
    live.now += 60
    post(live, "r1", **claim)
    post(live, "r2", **{**claim, "reason": "breaker"})
    join(live, 20)
    (fact,) = facts(live)
    assert fact.payload["variant"] == "candidate"
    assert state(live, "r2") == ("ignored", "not_random")


def test_claims_about_a_time_of_change_are_left_out(live: Any) -> None:
    """Whether the old or the new weight assigned a request then is not known."""
    changed_at = live.now
    claim: dict[str, Any] = {"variant": "candidate", "rollout": "bot-v2"}
    live.now += 60
    post(live, "close", request_at=changed_at + 2, **claim)
    post(live, "before", request_at=changed_at - 6, **claim)
    post(live, "after", request_at=changed_at + 6, **claim)
    post(live, "unknown", variant="candidate", rollout="nobody")
    join(live, 20)
    assert state(live, "close") == ("ignored", "weight_unknown")
    assert state(live, "before") == ("ignored", "no_traffic")
    assert state(live, "after") == ("joined", None)
    assert state(live, "unknown") == ("ignored", "unknown_rollout")


def test_claims_keep_the_epoch_of_their_request(live: Any) -> None:
    """A weight set by hand begins a new epoch; what happened before it belongs to the old one."""
    before = live.now + 30
    old = live.split().epoch
    live.now += 60
    live.service.set_weight("bot-v2", 40.0, actor=OPERATOR, reason="by hand")
    new = live.split().epoch
    assert new > old
    live.now += 60
    claim: dict[str, Any] = {"variant": "candidate", "rollout": "bot-v2"}
    post(live, "r1", request_at=before, **claim)
    post(live, "r2", **claim)
    join(live, 20)
    found = {fact.payload["request_id"]: fact for fact in facts(live)}
    assert (found["r1"].epoch, found["r1"].payload["weight_bp"]) == (old, 1000)
    assert (found["r2"].epoch, found["r2"].payload["weight_bp"]) == (new, 4000)


def test_nothing_is_appended_to_what_is_over(live: Any) -> None:
    """A rollout that has ended has its decision; the outcome is counted as ignored."""
    capture(live, "r1")
    live.service.abort("bot-v2", actor=OPERATOR, reason="enough")
    live.now += 60
    live.tick(5)
    post(live, "r1")
    join(live)
    assert state(live, "r1") == ("ignored", "finished")
    assert facts(live) == []


def test_an_id_that_clients_used_twice_is_no_evidence(live: Any) -> None:
    """Clients may choose request ids; which of two requests is meant can't be known."""
    capture(live, "r1", id="c1")
    capture(live, "r1", id="c2", variant="baseline")
    post(live, "r1")
    join(live)
    assert state(live, "r1") == ("ignored", "several_requests")


def test_a_failure_in_the_middle_leaves_nothing_behind(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row and evidence are written together or not at all, and then once."""
    capture(live, "r1")
    post(live, "r1")

    def fail(*arguments: Any) -> None:
        append_evidence(*arguments)
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("rollout.joining.append_evidence", fail)
        with pytest.raises(OSError, match="killed"):
            join(live)
    assert state(live, "r1") == ("pending", None)
    assert facts(live) == []
    join(live, 1)
    assert len(facts(live)) == 1


_KILLED = """
import os, sys
from gateway.store import open_store
from rollout import joining
append = joining.append_evidence
def die(*arguments):
    append(*arguments)
    os.kill(os.getpid(), 9)
joining.append_evidence = die
joining.join_outcomes(open_store(sys.argv[1]), now=float(sys.argv[2]), wait_s=600.0)
"""


def test_a_joiner_killed_before_its_commit_has_done_nothing(live: Any, store_url: str) -> None:
    """SIGKILL between the evidence and the commit: another process joins it, once."""
    capture(live, "r1")
    post(live, "r1")
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, store_url, str(live.now)],
        timeout=60,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr
    assert state(live, "r1") == ("pending", None)
    assert facts(live) == []
    join(live)
    assert state(live, "r1") == ("joined", None)
    assert len(facts(live)) == 1


def test_joiners_and_posters_at_once_count_everything_once(live: Any, store: Store) -> None:
    """Two processes that join and two that post the same outcomes, at the same time."""
    rng = random.Random(11)
    names = [f"r{index}" for index in range(60)]
    for name in names:
        capture(live, name, variant=rng.choice(["baseline", "candidate"]))
    now = live.now

    def posting() -> None:
        own = random.Random(3)
        for _ in range(12):
            some = [Outcome(each, "thumbs_down", 1) for each in own.sample(names, 30)]
            post_outcomes(store, some, by="app", now=now)

    def looking() -> None:
        for step in range(25):
            join_outcomes(store, now=now + step, wait_s=WAIT_S, limit=7)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for work in (posting, looking, posting, looking)]:
            done.result(60)
    live.now += 100
    while join(live):
        pass
    counted = Counter(fact.payload["request_id"] for fact in facts(live))
    with store.read() as session:
        joined = {row.request_id for row in session.exec(select(OutcomeRow)).all()}
    assert set(counted) == joined
    assert set(counted.values()) == {1}


def test_any_order_of_events_counts_each_outcome_once(live: Any) -> None:
    """Posts, changed answers, captures, looks and repeats in any order; evidence never changes."""
    rng = random.Random(5)
    said: dict[str, int] = {}
    captured: set[str] = set()
    for _ in range(250):
        name = f"r{rng.randrange(40)}"
        action = rng.choice(["post", "post", "capture", "join"])
        if action == "post":
            post(live, name, failure=rng.randrange(2))
        elif action == "capture" and name not in captured:
            captured.add(name)
            capture(live, name)
        else:
            join(live, 1)
        for fact in facts(live) if action == "join" else ():
            request_id, failure = fact.payload["request_id"], fact.payload["failure"]
            assert said.setdefault(request_id, failure) == failure
    join(live, 100)
    counted = Counter(fact.payload["request_id"] for fact in facts(live))
    assert set(counted.values()) == {1}
    assert set(counted) <= captured
    assert len(counted) > 20


def test_outcomes_are_forgotten_after_their_time(live: Any) -> None:
    """The table does not grow for ever."""
    post(live, "old")
    live.now += 100
    post(live, "new")
    assert forget_outcomes(live.store, before=live.now - 50) == 1
    assert forget_outcomes(live.store, before=live.now - 50) == 0
    with live.store.read() as session:
        assert [row.request_id for row in session.exec(select(OutcomeRow)).all()] == ["new"]


def _guarded(world: Any) -> dict[str, Any]:
    document = spec_of(world)
    metrics = [{**each, "role": "guardrail"} for each in document["analysis"]["metrics"]]
    return {**document, "analysis": {**document["analysis"], "metrics": metrics}}


@pytest.mark.parametrize(("bad", "rolled_back"), [(0.4, True), (0.02, False)])
def test_outcomes_decide(make_world: Callable[..., Any], bad: float, rolled_back: bool) -> None:
    """Tickets that are reopened more often with the candidate roll it back, healthy ones don't."""
    world = make_world()
    world.apply(_guarded(world))
    world.tick()
    world.pairs(300)
    assert world.tick(20).phase is Phase.PROGRESSING
    rng = random.Random(17)
    world.now += 60
    for index in range(300):
        variant = "candidate" if rng.random() < 0.1 else "baseline"
        failure = int(rng.random() < (bad if variant == "candidate" else 0.02))
        post(world, f"r{index}", failure=failure, variant=variant, rollout="bot-v2")
    join(world, 20)
    record = world.tick(1)
    assert record.evidence.unreadable == 0
    seen = record.evidence.metrics["reopened"].baseline[0]
    assert seen > 200 if not rolled_back else seen > 0
    assert (record.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}) is rolled_back
