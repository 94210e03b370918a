"""What a rollout does to its route's split, as pure functions from split to split.

One rollout at a time holds a route's live traffic (``split.rollout_id``); any number may mirror.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.settings import Route
from gateway.split import Eligibility, Mirror, Split
from rollout.sampling import FIRST_BP
from rollout.spec import RolloutSpec
from rollout.steps import Step

__all__ = [
    "claimed_weight",
    "demoted",
    "effective_baseline",
    "holder",
    "lowered",
    "mirror_of",
    "mirrored",
    "promoted",
    "sampled",
    "weight_of",
    "weighted",
    "withdrawn",
]


_SALT = "mirror"
"""Of every mirror's draw. Keys are unique to a request, so no request is drawn for twice."""


def effective_baseline(split: Split | None, route: str, routes: Mapping[str, Route]) -> str:
    """Return the deployment that serves as baseline on ``route``.

    A promotion overrides the settings until the settings themselves name another baseline. Raises
    ``KeyError`` for a route that the settings do not declare.
    """
    declared = routes[route].baseline
    if split is not None and split.promoted_from == declared:
        return split.baseline
    return declared


def holder(split: Split, rollout_id: int) -> str | None:
    """Return the name of another rollout that holds the live traffic, or ``None``."""
    if split.rollout_id is None or split.rollout_id == rollout_id:
        return None
    return split.rollout


def weight_of(split: Split | None, rollout_id: int) -> int:
    """Return the live weight of a rollout's candidate, in basis points."""
    return split.weight_bp if split is not None and split.rollout_id == rollout_id else 0


def claimed_weight(split: Split | None, rollout_id: int, spec: RolloutSpec) -> int:
    """Return what a rollout's candidate gets of the live traffic, in basis points.

    Unlike :func:`weight_of` it counts a weight that belongs to no rollout at all, as it does when
    somebody wrote it into the store by hand.
    """
    if split is not None and split.rollout_id is None:
        return split.weight_bp if split.candidate == spec.candidate.deployment else 0
    return weight_of(split, rollout_id)


def mirrored(split: Split, rollout_id: int, spec: RolloutSpec, step: Step) -> Split:
    """Return the split with the rollout's mirror in it, as ``step`` wants it.

    An adaptive mirror goes on with the share that it has and starts with a small one: how much
    traffic there is remains to be seen. All mirrors of a route draw with one salt, so that captures
    serve several of them, and each takes the requests of its own rollout. Whose requests the split
    itself assigns, and by which key users are told apart, is for who holds the live traffic to say;
    while nobody does, for the rollout that mirrors alone.
    """
    known = mirror_of(split, rollout_id)
    both = step.direction == "both"
    share = spec.mirror.percentage * 100
    if spec.mirror.adaptive:
        # The other direction brings other requests, many more of them in a bake.
        goes_on = known is not None and known.both == both
        share = min(share, known.percentage_bp if known is not None and goes_on else FIRST_BP)
    mirror = Mirror(
        rollout_id=rollout_id,
        rollout=spec.name,
        candidate=spec.candidate.deployment,
        percentage_bp=round(share, 2),
        noise_bp=round(spec.mirror.noise_probe * 100),
        salt=_SALT,
        both=both,
        eligible=_eligible(spec, step),
    )
    others = tuple(each for each in split.mirrors if each.rollout_id != rollout_id)
    alone = not others or split.rollout_id == rollout_id
    split = split.evolve(mirrors=(*others, mirror))
    if holder(split, rollout_id) or not alone:
        return split
    return _assigned(split, spec, step)


def mirror_of(split: Split | None, rollout_id: int) -> Mirror | None:
    """Return a rollout's mirror, or ``None`` where it has none."""
    mirrors = () if split is None else split.mirrors
    return next((mirror for mirror in mirrors if mirror.rollout_id == rollout_id), None)


def sampled(
    split: Split, rollout_id: int, *, mirror_bp: float, live_bp: int | None = None
) -> Split:
    """Return the split with other shares mirrored and checked for a rollout, in basis points.

    Nothing else changes: no salt, no epoch, nobody's arm. ``live_bp`` is for the rollout that
    holds the live traffic.
    """
    if live_bp is not None and split.rollout_id == rollout_id:
        split = split.evolve(live_sample_bp=live_bp)
    mirrors = tuple(
        replace(mirror, percentage_bp=mirror_bp) if mirror.rollout_id == rollout_id else mirror
        for mirror in split.mirrors
    )
    return split.evolve(mirrors=mirrors)


def weighted(
    split: Split,
    rollout_id: int,
    spec: RolloutSpec,
    step: Step,
    *,
    weight_bp: int,
    epoch: int,
    salt: str,
    reason: str,
) -> Split:
    """Return the split with the rollout's candidate at this weight, still mirrored."""
    metric = spec.metric("latency")
    live_bp = round(spec.analysis.live_sample * 100)
    if spec.mirror.adaptive and weight_of(split, rollout_id) and split.live_sample_bp:
        live_bp = min(live_bp, split.live_sample_bp)  # as much as workers have managed so far
    return _assigned(mirrored(split, rollout_id, spec, step), spec, step).evolve(
        candidate=spec.candidate.deployment,
        weight_bp=weight_bp,
        salt=salt,
        epoch=epoch,
        rollout=spec.name,
        rollout_id=rollout_id,
        live_sample_bp=live_bp,
        slo_s=metric.slo if metric is not None else None,
        reason=reason,
    )


def lowered(split: Split, rollout_id: int, *, by_bp: int, reason: str) -> Split:
    """Return the split with so much less for the rollout's candidate, and nothing sampled.

    The same users stay on it, fewer of them; with nothing left it is :func:`withdrawn`.
    """
    left_bp = weight_of(split, rollout_id) - by_bp
    others = withdrawn(split, rollout_id, reason=reason)
    if left_bp <= 0:
        return others
    return split.evolve(weight_bp=left_bp, mirrors=others.mirrors, live_sample_bp=0, reason=reason)


def withdrawn(split: Split, rollout_id: int, *, reason: str) -> Split:
    """Return the split without the rollout: weight 0, no mirror, everybody on the baseline."""
    others = tuple(each for each in split.mirrors if each.rollout_id != rollout_id)
    split = split.evolve(mirrors=others, reason=reason)
    if split.rollout_id != rollout_id:
        return split
    return split.evolve(
        candidate=None, weight_bp=0, rollout=None, rollout_id=None, live_sample_bp=0, slo_s=None
    )


def promoted(
    split: Split, rollout_id: int, *, candidate: str, baseline: str, declared: str, reason: str
) -> Split:
    """Return the split with the candidate as baseline; the former baseline is kept for rollback.

    ``baseline`` is what served until now, ``declared`` what the settings call the baseline.
    """
    return withdrawn(split, rollout_id, reason=reason).evolve(
        baseline=candidate, former_baseline=baseline, promoted_from=declared
    )


def demoted(split: Split, *, declared: str, reason: str) -> Split:
    """Return the split with the former baseline back in its place, after a promotion."""
    former = split.former_baseline or declared
    return split.evolve(
        baseline=former,
        former_baseline=None,
        promoted_from=None if former == declared else declared,
        reason=reason,
    )


def _assigned(split: Split, spec: RolloutSpec, step: Step) -> Split:
    return split.evolve(
        targeting_key=spec.assignment.targeting_key,
        on_missing_key=spec.assignment.on_missing_key,
        eligible=_eligible(spec, step),
    )


def _eligible(spec: RolloutSpec, step: Step) -> Eligibility:
    return Eligibility(
        risk=step.risk,
        headers=tuple(sorted((name.lower(), v) for name, v in spec.eligible.headers.items())),
    )
