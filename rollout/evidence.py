"""What is known about a rollout: an immutable value that one fact after the other changes.

:func:`fold` is the only way in. It is pure, so that the same facts give the same state on every
machine, and the state goes to JSON and back without loss. Paired evidence belongs to the whole
rollout; live evidence to one assignment epoch, which starts with half of its capital carried over
from shadow (see STATISTICS: carried over whole, a good shadow would slow the alarm that matters).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct, field
from msgspec.structs import asdict, replace

from rollout.clustering import OpenCluster
from rollout.judge_health import JudgeHealth
from rollout.spec import MetricSpec, RolloutSpec
from rollout.spec_metrics import LATENCIES, RELATIVE_METRICS
from rollout.statistics import (
    LiveState,
    PairedState,
    QuantileState,
    RateLimitState,
    SampleRatioState,
)
from rollout.statistics.clusters import ClusterMeans
from rollout.statistics.labels import LabelState
from rollout.statistics.missing import VerdictCounts
from rollout.statistics.subset import SubsetState
from rollout.steps import Step

__all__ = [
    "MAX_SEGMENTS",
    "OVERALL",
    "RECENT",
    "EvidenceState",
    "MetricEvidence",
    "Reading",
    "Trusted",
    "begin_step",
    "is_live",
    "start_evidence",
    "start_live",
    "start_paired",
]

_LEAST_LIMIT = 0.001

OVERALL = ""
"""The name under which a metric's evidence over all segments is kept."""

MAX_SEGMENTS = 12
"""Segments told apart; traffic of further ones counts overall only. Bounds labels and state."""

RECENT = 100
"""Judgments that the judge's health is read from."""


class _Value(Struct, frozen=True):
    """An immutable value that changes by copies; C code makes them, as there are many."""

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return replace(self, **changes)


class Reading(Struct, frozen=True):
    """What Prometheus last said about a value with a limit.

    ``at`` is when ``value`` was read (Unix seconds), ``breaches`` how many readings in a row, up to
    that one, were beyond the limit. ``error`` says why the latest reading failed, if it did: that
    neither ends a row of breaches nor makes it longer.
    """

    value: float | None = None
    at: float = 0.0
    breaches: int = 0
    error: str | None = None


class MetricEvidence(_Value, frozen=True):
    """The evidence on one metric.

    ``paired`` and ``live`` are by segment, :data:`OVERALL` first of all. ``baseline`` counts the
    baseline's own requests and failures, ever. ``noise`` is the A/A stream in both directions.
    ``worst`` holds ``(badness, pair id)`` of the pairs that spoke most against the candidate.
    ``reverse`` is ``paired`` with the arms changed about, for a metric of which either direction is
    harm; ``labels`` what people said about pairs that the judge has seen; ``reading`` the last
    value of a metric that has a limit; ``asked`` the verdicts given and missing, by segment.
    """

    paired: Mapping[str, PairedState] = field(default_factory=dict)
    live: Mapping[str, LiveState] = field(default_factory=dict)
    limit: RateLimitState | None = None
    noise: tuple[PairedState, PairedState] | None = None
    threshold: QuantileState | None = None
    baseline: tuple[int, int] = (0, 0)
    not_applicable: int = 0
    worst: tuple[tuple[float, int], ...] = ()
    reverse: Mapping[str, PairedState] = field(default_factory=dict)
    labels: LabelState | None = None
    reading: Reading | None = None
    asked: Mapping[str, VerdictCounts] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; :meth:`from_json` is its inverse."""
        return {
            "paired": {segment: state.to_json() for segment, state in self.paired.items()},
            "live": {segment: state.to_json() for segment, state in self.live.items()},
            "limit": self.limit.to_json() if self.limit else None,
            "noise": [state.to_json() for state in self.noise] if self.noise else None,
            "threshold": self.threshold.to_json() if self.threshold else None,
            "baseline": list(self.baseline),
            "not_applicable": self.not_applicable,
            "worst": [list(each) for each in self.worst],
            "reverse": {segment: state.to_json() for segment, state in self.reverse.items()},
            "labels": self.labels.to_json() if self.labels else None,
            "reading": asdict(self.reading) if self.reading else None,
            "asked": {segment: counts.to_json() for segment, counts in self.asked.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MetricEvidence:
        """Build the evidence from its JSON document."""
        noise = document["noise"]
        reverse, labels, reading = (  # a document of an older version has none of them
            document.get(name) for name in ("reverse", "labels", "reading")
        )
        return cls(
            paired={name: PairedState.from_json(d) for name, d in document["paired"].items()},
            live={name: LiveState.from_json(d) for name, d in document["live"].items()},
            limit=RateLimitState.from_json(document["limit"]) if document["limit"] else None,
            noise=(PairedState.from_json(noise[0]), PairedState.from_json(noise[1]))
            if noise
            else None,
            threshold=QuantileState.from_json(document["threshold"])
            if document["threshold"]
            else None,
            baseline=(document["baseline"][0], document["baseline"][1]),
            not_applicable=document["not_applicable"],
            worst=tuple((badness, pair_id) for badness, pair_id in document["worst"]),
            reverse={name: PairedState.from_json(d) for name, d in (reverse or {}).items()},
            labels=LabelState.from_json(labels) if labels else None,
            reading=Reading(**reading) if reading else None,
            asked={
                name: VerdictCounts.from_json(each)
                for name, each in document.get("asked", {}).items()
            },
        )


class Trusted(_Value, frozen=True):
    """What would be known had the verdicts since the judge's last pass never come.

    Kept beside the state while there are such verdicts, and put in its place when the judge fails:
    the judge's ``metric``, the ``open`` clusters with the judge's sums alone, ``recent`` and
    ``log_harm`` as in :class:`EvidenceState`.
    """

    metric: MetricEvidence
    open: tuple[OpenCluster, ...]
    recent: str
    log_harm: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; :meth:`from_json` is its inverse."""
        return {
            "metric": self.metric.to_json(),
            "open": [cluster.to_json() for cluster in self.open],
            "recent": self.recent,
            "log_harm": self.log_harm,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Trusted:
        """Build the value from its JSON document."""
        return cls(
            MetricEvidence.from_json(document["metric"]),
            tuple(map(OpenCluster.from_json, document["open"])),
            document["recent"],
            document["log_harm"],
        )


class EvidenceState(_Value, frozen=True):
    """Everything that the policy looks at.

    ``clock`` is the latest instant seen in a fact; ``last_pair_at`` and ``last_live_at`` are the
    latest of each kind (Unix seconds, 0: none yet). ``step_pairs``, ``step_baseline``,
    ``step_candidate`` and ``step_checked`` count pairs, live requests by arm, and checked live
    answers of the candidate, since the step began. ``recent`` is
    the judge's last answers, one letter each: v a verdict, i an inconsistent one, e an error, b
    the budget was exhausted. ``unreadable`` counts facts that could not be understood; they are
    missing data and nothing else. ``open`` holds the users whose pairs are being made into one,
    ``seen`` those whose first pair has counted (see :mod:`rollout.clustering`). ``log_harm`` is
    the natural log of the guardrails' capital on harm, which outlives steps and epochs (see
    :mod:`rollout.capital`). ``subset`` tests whether the pairs that were compared are a fair sample
    of those that were drawn. ``judge_health`` is what its control pairs say of the judge, ``None``
    where it is not examined; ``trusted`` is set while verdicts wait for its next pass (see
    :mod:`rollout.quarantine`).
    """

    metrics: Mapping[str, MetricEvidence]
    last_seq: int = 0
    clock: float = 0.0
    epoch: int = 0
    weight_bp: int = 0
    pairs: int = 0
    noise_pairs: int = 0
    step_pairs: int = 0
    step_baseline: int = 0
    step_candidate: int = 0
    step_checked: int = 0
    last_pair_at: float = 0.0
    last_live_at: float = 0.0
    recent: str = ""
    unreadable: int = 0
    sample_ratio: SampleRatioState | None = None
    breakers: Mapping[str, str] = field(default_factory=dict)
    open: tuple[OpenCluster, ...] = ()
    seen: ClusterMeans | None = None
    log_harm: float = 0.0
    subset: SubsetState | None = None
    judge_health: JudgeHealth | None = None
    trusted: Trusted | None = None

    @property
    def consecutive_judge_errors(self) -> int:
        """How many judgments in a row, up to the latest, were errors."""
        return len(self.recent) - len(self.recent.rstrip("e"))

    def segments(self) -> list[str]:
        """Return the segments seen so far, sorted."""
        found = {name for metric in self.metrics.values() for name in metric.paired}
        found |= {name for metric in self.metrics.values() for name in metric.live}
        return sorted(found - {OVERALL})

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; :meth:`from_json` is its inverse."""
        document = asdict(self)
        document["metrics"] = {name: metric.to_json() for name, metric in self.metrics.items()}
        document["sample_ratio"] = self.sample_ratio.to_json() if self.sample_ratio else None
        document["breakers"] = dict(self.breakers)
        document["open"] = [cluster.to_json() for cluster in self.open]
        document["seen"] = self.seen.to_json() if self.seen else None
        document["subset"] = self.subset.to_json() if self.subset else None
        document["judge_health"] = asdict(self.judge_health) if self.judge_health else None
        document["trusted"] = self.trusted.to_json() if self.trusted else None
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> EvidenceState:
        """Build the state from its JSON document."""
        ratio, seen = document["sample_ratio"], document.get("seen")
        subset = document.get("subset")
        health, trusted = document.get("judge_health"), document.get("trusted")
        return cls(
            **{
                **document,
                "metrics": {
                    name: MetricEvidence.from_json(metric)
                    for name, metric in document["metrics"].items()
                },
                "sample_ratio": SampleRatioState.from_json(ratio) if ratio else None,
                "breakers": dict(document["breakers"]),
                "open": tuple(map(OpenCluster.from_json, document.get("open", ()))),
                "seen": ClusterMeans.from_json(seen) if seen else None,
                "subset": SubsetState.from_json(subset) if subset else None,
                "judge_health": JudgeHealth.from_json(health) if health else None,
                "trusted": Trusted.from_json(trusted) if trusted else None,
            }
        )


def start_evidence(spec: RolloutSpec) -> EvidenceState:
    """Return the state of a rollout about which nothing is known yet."""
    return EvidenceState(metrics={metric.name: _start(metric) for metric in spec.analysis.metrics})


def start_paired(metric: MetricSpec) -> PairedState:
    """Return a metric's paired state without evidence."""
    if metric.name == "judge_win_rate":
        return PairedState.start(kind="score", margin=metric.margin)
    if metric.name in RELATIVE_METRICS:
        # The difference of a pair is (c - b) / (c + b): a ratio of 1 + m is m / (2 + m).
        return PairedState.start(kind="mean", margin=metric.margin / (2 + metric.margin))
    return PairedState.start(kind="binary", margin=metric.margin)


def begin_step(
    state: EvidenceState, spec: RolloutSpec, step: Step, *, weight_bp: int, epoch: int
) -> EvidenceState:
    """Return the state with which a step begins: its counters at 0, its live evidence ready.

    A new ``epoch`` starts the live evidence anew with half its capital from shadow; a new weight
    within the epoch goes on with it.
    """
    fresh = epoch != state.epoch
    metrics: dict[str, MetricEvidence] = {}
    for metric in spec.analysis.metrics:
        known = state.metrics[metric.name]
        if fresh or (weight_bp and not known.live and is_live(metric)):
            known = known.evolve(live=_first_live(known, metric) if weight_bp else {})
        metrics[metric.name] = known.evolve(limit=_limit(known, metric, step))
    ratio = None if fresh else state.sample_ratio
    if ratio is None and 0 < weight_bp < 10_000:
        ratio = SampleRatioState.start(share=weight_bp / 10_000)
    return state.evolve(
        metrics=metrics,
        epoch=epoch,
        weight_bp=weight_bp,
        step_pairs=0,
        step_baseline=0,
        step_candidate=0,
        step_checked=0,
        sample_ratio=ratio,
    )


def start_live(known: MetricEvidence, metric: MetricSpec, segment: str) -> LiveState:
    """Return a segment's live state without live evidence: capital ½ + ½·e from its pairs."""
    paired = known.paired.get(segment)
    return LiveState.start(
        margin=metric.margin,
        carried_log_e=paired.log_e_harm if paired is not None and paired.n else None,
    )


def is_live(metric: MetricSpec) -> bool:
    """Say whether single live requests are counted, arm by arm, rather than only pairs."""
    return metric.name not in _PAIRS_ONLY and not metric.is_threshold


def _start(metric: MetricSpec) -> MetricEvidence:
    if metric.source is not None:
        return MetricEvidence()
    quantile = metric.name in LATENCIES and metric.slo is None
    start = {OVERALL: start_paired(metric)}
    return MetricEvidence(
        paired=start,
        reverse=start if metric.direction == "both" else {},
        threshold=QuantileState.start(quantile=metric.quantile) if quantile else None,
        labels=LabelState.start(margin=metric.margin) if metric.name == "judge_win_rate" else None,
    )


_PAIRS_ONLY = frozenset({"judge_win_rate", *RELATIVE_METRICS})


def _first_live(known: MetricEvidence, metric: MetricSpec) -> dict[str, LiveState]:
    return {OVERALL: start_live(known, metric, OVERALL)} if is_live(metric) else {}


def _limit(known: MetricEvidence, metric: MetricSpec, step: Step) -> RateLimitState | None:
    """Return the limit on the candidate's failure rate while hardly any baseline is left.

    A multiple of the baseline's earlier rate, or of a higher one within the step (drift is no fault
    of the candidate), and never below 0.1%: twice hardly anything is nothing that users notice.
    """
    requests, failures = known.baseline
    if step.max_rate_ratio is None or not requests or metric.direction == "decrease":
        return None
    ratio = step.max_rate_ratio
    limit = RateLimitState.limit_from(requests=requests, failures=failures, ratio=ratio)
    return RateLimitState.start(limit=max(limit, _LEAST_LIMIT), ratio=ratio)
