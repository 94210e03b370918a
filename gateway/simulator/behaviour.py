"""How a simulated model behaves: the validated form of ``simulator.yaml``.

Rates are probabilities between 0 and 1 and are drawn independently of each other, from the
request itself (see :mod:`gateway.simulator.draws`), so a file and a seed fix every answer.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from gateway.errors import SettingsError
from gateway.settings_values import Duration, Name
from gateway.simulator.conditions import Circumstances, Override, Section

__all__ = [
    "Behaviour",
    "JudgeBehaviour",
    "Latency",
    "ModelBehaviour",
    "SimulatorConfig",
    "load_simulator",
    "parse_behaviour",
    "parse_simulator",
]

Rate = Annotated[float, Field(ge=0, le=1)]
_Z95 = 1.6448536269514722  # the 95th percentile of the standard normal


class Latency(Section):
    """Seconds to the first token: lognormal by median and 95th percentile; equal means constant."""

    median: Duration = Field(description="Half of the answers begin within this many seconds.")
    p95: Duration = Field(description="95% of the answers begin within this many seconds.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95 < self.median:
            raise ValueError("p95 must not be below the median")
        if self.median == 0 and self.p95 > 0:
            raise ValueError("a median of 0 allows no p95 above 0")
        return self

    def seconds(self, normal: float) -> float:
        """Return the delay for a standard normal draw: ``median * exp(sigma * normal)``."""
        if self.p95 == self.median:
            return self.median
        return self.median * math.exp(math.log(self.p95 / self.median) / _Z95 * normal)


def _as_latency(value: Any) -> Any:
    return {"median": value, "p95": value} if isinstance(value, int | float | str) else value


class _Common(Section):
    first_token: Annotated[Latency, BeforeValidator(_as_latency)] = Field(
        Latency(median=0.0, p95=0.0), description="Seconds to the first token."
    )
    tokens_per_second: float | None = Field(
        None, gt=0, description="Speed after the first token; unset: all at once."
    )
    tokens_per_chunk: int = Field(1, ge=1, description="Tokens in one piece of a stream.")
    max_running: int | None = Field(
        None, ge=1, description="Requests in work at a time; the others wait in a queue."
    )
    sampling: Literal["per_prompt", "per_request"] = Field(
        "per_prompt",
        description="Whether a repeated request gets the same answer, or the next draw.",
    )
    error_rate: Rate = Field(0.0, description="Share answered with 500, 502 or 503.")
    rate_limit_rate: Rate = Field(0.0, description="Share answered with 429.")
    hang_rate: Rate = Field(0.0, description="Share never answered.")
    cut_rate: Rate = Field(0.0, description="Share whose connection drops inside the answer.")
    garbage_rate: Rate = Field(0.0, description="Share answered with no JSON, or with no HTTP.")
    overrides: tuple[Override, ...] = Field((), description="Other values in some circumstances.")

    _variants: dict[tuple[int, ...], Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _overrides_fit(self) -> Self:
        for number, override in enumerate(self.overrides):
            where = f"overrides.{number}.set"
            fixed = sorted({"max_running", "overrides", "role"} & override.values.keys())
            if fixed:
                raise ValueError(f"{where}.{fixed[0]}: can't differ between circumstances")
            try:
                self._changed(override.values)
            except ValidationError as error:
                field, message = _first_error(error)
                raise ValueError(f"{where}.{field}: {message}") from None
        return self

    def _changed(self, values: dict[str, Any]) -> Self:
        plain = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate({**plain, **values, "overrides": ()})

    def under(self, at: Circumstances) -> Self:
        """Return the behaviour in these circumstances: this one with the overrides that hold."""
        if not self.overrides:
            return self
        held = tuple(i for i, override in enumerate(self.overrides) if override.when.holds(at))
        if not held:
            return self
        if held not in self._variants:
            merged: dict[str, Any] = {}
            for index in held:
                merged |= self.overrides[index].values
            self._variants[held] = self._changed(merged)
        variant: Self = self._variants[held]
        return variant


class ModelBehaviour(_Common):
    """A model that answers requests."""

    role: Literal["model"] = "model"
    quality: Rate = Field(0.8, description="Share of an answer that speaks to the request.")
    verbosity: float = Field(1.0, gt=0, le=20, description="Factor on the length of answers.")
    json_break_rate: Rate = Field(0.0, description="Share of JSON answers that are broken.")
    refusal_rate: Rate = Field(0.0, description="Share refused.")
    tool_fault_rate: Rate = Field(0.0, description="Share of tool calls that break the contract.")
    empty_rate: Rate = Field(0.0, description="Share without any content.")
    truncation_rate: Rate = Field(0.0, description="Share cut short with finish_reason length.")
    embedding_dimensions: int = Field(64, ge=1, le=8192, description="Length of an embedding.")


class JudgeBehaviour(_Common):
    """A judge that compares the two answers in a prompt by their text alone."""

    role: Literal["judge"]
    quality_weight: float = Field(
        1.0, ge=0, description="How much of the difference in quality it sees; 0 is blind."
    )
    noise: float = Field(
        1.2, ge=0, description="Standard deviation of its error, in points of 1 to 10."
    )
    tie_margin: float = Field(
        0.6, ge=0, description="Differences within this many points are called a tie."
    )
    position_bias: float = Field(
        0.0, ge=-1, le=1, description="P(first wins) - P(second wins) between equal answers."
    )
    style_bias: float = Field(
        0.0, description="Points given to an answer for each doubling of its length."
    )
    nonsense_rate: Rate = Field(0.0, description="Share of verdicts that are not in the schema.")
    gullibility: Rate = Field(
        0.0,
        description="Share of cases in which it does what an answer tells it to; a careful judge "
        "has 0.",
    )


Behaviour = ModelBehaviour | JudgeBehaviour


def _with_role(value: Any) -> Any:
    return {"role": "model", **value} if isinstance(value, dict) else value


_AnyBehaviour = Annotated[
    Annotated[Behaviour, Field(discriminator="role")], BeforeValidator(_with_role)
]


class SimulatorConfig(Section):
    """One simulated upstream: its models by name."""

    seed: int = Field(0, description="Fixes every draw.")
    time_scale: float = Field(
        1.0, ge=0, description="Factor on every delay; 0.1 is ten times as fast, 0 waits never."
    )
    api_key: SecretStr | None = Field(
        None, description="The key that requests must carry; unset: any or none."
    )
    record: int = Field(
        0, ge=0, le=10_000, description="Requests kept for GET /sim/requests, the latest."
    )
    models: dict[Name, _AnyBehaviour] = Field(min_length=1, description="Behaviours by model name.")


def _first_error(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_input=False)[0]
    path = [part for part in first["loc"] if part != "[key]"]
    # A discriminated union puts its tag into the path; a reader's file has no such level.
    tags = (0,) if path and path[0] in {"model", "judge"} else (2,)
    path = [
        part
        for place, part in enumerate(path)
        if not (
            place in tags and part in {"model", "judge"} and (place == 0 or path[0] == "models")
        )
    ]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "is no setting of the simulator"
    if ": " in message and message.startswith("overrides."):
        inner, _, message = message.partition(": ")
        path.append(inner)
    return ".".join(str(part) for part in path), message


def parse_behaviour(document: Any) -> Behaviour:
    """Return the behaviour that ``document`` describes; ``role`` defaults to ``model``.

    Raises :class:`SettingsError` that names the field.
    """
    adapter: TypeAdapter[Behaviour] = TypeAdapter(_AnyBehaviour)
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        field, message = _first_error(error)
        raise SettingsError(message, field=field or None) from None


def parse_simulator(document: Any) -> SimulatorConfig:
    """Return the simulator that ``document`` describes. Raises :class:`SettingsError`."""
    if not isinstance(document, dict):
        raise SettingsError("must be a mapping with at least: models", field="config")
    try:
        return SimulatorConfig.model_validate(document)
    except ValidationError as error:
        field, message = _first_error(error)
        raise SettingsError(message, field=field or None) from None


def load_simulator(path: Path) -> SimulatorConfig:
    """Read a YAML file. Raises :class:`SettingsError` that names the field, or the file."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"can't read {path}: {error.strerror}", field="config") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {error}", field="config") from None
    return parse_simulator(document)
