"""Pairs of one user made into one, because they are not independent of each other.

Ten pairs of somebody whose every answer comes out worse are one coincidence, not ten. What counts
is decided by the order of keys alone, never by values, so that bets on what is emitted stay fair
(see :mod:`rollout.statistics.clusters`, whose rule this is for all metrics of a pair at once).

``mean``: the pairs of one user in one segment that come within :data:`WINDOW` pairs of the first
count as one, their mean, as soon as those have passed; a later visit counts anew, so that a service
with a handful of users can still conclude. ``first``: one pair a user, until :data:`MEMORY` others
have come. A pair without a user counts by itself, at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rollout.statistics.clusters import ClusterMeans

__all__ = ["MEMORY", "WINDOW", "Counted", "OpenCluster", "counts_first", "gathered"]

WINDOW = 16
"""Pairs of the whole stream within which those of one user are one; the longest delay, too."""

MEMORY = 2_000
"""Users that ``first`` remembers. Bounds the state."""

Counted = tuple[str | None, Mapping[str, float]]
"""What counts as one pair: its segment, and the difference in each metric that it says."""


class OpenCluster(NamedTuple):
    """The pairs of one user in one segment, since the pair numbered ``opened``.

    ``sums`` holds the number and the sum of the differences of each metric.
    """

    key: str
    opened: int
    segment: str | None
    sums: Mapping[str, tuple[int, float]]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> OpenCluster:
        """Build a cluster from its JSON document."""
        sums = {name: (int(n), float(total)) for name, (n, total) in document["sums"].items()}
        return cls(document["key"], document["opened"], document["segment"], sums)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; :meth:`from_json` is its inverse."""
        sums = {name: list(each) for name, each in self.sums.items()}
        return {**self._asdict(), "sums": sums}

    def joined(self, differences: Mapping[str, float]) -> OpenCluster:
        """Return the cluster with one more pair."""
        sums = dict(self.sums)
        for name, difference in differences.items():
            n, total = sums.get(name, (0, 0.0))
            sums[name] = (n + 1, total + difference)
        return OpenCluster(self.key, self.opened, self.segment, sums)

    def mean(self) -> Counted:
        """Return what the cluster says as one pair."""
        return self.segment, {name: total / n for name, (n, total) in self.sums.items()}


def gathered(
    held: tuple[OpenCluster, ...], *, cluster: str | None, number: int, pair: Counted
) -> tuple[tuple[OpenCluster, ...], list[Counted]]:
    """Return the open clusters after the pair with this number, and what counts now."""
    if cluster is None and not held:
        return held, [pair]
    segment, differences = pair
    if cluster is not None:
        place = len(held)
        for at, each in enumerate(held):
            if each.key == cluster and each.segment == segment:
                place = at
                break
        known = held[place] if place < len(held) else OpenCluster(cluster, number, segment, {})
        held = (*held[:place], known.joined(differences), *held[place + 1 :])
    due = []
    for each in held:  # those that were opened first stand first
        if number - each.opened < WINDOW - 1:
            break
        due.append(each.mean())
    held = held[len(due) :]
    if cluster is None:
        due.append(pair)
    return held, due


def counts_first(
    seen: ClusterMeans | None, *, cluster: str | None, pair: Counted
) -> tuple[ClusterMeans | None, list[Counted]]:
    """Return the users seen after one more pair, and the pair where it is its user's first."""
    if cluster is None:
        return seen, [pair]
    seen, emitted = (seen or ClusterMeans.start(window=1, memory=MEMORY)).add(cluster, 0.0)
    return seen, [pair] if emitted else []
