"""Quarantine: verdicts count on trial until the judge has passed, and are undone when it fails.

Pure. With verdicts on trial a second value is kept beside the state (:class:`Trusted`): the judge's
metric, its clusters and the capital on harm, folded from the same facts by the same functions, but
without those verdicts. A pass lets go of it. A failure puts it in the state's place, so that what
is known then is, bit for bit, what would be known had the verdicts never come; those that follow
are missing data until the next pass.

Harm may act on verdicts on trial, for a rollback errs on the safe side. Widening may not: the
judge's proof is that of the state and of what is trusted, the weaker of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.store.evidence import Evidence
from rollout.capital import Shared, reallocated
from rollout.clustering import OpenCluster
from rollout.evidence import EvidenceState, MetricEvidence, Trusted
from rollout.judge_health import JUDGE_METRIC, JudgeHealth, is_verdict
from rollout.spec import RolloutSpec

__all__ = [
    "examined",
    "health_of",
    "is_on_trial",
    "label_heard",
    "on_trial",
    "with_capital",
    "without_verdict",
]

_JUDGED_KINDS = frozenset({"pair", "noise"})


def health_of(state: EvidenceState, fact: Evidence) -> JudgeHealth | None:
    """Return the judge's health before a fact; a pair that says it is watched begins it."""
    if state.judge_health is not None:
        return state.judge_health
    return JudgeHealth() if fact.payload.get("watched") else None


def is_on_trial(fact: Evidence, health: JudgeHealth | None) -> bool:
    """Say whether a fact brings a verdict that waits for the judge's next pass."""
    return health is not None and fact.kind in _JUDGED_KINDS and is_verdict(fact.payload)


def without_verdict(fact: Evidence) -> Evidence:
    """Return a pair of which the judge has said nothing: not an error, a tie, or a loss."""
    payload = {**fact.payload, "judge": "quarantined", "score": None}
    return Evidence(fact.kind, fact.at, payload, fact.segment, fact.epoch)


def label_heard(fact: Evidence, health: JudgeHealth, *, confirmed: bool) -> Evidence:
    """Return a person's label, with the judge's word on the same pair only where that counts."""
    pair_id = fact.payload.get("pair_id")
    known = None if pair_id is None else int(pair_id)
    if fact.payload["judge"] is None or health.counts_for(known, confirmed=confirmed):
        return fact
    return replace(fact, payload={**fact.payload, "judge": None})


def on_trial(state: EvidenceState) -> Trusted | None:
    """Return what is trusted before a verdict that is not confirmed yet."""
    known = state.metrics.get(JUDGE_METRIC)
    if state.trusted is not None or known is None:
        return state.trusted
    return Trusted(known, tuple(map(_judged_alone, state.open)), state.recent, state.log_harm)


def examined(state: EvidenceState, fact: Evidence) -> EvidenceState:
    """Return the state after the end of a window. Raises ``ValueError`` for a broken fact."""
    before = state.judge_health or JudgeHealth()
    health = before.after(fact)
    if health is before:
        return state
    state = state.evolve(judge_health=health)
    trusted = state.trusted
    if trusted is None:
        return state
    if not health.quarantined:
        return state.evolve(trusted=None)
    return state.evolve(
        metrics=_with_metric(state, trusted.metric),
        open=tuple(map(_restored, state.open, trusted.open)),
        recent=trusted.recent,
        log_harm=trusted.log_harm,
        trusted=None,
    )


def with_capital(
    before: EvidenceState, after: EvidenceState, spec: RolloutSpec, shared: Shared
) -> EvidenceState:
    """Return ``after`` with the capital that the trusted evidence alone has earned.

    ``shared`` is what was bet on with the verdicts on trial; of other metrics it is the same.
    """
    if after.trusted is None:
        return after
    if after.metrics is before.metrics and after.trusted is before.trusted:
        return after
    shared.pop(JUDGE_METRIC, None)
    earned = reallocated(_trusted_only(before), _trusted_only(after), spec, shared).log_harm
    if earned == after.trusted.log_harm:
        return after
    return after.evolve(trusted=after.trusted.evolve(log_harm=earned))


def _trusted_only(state: EvidenceState) -> EvidenceState:
    """Return the state as the capital reads it, without verdicts on trial."""
    if state.trusted is None:
        return state
    metrics = _with_metric(state, state.trusted.metric)
    return state.evolve(metrics=metrics, log_harm=state.trusted.log_harm)


def _with_metric(state: EvidenceState, metric: MetricEvidence) -> Mapping[str, MetricEvidence]:
    return {**state.metrics, JUDGE_METRIC: metric}


def _judged_alone(cluster: OpenCluster) -> OpenCluster:
    sums = cluster.sums.get(JUDGE_METRIC)
    return cluster._replace(sums={} if sums is None else {JUDGE_METRIC: sums})


def _restored(cluster: OpenCluster, trusted: OpenCluster) -> OpenCluster:
    """Return the cluster with the judge's sum as it is trusted; both lists open and close alike."""
    sums = {name: each for name, each in cluster.sums.items() if name != JUDGE_METRIC}
    return cluster._replace(sums={**sums, **trusted.sums})
