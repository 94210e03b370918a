"""What an export is asked for: which pairs, as what, and how they are divided."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shadow.checks import CHECKS
from shadow.offline.splits import SplitShares

__all__ = ["ExportRequest", "Kind"]

Kind = Literal["preferences", "regressions", "evalset"]

_NO_CONTENT = frozenset({"latency", "error_rate", "timeout_rate", "output_tokens", "words", "cost"})
"""Checks that tell how an answer came, or how long it is, and not whether it is the better one."""

_METRICS = (
    "judge_win_rate",
    *(check.name for check in CHECKS if check.name not in _NO_CONTENT),
)


class ExportRequest(BaseModel):
    """An export of one rollout's pairs. The same request on the same pairs gives the same hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field(description="preferences to train on; cases that must not fail; eval set.")
    rollout: str = Field(min_length=1, description="Name of the rollout.")
    generation: int | None = Field(None, ge=1, description="Of the rollout; unset: the latest.")
    dataset: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Name of the dataset; unset: ROLLOUT-KIND.",
    )
    format: Literal["conversational", "text"] = Field(
        "conversational", description="Of preferences: TRL's conversational or standard format."
    )
    segments: list[str] = Field(default_factory=list, description="Only these; empty: all.")
    since: float | None = Field(None, ge=0, description="Asked at or after, Unix seconds.")
    until: float | None = Field(None, ge=0, description="Asked before, Unix seconds.")
    sources: list[Literal["human", "check", "judge"]] = Field(
        default_factory=list, description="Only what these say; empty: all of them."
    )
    metric: str | None = Field(
        None, description="Only pairs that this check (or judge_win_rate) tells apart."
    )
    min_score: float = Field(
        1.0, gt=0, le=1, description="1: both orders agree. 0.5: leans of the judge too."
    )
    min_margin: float | None = Field(
        None, ge=0, le=9, description="Points (1 to 10) by which the judge scored it higher."
    )
    max_per_segment: int | None = Field(None, ge=1, description="Most rows of one segment.")
    max_items: int = Field(10_000, ge=1, le=100_000, description="Most rows.")
    near_duplicates: float | None = Field(
        0.8, gt=0, le=1, description="Similarity of prompts that is too near; null: only equal."
    )
    salt: str = Field(
        "coalmine",
        min_length=1,
        max_length=64,
        description="Of the splits; datasets with the same salt agree on who is in which.",
    )
    splits: SplitShares = Field(default_factory=SplitShares, description="Shares, in percent.")

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.dataset or f"{self.rollout}-{self.kind}"[:63]

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in _METRICS:
            known = ", ".join(_METRICS)
            raise ValueError(
                f"{value[:60]!r} is no check of an answer's content; there are {known}"
            )
        return value

    @model_validator(mode="after")
    def _ordered(self) -> ExportRequest:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("since must be before until")
        if self.format == "text" and self.kind != "preferences":
            raise ValueError("format: text belongs to preferences")
        return self
