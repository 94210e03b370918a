"""What keeps a rollout whose step has passed from going on, as a word and a sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Obstacle", "WaitReason"]

WaitReason = Literal["arms_changed", "candidate_unhealthy", "live_traffic_held"]
"""Why a rollout waits, as a word for programs."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that a rollout waits for, though its own evidence would let it go on."""

    reason: WaitReason
    message: str
