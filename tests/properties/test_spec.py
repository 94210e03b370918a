"""Any spec either loads to something that loads again, or is refused with a sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SpecError
from rollout.spec import RolloutSpec, load_spec, spec_hash
from rollout.steps import plan

weights = st.lists(
    st.integers(1, 10_000).map(lambda bp: bp / 100), min_size=1, max_size=6, unique=True
).map(sorted)
margins = st.integers(1, 40).map(lambda percent: f"{percent}%")
metrics = st.lists(
    st.sampled_from(["judge_win_rate", "format_valid", "error_rate", "latency", "output_tokens"]),
    min_size=1,
    unique=True,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
fields = st.sampled_from(list(RolloutSpec.model_fields))


@given(weights, metrics, margins)
def test_valid_spec_round_trips_and_its_plan_rises(
    weights: list[float], metrics: list[str], margin: str
) -> None:
    """The stored form is the same spec, and no step of the plan lowers the weight."""
    spec = load_spec(
        {
            "name": "x",
            "route": "r",
            "candidate": {"deployment": "c"},
            "steps": [{"mirror": {}}, *({"set_weight": weight} for weight in weights)],
            "analysis": {"metrics": [{"name": name, "margin": margin} for name in metrics]},
        }
    )
    again = load_spec(json.dumps(spec.to_document()))
    assert again == spec
    assert spec_hash(again) == spec_hash(spec)
    planned = [step.weight_bp for step in plan(spec)]
    assert planned == sorted(planned)
    assert planned[1:] == [round(weight * 100) for weight in weights]


@given(st.dictionaries(fields | st.text(max_size=8), json_values, max_size=6))
def test_any_document_loads_or_is_refused_with_a_sentence(document: dict[str, object]) -> None:
    """Nothing but SpecError comes out of a wrong document, and it has a message."""
    base = {"name": "x", "route": "r", "candidate": {"deployment": "c"}}
    refusal = ""
    try:
        assert plan(load_spec({**base, **document}))
    except SpecError as error:
        refusal = str(error)
    assert refusal == "" or len(refusal) > 10


@given(st.text(max_size=60))
def test_any_text_is_refused_with_a_sentence(text: str) -> None:
    """Text from anywhere never raises anything else."""
    with pytest.raises(SpecError, match=r"\w+"):
        load_spec(text)
