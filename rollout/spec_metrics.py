"""What a rollout compares, and how sure it must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from rollout.spec_types import Duration, Fraction, Percent, Probability, Section

__all__ = [
    "BINARY_METRICS",
    "DEFAULT_MARGINS",
    "Analysis",
    "ErrorBudget",
    "MetricName",
    "MetricSpec",
]

MetricName = Literal[
    "judge_win_rate",
    "format_valid",
    "tool_contract",
    "refusal_rate",
    "truncation_rate",
    "empty_rate",
    "error_rate",
    "timeout_rate",
    "latency",
    "output_tokens",
]

BINARY_METRICS: tuple[str, ...] = get_args(MetricName)[1:-1]
"""Metrics that are a failure or not, for each answer (latency: over its limit or not)."""

DEFAULT_MARGINS: dict[str, float] = {
    **dict.fromkeys(BINARY_METRICS, 0.01),
    "judge_win_rate": 0.05,
    "latency": 0.02,
    "output_tokens": 0.25,
}
"""How much worse still counts as not worse, as a fraction, where the spec does not say."""


class MetricSpec(Section):
    """One metric: a *guardrail* acts, a *signal* only warns."""

    name: MetricName = Field(description="What is compared.")
    role: Literal["guardrail", "signal"] = Field("guardrail", description="Acts, or only warns.")
    margin: Annotated[Fraction, Field(gt=0)] = Field(
        description="How much worse still counts as not worse, as a fraction (0.01 or 1%)."
    )
    direction: Literal["increase", "decrease"] = Field(
        "increase", description="refusal_rate: the direction that is harm."
    )
    critical: bool = Field(False, description="Its evidence weighs twice in the rollback decision.")
    must_have_data: bool = Field(
        True,
        description="false: the metric does not block when it applied to none of the pairs seen.",
    )
    slo: Annotated[Duration, Field(gt=0)] | None = Field(
        None, description="latency: the limit in seconds; unset: the baseline's running quantile."
    )
    quantile: Probability = Field(
        0.95, description="latency without an slo: the quantile of the baseline that is the limit."
    )
    min_human_labels: int = Field(
        0, ge=0, description="judge_win_rate: human labels that the proof must rest on."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_margin(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "margin" not in value:
            default = DEFAULT_MARGINS.get(str(value.get("name")))
            if default is not None:
                return {**value, "margin": default}
        return value

    @model_validator(mode="after")
    def _belongs(self) -> MetricSpec:
        for option, owner in (
            ("slo", "latency"),
            ("quantile", "latency"),
            ("direction", "refusal_rate"),
            ("min_human_labels", "judge_win_rate"),
        ):
            default = type(self).model_fields[option].default
            if getattr(self, option) != default and self.name != owner:
                raise ValueError(f"{option} belongs to {owner} and means nothing for {self.name}")
        if self.name == "judge_win_rate" and self.margin >= 0.5:
            raise ValueError("the margin of judge_win_rate must be below 0.5, which is a tie")
        if self.name == "judge_win_rate" and not self.must_have_data:
            raise ValueError("judge_win_rate applies to every pair; leave must_have_data out")
        if self.role == "signal" and (self.critical or self.min_human_labels):
            raise ValueError("a signal only warns; critical and min_human_labels need a guardrail")
        return self

    @property
    def is_guardrail(self) -> bool:
        """Whether the metric can roll back and must be proven."""
        return self.role == "guardrail"


def _default_metrics() -> tuple[MetricSpec, ...]:
    guardrails = (
        {"name": "judge_win_rate"},
        {"name": "format_valid", "critical": True, "must_have_data": False},
        {"name": "tool_contract", "must_have_data": False},
        {"name": "refusal_rate"},
        {"name": "truncation_rate"},
        {"name": "empty_rate"},
        {"name": "error_rate", "critical": True},
        {"name": "timeout_rate"},
    )
    signals = ({"name": "latency", "role": "signal"}, {"name": "output_tokens", "role": "signal"})
    return tuple(MetricSpec.model_validate(each) for each in (*guardrails, *signals))


class ErrorBudget(Section):
    """How often the engine may be wrong, each as a probability over the whole rollout."""

    rollback: Probability = Field(0.05, description="Rolling back a candidate that is not worse.")
    promote: Probability = Field(0.05, description="Passing a candidate worse than a margin.")


class Analysis(Section):
    """What is compared, and the defaults of every step that compares."""

    error_budget: ErrorBudget = Field(default_factory=ErrorBudget, description="Error rates.")
    metrics: tuple[MetricSpec, ...] = Field(
        default_factory=_default_metrics, min_length=1, description="Guardrails and signals."
    )
    segments: tuple[str, ...] = Field(
        (), max_length=1, description="Compare within the route's categories too: [category]."
    )
    min_samples: int = Field(600, ge=1, description="Candidate requests at each weight.")
    min_duration: Duration = Field(60.0, description="Seconds at each weight, at least.")
    max_duration: Duration = Field(6 * 3600.0, description="Seconds at each weight, at most.")
    require_live_proof: bool = Field(
        False, description="Live evidence must prove non-inferiority too, not only show no harm."
    )
    live_sample: Percent = Field(
        100.0, description="Share of live answers, of both arms alike, that is checked, percent."
    )
    sample_ratio_tolerance: Fraction = Field(
        0.5, description="Relative departure from the weight that sticky keys may explain."
    )

    @field_validator("metrics")
    @classmethod
    def _distinct(cls, value: tuple[MetricSpec, ...]) -> tuple[MetricSpec, ...]:
        names = [metric.name for metric in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is listed twice; keep one")
        if not any(metric.is_guardrail for metric in value):
            raise ValueError("there is no guardrail, so nothing could be proven; add one")
        return value
