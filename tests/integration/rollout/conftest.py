"""A control plane without processes: service and controllers over a store, facts by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.settings import Settings
from gateway.split import Split
from gateway.store import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.splits import load_split
from gateway.store.tables import ReplicaRow
from rollout.controller import Controller
from rollout.records import Record, Transition
from rollout.service import Actor, RolloutService

OPERATOR = Actor("alice", "operator")

CHECKS = ("format_valid", "refusal_rate", "error_rate", "timeout_rate")


def settings_document() -> dict[str, Any]:
    """Settings of one route with two deployments and a judge."""
    return {
        "deployments": {
            "old": {"base_url": "http://127.0.0.1:9/v1", "model": "old"},
            "new": {"base_url": "http://127.0.0.1:9/v1", "model": "new"},
            "newer": {"base_url": "http://127.0.0.1:9/v1", "model": "newer"},
            "judge": {"base_url": "http://127.0.0.1:9/v1", "model": "judge"},
        },
        "routes": {"bot": {"baseline": "old", "segment": "metadata.category"}},
        "judge": {"deployment": "judge"},
    }


def spec_document(**changes: Any) -> dict[str, Any]:
    """A spec that four hundred pairs and three hundred requests a step can decide."""
    return {
        "kind": "Rollout",
        "name": "bot-v2",
        "route": "bot",
        "candidate": {"deployment": "new"},
        "mirror": {"percentage": 100},
        "steps": [
            {"mirror": {"min_pairs": 200, "max_duration": "1h"}},
            {"set_weight": 10},
            {"set_weight": 50},
            {"set_weight": 100},
            {"bake": {"duration": "2m", "holdback": "2%"}},
        ],
        "analysis": {
            "metrics": [
                {"name": "judge_win_rate", "margin": 0.1},
                {"name": "format_valid", "margin": 0.03, "critical": True},
                {"name": "refusal_rate", "margin": 0.03},
                {"name": "error_rate", "margin": 0.03},
                {"name": "timeout_rate", "margin": 0.03},
                {"name": "output_tokens", "role": "signal"},
            ],
            "min_samples": 200,
            "min_duration": "20s",
            "max_duration": "30m",
        },
        **changes,
    }


@dataclass
class World:
    """One store, its operators' service, a controller, and a clock that tests move."""

    store: Store
    settings: Settings
    now: float = 1_000_000.0
    sick: set[str] = field(default_factory=set)
    heard: list[Transition] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    next_pair: int = 1
    default_spec: dict[str, Any] = field(default_factory=lambda: spec_document(name="bot-v2"))

    def __post_init__(self) -> None:
        self.service = RolloutService(
            self.store, self.settings, health=self.health, clock=lambda: self.now
        )
        self.controller = self.new_controller()

    def health(self, name: str) -> str | None:
        """The health probe: what is in ``sick`` does not answer."""
        return "it can't be reached" if name in self.sick else None

    def new_controller(self) -> Controller:
        """Another controller of the same store."""
        return Controller(
            self.store,
            self.settings,
            health=self.health,
            listeners=[self.heard.append],
            clock=lambda: self.now,
            persist_interval=0.0,
        )

    def apply(self, document: Mapping[str, Any] | None = None, *, start: bool = True) -> Record:
        """Apply a spec and start it."""
        source = spec_document() if document is None else document
        return self.service.apply(source, actor=OPERATOR, start=start).record

    def tick(self, seconds: float = 0.0) -> Record:
        """Move the clock and let the controller look; return the rollout."""
        self.now += seconds
        assert self.controller.tick()
        return self.record()

    def record(self, name: str = "bot-v2") -> Record:
        """The rollout as it is stored."""
        return self.service.get(name)

    def split(self) -> Split | None:
        """The route's split."""
        with self.store.read() as session:
            return load_split(session, "bot")

    def weight(self) -> float:
        """The weight in percent that gateways are told."""
        split = self.split()
        return split.weight_bp / 100 if split else 0.0

    def events(self, name: str = "bot-v2") -> list[str]:
        """The events of the rollout so far."""
        return [each.event for each in self.service.transitions(name)]

    def append(self, *facts: Evidence, name: str = "bot-v2") -> None:
        """Append facts about the latest generation."""
        rollout_id = self.record(name).id
        with self.store.write() as session:
            append_evidence(self.store, session, rollout_id, facts)

    def pair(
        self,
        *,
        bad: Mapping[str, float] | None = None,
        judge: str = "tie",
        score: float | None = 0.0,
        kind: Any = "pair",
    ) -> Evidence:
        """A pair in which the candidate fails each check of ``bad`` with that probability."""
        self.next_pair += 1
        bad = bad or {}
        failures = {name: [0, int(self.rng.random() < bad.get(name, 0.0))] for name in CHECKS}
        payload = {
            "pair_id": self.next_pair,
            "capture_id": f"c{self.next_pair}",
            "cluster": None,
            "judge": judge,
            "score": score,
            "failures": failures,
            "values": {"latency": [0.5, 0.5], "ttft": [None, None], "output_tokens": [100, 101]},
        }
        return Evidence(kind, self.now, payload, segment="billing")

    def pairs(self, count: int, *, name: str = "bot-v2", **how: Any) -> None:
        """Append this many pairs."""
        self.append(*(self.pair(**how) for _ in range(count)), name=name)

    def live(
        self, requests: int, *, errors: float = 0.0, broken: float = 0.0, base_errors: float = 0.0
    ) -> None:
        """Append windows and checks of ``requests`` requests at the present weight.

        The candidate fails with ``errors`` (5xx) and ``broken`` (format), the baseline with
        ``base_errors``.
        """
        split = self.split()
        assert split is not None
        facts: list[Evidence] = []
        for _ in range(requests // 50):
            candidate = sum(self.rng.random() < split.weight_bp / 10_000 for _ in range(50))
            arms = {
                name: {
                    "requests": count,
                    "error_rate": sum(self.rng.random() < rate for _ in range(count)),
                    "timeout_rate": 0,
                }
                for name, count, rate in (
                    ("baseline", 50 - candidate, base_errors),
                    ("candidate", candidate, errors),
                )
            }
            window = {
                "replica": "g1",
                "weight_bp": split.weight_bp,
                "split_revision": split.revision,
                "from_at": self.now,
                "to_at": self.now + 1,
                "arms": arms,
            }
            facts.append(Evidence("window", self.now, window, epoch=split.epoch))
            for name, count in (("baseline", 50 - candidate), ("candidate", candidate)):
                for _ in range(count):
                    failed = int(name == "candidate" and self.rng.random() < broken)
                    check = {
                        "capture_id": "x",
                        "variant": name,
                        "weight_bp": split.weight_bp,
                        "failures": {"format_valid": failed, "refusal_rate": 0},
                        "values": {"latency": 0.5, "ttft": None, "output_tokens": 100},
                    }
                    facts.append(Evidence("live", self.now, check, epoch=split.epoch))
            facts.extend(self.pair() for _ in range((50 - candidate) // 2))
        self.append(*facts)

    def gateway(
        self,
        name: str = "g1",
        *,
        serves: bool = True,
        delay: float = 0.02,
        last: float | None = None,
    ) -> None:
        """A gateway's sign of life; it ``serves`` the present split ``delay`` seconds after it.

        It gave its ``last`` request to the candidate so many seconds after the split, or never.
        """
        split = self.split()
        with self.store.write() as session:
            row = session.get(ReplicaRow, name) or ReplicaRow(
                id=name, role="gateway", host="h", pid=1, started_at=0.0, heartbeat_at=self.now
            )
            row.heartbeat_at = self.now
            if serves and split is not None:
                row.revisions = {
                    "bot": {
                        "revision": split.revision,
                        "applied_at": split.updated_at + delay,
                        "last_candidate_at": None if last is None else split.updated_at + last,
                    }
                }
            session.add(row)


@pytest.fixture
def make_world(store: Store) -> Callable[..., World]:
    """Builds a world over the test's store, with settings changed as given."""

    def make(**changes: Any) -> World:
        return World(store, Settings.model_validate({**settings_document(), **changes}))

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world of one route, on each database in turn."""
    return make_world()


@pytest.fixture
def spec() -> Callable[..., dict[str, Any]]:
    """Builds the spec that ``world.apply`` applies, with parts replaced."""
    return spec_document
