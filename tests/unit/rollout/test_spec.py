"""Reading specs: what is accepted, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jsonschema_rs
import pytest
import yaml

from gateway.errors import SpecError
from rollout.spec import load_spec, spec_hash
from rollout.spec_schema import spec_json_schema, spec_json_schema_text
from rollout.steps import plan

EXAMPLE = """
kind: Rollout
name: support-bot-v7
route: support-bot
candidate: {deployment: support-v7}
assignment: {targeting_key: [header:x-user-id, body:user], on_missing_key: request}
eligible: {risk: [low]}
mirror:
  {percentage: 20, max_concurrency: 16, timeout: 60s, noise_probe: 2%, budget: {usd_per_day: 50}}
steps:
  - preflight: {eval_set: support-v12}
  - mirror: {min_pairs: 1000, min_duration: 1h}
  - set_weight: 5
  - analysis: {min_samples: 600, min_duration: 15m, max_duration: 6h}
  - set_weight: 25
  - pause: {approval: true}
  - set_weight: 50
  - set_weight: 100
  - bake: {duration: 24h, holdback: 2%, max_rate_ratio: 2}
analysis:
  error_budget: {rollback: 0.05, promote: 0.05}
  metrics:
    - {name: judge_win_rate, role: guardrail, margin: 0.05, min_human_labels: 60}
    - {name: format_valid, role: guardrail, margin: 0.01, critical: true, must_have_data: true}
    - {name: refusal_rate, role: guardrail, direction: increase, margin: 0.01}
    - {name: latency, role: guardrail, quantile: 0.95, slo: 4s, margin: 0.02}
    - {name: output_tokens, role: signal, margin: 25%}
  segments: [category]
on_failure: rollback
on_inconclusive: pause
on_no_data: {action: hold, after: 2h, then: pause}
on_evaluator_error: {consecutive_error_limit: 4, then: pause}
on_sample_ratio_mismatch: hold
"""
MINIMAL = {"name": "x", "route": "r", "candidate": {"deployment": "c"}}


def test_full_example_is_read_with_its_units() -> None:
    """Durations become seconds, margins fractions, and shares stay percent."""
    spec = load_spec(EXAMPLE)
    assert spec.mirror.timeout == 60
    assert spec.mirror.noise_probe == 2
    assert spec.metric("output_tokens").margin == 0.25  # type: ignore[union-attr]
    assert spec.on_no_data.after == 7200
    assert [metric.name for metric in spec.guardrails][-1] == "latency"


def test_plan_gives_every_weight_its_analysis() -> None:
    """A weight is followed by the default analysis unless an own one, or the bake, takes over."""
    steps = plan(load_spec(EXAMPLE))
    assert [(step.kind, step.weight_bp) for step in steps] == [
        ("preflight", 0),
        ("mirror", 0),
        ("analysis", 500),
        ("analysis", 2500),
        ("pause", 2500),
        ("analysis", 5000),
        ("bake", 9800),
    ]
    assert [step.index for step in steps] == list(range(7))
    assert steps[2].min_duration == 900
    assert steps[3].min_samples == 600
    assert steps[6].max_rate_ratio == 2


def test_defaults_are_few_large_steps() -> None:
    """The shortest spec shadows first, then goes 6, 25, 50, 100 with 600 requests each."""
    steps = plan(load_spec(MINIMAL))
    assert [step.weight_bp for step in steps] == [0, 600, 2500, 5000, 9800]
    assert steps[0].min_pairs == 1000
    assert {step.min_samples for step in steps[1:]} == {600}


def test_weight_of_100_without_a_bake_is_held_to_the_earlier_rate() -> None:
    """Where nothing runs beside the candidate its failure rate is limited."""
    steps = plan(load_spec({**MINIMAL, "steps": [{"mirror": {}}, {"set_weight": 100}]}))
    assert (steps[-1].kind, steps[-1].weight_bp, steps[-1].max_rate_ratio) == (
        "analysis",
        10_000,
        2,
    )


def test_a_gradual_rollback_has_steps() -> None:
    """Traffic goes back at once unless the spec says how; a step of nothing would never end."""
    assert load_spec(MINIMAL).rollback.mode == "immediate"
    spec = load_spec({**MINIMAL, "rollback": {"mode": "gradual", "step": "10%", "interval": "1m"}})
    assert (spec.rollback.step, spec.rollback.interval) == (10, 60)
    with pytest.raises(SpecError, match=r"^rollback\.step: "):
        load_spec({**MINIMAL, "rollback": {"mode": "gradual", "step": 0}})


def test_mirrors_adapt_unless_told_otherwise() -> None:
    """The percentage is an upper bound by default, within an hour, in one direction."""
    mirror = load_spec(MINIMAL).mirror
    assert (mirror.adaptive, mirror.target_duration, mirror.direction) == (True, 3600, "forward")
    with pytest.raises(SpecError, match=r"^mirror\.direction: is 'back'"):
        load_spec({**MINIMAL, "mirror": {"direction": "back"}})
    with pytest.raises(SpecError, match=r"^mirror\.target_duration: "):
        load_spec({**MINIMAL, "mirror": {"target_duration": 0}})


def test_dumped_spec_is_the_same_spec() -> None:
    """What the store keeps loads to an equal spec with an equal hash."""
    for source in (EXAMPLE, MINIMAL):
        spec = load_spec(source)
        again = load_spec(json.loads(json.dumps(spec.to_document())))
        assert again == spec
        assert spec_hash(again) == spec_hash(spec)


def test_hash_depends_on_meaning_and_not_on_writing() -> None:
    """Key order and units don't change the hash; a value does."""
    document = yaml.safe_load(EXAMPLE)
    reordered = dict(reversed(document.items()))
    reordered["mirror"] = {**document["mirror"], "timeout": "1m", "noise_probe": 2.0}
    assert spec_hash(load_spec(reordered)) == spec_hash(load_spec(EXAMPLE))
    document["mirror"]["percentage"] = 21
    assert spec_hash(load_spec(document)) != spec_hash(load_spec(EXAMPLE))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("foo",), 1, r"^foo: is not known here"),
        (("mirror", "percentag"), 1, r"^mirror.percentag: .* did you mean percentage"),
        (("steps", 3, "analysis", "min_sample"), 1, r"^steps.3.analysis.min_sample: .*min_samples"),
        (("mirror", "timeout"), "60x", r"^mirror.timeout: is not a duration"),
        (("mirror", "percentage"), 120, r"^mirror.percentage: is 120; .*100"),
        (("mirror", "percentage"), True, r"^mirror.percentage: is not a share"),
        (("mirror", "percentage"), "nan", r"^mirror.percentage: is not a share"),
        (("mirror", "timeout"), float("nan"), r"^mirror.timeout: "),
        (("mirror", "percentage"), 0, r"^mirror.percentage: is 0, but there is a mirror step"),
        (("name",), "a b", r"^name: "),
        (("candidate",), "x", r"^candidate: must be a mapping with: deployment"),
        (("steps",), [], r"^steps: "),
        (("steps", 2, "set_weight"), 60, r"^steps.4.set_weight: 25 after 60; weights rise"),
        (("steps", 0), {"mirror": {}, "bake": {}}, r"^steps.0: a step has exactly one of"),
        (("steps", 0), {}, r"^steps.0: a step has exactly one of"),
        (("steps", 5), {"pause": {}}, r"^steps.5.pause: a pause waits for something"),
        (("steps", 5), {"preflight": {"eval_set": "x"}}, r"^steps.5: preflight must be the first"),
        (("steps", 1), {"pause": {"approval": True}}, r"^steps.2.set_weight: needs a mirror step"),
        (("steps", 1, "mirror", "max_pairs"), 10, r"^steps.1.mirror: max_pairs must not"),
        (("steps", 7), {"set_weight": 90}, r"^steps.8: bake is the last step"),
        (("analysis", "metrics", 1, "slo"), "4s", r"^analysis.metrics.1: slo belongs to latency"),
        (("analysis", "metrics", 1, "name"), "x", r"^analysis.metrics.1.name: is 'x'"),
        (("analysis", "metrics", 1, "margin"), 0, r"^analysis.metrics.1.margin: "),
        (("analysis", "metrics", 0, "margin"), 0.5, r"^analysis.metrics.0: .*below 0.5"),
        (("analysis", "metrics", 1, "name"), "refusal_rate", r"^analysis.metrics: refusal_rate is"),
        (("analysis", "metrics"), [{"name": "latency", "role": "signal"}], r"no guardrail"),
        (("analysis", "metrics", 0, "must_have_data"), False, r"judge_win_rate applies to every"),
        (("analysis", "error_budget", "rollback"), 1, r"^analysis.error_budget.rollback: "),
        (
            ("assignment", "targeting_key"),
            ["cookie:x"],
            r"^assignment.targeting_key: .*header:NAME",
        ),
        (("on_failure",), "shrug", r"^on_failure: is 'shrug'; .*'rollback' or 'pause'"),
    ],
)
def test_wrong_spec_names_the_field_and_the_remedy(
    place: tuple[Any, ...], value: Any, message: str
) -> None:
    """Each mistake is refused with the path of the field and what would be right."""
    document = yaml.safe_load(EXAMPLE)
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(SpecError, match=message):
        load_spec(document)


@pytest.mark.parametrize("missing", ["name", "route", "candidate"])
def test_missing_field_is_named(missing: str) -> None:
    """What has no default must be given."""
    document = {key: value for key, value in MINIMAL.items() if key != missing}
    with pytest.raises(SpecError, match=rf"^{missing}: is missing; add it"):
        load_spec(document)


@pytest.mark.parametrize("text", ["", "[]", "3", "a: [", "a: b: c", "{{x}}"])
def test_text_that_is_no_spec_is_refused(text: str) -> None:
    """Anything but a mapping is refused with a sentence, not a traceback."""
    with pytest.raises(SpecError, match="the spec"):
        load_spec(text)


def test_step_without_body_has_its_defaults() -> None:
    """``- bake:`` reads like ``- bake: {}``."""
    spec = load_spec({**MINIMAL, "steps": [{"mirror": None}, {"set_weight": 100}, {"bake": None}]})
    assert plan(spec)[-1].min_duration == 86400


def test_published_schema_accepts_what_the_loader_accepts() -> None:
    """The example, its normalised form and the minimal spec are valid by the JSON Schema."""
    validator = jsonschema_rs.validator_for(spec_json_schema())
    for document in (yaml.safe_load(EXAMPLE), load_spec(EXAMPLE).to_document(), MINIMAL):
        assert [error.message for error in validator.iter_errors(document)] == []
    assert spec_json_schema_text().endswith("}\n")


@pytest.mark.parametrize(
    ("place", "value"),
    [(("foo",), 1), (("mirror", "timeout"), "60x"), (("steps", 0), {}), (("route",), 3)],
)
def test_published_schema_refuses_what_the_loader_refuses(
    place: tuple[Any, ...], value: Any
) -> None:
    """An editor with the schema sees the same mistakes."""
    document = deepcopy(yaml.safe_load(EXAMPLE))
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert not jsonschema_rs.validator_for(spec_json_schema()).is_valid(document)
