"""The steps of a rollout, as a user writes them. :mod:`rollout.steps` turns them into a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from rollout.spec_types import Duration, Percent, Section

__all__ = [
    "DEFAULT_STEPS",
    "AnalysisStep",
    "BakeStep",
    "Direction",
    "MirrorStep",
    "PauseStep",
    "PreflightStep",
    "SetEligibleStep",
    "StepSpec",
]

Direction = Literal["forward", "both"]
"""Whose requests are mirrored: the baseline's only, or those of either arm."""


class PreflightStep(Section):
    """An offline report opens the way before any traffic."""

    eval_set: str = Field(min_length=1, description="The eval set that must have been passed.")


class MirrorStep(Section):
    """Gather pairs in shadow: no user is served by the candidate."""

    min_pairs: int = Field(1000, ge=1, description="Pairs before the step can pass.")
    min_duration: Duration = Field(0.0, description="Seconds before the step can pass.")
    max_pairs: int | None = Field(None, ge=1, description="Pairs after which it is inconclusive.")
    max_duration: Duration = Field(
        7 * 86400.0, description="Seconds after which it is inconclusive."
    )

    @model_validator(mode="after")
    def _order(self) -> MirrorStep:
        if self.max_duration <= self.min_duration:
            raise ValueError("max_duration must be longer than min_duration")
        if self.max_pairs is not None and self.max_pairs < self.min_pairs:
            raise ValueError("max_pairs must not be smaller than min_pairs")
        return self


class AnalysisStep(Section):
    """Serve users at the present weight until the evidence decides. Unset: as ``analysis`` says."""

    min_samples: int | None = Field(None, ge=1, description="Candidate requests before passing.")
    min_duration: Duration | None = Field(None, description="Seconds before passing.")
    max_duration: Duration | None = Field(None, description="Seconds until it is inconclusive.")


class PauseStep(Section):
    """Wait for a person, for a time, or both."""

    approval: bool = Field(False, description="Wait until an operator approves.")
    duration: Duration = Field(0.0, description="Seconds to wait.")

    @model_validator(mode="after")
    def _something(self) -> PauseStep:
        if not self.approval and not self.duration:
            raise ValueError("a pause waits for something; write approval: true or a duration")
        return self


class BakeStep(Section):
    """Everybody but a holdback is on the candidate; watched before the rollout has succeeded."""

    duration: Duration = Field(86400.0, description="Seconds to watch.")
    holdback: Percent = Field(2.0, description="Share that stays on the baseline, in percent.")
    max_rate_ratio: float = Field(
        2.0,
        gt=1,
        description="Failure rate allowed, as a multiple of the baseline's earlier or present one.",
    )
    direction: Direction = Field(
        "both",
        description="both: what the candidate serves is mirrored to the baseline, which itself "
        "serves only the holdback by now. forward: the holdback alone is mirrored.",
    )


class SetEligibleStep(Section):
    """From here on requests of these risk tiers take part, too: mirrored, and served."""

    risk: tuple[str, ...] = Field(
        min_length=1, description="Risk tiers: the earlier ones and at least one more, or [any]."
    )

    @property
    def tiers(self) -> tuple[str, ...] | None:
        """The tiers allowed; ``None``: any."""
        return None if "any" in self.risk else self.risk


class StepSpec(Section):
    """One step: a mapping with exactly one key, which says what kind of step it is."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"minProperties": 1, "maxProperties": 1}
    )

    preflight: PreflightStep | None = None
    mirror: MirrorStep | None = None
    set_weight: Percent | None = None
    set_eligible: SetEligibleStep | None = None
    analysis: AnalysisStep | None = None
    pause: PauseStep | None = None
    bake: BakeStep | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        """Read ``- bake:`` with nothing after it as ``- bake: {}``."""
        if isinstance(value, Mapping) and len(value) == 1:
            (key, body), *_ = value.items()
            if body is None and key in {"mirror", "analysis", "bake"}:
                return {key: {}}
        return value

    @model_validator(mode="after")
    def _one(self) -> StepSpec:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"a step has exactly one of: {known}; here are {len(given)}")
        return self


DEFAULT_STEPS: tuple[StepSpec, ...] = (
    StepSpec(mirror=MirrorStep()),
    StepSpec(set_weight=6),
    StepSpec(set_weight=25),
    StepSpec(set_weight=50),
    StepSpec(set_weight=100),
    StepSpec(bake=BakeStep()),
)
"""Shadow first, then few and large steps: a 1% step costs many requests for little power.

6% instead of 5% saves a healthy candidate 2,000 requests of 17,500 and costs 8 users of a bad one
more (`make bench-decisions`).
"""
