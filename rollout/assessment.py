"""Reading the evidence: per metric, how strong the case against and for the candidate is.

Pure. The combination follows STATISTICS ("Many metrics"): within a metric the mean over its
streams (paired, live, limit) and half on segments; over the guardrails the capital that follows
what grows (:mod:`rollout.capital`), compared with one over the error budget. Promotion needs every
guardrail proven by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, log

from rollout.evidence import (
    MAX_SEGMENTS,
    OVERALL,
    EvidenceState,
    MetricEvidence,
    Reading,
)
from rollout.judge_health import JUDGE_METRIC
from rollout.observations import counted_in_windows
from rollout.shares import live_states, towards_harm
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import LiveState, PairedState, combine_mean, combine_segments
from rollout.statistics.labels import LabelState
from rollout.statistics.missing import VerdictCounts, missing_differently

__all__ = [
    "Assessment",
    "assess",
    "combined_harm",
    "format_e",
    "is_segmented",
    "mean_harm",
    "noise_alarm",
    "samples_needed",
]

_NOISE_ALPHA = 0.01


@dataclass(frozen=True, slots=True)
class Assessment:
    """One metric's evidence over all segments, reduced to what decides.

    E-values are natural logs. ``weight`` is the metric's part in the rollback decision, 0 for a
    signal and for a value with a limit, which proves nothing. ``distrusted`` says that the A/A
    stream contradicts the metric's pairs; they then count neither way. ``applies`` is false where
    the metric applied to none of the pairs and the spec says that this does not block, and for
    what only live requests can tell while nobody is served. ``n`` counts pairs, and of live-only
    metrics the requests of both arms, of which ``served`` were the candidate's. ``labels`` and
    ``reading`` are set where people or a limit decide, ``asked`` where a judge does: its verdicts
    given and missing, by segment.
    """

    metric: MetricSpec
    n: int
    log_e_harm: float
    log_e_non_inferior: float
    log_e_live: float | None
    weight: float
    distrusted: bool
    applies: bool
    served: int = 0
    labels: LabelState | None = None
    reading: Reading | None = None
    asked: Mapping[str, VerdictCounts] = field(default_factory=dict)

    def proven(self, spec: RolloutSpec) -> bool:
        """Whether non-inferiority is proven, now, within the error budget for promotion.

        What only live requests tell has to be proven too, or else to show no harm over enough of
        the candidate's requests: the same as is asked of the other metrics' live evidence.
        """
        needed = log(1 / spec.analysis.error_budget.promote)
        if self.metric.is_threshold:
            return self.reading is not None and not (self.reading.breaches or self.reading.error)
        if self.distrusted or not self.n or self.labels_missing or self.incomplete(spec):
            return False
        if self.metric.is_live_only:
            return self.log_e_non_inferior >= needed or self._harmless(spec)
        if spec.analysis.require_live_proof and self.log_e_live is not None:
            return min(self.log_e_non_inferior, self.log_e_live) >= needed
        return self.log_e_non_inferior >= needed

    @property
    def labels_missing(self) -> int:
        """Human labels that the spec asks for and that are not there yet."""
        return max(0, self.metric.min_human_labels - (self.labels.n if self.labels else 0))

    def incomplete(self, spec: RolloutSpec) -> str | None:
        """Return why too much is missing for a proof, None where it is not: then inconclusive.

        More than the spec's share of verdicts, or missing differently by arm or segment. What was
        judged may then not stand for what was asked, and no proof of it widens.
        """
        overall = self.asked.get(OVERALL)
        if overall is None or not overall.missing:
            return None
        most = spec.on_evaluator_error.max_error_share
        if overall.share > most:
            low, high = overall.bounds or (0.0, 1.0)
            return (
                f"{overall.share:.1%} of verdicts are missing ({overall.missing} of "
                f"{overall.given + overall.missing}), {most:.0%} is the most: with all of them "
                f"lost the win rate is {low:.3f}, with all won {high:.3f}"
            )
        segments = {name: counts for name, counts in self.asked.items() if name != OVERALL}
        return missing_differently(overall, segments)

    def _harmless(self, spec: RolloutSpec) -> bool:
        return (
            not spec.analysis.require_live_proof
            and self.served >= samples_needed(self.metric, spec)
            and self.log_e_harm < log(1 / spec.analysis.error_budget.rollback)
        )


def assess(evidence: EvidenceState, spec: RolloutSpec) -> tuple[Assessment, ...]:
    """Return the assessment of every metric, in the order of the spec."""
    return tuple(_assess(evidence, spec, metric) for metric in spec.analysis.metrics)


def samples_needed(metric: MetricSpec, spec: RolloutSpec) -> int:
    """Return the candidate's requests over which a live-only metric has to show no harm."""
    return spec.analysis.min_samples if metric.min_samples is None else metric.min_samples


def combined_harm(
    evidence: EvidenceState, assessments: tuple[Assessment, ...]
) -> tuple[float, Assessment]:
    """Return the guardrails' combined e-value (log) for harm, and the one that weighs most."""
    acting = [each for each in assessments if each.weight]
    heaviest = max(acting, key=lambda each: each.log_e_harm + log(each.weight))
    return evidence.log_harm, heaviest


def mean_harm(assessments: tuple[Assessment, ...]) -> float:
    """Return the weighted mean of the guardrails' e-values for harm (log).

    The family is fixed by the spec: a guardrail without data counts as an e-value of 1.
    """
    acting = [each for each in assessments if each.weight]
    return combine_mean([each.log_e_harm for each in acting], [each.weight for each in acting])


def noise_alarm(evidence: EvidenceState, spec: RolloutSpec, metric: MetricSpec) -> bool:
    """Say whether baseline against baseline shows a difference in this metric.

    Two-sided, at 1% over all metrics together (Bonferroni). Then it is the measuring that differs
    between production and mirror, not the model.
    """
    noise = evidence.metrics[metric.name].noise
    if noise is None:
        return False
    log_e = combine_mean([noise[0].log_e_harm, noise[1].log_e_harm])
    return log_e >= log(len(spec.analysis.metrics) / _NOISE_ALPHA)


def format_e(log_e: float) -> str:
    """Write an e-value for people: ``0.31``, ``27``, ``1,430``, ``10^12``; ``<0.01`` is least."""
    if log_e < log(0.01):
        return "<0.01"
    if log_e > 9:
        return f"10^{log_e / log(10):.0f}"
    return f"{exp(log_e):,.0f}" if log_e > 2.3 else f"{exp(log_e):.2g}"


def _assess(evidence: EvidenceState, spec: RolloutSpec, metric: MetricSpec) -> Assessment:
    known = evidence.metrics[metric.name]
    if metric.source is not None:
        return _assess_own(evidence, spec, metric, known)
    paired, reverse = known.paired[OVERALL], known.reverse.get(OVERALL)
    distrusted = noise_alarm(evidence, spec, metric)
    declared = MAX_SEGMENTS if spec.analysis.segments else 0
    streams: list[float] = []
    if not distrusted:
        harm = _over_segments(known.paired, declared)
        if reverse is not None:
            harm = combine_mean([harm, _over_segments(known.reverse, declared)])
        streams.append(harm)
    live = live_states(evidence, spec, metric)
    streams.extend(_live_harm(live, metric, declared))
    if known.limit is not None:
        streams.append(known.limit.log_e_harm)
    labels = known.labels if metric.min_human_labels else None
    proof = _proof(known, metric)
    if evidence.trusted is not None and metric.name == JUDGE_METRIC:
        proof = min(proof, _proof(evidence.trusted.metric, metric))
    return Assessment(
        metric=metric,
        n=paired.n,
        log_e_harm=combine_mean(streams) if streams else 0.0,
        log_e_non_inferior=proof,
        log_e_live=_live_proof(live, metric),
        weight=metric.harm_weight,
        distrusted=distrusted,
        applies=metric.must_have_data or bool(paired.n) or known.not_applicable < evidence.pairs,
        labels=labels,
        asked=known.asked,
    )


def _proof(known: MetricEvidence, metric: MetricSpec) -> float:
    """Return the log e-value for non-inferiority: by people where they are asked, or pairs."""
    if metric.min_human_labels:
        return known.labels.log_e_non_inferior if known.labels is not None else 0.0
    reverse = known.reverse.get(OVERALL)
    proof = known.paired[OVERALL].log_e_non_inferior
    return proof if reverse is None else min(proof, reverse.log_e_non_inferior)


def _assess_own(
    evidence: EvidenceState, spec: RolloutSpec, metric: MetricSpec, known: MetricEvidence
) -> Assessment:
    """Assess a metric of the user's own, of which no pair says anything."""
    states = live_states(evidence, spec, metric)
    live = states.get(OVERALL)
    streams = _live_harm(states, metric, MAX_SEGMENTS if spec.analysis.segments else 0)
    if known.limit is not None:
        streams.append(known.limit.log_e_harm)
    n = live.n if live is not None else 0
    has_data = bool(n) if known.reading is None else True
    return Assessment(
        metric=metric,
        n=n,
        log_e_harm=combine_mean(streams) if streams else 0.0,
        log_e_non_inferior=live.log_e_non_inferior if live is not None else 0.0,
        log_e_live=live.log_e_non_inferior if live is not None else None,
        weight=metric.harm_weight,
        distrusted=False,
        applies=evidence.weight_bp > 0 and (metric.must_have_data or has_data),
        served=live.candidate_requests if live is not None else 0,
        reading=known.reading,
    )


def _over_segments(states: Mapping[str, PairedState] | Mapping[str, LiveState], own: int) -> float:
    """Return the log e-value for harm of one stream: half on all, half on its segments."""
    segments = [state.log_e_harm for name, state in states.items() if name != OVERALL]
    return combine_segments(states[OVERALL].log_e_harm, segments, declared=own)


def _live_harm(live: Mapping[str, LiveState], metric: MetricSpec, declared: int) -> list[float]:
    """Return the log e-value for harm of the live evidence, or nothing where there is none.

    Whether a stream is told by segment is known beforehand: counts by gateways and by Prometheus
    never are.
    """
    if not live:
        return []
    own = declared if is_segmented(metric) else 0
    ways = zip(*(towards_harm(state, metric) for state in live.values()), strict=True)
    harms = [_over_segments(dict(zip(live, way, strict=True)), own) for way in ways]
    return harms if len(harms) == 1 else [combine_mean(harms)]


def _live_proof(live: Mapping[str, LiveState], metric: MetricSpec) -> float | None:
    state = live.get(OVERALL)
    if state is None:
        return None
    return min(each.log_e_non_inferior for each in towards_harm(state, metric))


def is_segmented(metric: MetricSpec) -> bool:
    """Say whether live evidence on a metric is told by segment too."""
    if metric.source is not None:
        return metric.source.outcome is not None
    return not counted_in_windows(metric)
