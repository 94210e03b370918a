"""All rules on the same streams: ours from shadow on, the others from their first canary."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from decisions.design import Design
from decisions.rules import HORIZON, Fate, Rule
from decisions.serving import Run, serve
from decisions.shadowing import NEVER, PairEvidence, Shadow, gather, watch
from decisions.streams import DAY_S, Floats, Requests
from decisions.worlds import World

__all__ = ["LONG", "Case", "Ours", "false_alarms", "ours", "theirs"]

LONG = 10_000
"""Pairs over which an A/A comparison is looked at."""

_BLOCK = 25
_SOON = 2000
_PAIRS = 10_000
_SHADOW_STREAM, _LIVE_STREAM, _HOUR = 1, 2, 3

Stage = Literal["shadow", "live", "full", "none"]


@dataclass(frozen=True, slots=True)
class Ours:
    """What became of one run of ours.

    ``stage`` is where harm was proven (``none``: it was not), ``pairs`` all that were compared and
    judged by then, ``requests`` the live ones, ``served`` those by the candidate. ``full_at`` are
    the live ones, and ``full_pairs`` the pairs, before the candidate got everybody.
    ``shadow_pairs`` are those of the shadow alone.
    """

    stage: Stage
    pairs: int
    shadow_pairs: int
    requests: int = 0
    served: int = 0
    full_at: int | None = None
    full_pairs: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One case for our engine: whether it ends with the shadow, and how long it bakes."""

    world: World
    design: Design
    seed: int
    bake_s: float = 3600.0
    tick_s: float = 1.0

    @property
    def key(self) -> tuple[int, int]:
        """What the seeds of its streams begin with."""
        return self.seed, zlib.crc32(self.world.name.encode())

    def hour(self, run: int) -> float:
        """Return the hour of the day at which a run starts, from 0 to 1."""
        return float(np.random.default_rng([*self.key, _HOUR, run]).random())

    def shadow(self, runs: Sequence[int], length: int) -> Requests:
        """Return the mirrored requests of some runs."""
        return Requests(
            self.world,
            (*self.key, _SHADOW_STREAM),
            length,
            runs=runs,
            seconds=1 / self.world.rate / self.design.mirror_share,
            start=np.array([self.hour(run) for run in runs]),
        )

    def live(self, run: int, length: int, *, after_s: float = 0.0) -> Requests:
        """Return the live requests of a run that come ``after_s`` seconds after its start."""
        return Requests(
            self.world,
            (*self.key, _LIVE_STREAM),
            length,
            runs=run,
            seconds=1 / self.world.rate,
            start=self.hour(run) + after_s / DAY_S,
        )


def ours(case: Case, runs: int) -> list[Ours]:
    """Simulate whole rollouts.

    In most runs of a regression that shadow can see little is left to do after 2,000 pairs, so
    only the runs that go on are taken further.
    """
    soon = not case.world.healthy and case.world.since == "shadow"
    found: dict[int, Ours] = {}
    for block in _blocks(range(runs)):
        left = list(block)
        most = _pairs(case)
        for length in (_SOON, most) if soon else (most,):
            evidence = gather(case.design, case.shadow(left, length))
            watched = watch(case.design, evidence)
            ended = _shadow_ends(watched, left)
            found |= ended
            undecided = [run for run in left if run not in ended]
            if length == most:
                found |= _taken_on(case, evidence, watched, left, ended)
            left = undecided
            if not left:
                break
    return [found[run] for run in range(runs)]


def false_alarms(case: Case, runs: int) -> Floats:
    """Return for each run the pair at which harm was proven; looked at after each of 10,000."""
    found = []
    for block in _blocks(range(runs)):
        evidence = gather(case.design, case.shadow(block, LONG), proofs=False)
        harmed = watch(case.design, evidence).harmed
        found.append(np.where(harmed < NEVER, harmed, np.inf))
    return np.concatenate(found)


def theirs(case: Case, rules: Sequence[Rule], runs: int) -> dict[str, list[Fate] | None]:
    """Let the other rules decide on the live requests; ``None`` for one that has no metric."""
    found: dict[str, list[Fate] | None] = {rule.name: [] for rule in rules}
    for run in range(runs):
        live = case.live(run, HORIZON)
        for rule in rules:
            fates = found[rule.name]
            if fates is None:
                continue
            fate = rule.decide(live)
            if fate is None:
                found[rule.name] = None
            else:
                fates.append(fate)
        if all(fates is None for fates in found.values()):
            break
    return found


def _shadow_ends(watched: Shadow, runs: Sequence[int]) -> dict[int, Ours]:
    """Return the runs in which harm is proven before the shadow has passed."""
    return {
        run: Ours("shadow", int(harmed), int(harmed))
        for run, harmed, passed in zip(runs, watched.harmed, watched.passed, strict=True)
        if harmed <= passed and harmed < NEVER
    }


def _taken_on(
    case: Case,
    evidence: PairEvidence,
    watched: Shadow,
    runs: Sequence[int],
    ended: dict[int, Ours],
) -> dict[int, Ours]:
    """Take the runs on that are neither rolled back in shadow nor still there."""
    found = {}
    for row, run in enumerate(runs):
        pairs = int(watched.passed[row])
        if run in ended:
            continue
        if pairs == NEVER:
            found[run] = Ours("none", _pairs(case), _pairs(case))
            continue
        shadow_s = pairs / case.world.rate / case.design.mirror_share
        live = case.live(run, _live_requests(case), after_s=shadow_s)
        ending = serve(
            case.design,
            Run(evidence, row, pairs, _when_full(case, run)),
            live,
            bake_s=case.bake_s,
            tick_s=case.tick_s,
        )
        stage: Stage = "none"
        if ending.outcome == "rolled_back":
            stage = "live" if ending.full_at is None else "full"
        found[run] = Ours(
            stage,
            ending.pairs,
            pairs,
            ending.requests,
            ending.served,
            ending.full_at,
            ending.full_pairs,
        )
    return found


def _when_full(case: Case, run: int) -> Callable[[int], PairEvidence] | None:
    if case.world.since != "full":
        return None
    return lambda pairs: gather(case.design, case.shadow([run], _pairs(case)), full_from=pairs)


def _pairs(case: Case) -> int:
    """Return pairs that are enough for shadow and, where it bakes for long, for the bake."""
    return max(
        _PAIRS, _PAIRS // 2 + round(case.bake_s * case.world.rate * case.design.mirror_share)
    )


def _live_requests(case: Case) -> int:
    """Return live requests that are enough for the steps and the bake, with some to spare."""
    steps = [step for step in case.design.steps if step.weight_bp and step.kind != "bake"]
    expected = sum(step.min_samples / step.weight_bp * 10_000 for step in steps)
    return round(1.5 * expected + case.bake_s * case.world.rate)


def _blocks(runs: range) -> list[list[int]]:
    return [list(runs[start : start + _BLOCK]) for start in range(0, len(runs), _BLOCK)]
