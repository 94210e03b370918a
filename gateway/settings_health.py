"""How often the judge's health is examined, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.settings_values import Duration, Section

__all__ = ["JudgeHealthSettings"]


class JudgeHealthSettings(Section):
    """Control pairs whose outcome is known, and the frozen anchor set."""

    enabled: bool = Field(
        True,
        description="Examine the judge on control pairs; a judge that fails is quarantined. "
        "False: its verdicts count unexamined.",
    )
    every_pairs: int = Field(
        200, ge=10, description="Judged pairs of a rollout after which a window ends, or ..."
    )
    every: Annotated[Duration, Field(gt=0)] = Field(
        600.0, description="... seconds after which it ends, where anything was judged in it."
    )
    controls: int = Field(
        6,
        ge=5,
        le=50,
        description="Control pairs asked at the end of a window, two calls each; more only of a "
        "kind in which one failed.",
    )
    max_concurrency: int = Field(4, ge=1, description="Control pairs in flight.")
    anchors: Path | None = Field(
        None, description="JSONL file with the anchor pairs; unset: the built-in set."
    )
    anchors_every: Annotated[Duration, Field(gt=0)] = Field(
        86400.0,
        description="Seconds after which the anchors are judged again; at a changed judge or "
        "rubric they are at once.",
    )
    least_agreement: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="Agreement with the anchors' first verdicts below which, beyond chance, the "
        "judge is said to have drifted.",
    )
