"""The spec of a rollout: what is asked of a candidate before it may serve everybody.

YAML or JSON, validated here; the vocabulary is that of Argo Rollouts, Kayenta and GrowthBook.
Shares written as ``5``, ``2.5`` or ``2%`` are percent of traffic; margins and error budgets
written as ``0.05`` or ``5%`` are fractions; durations are seconds or ``60s``, ``15m``, ``24h``.
What the models hold is normalised, so that a dumped spec loads to the same spec.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from gateway.errors import SpecError
from rollout.spec_errors import spec_error
from rollout.spec_metrics import BINARY_METRICS, DEFAULT_MARGINS, Analysis, MetricName, MetricSpec
from rollout.spec_steps import (
    DEFAULT_STEPS,
    AnalysisStep,
    BakeStep,
    Direction,
    MirrorStep,
    PauseStep,
    PreflightStep,
    SetEligibleStep,
    StepSpec,
)
from rollout.spec_types import Duration, Fraction, Name, Percent, Section

__all__ = [
    "BINARY_METRICS",
    "DEFAULT_MARGINS",
    "Analysis",
    "AnalysisStep",
    "BakeStep",
    "MetricName",
    "MetricSpec",
    "MirrorStep",
    "PauseStep",
    "PreflightStep",
    "RolloutSpec",
    "SetEligibleStep",
    "StepSpec",
    "document_hash",
    "load_spec",
    "spec_hash",
]


class Candidate(Section):
    """The model that may replace the baseline: a deployment of the settings."""

    deployment: str = Field(min_length=1, description="Name of the deployment.")


class Assignment(Section):
    """Whose requests stay together on one arm."""

    targeting_key: tuple[str, ...] = Field(
        ("header:x-user-id", "body:user"),
        min_length=1,
        description="Where a user's key stands, first match wins: header:NAME or body:PATH.",
    )
    on_missing_key: Literal["request", "baseline"] = Field(
        "request", description="A request without a key is assigned by itself, or not at all."
    )

    @field_validator("targeting_key")
    @classmethod
    def _sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for source in value:
            if not re.fullmatch(r"header:[A-Za-z0-9-]+|body:[\w.-]+", source):
                raise ValueError(
                    f"{source!r} is no place in a request; write header:NAME or body:PATH"
                )
        return value


class Eligible(Section):
    """Which requests may take part."""

    risk: tuple[str, ...] | None = Field(None, description="Risk tiers allowed; unset: any.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Request headers that must have these values."
    )


class Budget(Section):
    """What the judge may cost this rollout on one day (UTC)."""

    usd_per_day: float | None = Field(None, ge=0, description="Dollars; unset: no limit.")
    calls_per_day: int | None = Field(None, ge=0, description="Calls; unset: no limit.")


class MirrorSettings(Section):
    """How production requests are mirrored to the candidate."""

    percentage: Percent = Field(
        20.0, description="Share of eligible requests, in percent; at most, where adaptive."
    )
    adaptive: bool = Field(
        True,
        description="Mirror only as much as the step needs, whatever the traffic, and check no "
        "more live answers than workers manage. False: always the whole shares.",
    )
    target_duration: Annotated[Duration, Field(gt=0)] = Field(
        3600.0, description="Seconds in which an adaptive mirror gathers a mirror step's min_pairs."
    )
    direction: Direction = Field(
        "forward",
        description="forward: what the baseline serves is mirrored to the candidate. both: in live "
        "steps what the candidate serves is mirrored to the baseline too.",
    )
    max_concurrency: int = Field(16, ge=1, le=4096, description="Mirrored requests in flight.")
    timeout: Annotated[Duration, Field(gt=0)] = Field(
        60.0, description="Seconds for one mirrored answer; longer counts as a timeout."
    )
    noise_probe: Percent = Field(
        2.0, description="Share of mirrored requests that also go to the baseline again, percent."
    )
    budget: Budget = Field(default_factory=Budget, description="What the judge may cost.")


class OnNoData(Section):
    """What happens when nothing arrives."""

    action: Literal["hold", "pause"] = Field("hold", description="What to do at first.")
    after: Duration = Field(2 * 3600.0, description="Seconds without data ...")
    then: Literal["hold", "pause"] = Field("pause", description="... until this.")


class OnEvaluatorError(Section):
    """What happens when the judge fails."""

    consecutive_error_limit: int = Field(4, ge=1, description="Errors in a row that are too many.")
    max_error_share: Fraction = Field(
        0.05, description="Share of judged pairs without a verdict that is too much."
    )
    max_inconsistent_share: Fraction = Field(
        0.4, description="Share of verdicts that turn with the order that is too much."
    )
    then: Literal["hold", "pause"] = Field("pause", description="What to do then.")


class Rollback(Section):
    """How fast traffic goes back to the baseline when harm is proven.

    An operator's rollback, an abort, and proven errors or timeouts are always immediate.
    """

    mode: Literal["immediate", "gradual"] = Field(
        "immediate", description="At once, or in steps where the baseline could not take it all."
    )
    step: Annotated[Percent, Field(gt=0)] = Field(
        25.0, description="Share of all traffic that goes back at a time, in percent."
    )
    interval: Duration = Field(
        30.0, description="Seconds between two steps; the baseline must be healthy for the next."
    )


class RolloutSpec(Section):
    """A rollout, as a user writes it."""

    kind: Literal["Rollout"] = "Rollout"
    name: Name = Field(description="Name of the rollout.")
    route: str = Field(min_length=1, description="Public model name whose traffic is split.")
    candidate: Candidate = Field(description="The model that may replace the baseline.")
    assignment: Assignment = Field(default_factory=Assignment, description="Who stays together.")
    eligible: Eligible = Field(default_factory=Eligible, description="Who takes part.")
    mirror: MirrorSettings = Field(default_factory=MirrorSettings, description="The shadow.")
    steps: tuple[StepSpec, ...] = Field(DEFAULT_STEPS, min_length=1, description="The way to 100%.")
    analysis: Analysis = Field(default_factory=Analysis, description="What must be proven.")
    on_failure: Literal["rollback", "pause"] = Field("rollback", description="Harm is proven.")
    rollback: Rollback = Field(default_factory=Rollback, description="How traffic goes back.")
    on_inconclusive: Literal["pause", "rollback"] = Field(
        "pause", description="A step's budget is spent without proof."
    )
    on_no_data: OnNoData = Field(default_factory=OnNoData, description="Nothing arrives.")
    on_evaluator_error: OnEvaluatorError = Field(
        default_factory=OnEvaluatorError, description="The judge fails."
    )
    on_sample_ratio_mismatch: Literal["hold", "pause"] = Field(
        "hold",
        description="The arms' traffic is not as declared, or the pairs that were compared are no "
        "fair sample of those drawn.",
    )
    on_baseline_change: Literal["restart", "supersede", "pause"] = Field(
        "restart",
        description="Another model became the baseline while only mirrored pairs were gathered: "
        "start again as the next generation, end, or wait for a person.",
    )

    @model_validator(mode="after")
    def _steps_in_order(self) -> RolloutSpec:
        weight = 0.0
        for index, step in enumerate(self.steps):
            place = f"steps.{index}"
            if step.preflight is not None and index:
                raise ValueError(f"{place}: preflight must be the first step")
            if step.mirror is not None and weight:
                raise ValueError(f"{place}: mirror comes before the first set_weight")
            if step.mirror is not None and not self.mirror.percentage:
                raise ValueError("mirror.percentage: is 0, but there is a mirror step; raise it")
            if step.analysis is not None and not weight:
                raise ValueError(f"{place}: analysis needs a set_weight before it; use mirror")
            if step.set_weight is not None:
                if not any(earlier.mirror for earlier in self.steps[:index]):
                    raise ValueError(
                        f"{place}.set_weight: needs a mirror step before it, so that nobody is "
                        "served by a candidate of which nothing is known"
                    )
                if step.set_weight <= weight:
                    raise ValueError(
                        f"{place}.set_weight: {step.set_weight:g} after {weight:g}; weights rise"
                    )
                weight = step.set_weight
            if step.bake is not None and (index != len(self.steps) - 1 or weight != 100):
                raise ValueError(f"{place}: bake is the last step and follows set_weight: 100")
        return self

    @model_validator(mode="after")
    def _tiers_widen(self) -> RolloutSpec:
        tiers, live = self.eligible.risk, False
        for index, (step, following) in enumerate(zip_longest(self.steps, self.steps[1:])):
            live = live or step.set_weight is not None
            if step.set_eligible is None:
                continue
            place = f"steps.{index}.set_eligible"
            if not live and (following is None or following.mirror is None):
                raise ValueError(
                    f"{place}: before the first set_weight a mirror step must follow, so that "
                    "nobody is served by a candidate of which nothing is known"
                )
            wider = step.set_eligible.tiers
            if tiers is None:
                raise ValueError(
                    f"{place}: every risk tier is eligible already; list the first ones in "
                    "eligible.risk"
                )
            if wider is not None and not set(tiers) < set(wider):
                raise ValueError(
                    f"{place}: [{', '.join(wider)}] after [{', '.join(tiers)}]; tiers only widen, "
                    "so list the earlier ones and at least one more"
                )
            tiers = wider
        return self

    def metric(self, name: str) -> MetricSpec | None:
        """Return the metric called ``name``, or ``None`` where the spec has none."""
        return next((metric for metric in self.analysis.metrics if metric.name == name), None)

    @property
    def guardrails(self) -> tuple[MetricSpec, ...]:
        """The metrics that act."""
        return tuple(metric for metric in self.analysis.metrics if metric.is_guardrail)

    def to_document(self) -> dict[str, Any]:
        """Return the normalised spec as JSON: :func:`load_spec` of it is this spec again."""
        return self.model_dump(mode="json", exclude_none=True)


def load_spec(source: str | Mapping[str, Any]) -> RolloutSpec:
    """Read a spec from YAML or JSON text, or from an already parsed document.

    Raises :class:`SpecError` with the path of the first wrong field and what would be right.
    """
    document: Any = source
    if isinstance(source, str):
        try:
            document = yaml.safe_load(source)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or "it can't be read"
            raise SpecError(f"the spec is not YAML{where}: {problem}") from None
        except RecursionError:
            raise SpecError("the spec is nested too deeply") from None
    if not isinstance(document, Mapping):
        raise SpecError("the spec must be a mapping; begin with `kind: Rollout`")
    try:
        return RolloutSpec.model_validate(dict(document))
    except ValidationError as error:
        raise spec_error(error, RolloutSpec) from None


def spec_hash(spec: RolloutSpec) -> str:
    """Return SHA-256 over the canonical JSON of the normalised spec, as 64 hex digits."""
    return document_hash(spec.to_document())


def document_hash(document: Mapping[str, Any]) -> str:
    """Return the hash of a normalised spec as it was stored, whatever defaults came later."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
