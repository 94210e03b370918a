"""Repeated observations of one user or conversation made into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import inf, isfinite
from typing import Any, NamedTuple, Self

from rollout.statistics.bets import checked

_BLOCK = 256


class OpenCluster(NamedTuple):
    """A cluster whose observations are being collected, since the observation `opened`."""

    key: str
    opened: int
    n: int
    total: float


@dataclass(frozen=True)
class ClusterMeans:
    """One observation a cluster, in the order of the evidence.

    Observations of one user depend on each other: ten pairs of someone whose every answer comes out
    worse are one coincidence, and a bet on each of them would count it ten times. Here a cluster
    opens at its first observation, collects its observations for `window` observations of the
    whole stream, its first included, and then emits their mean, once. Later observations of it are
    ignored. With a window of 1 the first observation stands for the cluster, at once; larger
    windows have a smaller variance and delay an alarm by at most the window.

    When a cluster closes depends on the order of keys alone, never on values. So if a cluster's
    mean is at most 0 given the other clusters, the emitted values have `E[z | past] <= 0`,
    whatever the dependence within a cluster, and bets on them are e-processes (arXiv 2010.09686).

    Domain: clusters that are independent of each other given the past; every cluster weighs the
    same, so the claim is about the mean over users instead of over requests. The last `memory`
    closed clusters are remembered, rounded down to blocks; one that comes back after so many others
    counts as new. Keys are kept as 48-bit hashes. An update copies at most a block and the open
    clusters.
    """

    window: int
    memory: int = 20_000
    n: int = 0
    emitted: int = 0
    ignored: int = 0
    open: tuple[OpenCluster, ...] = ()
    recent: frozenset[str] = frozenset()
    blocks: tuple[frozenset[str], ...] = ()

    @classmethod
    def start(cls, *, window: int, memory: int = 20_000) -> Self:
        """State without observations.

        `window` counts observations of the whole stream, `memory` closed clusters.

        Raises ValueError for a window or memory below 1.
        """
        checked("window", window, 1, inf, closed=True)
        checked("memory", memory, 1, inf, closed=True)
        return cls(window=int(window), memory=int(memory))

    def add(self, cluster: str | None, value: float) -> tuple[ClusterMeans, tuple[float, ...]]:
        """State after one observation, and the observations to count now.

        An observation without a cluster is one of its own. Raises ValueError for a value that is
        not finite.
        """
        if not isfinite(value):
            raise ValueError(f"value must be finite, not {value!r}")
        state: ClusterMeans = replace(self, n=self.n + 1)
        if cluster is not None:
            state = _collected(state, _hashed(cluster), value)
        state, due = _closed(state, state.n - state.window + 1)
        if cluster is None:
            return replace(state, emitted=state.emitted + 1), (*due, value)
        return state, due

    def flush(self) -> tuple[ClusterMeans, tuple[float, ...]]:
        """State without open clusters, and their means: at the end of a phase, not at a look."""
        return _closed(self, self.n)

    def to_json(self) -> dict[str, Any]:
        """Document that `from_json` turns into an equal state."""
        return {
            "window": self.window,
            "memory": self.memory,
            "n": self.n,
            "emitted": self.emitted,
            "ignored": self.ignored,
            "open": [list(cluster) for cluster in self.open],
            "recent": sorted(self.recent),
            "blocks": [sorted(block) for block in self.blocks],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """State from a document of `to_json`. Raises KeyError when a field is missing."""
        return replace(
            cls.start(window=document["window"], memory=document["memory"]),
            n=int(document["n"]),
            emitted=int(document["emitted"]),
            ignored=int(document["ignored"]),
            open=tuple(
                OpenCluster(str(key), int(opened), int(n), float(total))
                for key, opened, n, total in document["open"]
            ),
            recent=frozenset(document["recent"]),
            blocks=tuple(frozenset(block) for block in document["blocks"]),
        )


def _collected(state: ClusterMeans, key: str, value: float) -> ClusterMeans:
    """Add the newest observation to its cluster, unless that is closed."""
    for place, held in enumerate(state.open):
        if held.key == key:
            grown = held._replace(n=held.n + 1, total=held.total + value)
            return replace(state, open=(*state.open[:place], grown, *state.open[place + 1 :]))
    if key in state.recent or any(key in block for block in state.blocks):
        return replace(state, ignored=state.ignored + 1)
    return replace(state, open=(*state.open, OpenCluster(key, state.n, 1, value)))


def _closed(state: ClusterMeans, opened: int) -> tuple[ClusterMeans, tuple[float, ...]]:
    """Close the clusters that opened at observation `opened` or before, oldest first."""
    due = [held for held in state.open if held.opened <= opened]
    if not due:
        return state, ()
    recent, blocks = state.recent, state.blocks
    size = min(_BLOCK, max(1, state.memory // 8))
    for held in due:
        recent |= {held.key}
        if len(recent) >= size:
            recent, blocks = frozenset(), (*blocks, recent)
        keep = (state.memory - len(recent)) // size
        blocks = blocks[max(0, len(blocks) - keep) :]
    closed = replace(
        state,
        emitted=state.emitted + len(due),
        open=state.open[len(due) :],
        recent=recent,
        blocks=blocks,
    )
    return closed, tuple(held.total / held.n for held in due)


def _hashed(cluster: str) -> str:
    return blake2b(cluster.encode(), digest_size=6).hexdigest()
