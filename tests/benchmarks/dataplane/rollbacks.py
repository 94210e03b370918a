"""The pure part of the rollback benchmark: what the rollbacks come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

__all__ = ["LIMIT_MS", "Rollback", "Seen", "observed", "rollback_report"]

LIMIT_MS = 250.0
"""The goal: so long after a rollback's decision the candidate gets its last request, at p99.

It holds for the split's application everywhere too, before which no request need have come.
"""

_QUANTILES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as its user saw it. Unix seconds; ``reason`` as the gateway's answer says."""

    sent_at: float
    answered_at: float
    variant: str
    reason: str

    @property
    def assigned(self) -> bool:
        """Whether the candidate was asked."""
        return self.variant == "candidate" or self.reason == "fallback"


@dataclass(frozen=True, slots=True)
class Rollback:
    """One rollback, in seconds.

    ``last_candidate`` is from the decision to the last request that any gateway gave the candidate,
    by the gateways' own account; ``users`` the same by the users', whose requests are a little
    older than their assignment; ``applied`` until the last gateway had applied the split;
    ``detection`` from the first failing answer that a user saw to the decision; ``failures`` counts
    the failing answers up to there.
    """

    last_candidate: float
    users: float
    applied: float
    detection: float
    failures: int


def observed(
    seen: Sequence[Seen], *, decided_at: float, last_candidate: float, applied: float
) -> Rollback:
    """Put one rollback together from what users saw and what the receipt says.

    Raises ``ValueError`` where no user saw a failing answer.
    """
    failing = [each for each in seen if each.reason == "fallback"]
    if not failing:
        raise ValueError("nobody saw a failing answer")
    first = min(each.answered_at for each in failing)
    last = max(each.sent_at for each in seen if each.assigned)
    return Rollback(
        last_candidate=last_candidate,
        users=max(0.0, last - decided_at),
        applied=applied,
        detection=decided_at - first,
        failures=sum(each.answered_at <= decided_at for each in failing),
    )


def rollback_report(
    rollbacks: Sequence[Rollback], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the benchmark's JSON document; quantiles are by nearest rank over the rollbacks."""
    columns = {
        "decision to the last candidate request": [each.last_candidate for each in rollbacks],
        "the same by the users' clocks": [each.users for each in rollbacks],
        "decision to the split applied everywhere": [each.applied for each in rollbacks],
        "first failing answer to decision": [each.detection for each in rollbacks],
    }
    results = [
        _row(f"{name}, {quantile}", _rank(values, share) * 1000, "ms", len(values))
        for name, values in columns.items()
        for quantile, share in _QUANTILES.items()
    ]
    counts = [float(each.failures) for each in rollbacks]
    results += [
        _row(f"failing answers before the decision, {name}", _rank(counts, share), "", len(counts))
        for name, share in _QUANTILES.items()
    ]
    for row in results[:6]:
        if row["name"].endswith("p99"):
            row |= {"goal": f"< {LIMIT_MS:g}", "met": row["value"] < LIMIT_MS}
    return {"environment": dict(environment), "results": results}


def _row(name: str, value: float, unit: str, rounds: int) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "goal": None,
        "met": None,
        "rounds": rounds,
    }


def _rank(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
