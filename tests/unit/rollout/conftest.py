"""Specs and facts for tests of the decision, without any store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.store.evidence import Evidence
from rollout.evidence import EvidenceState, begin_step, start_evidence
from rollout.folding import fold
from rollout.policy import Status
from rollout.spec import RolloutSpec, load_spec
from rollout.steps import plan

NOW = 10_000.0


class Case:
    """One spec with its evidence, to be filled with facts and decided upon at ``NOW``."""

    def __init__(self, **changes: Any) -> None:
        document = {
            "name": "bot-v2",
            "route": "bot",
            "candidate": {"deployment": "new"},
            "mirror": {"percentage": 100},
            "steps": [
                {"mirror": {"min_pairs": 50, "min_duration": "10s", "max_duration": "1h"}},
                {"set_weight": 10},
                {"pause": {"approval": True}},
                {"set_weight": 100},
                {"bake": {"duration": "60s"}},
            ],
            "analysis": {
                "metrics": [
                    {"name": "judge_win_rate", "margin": 0.1},
                    {"name": "format_valid", "margin": 0.05, "critical": True},
                    {"name": "error_rate", "margin": 0.05},
                    {"name": "output_tokens", "role": "signal"},
                ],
                "min_samples": 100,
                "min_duration": "10s",
                "max_duration": "30m",
            },
        }
        self.spec: RolloutSpec = load_spec({**document, **changes})
        self.steps = plan(self.spec)
        self.evidence: EvidenceState = start_evidence(self.spec)
        self.enter(0)

    def enter(self, index: int, *, ago: float = 100.0, epoch: int | None = None) -> None:
        """Begin a step of the plan, ``ago`` seconds before ``NOW``."""
        step = self.steps[index]
        epoch = (1 if step.weight_bp else 0) if epoch is None else epoch
        self.evidence = begin_step(
            self.evidence, self.spec, step, weight_bp=step.weight_bp, epoch=epoch
        )
        self.status = Status(
            phase=step.phase,
            step=step,
            is_last=index == len(self.steps) - 1,
            step_started_at=NOW - ago,
        )

    def add(self, *facts: Evidence) -> None:
        """Fold facts that follow on what is there."""
        first = self.evidence.last_seq + 1
        self.evidence = fold(self.evidence, enumerate(facts, first), self.spec)

    def pair(
        self,
        *,
        score: float | None = 0.0,
        judge: str = "tie",
        failures: Mapping[str, list[int | None]] | None = None,
        kind: Any = "pair",
        segment: str | None = None,
        tokens: tuple[int, int] = (100, 100),
        at: float = NOW - 1,
    ) -> Evidence:
        """A pair; checks not named pass in both arms."""
        payload = {
            "pair_id": self.evidence.last_seq + 1,
            "capture_id": "c",
            "cluster": None,
            "judge": judge,
            "score": score,
            "failures": {"format_valid": [0, 0], "error_rate": [0, 0], **(failures or {})},
            "values": {"latency": [1.0, 1.0], "ttft": [None, None], "output_tokens": list(tokens)},
        }
        return Evidence(kind, at, payload, segment=segment)

    def window(
        self,
        *,
        candidate: int,
        baseline: int,
        errors: int = 0,
        base_errors: int = 0,
        weight_bp: int | None = None,
        epoch: int = 1,
    ) -> Evidence:
        """A window of counts at the present weight."""
        payload = {
            "replica": "g1",
            "weight_bp": self.evidence.weight_bp if weight_bp is None else weight_bp,
            "split_revision": 1,
            "from_at": NOW - 2,
            "to_at": NOW - 1,
            "arms": {
                "baseline": {"requests": baseline, "error_rate": base_errors},
                "candidate": {"requests": candidate, "error_rate": errors},
            },
        }
        return Evidence("window", NOW - 1, payload, epoch=epoch)

    def check(self, variant: str = "candidate", *, failed: int = 0, epoch: int = 1) -> Evidence:
        """A checked live answer."""
        payload = {
            "capture_id": "c",
            "variant": variant,
            "weight_bp": self.evidence.weight_bp,
            "failures": {"format_valid": failed},
            "values": {"latency": 1.0, "ttft": None, "output_tokens": 100},
        }
        return Evidence("live", NOW - 1, payload, epoch=epoch)

    def prove(self) -> None:
        """Add pairs until every guardrail is proven."""
        self.add(*(self.pair() for _ in range(200)))

    def serve(self, requests: int = 1000) -> None:
        """Add healthy live traffic at the present weight, and its checks."""
        candidate = requests * self.evidence.weight_bp // 10_000
        self.add(self.window(candidate=candidate, baseline=requests - candidate))
        self.add(*(self.check() for _ in range(candidate)))

    def paused(self) -> None:
        """Pause in the present step."""
        from rollout.states import Phase

        self.status = replace(self.status, phase=Phase.PAUSED)


@pytest.fixture
def case() -> Callable[..., Case]:
    """Builds a case; keyword arguments replace parts of its spec."""
    return Case
