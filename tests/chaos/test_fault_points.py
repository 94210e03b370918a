"""A controller killed at each of its commits: the history is that of a run without a kill."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from gateway.batch import Batch, Capture
from gateway.errors import StoreUnavailable
from gateway.intake import unpack
from gateway.store import Store
from gateway.store.evidence import Evidence, load_funnel
from gateway.store.tables import CaptureRow, EvidenceRow, IntakeRow, PairRow
from gateway.writer import write_batch
from rollout.lease import Lease
from shadow.pairs import ClaimRules, Finished, claim_pairs, finish_pairs

ENDINGS = ("before", "after", "unacknowledged")
Histories = Callable[..., dict[str, Any]]

_DIES = """
import os, sys
from sqlalchemy import event
from sqlalchemy.orm import Session
from gateway.settings import Settings
from gateway.store import open_store
from rollout.controller import Controller

url, settings, moment, name = sys.argv[1:]
commits = []

def die(_session):
    commits.append(1)
    if len(commits) == 2:  # the first takes the lease
        os._exit(9)

event.listen(Session, name, die)
settings = Settings.model_validate_json(settings)
Controller(open_store(url), settings, health=lambda _: None).tick(float(moment))
"""
"""One look at all rollouts by a process that is gone at its second commit."""


@pytest.fixture
def sqlite_copies(
    sqlite_url: str, tmp_path: Path, open_stores: Callable[[str], Store]
) -> Callable[[int], Store]:
    """Give empty SQLite stores, each a copy of one that was migrated once."""

    def copy(number: int) -> Store:
        path = tmp_path / f"copy-{number}.db"
        shutil.copyfile(sqlite_url.removeprefix("sqlite:///"), path)
        return open_stores(f"sqlite:///{path}")

    return copy


def _differences(kept: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{table}: {sorted(set(kept[table]) ^ set(wanted[table]))}"
        for table in wanted
        if kept[table] != wanted[table]
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_kill_at_any_commit_gives_the_history_of_no_kill(
    world_of: Callable[..., Any], played: Histories, sqlite_copies: Any, ending: str
) -> None:
    """Every commit of the whole history in turn: transitions, receipts, splits and statistics."""
    whole = world_of(sqlite_copies(0), at=0)
    wanted = played(whole)
    commits = whole.breaks.commits
    assert commits > 20
    for at in range(1, commits + 1):
        world = world_of(sqlite_copies(at), at=at, ending=ending)
        assert _differences(played(world), wanted) == [], f"{ending} commit {at} of {commits}"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_kill_gives_the_same_history_on_postgresql(
    postgres_url: str,
    open_stores: Callable[[str], Store],
    world_of: Callable[..., Any],
    played: Histories,
    empty: Callable[[Store], None],
    ending: str,
) -> None:
    """The same on PostgreSQL, at a sample of the commits that differs between the endings."""
    store = open_stores(postgres_url)
    whole = world_of(store, at=0)
    wanted = played(whole)
    for at in range(2 + ENDINGS.index(ending), whole.breaks.commits + 1, 9):
        empty(store)
        world = world_of(store, at=at, ending=ending)
        assert _differences(played(world), wanted) == [], f"{ending} commit {at}"


def test_the_played_history_holds_what_it_is_to_test(
    world_of: Callable[..., Any], played: Histories, sqlite_copies: Any
) -> None:
    """A promotion, a rollback with its time to zero, a retry, and operators in between."""
    world = world_of(sqlite_copies(0))
    played(world)
    good = ["start", "shadow", "progress", "bake", "pause", "resume", "succeed"]
    assert world.events() == good
    first = [each.event for each in world.service.transitions("bad", generation=1)]
    assert first == ["start", "shadow", "progress", "bake", "rollback", "drained"]
    assert world.events("bad") == ["retry", "shadow", "set_weight", "resume", "abort"]
    drained = world.service.transitions("bad", generation=1)[-1].receipt["drained"]
    assert drained["time_to_zero"] == pytest.approx(0.013)
    assert drained["applied"] == pytest.approx(0.035)
    assert (world.split().baseline, world.split("two").weight_bp) == ("new", 0)


def test_a_controller_that_dies_after_everything_it_writes_gets_there(
    world_of: Callable[..., Any], played: Histories, sqlite_copies: Any
) -> None:
    """Each process takes the lease, writes one thing and dies; the history is the same."""
    wanted = played(world_of(sqlite_copies(0)))
    world = world_of(sqlite_copies(1), at=2, ending="after")
    shared = world.breaks

    def reborn(*_: Any) -> Any:
        shared.commits = 0
        return type(world).new_controller(world)

    world.new_controller = reborn
    world.controller = reborn()
    assert _differences(played(world), wanted) == []


@pytest.mark.parametrize("ending", ["before", "after"])
def test_a_process_that_is_gone_in_the_middle_of_a_rollback(
    world: Any, store_url: str, ending: str
) -> None:
    """os._exit around the commit of a rollback: nothing of it is written, or all of it, once."""
    world.apply()
    world.tick()
    world.pairs(60, broken=1)
    world.controller.lease.release()
    document = world.settings.model_dump_json(exclude_defaults=True)
    died = subprocess.run(
        [sys.executable, "-c", _DIES, store_url, document, repr(world.now), f"{ending}_commit"],
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert died.returncode == 9, died.stderr.decode()
    written = [] if ending == "before" else ["rollback"]
    assert world.events() == ["start", "shadow", *written]
    world.expire()
    assert world.tick().phase.value == "rolled_back"
    assert world.events() == ["start", "shadow", "rollback", "drained"]
    assert world.split().mirrors == ()


def test_a_lease_whose_commit_was_not_acknowledged_is_ours(store: Store, fragile: Any) -> None:
    """Whoever does not hear that it leads asks again and need not wait for its own lease's end."""
    lease = Lease(fragile(store, at=1, ending="unacknowledged"), holder="a", ttl=60)
    with pytest.raises(StoreUnavailable):
        lease.acquire()
    assert not Lease(store, holder="b", ttl=60).acquire()
    assert lease.acquire()
    with store.write() as session:
        assert lease.guard(session) == lease.token


def _hand_over(store: Store, capture: Capture) -> None:
    """What a gateway writes of one captured request, as its writer would write it again."""
    batch = Batch(number=1, from_at=0.0, to_at=1.0, captures=[capture])
    batch.end(1, "mirror", "pending")
    with store.write() as session:
        write_batch(store, session, batch, replica="g1", started_at=0.0)


def _mirror(store: Store, now: float) -> None:
    """What a worker does: unpack, claim, finish."""
    unpack(store)
    claims = claim_pairs(store, ClaimRules("w", lease_s=5.0), now=now, limit=5)
    facts = [Evidence("pair", now, {"pair_id": claim.pair_id}) for claim in claims]
    finish_pairs(
        store,
        [
            Finished(claim, "compared", fact, columns={"comparison": {}})
            for claim, fact in zip(claims, facts, strict=True)
        ],
        now=now,
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_capture_becomes_evidence_once_whatever_dies_on_the_way(
    world: Any,
    fragile: Any,
    empty: Callable[[Store], None],
    make_capture: Callable[..., Capture],
    ending: str,
) -> None:
    """Gateway and worker break at each of their commits, do it again, and count once."""
    store, broken = world.store, 0
    hand_over = partial(_hand_over, capture=make_capture(route="one", created_at=1.0))
    for at in range(1, 6):
        empty(store)
        world.controller = world.new_controller()
        assert world.apply().id == 1
        world.tick()
        breaking = fragile(store, at=at, ending=ending)
        for now in (1.0, 10.0, 20.0):  # a claim whose owner died is free after 5 s
            for step in (hand_over, partial(_mirror, now=now)):
                try:
                    step(breaking)
                except (type(world).Killed, StoreUnavailable):
                    broken += 1
        hand_over(breaking)
        with store.read() as session:
            assert len(session.exec(select(CaptureRow)).all()) == 1
            assert len(session.exec(select(PairRow)).all()) == 1
            assert len(session.exec(select(EvidenceRow)).all()) == 1
            assert session.exec(select(IntakeRow)).all() == []
            funnel = load_funnel(session, 1)["mirror"]
        counted = {name: count for name, count in funnel.items() if count}
        assert counted == {"eligible": 1, "compared": 1}
    assert broken >= 4
