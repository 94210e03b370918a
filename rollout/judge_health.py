"""What a rollout's evidence knows of its judge's health: a value, changed by facts alone. Pure.

A window of verdicts ends with control pairs whose outcome is known (:mod:`shadow.health`). Until a
judge has passed one, and again after it has failed one, nothing it says widens a rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.store.evidence import Evidence

__all__ = ["JUDGE_METRIC", "JudgeHealth", "is_verdict"]

JUDGE_METRIC = "judge_win_rate"
"""The one metric that the judge speaks to."""

_NEIGHBOURS = 16
"""Ids between two verdicts of one window: pairs that checks decided."""

_MOST_SPANS = 50

_VERDICTS = frozenset({"win", "lean_win", "tie", "inconsistent", "lean_loss", "loss"})


class JudgeHealth(Struct, frozen=True):
    """What the control pairs have said so far.

    ``window`` is the last that ended and ``at`` when (Unix seconds), ``reason`` why it failed.
    ``unconfirmed`` verdicts have come since the last pass, which is good for ``limit`` of them
    (0: any number); ``dropped`` ones did not count because the judge was, or came to be,
    quarantined. ``passes`` and ``fails`` count windows. ``trial`` spans the ids of the pairs whose
    verdicts are unconfirmed, ``lost`` those of pairs whose verdicts were dropped: a label that
    somebody gives such a pair later counts without the judge's word on it.
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
    trial: tuple[int, int] | None = None
    lost: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> JudgeHealth:
        """Build the value from its JSON document, which is that of `msgspec.structs.asdict`."""
        trial, lost = document.get("trial"), document.get("lost", ())
        return cls(
            **{
                **document,
                "trial": None if trial is None else (trial[0], trial[1]),
                "lost": tuple((low, high) for low, high in lost),
            }
        )

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

    def with_verdict(self, pair_id: int) -> JudgeHealth:
        """Return the health after one more verdict of the judge."""
        if self.quarantined:
            lost = _joined(self.lost, (pair_id, pair_id))
            return replace(self, dropped=self.dropped + 1, lost=lost)
        low, high = self.trial or (pair_id, pair_id)
        trial = (min(low, pair_id), max(high, pair_id))
        return replace(self, unconfirmed=self.unconfirmed + 1, trial=trial)

    def counts_for(self, pair_id: int | None, *, confirmed: bool) -> bool:
        """Say whether the judge's word on a pair counts; ``confirmed``: also without the trial.

        Of a pair that is not named it does while nothing is in doubt.
        """
        if pair_id is None:
            return not (self.quarantined or (confirmed and self.trial is not None))
        doubted = self.lost if self.trial is None or not confirmed else (*self.lost, self.trial)
        return not any(low <= pair_id <= high for low, high in doubted)

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
        health = replace(self, window=window, at=fact.at, unconfirmed=0, trial=None)
        if result == "pass":
            limit = int(payload.get("limit", 0))
            return replace(health, state="passed", reason="", limit=limit, passes=self.passes + 1)
        return replace(
            health,
            state="quarantined",
            reason=str(payload["reason"]),
            dropped=self.dropped + self.unconfirmed,
            lost=self.lost if self.trial is None else _joined(self.lost, self.trial),
            fails=self.fails + 1,
        )


def _joined(
    spans: tuple[tuple[int, int], ...], span: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """Return the spans with one more, those that meet as one; of too many the closest are joined.

    Too wide a span drops the judge's word on some pairs that were sound, which is missing data.
    """
    merged: list[tuple[int, int]] = []
    for low, high in sorted((*spans, span)):
        if merged and low <= merged[-1][1] + _NEIGHBOURS:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    while len(merged) > _MOST_SPANS:
        gaps = [after[0] - before[1] for before, after in pairwise(merged)]
        at = gaps.index(min(gaps))
        merged[at : at + 2] = [(merged[at][0], merged[at + 1][1])]
    return tuple(merged)


def is_verdict(payload: Mapping[str, Any]) -> bool:
    """Say whether a pair's score is the judge's, and not that of a check or of equal answers."""
    return payload.get("judge") in _VERDICTS
