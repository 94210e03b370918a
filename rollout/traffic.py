"""What a rollout does to its route's split, as pure functions from split to split.

One rollout at a time holds a route's live traffic (``split.rollout_id``); any number may mirror.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.settings import Route
from gateway.split import Eligibility, Mirror, Split
from rollout.spec import RolloutSpec

__all__ = [
    "demoted",
    "effective_baseline",
    "holder",
    "mirrored",
    "promoted",
    "weight_of",
    "weighted",
    "withdrawn",
]


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


def mirrored(split: Split, rollout_id: int, spec: RolloutSpec) -> Split:
    """Return the split with the rollout's mirror in it."""
    mirror = Mirror(
        rollout_id=rollout_id,
        rollout=spec.name,
        candidate=spec.candidate.deployment,
        percentage_bp=round(spec.mirror.percentage * 100),
        noise_bp=round(spec.mirror.noise_probe * 100),
        salt=f"mirror:{rollout_id}",
    )
    others = tuple(each for each in split.mirrors if each.rollout_id != rollout_id)
    split = split.evolve(mirrors=(*others, mirror))
    return split if holder(split, rollout_id) else _assigned(split, spec)


def weighted(
    split: Split,
    rollout_id: int,
    spec: RolloutSpec,
    *,
    weight_bp: int,
    epoch: int,
    salt: str,
    reason: str,
) -> Split:
    """Return the split with the rollout's candidate at this weight, still mirrored."""
    metric = spec.metric("latency")
    return _assigned(mirrored(split, rollout_id, spec), spec).evolve(
        candidate=spec.candidate.deployment,
        weight_bp=weight_bp,
        salt=salt,
        epoch=epoch,
        rollout=spec.name,
        rollout_id=rollout_id,
        live_sample_bp=round(spec.analysis.live_sample * 100),
        slo_s=metric.slo if metric is not None else None,
        reason=reason,
    )


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


def _assigned(split: Split, spec: RolloutSpec) -> Split:
    eligible = Eligibility(
        risk=spec.eligible.risk,
        headers=tuple(sorted((name.lower(), v) for name, v in spec.eligible.headers.items())),
    )
    return split.evolve(
        targeting_key=spec.assignment.targeting_key,
        on_missing_key=spec.assignment.on_missing_key,
        eligible=eligible,
    )
