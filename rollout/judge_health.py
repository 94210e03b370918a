"""What a rollout's evidence knows of its judge's health: a value, changed by facts alone. Pure.

A window of verdicts ends with control pairs whose outcome is known (:mod:`shadow.health`). Until a
judge has passed one, and again after it has failed one, nothing it says widens a rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.store.evidence import Evidence

__all__ = ["JUDGE_METRIC", "JudgeHealth", "is_verdict"]

JUDGE_METRIC = "judge_win_rate"
"""The one metric that the judge speaks to."""

_VERDICTS = frozenset({"win", "lean_win", "tie", "inconsistent", "lean_loss", "loss"})


@dataclass(frozen=True, slots=True)
class JudgeHealth:
    """What the control pairs have said so far.

    ``window`` is the last that ended and ``at`` when (Unix seconds), ``reason`` why it failed.
    ``unconfirmed`` verdicts have come since the last pass, which is good for ``limit`` of them
    (0: any number); ``dropped`` ones did not count because the judge was, or came to be,
    quarantined. ``passes`` and ``fails`` count windows.
    """

    state: Literal["unexamined", "passed", "quarantined"] = "unexamined"
    window: int = 0
    at: float = 0.0
    reason: str = ""
    unconfirmed: int = 0
    limit: int = 0
    dropped: int = 0
    passes: int = 0
    fails: int = 0

    @property
    def quarantined(self) -> bool:
        """Whether the judge failed its last window: what it says does not count."""
        return self.state == "quarantined"

    @property
    def lacking(self) -> str | None:
        """What is missing before the judge's word may widen anything, in words, or ``None``."""
        if self.state == "unexamined":
            return "the judge has not passed its first control pairs yet"
        if self.limit and self.unconfirmed > self.limit:
            return (
                f"{self.unconfirmed} verdicts since the judge last passed its control pairs, "
                f"{self.limit} at most"
            )
        return None

    def with_verdict(self) -> JudgeHealth:
        """Return the health after one more verdict of the judge."""
        if self.quarantined:
            return replace(self, dropped=self.dropped + 1)
        return replace(self, unconfirmed=self.unconfirmed + 1)

    def after(self, fact: Evidence) -> JudgeHealth:
        """Return the health after a window; one that is not newer than the last changes nothing.

        Raises ``KeyError``, ``TypeError`` or ``ValueError`` for a fact that can't be understood.
        """
        payload = fact.payload
        window, result = int(payload["window"]), payload["result"]
        if result not in ("pass", "fail"):
            raise ValueError(f"{result!r} is no result of a window")
        if window <= self.window:
            return self
        health = replace(self, window=window, at=fact.at, unconfirmed=0)
        if result == "pass":
            limit = int(payload.get("limit", 0))
            return replace(health, state="passed", reason="", limit=limit, passes=self.passes + 1)
        return replace(
            health,
            state="quarantined",
            reason=str(payload["reason"]),
            dropped=self.dropped + self.unconfirmed,
            fails=self.fails + 1,
        )


def is_verdict(payload: Mapping[str, Any]) -> bool:
    """Say whether a pair's score is the judge's, and not that of a check or of equal answers."""
    return payload.get("judge") in _VERDICTS
