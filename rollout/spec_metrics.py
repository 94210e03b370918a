"""What a rollout compares, and how sure it must be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from rollout.spec_sources import MetricSource
from rollout.spec_types import Duration, Fraction, Percent, Probability, Section

__all__ = [
    "BINARY_METRICS",
    "DEFAULT_MARGINS",
    "LATENCIES",
    "MAX_CUSTOM",
    "RELATIVE_METRICS",
    "SIGNALS",
    "Analysis",
    "ErrorBudget",
    "MetricName",
    "MetricSpec",
]

MetricName = Literal[
    "judge_win_rate",
    "format_valid",
    "tool_contract",
    "citation_valid",
    "known_failure_rate",
    "refusal_rate",
    "over_refusal_rate",
    "under_refusal_rate",
    "truncation_rate",
    "empty_rate",
    "repetition_rate",
    "boilerplate_rate",
    "language_match",
    "tool_call_rate",
    "escalation_rate",
    "abstention_rate",
    "self_justification_rate",
    "overconfidence_rate",
    "error_rate",
    "timeout_rate",
    "latency",
    "ttft",
    "inter_token_latency",
    "output_tokens",
    "words",
    "cost",
]
"""The metrics that are built in; a metric of the user's own names its ``source``."""

LATENCIES: tuple[str, ...] = ("latency", "ttft", "inter_token_latency")
"""Metrics of time, in seconds: over the limit or not."""

RELATIVE_METRICS: tuple[str, ...] = ("output_tokens", "words", "cost")
"""Metrics of amounts: the paired difference as a share of both arms' together."""

BINARY_METRICS: tuple[str, ...] = tuple(
    name for name in get_args(MetricName) if name not in {"judge_win_rate", *RELATIVE_METRICS}
)
"""Metrics that are a failure or not, for each answer (of time: over its limit or not)."""

_CUSTOM_MARGIN = 0.01

DEFAULT_MARGINS: dict[str, float] = {
    **dict.fromkeys(BINARY_METRICS, 0.01),
    "judge_win_rate": 0.05,
    **dict.fromkeys(LATENCIES, 0.02),
    **dict.fromkeys(RELATIVE_METRICS, 0.25),
    "words": 0.11,  # (c - b) / (c + b) of an answer 1.25 times as long
}
"""How much worse still counts as not worse, as a fraction, where the spec does not say."""

SIGNALS: tuple[str, ...] = (
    "boilerplate_rate",
    "tool_call_rate",
    "self_justification_rate",
    "overconfidence_rate",
    "words",
)
"""Metrics of manner: one that moves is a reason to read samples, so by default it only warns."""

MAX_CUSTOM = 12
"""Metrics of the user's own in one spec: each takes its part of the error budget."""

_DIRECTED = ("refusal_rate", "escalation_rate", "abstention_rate", "tool_call_rate")
_RESERVED = ("guardrails",)
_CUSTOM_NAME = r"^[a-z][a-z0-9_]{0,62}$"
_BUILT_IN = list(get_args(MetricName))


_CRITICAL_WEIGHT = 8.0


class MetricSpec(Section):
    """One metric: a *guardrail* acts, a *signal* only warns."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "if": {"properties": {"name": {"enum": _BUILT_IN}}},
            "else": {"required": ["source"]},
        },
    )

    name: str = Field(
        description="What is compared; any other name is a metric of your own, with a source.",
        json_schema_extra={"anyOf": [{"enum": _BUILT_IN}, {"pattern": _CUSTOM_NAME}]},
    )
    source: MetricSource | None = Field(
        None, description="Where a metric of your own is read from; built-in ones have none."
    )
    role: Literal["guardrail", "signal"] = Field(
        "guardrail",
        description=f"Acts, or only warns; unset: {', '.join(SIGNALS)} only warn, all others act.",
    )
    margin: Annotated[Fraction, Field(gt=0)] = Field(
        description="How much worse still counts as not worse, as a fraction (0.01 or 1%)."
    )
    direction: Literal["increase", "decrease", "both"] = Field(
        "increase",
        description="refusal_rate, escalation_rate, abstention_rate, tool_call_rate: the direction "
        "that is harm.",
    )
    critical: bool = Field(
        False, description="Its evidence weighs eight times as much for rollback."
    )
    must_have_data: bool = Field(
        True,
        description="false: the metric does not block when it applied to nothing that was seen.",
    )
    slo: Annotated[Duration, Field(gt=0)] | None = Field(
        None, description="Of time: the limit in seconds; unset: the baseline's running quantile."
    )
    quantile: Probability = Field(
        0.95, description="Of time without an slo: the quantile of the baseline that is the limit."
    )
    min_human_labels: int = Field(
        0, ge=0, description="judge_win_rate: human labels that the proof must rest on."
    )
    min_samples: int | None = Field(
        None,
        ge=1,
        description="Of your own: candidate's requests counted before no harm is enough to pass; "
        "unset: as analysis says.",
    )
    consecutive_breach_limit: int = Field(
        3, ge=1, description="A Prometheus query with a limit: breaches in a row that pause."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_margin(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "margin" not in value:
            own = _CUSTOM_MARGIN if value.get("source") is not None else None
            default = DEFAULT_MARGINS.get(str(value.get("name")), own)
            if default is not None:
                return {**value, "margin": default}
        return value

    @model_validator(mode="before")
    @classmethod
    def _default_role(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "role" not in value and value.get("name") in SIGNALS:
            return {**value, "role": "signal"}
        return value

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """Refuse a name that is neither built in nor the user's own, before a missing margin is."""
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            name, sourced = value["name"], value.get("source") is not None
            if not sourced and name not in _BUILT_IN:
                raise ValueError(
                    f"name: is {name[:60]!r}; it should be one of {', '.join(_BUILT_IN)}, or have "
                    "a source"
                )
        return value

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if value in _BUILT_IN:
            return value
        if value in _RESERVED or not re.fullmatch(_CUSTOM_NAME, value):
            raise ValueError(
                f"is {value[:60]!r}; a name of your own begins with a small letter, goes on with "
                "small letters, digits and _, and is not reserved"
            )
        return value

    @model_validator(mode="after")
    def _belongs(self) -> MetricSpec:
        if self.source is not None and self.name in _BUILT_IN:
            raise ValueError(f"source: {self.name} is built in; give your metric another name")
        for option, owners, owned in (
            ("slo", LATENCIES, self.name in LATENCIES),
            ("quantile", LATENCIES, self.name in LATENCIES),
            ("direction", _DIRECTED, self.name in _DIRECTED),
            ("min_human_labels", ("judge_win_rate",), self.name == "judge_win_rate"),
            ("min_samples", ("outcomes and counters",), self.is_live_only),
            ("consecutive_breach_limit", ("a query with a limit",), self.is_threshold),
        ):
            if not owned and getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(
                    f"{option} belongs to {', '.join(owners)} and means nothing for {self.name}"
                )
        if self.name == "judge_win_rate" and self.margin >= 0.5:
            raise ValueError("the margin of judge_win_rate must be below 0.5, which is a tie")
        if self.name == "judge_win_rate" and not self.must_have_data:
            raise ValueError("judge_win_rate applies to every pair; leave must_have_data out")
        if self.is_threshold and (self.critical or self.margin != _CUSTOM_MARGIN):
            raise ValueError("a query with a limit proves nothing; leave margin and critical out")
        if self.role == "signal" and (self.critical or self.min_human_labels):
            raise ValueError("a signal only warns; critical and min_human_labels need a guardrail")
        return self

    @property
    def is_guardrail(self) -> bool:
        """Whether the metric can roll back and must be proven, or as a limit holds."""
        return self.role == "guardrail"

    @cached_property
    def harm_weight(self) -> float:
        """The metric's part in the rollback decision: none for a signal, and for a limit."""
        if not self.is_guardrail or self.is_threshold:
            return 0.0
        return _CRITICAL_WEIGHT if self.critical else 1.0

    @property
    def is_threshold(self) -> bool:
        """Whether it is one value with a limit: a breach holds and in the end pauses."""
        source = self.source
        return (
            source is not None
            and source.prometheus is not None
            and source.prometheus.query is not None
        )

    @property
    def is_live_only(self) -> bool:
        """Whether only live requests say anything about it: outcomes and Prometheus counters."""
        return self.source is not None and not self.is_threshold


def _default_metrics() -> tuple[MetricSpec, ...]:
    guardrails = (
        {"name": "judge_win_rate", "critical": True},
        {"name": "format_valid", "critical": True, "must_have_data": False},
        {"name": "tool_contract", "must_have_data": False},
        {"name": "refusal_rate", "critical": True},
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
    clusters: Literal["mean", "first", "none"] = Field(
        "mean",
        description="Pairs of one user, which are not independent: their mean counts as one pair, "
        "the first counts, or each.",
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
        if sum(metric.source is not None for metric in value) > MAX_CUSTOM:
            raise ValueError(f"at most {MAX_CUSTOM} metrics may be your own, with a source")
        if not any(metric.is_guardrail and not metric.source for metric in value):
            raise ValueError(
                "there is no guardrail that pairs can prove, so nobody could be served; add one"
            )
        return value
