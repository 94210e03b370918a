"""The plan that a spec's steps make: risk tiers, and whose requests are mirrored."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import SpecError
from rollout.spec import RolloutSpec, load_spec
from rollout.steps import plan


def spec(*steps: dict[str, Any], **changes: Any) -> RolloutSpec:
    """Build a spec for the lowest tier with these steps after the shadow."""
    return load_spec(
        {
            "name": "v2",
            "route": "bot",
            "candidate": {"deployment": "new"},
            "eligible": {"risk": ["low"]},
            "steps": [{"mirror": {}}, *steps],
            **changes,
        }
    )


def widen(*tiers: str) -> dict[str, Any]:
    """Build a step that widens the tiers."""
    return {"set_eligible": {"risk": list(tiers)}}


def test_tiers_hold_from_their_step_on_and_are_analysed() -> None:
    """Each wider tier has an analysis at the present weight before the weight goes on."""
    steps = plan(
        spec(
            {"set_weight": 10},
            widen("low", "medium"),
            {"set_weight": 50},
            {"analysis": {"min_samples": 50}},
            {"set_eligible": {"risk": ["any"]}},
            {"analysis": {"min_samples": 70}},
        )
    )
    assert [(step.kind, step.weight_bp, step.risk) for step in steps] == [
        ("mirror", 0, ("low",)),
        ("analysis", 1000, ("low",)),
        ("analysis", 1000, ("low", "medium")),
        ("analysis", 5000, ("low", "medium")),
        ("analysis", 5000, None),
    ]
    assert [step.min_samples for step in steps[3:]] == [50, 70]
    assert [step.index for step in steps] == list(range(5))
    assert steps[1].label == "10%, 600 requests"
    assert steps[2].label == "10%, 600 requests, risk low and medium"
    assert steps[4].label == "50%, 70 requests, risk any"


def test_a_bake_does_not_stand_in_for_a_new_tiers_analysis() -> None:
    """A tier that joins at 100% is analysed before everybody's bake."""
    steps = plan(spec({"set_weight": 100}, {"set_eligible": {"risk": ["any"]}}, {"bake": {}}))
    assert [(step.kind, step.risk) for step in steps[1:]] == [
        ("analysis", ("low",)),
        ("analysis", None),
        ("bake", None),
    ]


def test_a_tier_can_be_shadowed_before_it_is_served() -> None:
    """Before the first weight a wider tier has a mirror step of its own."""
    steps = plan(spec(widen("low", "medium"), {"mirror": {"min_pairs": 50}}, {"set_weight": 100}))
    assert [(step.kind, step.risk) for step in steps] == [
        ("mirror", ("low",)),
        ("mirror", ("low", "medium")),
        ("analysis", ("low", "medium")),
    ]


@pytest.mark.parametrize(
    ("steps", "changes", "message"),
    [
        ([{"set_weight": 5}, widen("low")], {}, "tiers only widen"),
        ([{"set_weight": 5}, widen("medium", "high")], {}, "tiers only widen"),
        ([{"set_weight": 5}, {"set_eligible": {}}], {}, "is missing"),
        ([{"set_weight": 5}, {"set_eligible": {"risk": "low"}}], {}, "steps.2.set_eligible.risk"),
        ([widen("low", "medium"), {"set_weight": 5}], {}, "a mirror step must follow"),
        (
            [{"set_weight": 5}, widen("low", "medium")],
            {"eligible": {}},
            "every risk tier is eligible already",
        ),
        (
            [{"set_weight": 5}, {"set_eligible": {"risk": ["any"]}}, widen("low", "medium")],
            {},
            "every risk tier is eligible already",
        ),
    ],
)
def test_tiers_that_do_not_widen_are_refused(
    steps: list[dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    """The refusal names the step and says what would be right."""
    with pytest.raises(SpecError, match=message) as refused:
        spec(*steps, **changes)
    assert str(refused.value).startswith("steps.")


def test_both_directions_begin_with_the_first_users() -> None:
    """A bake mirrors both directions unless told otherwise; other live steps do where asked."""
    steps: list[dict[str, Any]] = [
        {"set_weight": 50},
        {"pause": {"duration": 5}},
        {"set_weight": 100},
        {"bake": {}},
    ]
    assert [step.direction for step in plan(spec(*steps))] == [
        "forward",
        "forward",
        "forward",
        "both",
    ]
    asked = spec(*steps, mirror={"direction": "both"})
    assert [step.direction for step in plan(asked)] == ["forward", "both", "both", "both"]
    refused = spec({"set_weight": 100}, {"bake": {"direction": "forward"}})
    assert plan(refused)[-1].direction == "forward"


def test_a_spec_with_tiers_survives_the_store() -> None:
    """What is kept loads to the same spec, with every tier in it."""
    whole = spec({"set_weight": 5}, widen("low", "medium"), {"set_eligible": {"risk": ["any"]}})
    assert load_spec(whole.to_document()) == whole
