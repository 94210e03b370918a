"""Train, validation and test: by a salted hash of who wrote, so that nobody is in two of them.

The same user or conversation lands in the same split in every dataset that has the same salt, today
and in a year: test cases of one export never are training cases of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shadow.offline.canonical import canonical, digest

__all__ = ["Split", "SplitShares", "group_of", "split_of"]

Split = Literal["train", "validation", "test"]

_PARTS = 10_000


class SplitShares(BaseModel):
    """How much goes where, in whole percent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(80, ge=0, le=100, strict=True, description="Percent to train on.")
    validation: int = Field(10, ge=0, le=100, strict=True, description="Percent to tune on.")
    test: int = Field(10, ge=0, le=100, strict=True, description="Percent to test on.")

    @model_validator(mode="after")
    def _whole(self) -> SplitShares:
        if self.train + self.validation + self.test != 100:
            raise ValueError("train, validation and test must add up to 100 percent")
        return self


def group_of(user: str | None, messages: Iterable[Mapping[str, Any]]) -> str:
    """Return the id of the group that a case belongs to, which is never divided.

    That is the user, where one is known; otherwise the conversation, by how it opened: everything
    up to the first message of role user. Later turns of it, which repeat the opening, are of the
    same group.
    """
    if user is not None:
        return digest({"user": user})[:32]
    opening: list[Mapping[str, Any]] = []
    for message in messages:
        opening.append(message)
        if message.get("role") == "user":
            break
    return digest({"conversation": opening})[:32]


def split_of(group: str, *, salt: str, shares: SplitShares) -> Split:
    """Return a group's split: its hash in ten thousandths, against whole-number limits."""
    text = canonical({"group": group, "salt": salt})
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % _PARTS
    if place < shares.train * 100:
        return "train"
    return "validation" if place < (shares.train + shares.validation) * 100 else "test"
