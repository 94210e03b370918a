"""The plan of a rollout: its spec's steps with weights, defaults and phases worked out.

A ``set_weight`` is not a step of the plan: it is the weight at which the steps after it run. Each
weight is followed by an analysis, the spec's own or the default one; only a bake that follows a
weight directly takes its place, because it watches the same weight for longer. A ``set_eligible``
likewise says whose requests take part from there on. Once the candidate has users it is always
followed by an analysis, for nothing is known yet of how the new tier fares with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

from rollout.spec import RolloutSpec, StepSpec
from rollout.spec_steps import Direction
from rollout.states import Phase

__all__ = ["Step", "StepKind", "plan"]

StepKind = Literal["preflight", "mirror", "analysis", "pause", "bake"]

_BAKE_EXTRA_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the plan. Durations are seconds, the weight is in basis points.

    ``min_pairs`` and ``max_pairs`` count pairs within the step, ``min_samples`` requests that the
    candidate served within it. ``max_rate_ratio`` is set where hardly any baseline is left to
    compare with: it limits the candidate's failure rates to that multiple of the baseline's
    earlier ones. ``risk`` are the risk tiers that take part (``None``: any), ``direction`` says
    whose requests are mirrored once the candidate has users.
    """

    index: int
    kind: StepKind
    weight_bp: int
    label: str
    min_pairs: int = 0
    max_pairs: int | None = None
    min_samples: int = 0
    min_duration: float = 0.0
    max_duration: float | None = None
    approval: bool = False
    eval_set: str | None = None
    max_rate_ratio: float | None = None
    risk: tuple[str, ...] | None = None
    direction: Direction = "forward"

    @property
    def phase(self) -> Phase:
        """The phase that a rollout is in while this step runs."""
        match self.kind:
            case "preflight":
                return Phase.PREFLIGHT
            case "mirror":
                return Phase.SHADOWING
            case "bake":
                return Phase.BAKING
            case _:
                return Phase.PROGRESSING if self.weight_bp else Phase.SHADOWING

    @property
    def compares(self) -> bool:
        """Whether the step passes on evidence, rather than on time or approval alone."""
        return self.kind in {"mirror", "analysis", "bake"}


def plan(spec: RolloutSpec) -> tuple[Step, ...]:
    """Return the steps that a rollout of ``spec`` goes through."""
    steps: list[Step] = []
    weight_bp = 0
    risk = spec.eligible.risk
    for entry, following in zip_longest(spec.steps, spec.steps[1:]):
        step: Step | None = None
        compared = following is not None and following.analysis is not None
        if entry.set_weight is not None:
            weight_bp = round(entry.set_weight * 100)
            if not compared and (following is None or following.bake is None):
                step = _analysis(spec, len(steps), weight_bp, None)
        elif entry.set_eligible is not None:
            risk = entry.set_eligible.tiers
            if not compared and weight_bp:
                step = _analysis(spec, len(steps), weight_bp, None)
        else:
            step = _step(spec, len(steps), weight_bp, entry)
        if step is not None:
            steps.append(replace(step, risk=risk, label=_label(step, spec, risk)))
    return tuple(steps)


def _step(spec: RolloutSpec, index: int, weight_bp: int, entry: StepSpec) -> Step:
    if entry.preflight is not None:
        label = f"preflight on {entry.preflight.eval_set}"
        return Step(index, "preflight", 0, label, eval_set=entry.preflight.eval_set)
    if entry.mirror is not None:
        mirror = entry.mirror
        return Step(
            index,
            "mirror",
            0,
            f"shadow, {mirror.min_pairs} pairs",
            min_pairs=mirror.min_pairs,
            max_pairs=mirror.max_pairs,
            min_duration=mirror.min_duration,
            max_duration=mirror.max_duration,
        )
    if entry.pause is not None:
        waits = "approval" if entry.pause.approval else f"{entry.pause.duration:g} s"
        return Step(
            index,
            "pause",
            weight_bp,
            f"{_percent(weight_bp)}, wait for {waits}",
            min_duration=entry.pause.duration,
            approval=entry.pause.approval,
            direction=spec.mirror.direction,
        )
    if entry.bake is not None:
        bake = entry.bake
        held_bp = 10_000 - round(bake.holdback * 100)
        return Step(
            index,
            "bake",
            held_bp,
            f"{_percent(held_bp)}, bake {bake.duration:g} s",
            min_samples=spec.analysis.min_samples,
            min_duration=bake.duration,
            max_duration=bake.duration + _BAKE_EXTRA_S,
            max_rate_ratio=bake.max_rate_ratio,
            direction=bake.direction,
        )
    return _analysis(spec, index, weight_bp, entry)


def _analysis(spec: RolloutSpec, index: int, weight_bp: int, entry: StepSpec | None) -> Step:
    own = entry.analysis if entry is not None else None
    default = spec.analysis
    min_samples = own.min_samples if own is not None else None
    min_duration = own.min_duration if own is not None else None
    max_duration = own.max_duration if own is not None else None
    min_samples = default.min_samples if min_samples is None else min_samples
    return Step(
        index,
        "analysis",
        weight_bp,
        f"{_percent(weight_bp)}, {min_samples} requests",
        min_samples=min_samples,
        min_duration=default.min_duration if min_duration is None else min_duration,
        max_duration=default.max_duration if max_duration is None else max_duration,
        # At 100% nothing runs beside the candidate, so it is held to the baseline's rates.
        max_rate_ratio=_LAST_RATE_RATIO if weight_bp == 10_000 else None,
        direction=spec.mirror.direction,
    )


_LAST_RATE_RATIO = 2.0


def _label(step: Step, spec: RolloutSpec, risk: tuple[str, ...] | None) -> str:
    """Return the step's label, with the risk tiers once they are wider than at first."""
    if step.kind == "preflight" or risk == spec.eligible.risk:
        return step.label
    return f"{step.label}, risk {'any' if risk is None else ' and '.join(risk)}"


def _percent(weight_bp: int) -> str:
    return f"{weight_bp / 100:g}%"
