"""Our engine on live traffic, one run at a time: numpy twins of the product's states.

The controller is taken to look once a second, which only delays it. Requests of a second are
counted by arm, checked, and a share of the baseline's is mirrored as before; every look decides
as `rollout.policy.decide` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from decisions.capitals import limit_capitals, live_capitals, moving_limits
from decisions.design import Design
from decisions.shadowing import PairEvidence, Stream, capital, grown
from decisions.streams import Bools, Floats, Requests
from decisions.worlds import Phase
from decisions_targets import mixture

from rollout.capital import LIVE_PARTS
from rollout.statistics import RateLimitState
from rollout.statistics.bets import RATE_RATIO_WEIGHTS, RATE_RATIOS
from rollout.steps import Step

__all__ = ["Ending", "Look", "Run", "serve"]

Outcome = Literal["rolled_back", "promoted", "open"]

_BASIS = 10_000
_LEAST_LIMIT = 0.001  # these two are the product's: a test shows that it decides so
_LEAST_PAIRS = 50


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of one run.

    ``requests`` are the live ones until then, ``served`` those by the candidate, ``pairs`` all
    pairs. ``full_at`` are the live requests, and ``full_pairs`` the pairs, before the candidate got
    everybody but a holdback (``None``: it never did). ``step`` is the plan's step at the end.
    """

    outcome: Outcome
    step: int
    requests: int
    served: int
    pairs: int
    full_at: int | None = None
    full_pairs: int | None = None


@dataclass(slots=True)
class Run:
    """One run: the evidence of its pairs, and how many there were when it left shadow.

    ``when_full`` works the evidence out anew for a candidate that is worse from its so-manieth pair
    on, where that is a run's case.
    """

    evidence: PairEvidence
    row: int
    pairs: int
    when_full: Callable[[int], PairEvidence] | None = None

    def harm(self, name: str, pairs: np.ndarray) -> list[Stream]:
        """Return a guardrail's harm after as many pairs: shares of it, and their e-values."""
        return [
            (share, harm[self.row][pairs - 1], proof[self.row][pairs - 1])
            for share, harm, proof in self.evidence.harm[name]
        ]

    def proof(self, name: str, pairs: np.ndarray) -> Floats:
        """Return a guardrail's proof after as many pairs."""
        found: Floats = self.evidence.proof[name][self.row][pairs - 1]
        return found

    def baseline(self, name: str, pairs: int) -> tuple[int, int]:
        """Return requests and failures of the baseline in as many pairs."""
        return (
            int(self.evidence.applied[name][self.row][pairs - 1]),
            int(self.evidence.failed[name][self.row][pairs - 1]),
        )

    @property
    def most(self) -> int:
        """Pairs that were drawn."""
        return int(next(iter(self.evidence.proof.values())).shape[1])


@dataclass(frozen=True, slots=True)
class Look:
    """Counts since the step began, one for each look, and by metric the failures of both arms."""

    requests: Floats
    candidate: Floats
    pairs: np.ndarray
    failures: dict[str, tuple[Floats, Floats]]


@dataclass(slots=True)
class _State:
    """What earlier steps have left behind: capital by ratio, and the baseline's own counts."""

    log_harm: float = 0.0
    requests: int = 0
    served: int = 0
    pairs: int = 0
    earlier: dict[str, Floats] = field(default_factory=dict)
    baseline: dict[str, tuple[int, int]] = field(default_factory=dict)


def serve(
    design: Design, run: Run, live: Requests, *, bake_s: float = 3600.0, tick_s: float = 1.0
) -> Ending:
    """Take one run through its live steps, and watch it bake for ``bake_s`` seconds.

    A step that has come to nothing by then, or when the requests drawn are used up, leaves the run
    open.
    """
    log_harm = float(capital(design, run.evidence, run.row)[run.pairs - 1])
    state = _State(log_harm, pairs=run.pairs)
    for each in design.guardrails:
        if not each.judged:
            state.earlier[each.name] = np.zeros((len(RATE_RATIOS), 1))
            state.baseline[each.name] = (0, 0)
    steps = [step for step in design.steps if step.weight_bp]
    full: tuple[int | None, int | None] = None, None
    ending: Outcome = "promoted"
    for step in steps:
        if step.kind == "bake" or step.weight_bp == _BASIS:
            full = state.requests, state.pairs
            if run.when_full is not None:
                run = Run(run.when_full(state.pairs), 0, run.pairs)
        outcome = _step(design, run, live, step, state, bake_s=bake_s, tick_s=tick_s)
        if outcome != "advance":
            ending = "rolled_back" if outcome == "rollback" else "open"
            break
    return Ending(ending, step.index, state.requests, state.served, state.pairs, *full)


def _step(
    design: Design,
    run: Run,
    live: Requests,
    step: Step,
    state: _State,
    *,
    bake_s: float,
    tick_s: float,
) -> str:
    floors = _floors(run, step, state)
    horizons = _horizons(live, step, bake_s)
    for seconds in horizons:
        look = _look(design, run, live, step, state, seconds=seconds, tick_s=tick_s)
        if look is None:
            break
        log_harm = _capital(design, run, look, step, state, floors)
        harmed = log_harm >= design.harm_at
        ready = _ready(design, run, step, look, started=state.pairs, tick_s=tick_s)
        decided = harmed | ready
        if not decided.any() and seconds < horizons[-1]:
            continue
        at = int(decided.argmax()) if decided.any() else len(decided) - 1
        _close(look, at, step, state)
        state.log_harm = float(log_harm[at])
        if decided[at]:
            return "rollback" if harmed[at] else "advance"
    return "open"


def _capital(
    design: Design, run: Run, look: Look, step: Step, state: _State, floors: dict[str, float]
) -> Floats:
    """Return the capital on harm at each look; a look's facts are taken to come at once."""
    pairs = np.concatenate([[state.pairs], look.pairs])
    streams = []
    for each in design.guardrails:
        live = [] if each.judged else _live(each.name, run, look, step, state, floors)
        weight = each.weight / (1 + LIVE_PARTS * len(live))
        streams += [(weight * share, *logs) for share, *logs in run.harm(each.name, pairs)]
        streams += [(weight * LIVE_PARTS, log_e, np.zeros_like(log_e)) for log_e in live]
    found: Floats = state.log_harm + np.cumsum(grown(streams))
    return found


def _horizons(live: Requests, step: Step, bake_s: float) -> tuple[float, ...]:
    """Return how long to watch a step: longer only when it has come to no decision."""
    if step.kind == "bake":
        return (bake_s,)
    expected = max(
        step.min_samples / (step.weight_bp / _BASIS) / live.world.rate, step.min_duration
    )
    return 1.2 * expected, 5 * expected


def _look(
    design: Design,
    run: Run,
    live: Requests,
    step: Step,
    state: _State,
    *,
    seconds: float,
    tick_s: float,
) -> Look | None:
    """Count what the looks of a step see, or return ``None`` when no request is left."""
    each = round(live.world.rate * tick_s)
    looks = min(round(seconds / tick_s), (live.shape[-1] - state.requests) // each)
    if looks < 1:
        return None
    here = slice(state.requests, state.requests + looks * each)
    candidate = live.uniform("arm")[here] < step.weight_bp / _BASIS
    mirrored = live.uniform("mirror")[here] < design.mirror_share
    if step.direction == "forward":
        mirrored &= ~candidate

    def counted(mask: Bools) -> Floats:
        return np.cumsum(mask.reshape(looks, each).sum(axis=1), dtype=np.float64)

    failures = {}
    for name in state.earlier:
        failed = live.failed(name, _phase(step))
        failures[name] = counted(failed[0][here] & ~candidate), counted(failed[1][here] & candidate)
    pairs = np.minimum(state.pairs + counted(mirrored).astype(int), run.most)
    requests = np.arange(1.0, looks + 1) * each
    return Look(requests, counted(candidate), pairs, failures)


def _phase(step: Step) -> Phase:
    return "full" if step.kind == "bake" or step.weight_bp == _BASIS else "live"


def _live(
    name: str, run: Run, look: Look, step: Step, state: _State, floors: dict[str, float]
) -> list[Floats]:
    """Return a guardrail's live harm, and beside hardly any baseline that against its limit.

    Before the first look, and at each.
    """
    share = step.weight_bp / _BASIS
    baseline, candidate = look.failures[name]
    capitals = live_capitals(candidate, baseline + candidate, look.candidate, look.requests, share)
    capitals += state.earlier[name]
    capitals = np.concatenate([state.earlier[name], capitals], axis=1)
    found = [mixture(list(capitals), RATE_RATIO_WEIGHTS)]
    if name in floors and step.max_rate_ratio is not None:
        seen = _baseline(name, run, look, state.pairs)
        limits = moving_limits(floors[name], step.max_rate_ratio, *seen)
        against = limit_capitals(candidate, look.candidate, limits)
        found.append(np.pad(mixture(list(against), RATE_RATIO_WEIGHTS), (1, 0)))
    return found


def _baseline(name: str, run: Run, look: Look, started: int) -> tuple[Floats, Floats]:
    """Return the baseline's requests and failures since the step began, pairs included."""
    earlier = run.baseline(name, started)
    applied = run.evidence.applied[name][run.row][look.pairs - 1] - earlier[0]
    failed = run.evidence.failed[name][run.row][look.pairs - 1] - earlier[1]
    return look.requests - look.candidate + applied, look.failures[name][0] + failed


def _floors(run: Run, step: Step, state: _State) -> dict[str, float]:
    """Return the limits on the candidate's failure rates with which a step begins."""
    if step.max_rate_ratio is None:
        return {}
    found = {}
    for name, (requests, failures) in state.baseline.items():
        seen = run.baseline(name, state.pairs)
        limit = RateLimitState.limit_from(
            requests=requests + seen[0], failures=failures + seen[1], ratio=step.max_rate_ratio
        )
        found[name] = max(limit, _LEAST_LIMIT)
    return found


def _ready(
    design: Design, run: Run, step: Step, look: Look, *, started: int, tick_s: float
) -> Bools:
    """Say at which looks the step may pass, as the policy's `_not_enough` has it."""
    elapsed = np.arange(1, len(look.requests) + 1) * tick_s
    checks = round(step.min_samples * design.live_sample / 200)
    expected = (look.requests - look.candidate) * design.mirror_share
    pairs = np.minimum(_LEAST_PAIRS, np.floor(expected / 10))
    lacking = (expected >= _LEAST_PAIRS) & (look.pairs - started < pairs)
    enough = (elapsed >= step.min_duration) & (look.candidate >= max(step.min_samples, checks))
    proven = np.minimum.reduce([run.proof(each.name, look.pairs) for each in design.guardrails])
    ready: Bools = enough & ~lacking & (proven >= design.proof_at)
    return ready


def _close(look: Look, at: int, step: Step, state: _State) -> None:
    """Leave a step behind after one of its looks."""
    share = step.weight_bp / _BASIS
    for name, (baseline, candidate) in look.failures.items():
        hits, trials = candidate[at : at + 1], (baseline + candidate)[at : at + 1]
        arms = look.candidate[at : at + 1], look.requests[at : at + 1]
        state.earlier[name] = state.earlier[name] + live_capitals(hits, trials, *arms, share)
        requests, failures = state.baseline[name]
        served = int(look.requests[at] - look.candidate[at])
        state.baseline[name] = requests + served, failures + int(baseline[at])
    state.requests += int(look.requests[at])
    state.served += int(look.candidate[at])
    state.pairs = int(look.pairs[at])
