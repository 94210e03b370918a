"""What the runs of one rule in one case come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from decisions.rules import Fate
from decisions.simulate import Ours
from decisions.streams import Floats
from decisions.worlds import World

__all__ = ["OURS", "Summary", "of_ours", "of_theirs"]

OURS = "Coalmine"


@dataclass(frozen=True, slots=True)
class Summary:
    """The runs of one rule in one case; every array has one value a run.

    ``stopped`` says whether it rolled back. ``pairs`` and ``requests`` (mirrored ones and live ones
    together) are those until then, infinite where it never did; ``served`` those by the candidate
    until then, or until the rule had shipped it. ``full_at`` are the requests until the candidate
    had everybody. ``calls`` are the judge's until either, two for a pair.
    """

    world: World
    rule: str
    stopped: Floats
    pairs: Floats
    requests: Floats
    served: Floats
    full_at: Floats
    calls: Floats

    @property
    def rate(self) -> float:
        """The share of runs that were rolled back."""
        return float(self.stopped.mean())

    def numbers(self) -> dict[str, tuple[float | None, str]]:
        """Return what is reported, by name, with its unit; ``None`` where it never happened."""
        found: dict[str, tuple[float | None, str]] = {}
        if self.world.healthy:
            found["false rollbacks"] = self.rate, "share of runs"
            found["requests until 100%, median"] = _quantile(self.full_at, 0.5), "requests"
            found["requests until 100%, 80%"] = _quantile(self.full_at, 0.8), "requests"
        else:
            found["missed"] = 1 - self.rate, "share of runs"
            if self.rule == OURS:
                found["pairs until rollback, median"] = _quantile(self.pairs, 0.5), "pairs"
                found["pairs until rollback, 80%"] = _quantile(self.pairs, 0.8), "pairs"
            found["requests until rollback, median"] = _quantile(self.requests, 0.5), "requests"
            found["requests until rollback, 80%"] = _quantile(self.requests, 0.8), "requests"
            found["users served, median"] = _quantile(self.served, 0.5), "requests"
            found["users served, 80%"] = _quantile(self.served, 0.8), "requests"
        if self.rule == OURS:
            found["judge calls, median"] = _quantile(self.calls, 0.5), "calls"
        return found


def of_ours(world: World, runs: Sequence[Ours], mirror_share: float) -> Summary:
    """Summarise runs of our engine."""
    stopped = np.array([run.stage != "none" for run in runs])
    pairs = np.array([run.pairs for run in runs], dtype=float)
    live = np.array([run.requests for run in runs], dtype=float)
    shadow = np.array([run.shadow_pairs for run in runs]) / mirror_share
    until = [
        run.pairs if run.full_pairs is None or run.stage == "full" else run.full_pairs
        for run in runs
    ]
    full_at = [inf if run.full_at is None else run.full_at for run in runs]
    return Summary(
        world,
        OURS,
        stopped.astype(float),
        np.where(stopped, pairs, inf),
        np.where(stopped, shadow + live, inf),
        np.array([run.served for run in runs], dtype=float),
        np.array(full_at) + shadow,
        2 * np.array(until, dtype=float),
    )


def of_theirs(world: World, rule: str, fates: Sequence[Fate]) -> Summary:
    """Summarise runs of another rule."""
    stopped = np.array([fate.rolled_back for fate in fates])
    requests = np.array([fate.requests for fate in fates], dtype=float)
    none = np.zeros(len(fates))
    return Summary(
        world,
        rule,
        stopped.astype(float),
        np.full(len(fates), inf),
        np.where(stopped, requests, inf),
        np.array([fate.served for fate in fates], dtype=float),
        np.where(stopped, inf, requests),
        none,
    )


def _quantile(values: Floats, level: float) -> float | None:
    """Return an order statistic, which stays defined where some values are infinite."""
    ordered = np.sort(values)
    value = float(ordered[min(int(level * len(ordered)), len(ordered) - 1)])
    return None if value == inf else value
