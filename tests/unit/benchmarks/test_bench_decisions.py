"""The decision benchmark: its twin of the engine is the product, and its rules are the tools'."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from gateway.store.evidence import Evidence
from rollout.evidence import EvidenceState, begin_step, start_evidence
from rollout.folding import update
from rollout.observations import counted_in_windows
from rollout.policy import Decision, Status, decide
from rollout.spec import RolloutSpec
from rollout.statistics import RateLimitState
from rollout.statistics.bets import RATE_RATIO_WEIGHTS
from rollout.steps import Step, plan

FOLDER = Path(__file__).parents[2] / "benchmarks"
WORDS = {1.0: "win", 0.5: "lean_win", 0.0: "tie", -0.5: "lean_loss", -1.0: "loss"}
QUICK_STEPS = [
    {"mirror": {"min_pairs": 150}},
    {"set_weight": 10},
    {"set_weight": 50},
    {"set_weight": 100},
    {"bake": {"duration": "200s"}},
]


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    """The benchmarks' modules can be imported: they are programs, not a package."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def module(name: str) -> ModuleType:
    """A module of the benchmark by its name."""
    return importlib.import_module(f"decisions.{name}")


def quick_spec() -> RolloutSpec:
    """The default metrics, with margins and steps that take hundreds of pairs."""
    default = module("design").default_spec()
    metrics = [
        {**each, "margin": 0.1 if each["name"] == "judge_win_rate" else 0.06}
        for each in default.to_document()["analysis"]["metrics"]
    ]
    analysis = {"metrics": metrics, "min_samples": 60, "min_duration": "20s"}
    return module("design").default_spec(analysis=analysis, steps=QUICK_STEPS)  # type: ignore[no-any-return]


class Product:
    """The product fed with one run of simulated requests, fact by fact."""

    def __init__(self, case: Any, spec: RolloutSpec, run: int, pairs: int) -> None:
        self.spec = spec
        self.rate = case.world.rate
        self.steps = plan(spec)
        self.evidence: EvidenceState = start_evidence(spec)
        self.names = [
            metric.name
            for metric in spec.analysis.metrics
            if metric.name not in {"judge_win_rate", "output_tokens", "latency"}
        ]
        self.shadow = case.shadow([run], pairs)
        self.clock = 0.0
        self.pairs = 0
        self.began = 0.0

    def enter(self, index: int) -> None:
        """Begin a step of the plan."""
        self.step: Step = self.steps[index]
        self.began = self.clock
        self.evidence = begin_step(
            self.evidence,
            self.spec,
            self.step,
            weight_bp=self.step.weight_bp,
            epoch=1 if self.step.weight_bp else 0,
        )

    def fold(self, kind: Any, payload: dict[str, Any], segment: str | None = None) -> None:
        """Fold one fact."""
        fact = Evidence(kind, self.clock, payload, segment, self.evidence.epoch)
        self.evidence = update(self.evidence, self.evidence.last_seq + 1, fact, self.spec)

    def pair(self, phase: Any = "shadow") -> None:
        """Fold the next pair."""
        index = self.pairs
        self.pairs += 1
        failures = {
            name: [int(arm[0, index]) for arm in self.shadow.failed(name, phase)]
            for name in self.names
        }
        score = float(self.shadow.scores(phase)[0, index])
        latency = [float(arm[0, index]) for arm in self.shadow.latencies(phase)]
        payload = {
            "pair_id": index + 1,
            "capture_id": "c",
            "cluster": None,
            "judge": WORDS[score],
            "score": score,
            "failures": failures,
            "values": {"latency": latency, "ttft": [None, None], "output_tokens": [100, 100]},
        }
        self.fold("pair", payload, f"s{self.shadow.segment[0, index]}")

    def second(self, live: Any, start: int) -> None:
        """Fold what a second of live requests, the first of them number `start`, comes to."""
        bake = self.step.kind == "bake"
        phase = "full" if bake else "live"
        weight = self.step.weight_bp / 10_000
        arms: dict[str, dict[str, int]] = {
            "baseline": {"requests": 0},
            "candidate": {"requests": 0},
        }
        windows = [m.name for m in self.spec.analysis.metrics if counted_in_windows(m)]
        checks = [name for name in self.names if name not in windows]
        answers = []
        pairs = 0
        for number in range(start, start + self.rate):
            arm = "candidate" if live.uniform("arm")[number] < weight else "baseline"
            failed = {
                name: int(live.failed(name, phase)[arm == "candidate"][number])
                for name in self.names
            }
            arms[arm]["requests"] += 1
            for name in windows:
                arms[arm][name] = arms[arm].get(name, 0) + failed[name]
            answers.append((arm, {name: failed[name] for name in checks}))
            mirrored = live.uniform("mirror")[number] < self.spec.mirror.percentage / 100
            pairs += bool(mirrored and (arm == "baseline" or self.step.direction == "both"))
        self.clock += 1.0
        weight_bp = self.step.weight_bp
        self.fold("window", {"replica": "g1", "weight_bp": weight_bp, "arms": arms})
        # The candidate's first: the simulation takes a second's answers to come at once.
        for arm, failures in sorted(answers, key=lambda answer: answer[0] == "baseline"):
            payload = {"capture_id": "c", "variant": arm, "weight_bp": weight_bp}
            self.fold("live", {**payload, "failures": failures, "values": {}})
        for _ in range(pairs):
            self.pair(phase if bake else "shadow")

    def decision(self) -> Decision:
        """What the product decides now."""
        status = Status(
            phase=self.step.phase,
            step=self.step,
            is_last=self.step.index == len(self.steps) - 1,
            step_started_at=self.began,
        )
        assert self.evidence.unreadable == 0
        return decide(self.evidence, self.spec, status, self.clock, with_verdicts=False)


@pytest.mark.parametrize(
    ("world", "kind", "expected"),
    [
        ("format 99 to 90", "default", "rollback"),
        ("win rate 0.45", "default", "rollback"),
        ("errors 0.2 to 5%", "segments", "rollback"),
        ("format 99 to 80 in a segment of 10%", "segments", "rollback"),
        ("latency tail x2", "latency", "rollback"),
        ("A/A at 0.5%", "default", "advance"),
    ],
)
def test_shadow_twin_decides_as_the_product(world: str, kind: str, expected: str) -> None:
    """Fold and policy roll back, or go on, at the very pair at which the simulation does."""
    design, shadowing, simulate = module("design"), module("shadowing"), module("simulate")
    spec = {
        "default": design.default_spec,
        "segments": lambda: design.default_spec(analysis={"segments": ["category"]}),
        "latency": module("plan").latency_guardrail,
    }[kind]()
    case = simulate.Case(module("worlds").WORLDS[world], design.design_of(spec), 3)
    evidence = shadowing.gather(case.design, case.shadow([5], 4000))
    watched = shadowing.watch(case.design, evidence)
    harmed, passed = int(watched.harmed[0]), int(watched.passed[0])
    log_e = shadowing.capital(case.design, evidence)[0]
    product = Product(case, spec, 5, 4000)
    product.enter(0)
    for number in range(1, 4001):
        product.pair()
        found = product.decision()
        assert found.log_e_harm == pytest.approx(log_e[number - 1], abs=1e-7)
        if found.action != "hold":
            assert (found.action, number) == (expected, min(harmed, passed))
            return
    pytest.fail("the product never decided")


@pytest.mark.parametrize(
    ("world", "outcome"),
    [
        ("healthy", "promoted"),
        ("live only: errors 0.2 to 5%", "rolled_back"),
        ("only at 100%: errors 0.2 to 5%", "rolled_back"),
        ("only at 100%: format 99 to 97", "rolled_back"),
    ],
)
def test_live_twin_decides_as_the_product(world: str, outcome: str) -> None:
    """The product takes every step, and rolls back, where the simulation does.

    Within two seconds: the simulation takes the facts of one to come at once, the product moves its
    capital after each.
    """
    simulate, shadowing, serving = module("simulate"), module("shadowing"), module("serving")
    spec = quick_spec()
    declared = module("worlds").WORLDS[world]
    quiet = replace(declared, baseline={name: rate / 2 for name, rate in declared.baseline.items()})
    case = simulate.Case(quiet, module("design").design_of(spec), 4)
    evidence = shadowing.gather(case.design, case.shadow([2], 2000))
    passed = int(shadowing.watch(case.design, evidence).passed[0])
    live = case.live(2, 6000)

    def when_full(pairs: int) -> Any:
        return shadowing.gather(case.design, case.shadow([2], 2000), full_from=pairs)

    run = serving.Run(evidence, 0, passed, when_full if declared.since == "full" else None)
    ending = serving.serve(case.design, run, live, bake_s=300.0)
    product = Product(case, spec, 2, 2000)
    product.enter(0)
    for _ in range(passed):
        product.pair()
    assert product.decision().action == "advance"
    product.enter(1)
    requests = served = 0
    while True:
        product.second(live, requests)
        share = product.step.weight_bp / 10_000
        arms = live.uniform("arm")[requests : requests + product.rate] < share
        requests, served = requests + product.rate, served + int(arms.sum())
        found = product.decision()
        if found.action == "advance":
            product.enter(product.step.index + 1)
        elif found.action != "hold":
            break
    action = {"rolled_back": "rollback", "promoted": "succeed"}[outcome]
    assert (found.action, ending.outcome) == (action, outcome)
    assert ending.step == product.step.index
    assert abs(ending.requests - requests) <= 2 * product.rate
    assert abs(ending.served - served) <= 2 * product.rate
    assert abs(ending.pairs - product.pairs) <= 2 * product.rate


def test_limit_of_the_twin_moves_as_the_products() -> None:
    """Look after look the simulated limit and its evidence are those of the product's state."""
    twin, targets = module("capitals"), importlib.import_module("decisions_targets")
    rng = np.random.default_rng(7)
    requests, others = rng.integers(0, 60, 80), rng.integers(0, 30, 80)
    failures, failed = rng.binomial(requests, 0.05), rng.binomial(others, 0.04)
    limits = twin.moving_limits(0.03, 2.0, np.cumsum(others * 1.0), np.cumsum(failed * 1.0))
    capitals = twin.limit_capitals(np.cumsum(failures * 1.0), np.cumsum(requests * 1.0), limits)
    log_e = targets.mixture(list(capitals), RATE_RATIO_WEIGHTS)
    state = RateLimitState.start(limit=0.03, ratio=2.0)
    for look in range(80):
        assert state.limit == limits[look]
        state = state.update(requests=int(requests[look]), failures=int(failures[look]))
        assert state.log_e_harm == pytest.approx(log_e[look], abs=1e-9)
        state = state.update_baseline(requests=int(others[look]), failures=int(failed[look]))
    assert len(set(limits)) > 30


def test_a_choice_of_cases_is_simulated_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts of names choose cases, and one that is in no name is an error."""
    program = importlib.import_module("bench_decisions")
    out = tmp_path / "some.json"
    arguments = ["--runs", "2", "--seed", "5", "--out", str(out), "--cases"]
    program.main([*arguments, "only at 100%: errors"])
    names = [row["name"] for row in json.loads(out.read_text(encoding="utf-8"))["results"]]
    assert names
    assert all(name.startswith("only at 100%: errors 0.2 to 5%") for name in names)
    with pytest.raises(SystemExit):
        program.main([*arguments, "nowhere"])
    assert "no case has 'nowhere' in its name" in capsys.readouterr().err


def test_streams_are_the_same_however_long_and_whoever_asks() -> None:
    """A longer stream begins with the shorter one, so all rules meet the same requests."""
    streams, worlds = module("streams"), module("worlds")
    world = worlds.WORLDS["format 99 to 97"]
    short, long = (streams.Requests(world, (1,), n, runs=7, seconds=0.1) for n in (500, 900))
    rows = streams.Requests(world, (1,), 500, runs=[6, 7], seconds=0.1)
    long.failed("error_rate", "live")
    for arm in (0, 1):
        expected = short.failed("format_valid", "live")[arm]
        assert (long.failed("format_valid", "live")[arm][:500] == expected).all()
        assert (rows.failed("format_valid", "live")[arm][1] == expected).all()
    assert (long.latencies("live")[1][:500] == short.latencies("live")[1]).all()


def test_arms_fail_as_often_as_the_case_says() -> None:
    """Format 99 to 97 has discordant pairs in 2.8% and 0.8%; before its phase nothing is worse."""
    streams, worlds = module("streams"), module("worlds")
    world = worlds.WORLDS["live only: format 99 to 97"]
    pairs = streams.Requests(world, (2,), 400_000, runs=0, seconds=0.1)
    baseline, candidate = pairs.failed("format_valid", "live")
    assert np.mean(candidate & ~baseline) == pytest.approx(0.028, abs=0.001)
    assert np.mean(baseline & ~candidate) == pytest.approx(0.008, abs=0.0006)
    assert np.mean(pairs.failed("format_valid", "shadow")[1]) == pytest.approx(0.01, abs=0.0007)
    tail = streams.Requests(worlds.WORLDS["latency tail x2"], (2,), 400_000, runs=0, seconds=0.1)
    slow = [np.mean(arm) for arm in tail.failed("latency", "live")]
    assert slow == pytest.approx([0.05, 0.10], abs=0.002)
    losing = streams.Requests(worlds.WORLDS["win rate 0.45"], (2,), 400_000, runs=0, seconds=0.1)
    assert (1 + np.mean(losing.scores("live"))) / 2 == pytest.approx(0.45, abs=0.003)


def test_a_confined_regression_stays_in_its_segment() -> None:
    """Outside the last segment, a tenth of the traffic, the candidate is no worse."""
    streams, worlds = module("streams"), module("worlds")
    world = worlds.WORLDS["format 99 to 80 in a segment of 10%"]
    pairs = streams.Requests(world, (2,), 400_000, runs=0, seconds=0.1)
    inside = pairs.segment == len(worlds.SEGMENTS) - 1
    candidate = pairs.failed("format_valid", "shadow")[1]
    assert np.mean(inside) == pytest.approx(0.1, abs=0.002)
    assert np.mean(candidate[inside]) == pytest.approx(0.2, abs=0.006)
    assert np.mean(candidate[~inside]) == pytest.approx(0.01, abs=0.0008)


class Fixed:
    """Requests that all go to one arm and never fail, or always."""

    def __init__(self, *, arm: float, fails: bool, length: int = 120_000) -> None:
        self.world = SimpleNamespace(metric="format_valid", rate=10)
        self.shape = (length,)
        self._arm = np.full(length, arm)
        self._failed = np.full(length, fails)

    def uniform(self, name: str) -> Any:
        """Whom the requests go to."""
        return self._arm

    def failed(self, metric: str, phase: str) -> Any:
        """Whether they fail, on either arm."""
        return self._failed, self._failed


def test_argo_stops_healthy_candidates_as_often_as_arithmetic_says() -> None:
    """At 99.5% five analyses of 100 requests without one failure are 8% likely."""
    simulate, worlds = module("simulate"), module("worlds")
    design = module("design")
    case = simulate.Case(worlds.WORLDS["A/A at 0.5%"], design.design_of(design.default_spec()), 11)
    argo = module("argo")
    fates = [argo.STRICT.decide(case.live(run, 8000)) for run in range(400)]
    stopped = np.mean([fate.rolled_back for fate in fates])
    assert stopped == pytest.approx(1 - 0.995**500, abs=0.05)
    assert not any(argo.LENIENT.decide(case.live(run, 8000)).rolled_back for run in range(50))


def test_flagger_counts_a_missing_metric_as_a_failed_check() -> None:
    """Without one request to the candidate it rolls back after five intervals."""
    fate = module("flagger").FLAGGER.decide(Fixed(arm=0.99, fails=False))
    assert (fate.rolled_back, fate.requests, fate.served) == (True, 3000, 0)


def test_kayenta_compares_ranks() -> None:
    """A shift is found; one point that is a hundred times as high is not."""
    high = module("kayenta").high
    rng = np.random.default_rng(1)
    control, canary = rng.normal(10, 1, 60), rng.normal(10, 1, 60)
    assert high(canary + 3, control)
    outlier = control.copy()
    outlier[0] *= 100
    assert not high(outlier, control)
    assert not high(np.zeros(60), np.zeros(60))


def test_rules_without_a_finding_ship() -> None:
    """GrowthBook ships what is inconclusive at the end, the z-test what was never worse."""
    healthy = Fixed(arm=0.0, fails=False)
    for name, rule in (("growthbook", "GROWTHBOOK"), ("ztest", "ZTEST")):
        assert not getattr(module(name), rule).decide(healthy).rolled_back
    width = module("growthbook").half_width(np.array([1e-4, 2.5e-5]), np.array([1e3, 4e3]), 0.05)
    assert width[0] > width[1] > 1.96 * 0.005


def test_growthbook_interval_covers() -> None:
    """Its interval at the tuning parameter's sample size is the one of the formula in its docs."""
    alpha, total = 0.05, 5000.0
    rho = np.sqrt((-2 * log(alpha) + log(-2 * log(alpha) + 1)) / 5000)
    spread = total * rho**2 + 1
    expected = np.sqrt(2 * spread / (total * rho**2) * log(np.sqrt(spread) / alpha))
    width = module("growthbook").half_width(np.array([1.0]), np.array([total]), alpha)
    assert width[0] == pytest.approx(expected / 1.0)


def test_goals_allow_for_the_noise_and_no_more() -> None:
    """2 of 100 runs may be chance at a goal of none, 10 may not; a median far off is missed."""
    goals = module("goals")
    happened = np.zeros(100)
    happened[:2] = 1
    assert goals.seldom("x", happened, 0.0)["met"] is True
    happened[:10] = 1
    assert goals.seldom("x", happened, 0.0)["met"] is False
    values = np.arange(1000.0)
    assert goals.at_most("x", values, 0.5, 490, "pairs")["met"] is True
    assert goals.at_most("x", values, 0.5, 400, "pairs")["met"] is False
    never = goals.at_most("x", np.full(10, np.inf), 0.5, 400, "pairs")
    assert (never["value"], never["met"]) == (None, False)


def test_missed_regressions_have_no_time_to_rollback() -> None:
    """What was never rolled back counts as infinitely late, not as absent."""
    summary, rules, worlds = module("summary"), module("rules"), module("worlds")
    fates = [rules.Fate(True, 100, 5), rules.Fate(False, 900, 400), rules.Fate(False, 900, 400)]
    found = summary.of_theirs(worlds.WORLDS["format 99 to 97"], "rule", fates).numbers()
    assert found["missed"][0] == pytest.approx(2 / 3)
    assert found["requests until rollback, median"][0] is None
    assert found["users served, median"][0] == 400


def test_plots_are_well_formed() -> None:
    """Bars and curves are XML that a browser draws, names escaped."""
    plots = module("plots")
    drawn = plots.bars("t", {"a & b": {"x": 0.5, "y": None, "z": 0.0}}, "share")
    curve = plots.curves("t", {"<x>": np.array([1.0, 2.0, np.inf])}, "pairs", end=3)
    for text in (drawn, curve):
        assert ET.fromstring(text).tag.endswith("svg")
    assert "50.0%" in drawn
    assert "has no metric for it" in drawn


def test_the_program_reports_goals_rules_and_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of two seeds a case ends with tables, a report and plots."""
    program = importlib.import_module("bench_decisions")
    out = tmp_path / "decisions.json"
    status = program.main(["--runs", "2", "--seed", "5", "--out", str(out)])
    document = json.loads(out.read_text(encoding="utf-8"))
    missed = [row["name"] for row in document["results"] if row["met"] is False]
    assert status == bool(missed)
    assert document["environment"]["seed"] == 5
    assert sum(row["goal"] is not None for row in document["results"]) >= 35
    assert {row["name"] for row in document["results"]} >= {
        "format 99 to 97: Coalmine: missed",
        "format 99 to 97: Flagger: users served, median",
        "healthy: Coalmine: requests until 100%, median",
    }
    assert {each.name for each in tmp_path.glob("decisions/*.svg")} == {
        "false-rollbacks.svg",
        "missed.svg",
        "users-served.svg",
        "detection.svg",
    }
    assert "missed goals" in capsys.readouterr().out
