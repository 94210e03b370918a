"""Which cases are simulated with which spec, and which goals they are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from decisions.argo import LENIENT, STRICT
from decisions.design import Design, default_spec, design_of
from decisions.flagger import FLAGGER
from decisions.goals import ALPHA, PAIRS, SEGMENTED, at_most, seldom
from decisions.growthbook import GROWTHBOOK
from decisions.kayenta import KAYENTA
from decisions.rules import Rule
from decisions.simulate import LONG, Case, Ours, false_alarms, ours, theirs
from decisions.streams import DAY_S, Floats
from decisions.summary import Summary, of_ours, of_theirs
from decisions.worlds import WORLDS
from decisions.ztest import ZTEST

from rollout.spec import RolloutSpec

__all__ = ["RULES", "Found", "Tell", "run_all"]

RULES: tuple[Rule, ...] = (STRICT, LENIENT, FLAGGER, KAYENTA, GROWTHBOOK, ZTEST)
"""The rules beside ours."""

Tell = Callable[[str], None]

_SEGMENTED = {"segments": ["category"]}
_CONFINED = "format 99 to 80 in a segment of 10%"
_LIVE_ONLY = {
    "live only: errors 0.2 to 5%": (0.0, 95.0),
    "live only: format 99 to 97": (0.05, 550.0),
}
_AT_FULL = ("only at 100%: errors 0.2 to 5%", "only at 100%: format 99 to 97")
_DRIFT = "drift with the time of day"


@dataclass(slots=True)
class Found:
    """What has been found so far."""

    goals: list[dict[str, Any]] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    detection: dict[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Plan:
    seed: int
    runs: int
    found: Found
    default: Design
    tell: Tell
    cases: tuple[str, ...] = ()

    def among(self, names: Iterable[str]) -> list[str]:
        """Return those cases that are to be simulated."""
        chosen = self.cases
        return [name for name in names if not chosen or any(part in name for part in chosen)]

    def case(self, name: str, design: Design, **more: Any) -> Case:
        return Case(WORLDS[name], design, self.seed, **more)

    def beside(self, case: Case, runs: list[Ours]) -> None:
        """Report our runs, and what the other rules do with the same requests."""
        world, summaries = case.world, self.found.summaries
        summaries.append(of_ours(world, runs, case.design.mirror_share))
        for rule, fates in theirs(case, RULES, len(runs)).items():
            if fates is not None:
                summaries.append(of_theirs(world, rule, fates))
        self.tell(world.name)


def run_all(seed: int, runs: int, tell: Tell, cases: Sequence[str] = ()) -> Found:
    """Simulate everything, or the cases with one of ``cases`` in their name; ``runs`` runs a case.

    Raises ValueError for one that is in no case's name.
    """
    for part in cases:
        if not any(part in name for name in WORLDS):
            raise ValueError(f"no case has {part!r} in its name: {', '.join(WORLDS)}")
    plan = _Plan(seed, runs, Found(), design_of(default_spec()), tell, tuple(cases))
    _healthy(plan)
    _shadow(plan)
    _confined(plan)
    _live_only(plan)
    _at_full(plan)
    return plan.found


def latency_guardrail() -> RolloutSpec:
    """Return the default spec with latency as a critical guardrail; by default it is a signal."""
    metrics = default_spec().to_document()["analysis"]["metrics"]
    acting = [
        {**each, "role": "guardrail", "critical": True} if each["name"] == "latency" else each
        for each in metrics
    ]
    return default_spec(analysis={"metrics": acting})


def _healthy(plan: _Plan) -> None:
    goals = plan.found.goals
    for name in plan.among(("A/A at 0.5%", "A/A at 1%")):
        case = plan.case(name, plan.default)
        alarms = np.isfinite(false_alarms(case, plan.runs))
        goals.append(seldom(f"{name}: false rollbacks in {LONG:,} pairs", alarms, ALPHA))
        runs = ours(case, plan.runs)
        goals.append(seldom(f"{name}: false rollbacks in whole rollouts", _stopped(runs), ALPHA))
        plan.beside(case, runs)
    for name in plan.among(("healthy",)):
        case = plan.case(name, plan.default)
        runs = ours(case, plan.runs)
        plan.beside(case, runs)
        goals.append(seldom("healthy: false rollbacks", _stopped(runs), ALPHA))
        requests = of_ours(case.world, runs, 1.0).full_at
        until = "healthy: pairs and live requests until 100%: median"
        goals.append(at_most(until, requests, 0.5, 17_000, "requests"))
    for name in plan.among((_DRIFT,)):
        case = plan.case(name, plan.default, bake_s=DAY_S, tick_s=10.0)
        runs = ours(case, plan.runs)
        stopped = _stopped(runs)
        goals.append(seldom(f"{name}: false rollbacks, a day's bake included", stopped, ALPHA))
        plan.beside(case, runs)


def _shadow(plan: _Plan) -> None:
    goals = plan.found.goals
    for name in plan.among(PAIRS):
        pairs = PAIRS[name]
        spec = latency_guardrail() if name.startswith("latency") else default_spec()
        case = plan.case(name, design_of(spec))
        runs = ours(case, plan.runs)
        plan.beside(case, runs)
        goals += _in_shadow(name, runs, pairs)
        plan.found.detection[name] = _pairs(runs)
        analysis = spec.to_document()["analysis"] | _SEGMENTED
        case = plan.case(name, design_of(default_spec(analysis=analysis)))
        goals += _in_shadow(
            f"{name}, segments on", ours(case, plan.runs), pairs and SEGMENTED * pairs
        )


def _in_shadow(name: str, runs: list[Ours], pairs: float | None) -> list[dict[str, Any]]:
    missed = np.array([run.stage != "shadow" for run in runs])
    return [
        seldom(f"{name}: not detected, or only with users", missed, 0.02),
        at_most(f"{name}: median", _pairs(runs), 0.5, pairs, "pairs"),
    ]


def _confined(plan: _Plan) -> None:
    if not plan.among((_CONFINED,)):
        return
    segmented = design_of(default_spec(analysis=_SEGMENTED))
    case = plan.case(_CONFINED, segmented)
    runs = ours(case, plan.runs)
    plan.beside(case, runs)
    pairs = _pairs(runs)
    plan.found.detection[_CONFINED] = pairs
    plan.found.goals += [
        at_most(f"{_CONFINED}: median", pairs, 0.5, 640, "pairs"),
        at_most(f"{_CONFINED}: 80% of runs", pairs, 0.8, 870, "pairs"),
    ]


def _live_only(plan: _Plan) -> None:
    for name in plan.among(_LIVE_ONLY):
        missed, served = _LIVE_ONLY[name]
        case = plan.case(name, plan.default)
        runs = ours(case, plan.runs)
        plan.beside(case, runs)
        plan.found.goals += [
            seldom(f"{name}: not detected before 100%", _shipped(runs), missed),
            at_most(f"{name}: users served, median", _served(runs), 0.5, served, "requests"),
        ]


def _at_full(plan: _Plan) -> None:
    for name in plan.among(_AT_FULL):
        case = plan.case(name, plan.default)
        runs = ours(case, plan.runs)
        plan.beside(case, runs)
        there = [run for run in runs if run.full_at is not None]
        missed = np.array([run.stage != "full" for run in there])
        plan.found.goals.append(seldom(f"{name}: not detected, of those there", missed, 0.01))


def _stopped(runs: Iterable[Ours]) -> Floats:
    return np.array([float(run.stage != "none") for run in runs])


def _shipped(runs: Iterable[Ours]) -> Floats:
    return np.array([float(run.stage not in {"shadow", "live"}) for run in runs])


def _pairs(runs: Iterable[Ours]) -> Floats:
    return np.array([float(run.pairs) if run.stage == "shadow" else np.inf for run in runs])


def _served(runs: Iterable[Ours]) -> Floats:
    return np.array([float(run.served) for run in runs])
