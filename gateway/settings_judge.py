"""The judge: which deployment or local model compares, in which orders, and in which stages."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.settings_health import JudgeHealthSettings
from gateway.settings_local import LocalModelSettings
from gateway.settings_values import Duration, Name, Section

__all__ = ["FirstStage", "JudgeSettings", "LocalJudge"]


class LocalJudge(LocalModelSettings):
    """A local model that judges: a reward model, or a classifier of pairs."""

    kind: Literal["reward", "pairwise"] = Field(
        "reward",
        description="reward: one logit for a conversation with its answer; pairwise: classes for "
        "two answers.",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="P(A wins) = sigmoid(difference of rewards / temperature); fit it on labels.",
    )
    tie_band: float = Field(
        0.1, ge=0, lt=0.5, description="P(A wins) within this much of one half is a tie."
    )
    label_a: str = Field("A", description="The pairwise model's class for: A is better.")
    label_b: str = Field("B", description="The pairwise model's class for: B is better.")
    label_tie: str = Field("tie", description="Its class for a tie, where it has one.")


class FirstStage(Section):
    """A cheap judge that is asked first; the judge proper is asked where it can't be relied on."""

    deployment: Name | None = Field(None, description="A smaller hosted judge, or ...")
    local: LocalJudge | None = Field(None, description="... a model on this machine.")
    audit: float = Field(
        0.1,
        ge=0.01,
        le=1,
        description="Share of what the first stage could decide alone that the judge sees too.",
    )
    escalate_segments: tuple[str, ...] = Field(
        (), description="Segments in which the judge is always asked."
    )
    escalate_risk: tuple[str, ...] = Field(
        ("high",), description="Risk tiers in which the judge is always asked."
    )
    dollars_per_million_input_tokens: float = Field(0.0, ge=0, description="Price of input.")
    dollars_per_million_output_tokens: float = Field(0.0, ge=0, description="Price of output.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.deployment is None) == (self.local is None):
            raise ValueError("name either a deployment or a local model, for example local: {path}")
        return self


class JudgeSettings(Section):
    """The LLM judge that compares two answers."""

    deployment: Name = Field(description="Deployment that judges; never one that serves an arm.")
    rubric: str | None = Field(None, description="Path of the rubric, or none for the built-in.")
    orders: Literal["both", "single"] = Field(
        "both",
        description="both, or for plentiful traffic: single, one random order, of which ...",
    )
    audit: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="... this share is asked in both, to know position bias."
    )
    first_stage: FirstStage | None = Field(
        None, description="A cheap judge that is asked first; unset: none."
    )
    timeout: Duration = Field(60.0, gt=0, description="Seconds for one call.")
    max_concurrency: int = Field(
        16, ge=1, le=10_000, description="Calls in flight, and connections; of each stage."
    )
    dollars_per_million_input_tokens: float = Field(0.0, ge=0, description="Price of input.")
    dollars_per_million_output_tokens: float = Field(0.0, ge=0, description="Price of output.")
    health: JudgeHealthSettings = Field(
        default_factory=JudgeHealthSettings, description="How the judge itself is examined."
    )

    def deployments(self) -> dict[str, str]:
        """Return the deployments that judge, by the setting that names them."""
        named = {"judge.deployment": self.deployment}
        if self.first_stage is not None and self.first_stage.deployment is not None:
            named["judge.first_stage.deployment"] = self.first_stage.deployment
        return named
