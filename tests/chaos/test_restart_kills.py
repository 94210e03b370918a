"""A controller killed while one rollout's promotion starts another one again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.store import Store
from rollout.replaying import replay_stored
from rollout.service import Actor

ENDINGS = ("before", "after", "unacknowledged")
ALICE = Actor("alice", "operator")


def _began(world: Any) -> None:
    world.apply()


def _joined(world: Any) -> None:
    world.apply({**world.default_spec, "name": "other", "candidate": {"deployment": "next"}})


def _gathered(world: Any) -> None:
    world.pairs(25)
    world.pairs(12, name="other")


def _promoted(world: Any) -> None:
    world.service.promote("good", actor=ALICE, reason="we know it")


def _started_again(world: Any) -> None:
    assert world.record("other").generation == 2
    world.pairs(7, name="other")


def _returned(world: Any) -> None:
    world.gateway("g1")
    world.service.rollback("good", actor=ALICE)


def _told(world: Any) -> list[Any]:
    """All that was decided, without the ids that the store gives out: a rollback leaves gaps."""
    records = [("good", 1), *(("other", generation) for generation in (1, 2, 3))]
    found: list[Any] = []
    for name, generation in records:
        record = world.service.get(name, generation=generation)
        transitions = world.service.transitions(name, generation=generation)
        found.append((record.phase, record.step_index, record.baseline, record.evidence.to_json()))
        found += [
            (each.event, each.at, each.actor, each.reason, each.to_phase, each.weight_after_bp)
            for each in transitions
        ]
    mirrors = [(each.rollout, each.percentage_bp) for each in world.split().mirrors]
    return [*found, mirrors, world.split().baseline]


BEATS = (
    (0.0, _began),
    (1.0, _joined),
    (5.0, _gathered),
    (1.0, _promoted),
    (1.0, _started_again),
    (1.0, _returned),
    (1.0, lambda _world: None),
)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_kill_at_any_commit_starts_the_other_again_once(
    world_of: Callable[..., Any],
    played: Callable[..., dict[str, Any]],
    store: Store,
    empty: Callable[[Store], None],
    ending: str,
) -> None:
    """The old generation ends and the next begins in one commit: the history is that of no kill."""
    whole = world_of(store, at=0)
    played(whole, BEATS)
    wanted = _told(whole)
    commits = whole.breaks.commits
    assert whole.record("other").generation == 3
    generations = [whole.service.get("other", generation=n) for n in (1, 2, 3)]
    assert [each.baseline for each in generations] == ["old", "new", "old"]
    for generation in (1, 2, 3):
        assert replay_stored(store, "other", generation=generation).same is True
    for at in range(1, commits + 1, 1 if store.is_sqlite else 4):
        empty(store)
        world = world_of(store, at=at, ending=ending)
        played(world, BEATS)
        assert _told(world) == wanted, f"{ending} commit {at} of {commits}"
