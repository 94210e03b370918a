"""The simulator's file: what it says wrongly is named, and circumstances change behaviour."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.simulator import ModelBehaviour, load_simulator, parse_behaviour, parse_simulator
from gateway.simulator.behaviour import Latency
from gateway.simulator.conditions import Circumstances
from gateway.simulator.draws import Draws

_EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "simulator.yaml"


def test_the_example_loads() -> None:
    """The example file is valid and has a judge."""
    config = load_simulator(_EXAMPLE)
    assert config.models["judge"].role == "judge"
    assert len(config.models) == 5


@pytest.mark.parametrize(
    ("document", "field", "told"),
    [
        ({}, "models", "required"),
        ({"models": {}}, "models", "at least 1"),
        ({"models": {"a": {"quality": 2}}}, "models.a.quality", "less than or equal to 1"),
        ({"models": {"a": {"qualty": 1}}}, "models.a.qualty", "is no setting"),
        ({"models": {"a": {"role": "critic"}}}, "models.a", "role"),
        ({"models": {"judge": {"role": "judge", "noise": -1}}}, "models.judge.noise", "greater"),
        ({"models": {"model": {"error_rate": "x"}}}, "models.model.error_rate", "number"),
        ({"models": {"a": {"first_token": "soon"}}}, "models.a.first_token.median", "duration"),
        (
            {"models": {"a": {"first_token": {"median": 2, "p95": 1}}}},
            "models.a.first_token",
            "below the median",
        ),
        (
            {"models": {"a": {"overrides": [{"when": {}, "set": {"quality": 1}}]}}},
            "models.a.overrides.0.when",
            "no condition",
        ),
        (
            {"models": {"a": {"overrides": [{"when": {"stream": True}, "set": {"quality": 9}}]}}},
            "models.a.overrides.0.set.quality",
            "less than or equal to 1",
        ),
        (
            {"models": {"a": {"overrides": [{"when": {"stream": True}, "set": {"role": "x"}}]}}},
            "models.a.overrides.0.set.role",
            "can't differ",
        ),
        ({"time_scale": -1, "models": {"a": {}}}, "time_scale", "greater"),
        ("models", "config", "mapping"),
    ],
)
def test_a_mistake_is_named(document: Any, field: str, told: str) -> None:
    """The error names the field by its path in the file and says what would be right."""
    with pytest.raises(SettingsError) as caught:
        parse_simulator(document)
    assert caught.value.field == field
    assert told in caught.value.message


def test_a_file_that_is_not_there_or_not_yaml_is_named(tmp_path: Path) -> None:
    """A missing file and broken YAML end in an error that names the file."""
    with pytest.raises(SettingsError, match=r"missing\.yaml"):
        load_simulator(tmp_path / "missing.yaml")
    (tmp_path / "broken.yaml").write_text("models: [", encoding="utf-8")
    with pytest.raises(SettingsError, match="not YAML"):
        load_simulator(tmp_path / "broken.yaml")


def test_the_key_is_never_shown() -> None:
    """The upstream's key does not appear in the configuration's text."""
    config = parse_simulator({"api_key": "sk-very-secret", "models": {"a": {}}})
    assert "very-secret" not in repr(config)


def test_overrides_hold_only_in_their_circumstances() -> None:
    """All conditions of an override must hold; where several do, the later one wins."""
    behaviour = parse_behaviour(
        {
            "error_rate": 0.01,
            "overrides": [
                {"when": {"stream": True}, "set": {"error_rate": 0.5}},
                {"when": {"stream": True, "in_flight_above": 4}, "set": {"error_rate": 1.0}},
                {"when": {"header": {"X-Arm": "*"}}, "set": {"cut_rate": 0.3}},
                {"when": {"requests_above": 10, "tools": False}, "set": {"empty_rate": 0.2}},
            ],
        }
    )

    def rates(**at: Any) -> tuple[float, float, float]:
        chosen = behaviour.under(Circumstances(**at))
        assert isinstance(chosen, ModelBehaviour)
        return chosen.error_rate, chosen.cut_rate, chosen.empty_rate

    assert rates() == (0.01, 0.0, 0.0)
    assert rates(stream=True, in_flight=4) == (0.5, 0.0, 0.0)
    assert rates(stream=True, in_flight=5) == (1.0, 0.0, 0.0)
    assert rates(headers={"x-arm": "b"}) == (0.01, 0.3, 0.0)
    assert rates(requests=11) == (0.01, 0.0, 0.2)
    assert rates(requests=11, tools=True) == (0.01, 0.0, 0.0)


def test_latency_has_its_median_and_percentile() -> None:
    """Lognormal delays have the declared median and 95th percentile; equal values are constant."""
    latency = Latency(median=0.2, p95=0.5)
    delays = [
        latency.seconds(Draws(1, "m", b"%d" % number).normal("first token"))
        for number in range(4000)
    ]
    cuts = statistics.quantiles(delays, n=20)
    assert cuts[9] == pytest.approx(0.2, rel=0.05)
    assert cuts[18] == pytest.approx(0.5, rel=0.08)
    assert Latency(median=0.3, p95=0.3).seconds(2.5) == 0.3
