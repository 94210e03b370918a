"""Streams of requests: what both arms would answer to each, so that all rules see the same.

The outcome of a request on either arm is fixed by draws that belong to the request, and so is who
serves it at which weight. Whatever a rule does, it meets the same requests in the same order.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from math import sqrt

import numpy as np
from decisions.worlds import SCORES, SEGMENTS, Phase, World
from numpy.typing import NDArray

from shadow.checks import HARD

__all__ = ["DAY_S", "Bools", "Floats", "Requests"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

DAY_S = 86_400.0
_TOGETHER = 0.2  # share of the rarer arm's failures that both arms have on the same request
_SPREAD = 0.5  # of the log latency
_TAIL = 1.6448536269514722  # the normal distribution's 95th percentile


class Requests:
    """Requests of one run in a row, or of several runs in rows; drawn when they are asked for.

    ``seed`` and the run's number say which stream: the same is the same requests, whatever is asked
    of them first, and a longer one begins with the shorter one. ``seconds`` lie between two
    requests; the first comes at the hour ``start`` of the day, from 0 to 1.
    """

    def __init__(
        self,
        world: World,
        seed: Sequence[int],
        length: int,
        *,
        runs: int | Sequence[int],
        seconds: float,
        start: Floats | float = 0.0,
    ) -> None:
        self.world = world
        self.shape = (length,) if isinstance(runs, int) else (len(runs), length)
        self._length = length
        self._runs = runs
        self._seed = list(seed)
        self._seconds = seconds
        self._start = start
        self._drawn: dict[str, Singles] = {}
        self._failed: dict[tuple[str, Phase], tuple[Bools, Bools]] = {}

    def uniform(self, name: str) -> Singles:
        """Return one draw a request from [0, 1), always the same for a name."""
        if name not in self._drawn:
            self._drawn[name] = self._draw(
                name, lambda rng: rng.random(self._length, dtype=np.float32)
            )
        return self._drawn[name]

    @cached_property
    def segment(self) -> Ints:
        """The number of each request's segment."""
        edges = np.cumsum(SEGMENTS)[:-1]
        return np.searchsorted(edges, self.uniform("segment"), side="right")

    @cached_property
    def factor(self) -> Floats:
        """By how much failures are more frequent at this hour of the day than on average."""
        day = np.asarray(self._start)[..., None] + np.arange(self._length) * self._seconds / DAY_S
        factor: Floats = 1.0 + self.world.drift * np.sin(2 * np.pi * day)
        return factor

    def failed(self, metric: str, phase: Phase) -> tuple[Bools, Bools]:
        """Return of which requests the baseline's and the candidate's answer fails."""
        known = self._failed.get((metric, phase))
        if known is None:
            known = self._failed[metric, phase] = self._failures(metric, phase)
        return known

    def _failures(self, metric: str, phase: Phase) -> tuple[Bools, Bools]:
        if metric == "latency":
            return self._slow(phase)
        baseline, candidate = self.world.rates(metric, phase)
        common = _TOGETHER * min(baseline, candidate)
        first: Floats | float = baseline
        both: Floats | float = common
        second: Floats | float = (candidate - common) / (1 - common)
        if self.world.in_segment and candidate != baseline:
            common = _TOGETHER * baseline
            same = (baseline - common) / (1 - common)
            second = np.where(self.segment == len(SEGMENTS) - 1, second, same)
        if self.world.drift:
            first, both, second = (value * self.factor for value in (first, both, second))
        own, other = self.uniform(metric), self.uniform(f"{metric}, candidate")
        return own < first, (own < both) | (other < second)

    def latencies(self, phase: Phase) -> tuple[Floats, Floats]:
        """Return the seconds that baseline and candidate take.

        What a request asks for is the same on both arms and explains a part of its latency.
        """
        part = self.world.latency_shared
        shared, *own = (self._normal(name) for name in ("request", "baseline", "candidate"))
        normal = [sqrt(part) * shared + sqrt(1 - part) * each for each in own]
        worst, candidate = self.world.rates("latency", phase)
        # An answer that is made slow lands beyond the 95th percentile.
        slowed = self.uniform("slow") < (candidate - worst) / (1 - worst)
        second = np.where(slowed, _TAIL + np.abs(own[1]), normal[1])
        return np.exp(_SPREAD * normal[0]), np.exp(_SPREAD * second)

    def scores(self, phase: Phase) -> Floats:
        """Return the judge's scores, the candidate's point of view.

        Where one arm alone fails a hard check the other has won, as the worker decides it; where
        both do, nobody has.
        """
        edges = np.cumsum(self.world.judged(phase))[:-1]
        found = np.array(SCORES)[np.searchsorted(edges, self.uniform("judge"), side="right")]
        baseline = np.zeros(self.shape, dtype=bool)
        candidate = np.zeros(self.shape, dtype=bool)
        for metric in sorted(HARD):
            failed = self.failed(metric, phase)
            baseline |= failed[0]
            candidate |= failed[1]
        decided = baseline | candidate
        found[decided] = baseline[decided].astype(float) - candidate[decided]
        return found

    def _slow(self, phase: Phase) -> tuple[Bools, Bools]:
        limit = np.exp(_SPREAD * _TAIL)
        baseline, candidate = self.latencies(phase)
        return baseline > limit, candidate > limit

    def _normal(self, name: str) -> Floats:
        drawn = self._draw(
            f"latency, {name}", lambda rng: rng.standard_normal(self._length, dtype=np.float32)
        )
        return drawn.astype(np.float64)

    def _draw(self, name: str, draw: Callable[[np.random.Generator], Singles]) -> Singles:
        code = zlib.crc32(name.encode())
        if isinstance(self._runs, int):
            return draw(np.random.default_rng([*self._seed, self._runs, code]))
        rows = [draw(np.random.default_rng([*self._seed, run, code])) for run in self._runs]
        return np.stack(rows)
