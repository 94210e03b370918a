"""A control plane whose store breaks on command: stores that die, and a play of one history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest
from sqlalchemy import text
from sqlmodel import Session, SQLModel, select

from gateway.errors import StoreError, StoreUnavailable
from gateway.settings import Settings
from gateway.split import Split
from gateway.store import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.splits import load_split
from gateway.store.tables import (
    AuditRow,
    LeaseRow,
    ReplicaRow,
    RolloutRow,
    SplitRow,
    TransitionRow,
)
from rollout.controller import Controller
from rollout.records import Record
from rollout.service import Actor, RolloutService

OPERATOR = Actor("alice", "operator")
Ending = Literal["before", "after", "unacknowledged"]


class Killed(BaseException):
    """What a kill looks like from inside: nothing handles it."""


class FragileStore(Store):
    """The store of a process that dies, or loses its connection, at one of its commits.

    ``ending`` says how the commit with number ``at`` (1 is the first) ends: the process is killed
    before or after it, or it is carried out and reported as failed. ``at`` 0 is never. ``pause`` is
    called before each write transaction, with its number.
    """

    def __init__(self, store: Store, *, at: int = 0, ending: Ending = "after") -> None:
        super().__init__(store.engine)
        self.at = at
        self.ending = ending
        self.commits = 0
        self.pause: Callable[[int], None] = lambda _number: None

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Run one write transaction, unless it is the one that breaks."""
        self.pause(self.commits + 1)
        with super().write() as session:
            yield session
            self.commits += 1
            number = self.commits
            if number == self.at and self.ending == "before":
                raise Killed
        if number == self.at and self.ending == "after":
            raise Killed
        if number == self.at and self.ending == "unacknowledged":
            raise StoreUnavailable("the connection was lost while committing")


def spec_document(name: str = "good", route: str = "one", **changes: Any) -> dict[str, Any]:
    """A spec that a few dozen facts can decide."""
    return {
        "kind": "Rollout",
        "name": name,
        "route": route,
        "candidate": {"deployment": "new"},
        "mirror": {"percentage": 20},
        "steps": [
            {"mirror": {"min_pairs": 20, "max_duration": "1h"}},
            {"set_weight": 20},
            {"set_weight": 100},
            {"bake": {"duration": "30s", "holdback": "2%"}},
        ],
        "analysis": {
            "metrics": [
                {"name": "format_valid", "margin": 0.3, "critical": True},
                {"name": "error_rate", "margin": 0.3},
            ],
            "min_samples": 20,
            "live_sample": 20,
            "min_duration": "20s",
            "max_duration": "30m",
        },
        **changes,
    }


@dataclass
class World:
    """One store with two routes, its operators and a controller; ``now`` is everybody's clock."""

    Killed: ClassVar[type[BaseException]] = Killed

    store: Store
    settings: Settings
    now: float = 1_000_000.0
    next_pair: int = 0
    controllers: int = 0
    breaks: FragileStore | None = None
    default_spec: dict[str, Any] = field(default_factory=spec_document)
    controller: Controller = field(init=False)

    def __post_init__(self) -> None:
        self.service = RolloutService(
            self.store, self.settings, health=lambda _: None, clock=lambda: self.now
        )
        self.controller = self.new_controller()

    def new_controller(self, store: Store | None = None) -> Controller:
        """Another controller, by default over the store that breaks where there is one."""
        return Controller(
            store or self.breaks or self.store,
            self.settings,
            health=lambda _: None,
            clock=lambda: self.now,
            persist_interval=0.0,
        )

    def expire(self) -> None:
        """Let the time pass that a dead leader keeps its lease."""
        with self.store.write() as session:
            row = session.get(LeaseRow, "controller")
            if row is not None:
                row.expires_at = 0.0
                session.add(row)

    def settle(self) -> None:
        """Let the controller look, starting another one for as long as one dies of it."""
        for _ in range(20):
            try:
                if self.controller.tick(self.now):
                    return
            except Killed:
                self.expire()
                self.controller = self.new_controller()
            except StoreError:
                continue  # the same process tries again, with what it remembers
        raise AssertionError("no controller came to lead")

    def tick(self, seconds: float = 0.0, name: str = "good") -> Record:
        """Move the clock, let the controller look, and return the rollout."""
        self.now += seconds
        self.settle()
        return self.record(name)

    def apply(self, document: Mapping[str, Any] | None = None) -> Record:
        """Apply a spec and start it."""
        return self.service.apply(document or spec_document(), actor=OPERATOR, start=True).record

    def record(self, name: str = "good") -> Record:
        """The rollout as it is stored."""
        return self.service.get(name)

    def events(self, name: str = "good") -> list[str]:
        """The events of the rollout so far."""
        return [each.event for each in self.service.transitions(name)]

    def split(self, route: str = "one") -> Split:
        """The route's split."""
        with self.store.read() as session:
            found = load_split(session, route)
        assert found is not None
        return found

    def edit_split(self, route: str = "one", **changes: Any) -> None:
        """Change the split's document as somebody with a database client would."""
        with self.store.write() as session:
            row = session.get(SplitRow, route)
            assert row is not None
            row.document = {**row.document, **changes}
            session.add(row)

    def append(self, *facts: Evidence, name: str = "good") -> None:
        """Append facts about the latest generation."""
        rollout_id = self.record(name).id
        with self.store.write() as session:
            append_evidence(self.store, session, rollout_id, facts)

    def pair(self, *, broken: int = 0, at: float | None = None) -> Evidence:
        """A pair whose candidate's format is broken or not."""
        self.next_pair += 1
        payload = {
            "pair_id": self.next_pair,
            "capture_id": f"c{self.next_pair}",
            "cluster": None,
            "judge": "tie",
            "score": 0.0,
            "failures": {"format_valid": [0, broken], "error_rate": [0, 0]},
            "values": {"latency": [0.5, 0.5], "ttft": [None, None], "output_tokens": [9, 9]},
        }
        return Evidence("pair", self.now if at is None else at, payload)

    def pairs(self, count: int = 40, *, name: str = "good", broken: int = 0) -> None:
        """Append so many pairs."""
        self.append(*(self.pair(broken=broken) for _ in range(count)), name=name)

    def window(
        self, requests: int = 100, *, route: str = "one", errors: int = 0, at: float | None = None
    ) -> Evidence:
        """So many requests at the present weight, of which the candidate failed ``errors``."""
        split = self.split(route)
        at = self.now if at is None else at
        candidate = requests * split.weight_bp // 10_000
        payload = {
            "replica": "g1",
            "weight_bp": split.weight_bp,
            "split_revision": split.revision,
            "from_at": at - 1,
            "to_at": at,
            "arms": {
                "baseline": {"requests": requests - candidate, "error_rate": 0},
                "candidate": {"requests": candidate, "error_rate": errors},
            },
        }
        return Evidence("window", at, payload, epoch=split.epoch)

    def live(self, *, name: str = "good", route: str = "one", errors: int = 0) -> None:
        """Append healthy live traffic at the present weight, with its checks and pairs."""
        split = self.split(route)
        check = {
            "capture_id": "x",
            "variant": "candidate",
            "weight_bp": split.weight_bp,
            "failures": {"format_valid": 0},
            "values": {"latency": 0.5, "ttft": None, "output_tokens": 9},
        }
        facts = [self.window(route=route, errors=errors) for _ in range(3)]
        facts += [Evidence("live", self.now, check, epoch=split.epoch) for _ in range(3)]
        facts += [self.pair() for _ in range(12)]
        self.append(*facts, name=name)

    def gateway(
        self, name: str = "g1", *, delay: float = 0.02, last: float = 0.01, skew: float = 0.0
    ) -> None:
        """A gateway's sign of life.

        It applied each split ``delay`` seconds after it was written and gave its last request to
        the candidate ``last`` seconds after that; its clock is ``skew`` seconds ahead.
        """
        with self.store.write() as session:
            row = session.get(ReplicaRow, name) or ReplicaRow(
                id=name, role="gateway", host="h", pid=1, started_at=0.0, heartbeat_at=0.0
            )
            row.heartbeat_at = self.now + skew
            row.revisions = {
                split.route: {
                    "revision": split.revision,
                    "applied_at": split.updated_at + delay + skew,
                    "last_candidate_at": split.updated_at + last + skew,
                }
                for split in (load_split(session, route) for route in ("one", "two"))
                if split is not None
            }
            session.add(row)


Beat = Callable[[World], None]


def _good_goes_on(world: World) -> None:
    if world.record().phase.value in {"progressing", "baking"}:
        world.live()


def _good_is_held(world: World) -> None:
    world.service.pause("good", actor=OPERATOR, reason="lunch")
    world.live()


def _bad_in_shadow(world: World) -> None:
    world.apply(spec_document("bad", "two"))
    world.pairs(30, name="bad")


def _bad_when_live(world: World) -> None:
    world.append(world.window(route="two", errors=15), name="bad")


def _bad_again(world: World) -> None:
    world.gateway("g1", delay=0.02, last=0.013)
    world.gateway("g2", delay=0.035, last=0.0)
    world.live()


def _retried(world: World) -> None:
    world.service.retry("bad", actor=OPERATOR, reason="again")
    world.pairs(15, name="bad")


def _by_hand(world: World) -> None:
    world.service.set_weight("bad", 30, actor=OPERATOR, reason="a look")
    world.live(name="bad", route="two")


def _let_go(world: World) -> None:
    world.service.resume("bad", actor=OPERATOR)
    world.pairs(6, name="bad")


def _began(world: World) -> None:
    world.apply()


def _good_in_shadow(world: World) -> None:
    world.pairs(25)


def _good_resumed(world: World) -> None:
    world.service.resume("good", actor=OPERATOR)


def _bad_live(world: World) -> None:
    world.gateway("g1")
    world.gateway("g2")
    world.live(name="bad", route="two")


def _aborted(world: World) -> None:
    world.service.abort("bad", actor=OPERATOR)


PLAY: tuple[tuple[float, Beat], ...] = (
    (0.0, _began),
    (1.0, _good_in_shadow),
    (5.0, _bad_in_shadow),
    (25.0, _good_goes_on),
    (1.0, _good_is_held),
    (2.0, _good_resumed),
    (22.0, _good_goes_on),
    (0.5, _bad_live),
    (0.5, _bad_when_live),
    (0.2, _bad_again),
    (5.0, _retried),
    (22.0, _good_goes_on),
    (1.0, _by_hand),
    (1.0, _let_go),
    (9.0, _good_goes_on),
    (31.0, _good_goes_on),
    (1.0, _aborted),
)
"""Seconds that pass, and what happens then: two rollouts, their facts, and what operators do.

One is promoted; the other fails, is rolled back, started again, held by hand and aborted.
"""


def play(world: World, beats: tuple[tuple[float, Beat], ...] = PLAY) -> dict[str, Any]:
    """Play a history, by default the whole one, and return all that is stored of it."""
    for seconds, beat in beats:
        world.now += seconds
        beat(world)
        world.settle()
    return history(world.store)


def history(store: Store) -> dict[str, Any]:
    """Everything that decisions left behind, as JSON text: floats count to the last bit."""
    tables = (TransitionRow, RolloutRow, SplitRow, AuditRow)
    found: dict[str, Any] = {}
    with store.read() as session:
        for table in tables:
            rows = [row.model_dump() for row in session.exec(select(table)).all()]
            for row in rows:
                # Given out by the database, with gaps for what was given up; and who led.
                row.pop("leader_token", None)
                if table is not RolloutRow:
                    row.pop("id", None)
            texts = [json.dumps(row, sort_keys=True) for row in rows]
            found[str(table.__tablename__)] = sorted(texts)
    return found


@pytest.fixture
def world_of() -> Callable[..., World]:
    """Builds a world over a store; ``at`` and ``ending`` break its controller's store."""

    def build(store: Store, *, at: int | None = None, ending: Ending = "after") -> World:
        settings = Settings.model_validate(
            {
                "deployments": {
                    name: {"base_url": "http://127.0.0.1:9/v1", "model": name}
                    for name in ("old", "new", "next")
                },
                "routes": {"one": {"baseline": "old"}, "two": {"baseline": "old"}},
            }
        )
        breaks = None if at is None else FragileStore(store, at=at, ending=ending)
        return World(store, settings, breaks=breaks)

    return build


@pytest.fixture
def world(world_of: Callable[..., World], store: Store) -> World:
    """A world on each database in turn."""
    return world_of(store)


@pytest.fixture
def fragile() -> type[FragileStore]:
    """The store that breaks."""
    return FragileStore


@pytest.fixture
def played() -> Callable[..., dict[str, Any]]:
    """Plays a history in a world, by default the whole one, and returns what is stored of it."""
    return play


@pytest.fixture
def spec() -> Callable[..., dict[str, Any]]:
    """Builds the spec that ``world.apply`` applies, with parts replaced."""
    return spec_document


def emptied(store: Store) -> None:
    """Remove every row, so that a history can be played anew."""
    names = [table.name for table in reversed(SQLModel.metadata.sorted_tables)]
    with store.write() as session:
        if store.is_sqlite:
            for name in names:
                session.connection().execute(text(f"DELETE FROM {name}"))
        else:
            tables = ", ".join(f'"{name}"' for name in names)
            session.connection().execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))


@pytest.fixture
def empty() -> Callable[[Store], None]:
    """Removes every row of a store."""
    return emptied
