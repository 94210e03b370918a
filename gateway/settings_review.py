"""Settings of the blind reviews: which pairs of a route people are asked about, and who."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["LEAST_PROBABILITY", "RouteReview"]

LEAST_PROBABILITY = 0.05
"""Least probability with which a pair that may be drawn is drawn; the statistics rely on it."""


def _seconds(value: object) -> object:
    from gateway.settings import parse_duration  # which itself declares a field of this module

    return parse_duration(value)


class RouteReview(BaseModel):
    """What people are asked about a route's pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probability: float = Field(
        0.1,
        ge=LEAST_PROBABILITY,
        le=1,
        allow_inf_nan=False,
        description="Share of comparable pairs drawn at random; as many again are drawn where "
        "judges disagree.",
    )
    weekly_quota: int = Field(
        200,
        ge=0,
        description="Pairs drawn within seven days; fewer are considered from half of it on.",
    )
    reviewers_per_pair: int = Field(
        1, ge=1, le=9, description="People whose verdicts settle a pair."
    )
    expert_only: bool = Field(
        False, description="Only reviewers whose token is an expert's are given the pairs."
    )
    lease: Annotated[float, BeforeValidator(_seconds)] = Field(
        900.0, gt=0, description="Seconds a reviewer keeps a pair before it goes to somebody else."
    )
    correction_time: Annotated[float, BeforeValidator(_seconds)] = Field(
        60.0,
        ge=0,
        description="Seconds after its last verdict until a pair's label is evidence, which does "
        "not change: a slip can be corrected so long.",
    )
