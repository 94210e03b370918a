"""What a plan says of a spec, and whether it can conclude."""

from __future__ import annotations

import json
from math import log
from typing import Any

import numpy as np
import pytest

from rollout.evidence import start_paired
from rollout.forecast import Forecast
from rollout.plan_types import Assumptions, JudgeCost, Known
from rollout.planner import Plan, plan_rollout
from rollout.spec import RolloutSpec, load_spec

METRICS: list[dict[str, Any]] = [
    {"name": "judge_win_rate", "margin": 0.05},
    {"name": "format_valid", "margin": 0.02, "critical": True},
    {"name": "error_rate", "margin": 0.02},
    {"name": "output_tokens", "role": "signal"},
]


def _spec(**changes: Any) -> RolloutSpec:
    document = {"name": "bot-v2", "route": "bot", "candidate": {"deployment": "new"}}
    return load_spec({**document, **changes})


def _plan(assumptions: Assumptions | None = None, **changes: Any) -> Plan:
    metrics = changes.pop("metrics", METRICS)
    analysis = changes.pop("analysis", {})
    spec = _spec(analysis={"metrics": metrics, **analysis}, **changes)
    assumed = assumptions or Assumptions(requests_per_second=5.0)
    return plan_rollout(spec, assumed, np.random.default_rng(4))


def _steps(mirror: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"mirror": mirror}, {"set_weight": 10}, {"set_weight": 50}, {"set_weight": 100}]


def _blocking(plan: Plan) -> list[str]:
    return [each.field for each in plan.warnings if each.blocking]


def test_sound_plan_can_conclude() -> None:
    """The default steps at five requests a second get an equal candidate through.

    An adaptive mirror gathers its 1,000 pairs an hour; otherwise a fifth of the traffic.
    """
    plan = _plan()
    assert plan.can_conclude, plan.warnings
    assert [each.name for each in plan.metrics] == [each["name"] for each in METRICS]
    assert plan.shadow.concluded > 0.95
    assert plan.shadow.pairs.median is not None
    assert plan.shadow.hours.median == pytest.approx(plan.shadow.pairs.median / 1000)
    always = _plan(mirror={"adaptive": False}).shadow
    assert always.hours.median == pytest.approx((always.pairs.median or 0) / 5 / 0.2 / 3600)
    assert json.loads(json.dumps(plan.to_json()))["can_conclude"]


def test_all_guardrails_together_are_proven_when_the_states_say_so() -> None:
    """The median of the whole lies within 15%, and the noise of 60 runs, of the states' own."""
    spec = _spec(analysis={"metrics": METRICS})
    forecast = Forecast(spec, Assumptions(), np.random.default_rng(4))
    median = float(np.median(forecast.pairs))
    rng = np.random.default_rng(8)
    truths = [(0.35, 0.35), (0.005, 0.005), (0.005, 0.005)]
    times = []
    for _ in range(60):
        states = [start_paired(metric) for metric in spec.guardrails]
        pairs = 0
        while pairs < 4000 and any(each.log_e_non_inferior < log(20) for each in states):
            pairs += 10
            states = [
                state.update_many(((drawn < worse) * 1.0 - (drawn >= 1 - better)).tolist())
                for state, (worse, better) in zip(states, truths, strict=True)
                for drawn in [rng.random(10)]
            ]
        times.append(pairs)
    times.sort()
    assert 0.85 * times[18] <= median <= 1.15 * times[41]
    alone = [each.prove for each in forecast.metrics if each.role == "guardrail"]
    assert median >= max(each.median or 0 for each in alone if each)


def test_wider_margin_needs_fewer_pairs() -> None:
    """Pairs to prove fall with the margin, and rise with the failure rate."""
    narrow, wide = (
        _plan(metrics=[{"name": "format_valid", "margin": margin}]).metrics[0].prove
        for margin in (0.01, 0.03)
    )
    assert narrow is not None
    assert wide is not None
    assert narrow.median > 2 * wide.median  # type: ignore[operator]
    noisy = _plan(
        Assumptions(5.0, failure_rate=0.05), metrics=[{"name": "format_valid", "margin": 0.01}]
    )
    assert noisy.metrics[0].prove.median > narrow.median  # type: ignore[union-attr, operator]


def test_live_steps_take_samples_over_weight() -> None:
    """600 candidate requests at 6% are 10,000 requests, and take 33 minutes at five a second."""
    plan = _plan()
    step = next(each for each in plan.steps if each.weight == 6)
    assert step.requests == pytest.approx(10_000)
    assert step.candidate_requests == pytest.approx(600)
    assert step.hours == pytest.approx(10_000 / 5 / 3600)
    assert plan.total.requests == pytest.approx(
        sum(each.requests for each in plan.steps if each.kind != "bake")
    )


def test_judging_is_priced() -> None:
    """Two calls a pair, at the price of a call, over shadow and the live steps."""
    plan = _plan(Assumptions(5.0, judge=JudgeCost(2.0, 0.003)))
    pairs = sum(each.pairs for each in plan.steps if each.kind != "bake")
    assert plan.total.judge_calls == pytest.approx(2 * pairs)
    assert plan.total.dollars == pytest.approx(2 * pairs * 0.003)
    assert plan.shadow.dollars.median == pytest.approx(0.006 * (plan.shadow.pairs.median or 0))


def test_without_traffic_there_are_pairs_and_no_hours() -> None:
    """What does not depend on traffic is said all the same, and what is missing is asked for."""
    plan = _plan(Assumptions())
    assert plan.shadow.pairs.median is not None
    assert plan.shadow.hours.median is None
    assert plan.total.hours is None
    assert plan.can_conclude
    assert [each.field for each in plan.warnings] == ["requests_per_second"]


def test_measured_rates_take_the_place_of_assumptions() -> None:
    """A metric of which earlier rollouts showed something is planned with that."""
    known = {"format_valid": Known(0.05, 0.08)}
    plan = _plan(Assumptions(5.0, known=known))
    measured = next(each for each in plan.metrics if each.name == "format_valid")
    assumed = next(each for each in plan.metrics if each.name == "error_rate")
    assert (measured.basis, measured.failure_rate) == ("measured", 0.05)
    assert measured.differing == pytest.approx(0.08)
    assert (assumed.basis, assumed.failure_rate) == ("assumed", 0.01)
    assert measured.prove.median > assumed.prove.median  # type: ignore[union-attr, operator]


def test_metric_that_rarely_applies_needs_more_pairs() -> None:
    """Where one pair in four has tools, four times the pairs are needed."""
    first, second = (
        _plan(
            Assumptions(5.0, known={"tool_contract": Known(0.01, 0.01, applies)}),
            metrics=[{"name": "tool_contract", "margin": 0.02}],
        )
        .metrics[0]
        .prove
        for applies in (0.25, 1.0)
    )
    assert first is not None
    assert second is not None
    assert first.median == pytest.approx(4 * (second.median or 0), rel=0.2)


def test_too_few_pairs_block_and_a_margin_is_offered() -> None:
    """max_pairs below the need: the plan can't conclude, and a margin that would do is named."""
    metrics = [{"name": "format_valid", "margin": 0.005}]
    plan = _plan(metrics=metrics, steps=_steps({"min_pairs": 100, "max_pairs": 300}))
    assert not plan.can_conclude
    assert _blocking(plan) == ["steps.1.max_pairs"]
    offer = next(each for each in plan.warnings if each.field.endswith("format_valid.margin"))
    assert "would do" in offer.message
    margin = float(offer.message.rpartition("a margin of ")[2].partition(" would")[0])
    wider = [{"name": "format_valid", "margin": margin}]
    again = _plan(metrics=wider, steps=_steps({"min_pairs": 100, "max_pairs": 300}))
    assert again.can_conclude, again.warnings


def test_too_short_a_shadow_blocks_and_a_duration_is_offered() -> None:
    """One request in ten seconds gives no proof within an hour."""
    plan = _plan(
        Assumptions(0.1), steps=_steps({"min_pairs": 100, "max_duration": "1h"}),
        analysis={"max_duration": "30d"},
    )  # fmt: skip
    assert "steps.1.max_duration" in _blocking(plan)
    caution = next(each for each in plan.warnings if each.field == "steps.1.max_duration")
    assert " h would do" in caution.message


def test_weight_that_gets_too_little_traffic_blocks() -> None:
    """A step whose samples take longer than its max_duration would end inconclusive."""
    plan = _plan(Assumptions(0.2), analysis={"max_duration": "1h"})
    step = next(each for each in plan.steps if each.weight == 6)
    assert f"steps.{step.number}" in _blocking(plan)
    caution = next(each for each in plan.warnings if each.field == f"steps.{step.number}")
    assert "samples" in caution.message
    assert "weight" in caution.message


def test_too_few_samples_are_told_with_what_would_do() -> None:
    """50 candidate requests at each weight find next to nothing, and the plan says how many do."""
    plan = _plan(analysis={"min_samples": 50})
    caution = next(each for each in plan.warnings if each.field == "analysis.min_samples")
    assert not caution.blocking
    assert "min_samples of" in caution.message
    enough = int(caution.message.rpartition("min_samples of ")[2].split()[0].replace(",", ""))
    again = _plan(analysis={"min_samples": enough})
    assert not [each for each in again.warnings if each.field == "analysis.min_samples"]


def test_judge_that_is_missing_or_has_no_budget_blocks() -> None:
    """A guardrail that nobody can prove keeps every candidate in shadow."""
    assert "analysis.metrics" in _blocking(_plan(Assumptions(5.0, judge=None)))
    nothing = _plan(mirror={"budget": {"calls_per_day": 0}})
    assert "mirror.budget" in _blocking(nothing)
    little = _plan(mirror={"budget": {"calls_per_day": 100}}, steps=_steps({"max_duration": "1d"}))
    assert "steps.1.max_duration" in _blocking(little)
    assert any(each.field == "mirror.budget" for each in little.warnings)


def test_live_proof_that_needs_more_traffic_blocks() -> None:
    """Asking for a live proof at 1% with a margin of one point takes more than there is."""
    plan = _plan(
        Assumptions(2.0),
        metrics=[{"name": "error_rate", "margin": 0.01}],
        analysis={"require_live_proof": True, "max_duration": "1h"},
        steps=_steps({"min_pairs": 100}),
    )
    assert "analysis.require_live_proof" in _blocking(plan)


def test_outcome_that_nobody_posts_is_told() -> None:
    """A metric of one's own without any data so far is named."""
    own = {"name": "reopened", "source": {"outcome": "reopened"}, "margin": 0.02}
    plan = _plan(metrics=[*METRICS, own])
    need = next(each for each in plan.metrics if each.name == "reopened")
    assert (need.kind, need.prove) == ("live", None)
    assert need.live_detected is not None
    assert any("reopened" in each.message for each in plan.warnings)
    seen = Assumptions(5.0, known={"reopened": Known(0.03, None)})
    again = _plan(seen, metrics=[*METRICS, own])
    assert not any("posted" in each.message for each in again.warnings)


def test_same_request_gives_the_same_plan() -> None:
    """Figures do not change from one call to the next."""
    assert _plan().to_json() == _plan().to_json()
