"""Reading the evidence: per metric, how strong the case against and for the candidate is.

Pure. The combination follows STATISTICS ("Many metrics"): within a metric the mean over its
streams (paired, live, limit) and half on segments; over the guardrails the weighted mean, compared
with one over the error budget. Promotion needs every guardrail proven by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Literal

from rollout.evidence import MAX_SEGMENTS, OVERALL, EvidenceState, MetricEvidence, realised
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import combine_mean, combine_segments

__all__ = [
    "Assessment",
    "Outcome",
    "Verdict",
    "assess",
    "combined_harm",
    "format_e",
    "noise_alarm",
    "verdicts",
]

Outcome = Literal["pass", "fail", "inconclusive", "no_data", "error"]

_NOISE_ALPHA = 0.01
_CRITICAL_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class Assessment:
    """One metric's evidence over all segments, reduced to what decides.

    E-values are natural logs. ``weight`` is the metric's part in the rollback decision, 0 for a
    signal. ``distrusted`` says that the A/A stream contradicts the metric's pairs; they then count
    neither way. ``applies`` is false where the metric applied to none of the pairs and the spec
    says that this does not block.
    """

    metric: MetricSpec
    n: int
    log_e_harm: float
    log_e_non_inferior: float
    log_e_live: float | None
    weight: float
    distrusted: bool
    applies: bool

    def proven(self, spec: RolloutSpec) -> bool:
        """Whether non-inferiority is proven, now, within the error budget for promotion."""
        needed = log(1 / spec.analysis.error_budget.promote)
        if self.distrusted or self.metric.min_human_labels or not self.n:
            return False
        if spec.analysis.require_live_proof and self.log_e_live is not None:
            return min(self.log_e_non_inferior, self.log_e_live) >= needed
        return self.log_e_non_inferior >= needed


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said about one metric, overall (``segment`` is ``None``) or in a segment."""

    metric: str
    segment: str | None
    role: str
    verdict: Outcome
    reason: str
    n: int
    log_e_harm: float
    log_e_non_inferior: float


def assess(evidence: EvidenceState, spec: RolloutSpec) -> tuple[Assessment, ...]:
    """Return the assessment of every metric, in the order of the spec."""
    return tuple(_assess(evidence, spec, metric) for metric in spec.analysis.metrics)


def combined_harm(assessments: tuple[Assessment, ...]) -> tuple[float, Assessment]:
    """Return the guardrails' combined e-value (log) for harm, and the one that weighs most.

    The family is fixed by the spec: a guardrail without data counts as an e-value of 1.
    """
    acting = [each for each in assessments if each.weight]
    log_e = combine_mean([each.log_e_harm for each in acting], [each.weight for each in acting])
    heaviest = max(acting, key=lambda each: each.log_e_harm + log(each.weight))
    return log_e, heaviest


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


def verdicts(
    evidence: EvidenceState, spec: RolloutSpec, *, segments: bool = True
) -> tuple[Verdict, ...]:
    """Return the verdict on every metric, overall and (with ``segments``) in each segment."""
    assessments = assess(evidence, spec)
    log_e, _ = combined_harm(assessments)
    needed = log(1 / spec.analysis.error_budget.rollback)
    found = [_overall(each, spec, harmed=log_e >= needed) for each in assessments]
    if segments:
        for metric in spec.analysis.metrics:
            known = evidence.metrics[metric.name]
            names = sorted((known.paired.keys() | known.live.keys()) - {OVERALL})
            found.extend(_in_segment(metric, known, name, spec) for name in names)
    return tuple(found)


def format_e(log_e: float) -> str:
    """Write an e-value for people: ``0.31``, ``27``, ``1,430``, ``10^12``; ``<0.01`` is least."""
    if log_e < log(0.01):
        return "<0.01"
    if log_e > 9:
        return f"10^{log_e / log(10):.0f}"
    return f"{exp(log_e):,.0f}" if log_e > 2.3 else f"{exp(log_e):.2g}"


def _assess(evidence: EvidenceState, spec: RolloutSpec, metric: MetricSpec) -> Assessment:
    known = evidence.metrics[metric.name]
    paired = known.paired[OVERALL]
    distrusted = noise_alarm(evidence, spec, metric)
    declared = MAX_SEGMENTS if spec.analysis.segments else 0
    streams: list[float] = []
    if not distrusted:
        segments = [state.log_e_harm for name, state in known.paired.items() if name != OVERALL]
        streams.append(combine_segments(paired.log_e_harm, segments, declared=declared))
    log_e_live = None
    if known.live:
        live = {name: realised(state) for name, state in known.live.items()}
        segments = [state.log_e_harm for name, state in live.items() if name != OVERALL]
        own = declared if segments else 0
        streams.append(combine_segments(live[OVERALL].log_e_harm, segments, declared=own))
        log_e_live = live[OVERALL].log_e_non_inferior
    if known.limit is not None:
        streams.append(known.limit.log_e_harm)
    return Assessment(
        metric=metric,
        n=paired.n,
        log_e_harm=combine_mean(streams) if streams else 0.0,
        log_e_non_inferior=paired.log_e_non_inferior,
        log_e_live=log_e_live,
        weight=_weight(metric),
        distrusted=distrusted,
        applies=metric.must_have_data or bool(paired.n) or known.not_applicable < evidence.pairs,
    )


def _weight(metric: MetricSpec) -> float:
    if not metric.is_guardrail:
        return 0.0
    return _CRITICAL_WEIGHT if metric.critical else 1.0


def _overall(each: Assessment, spec: RolloutSpec, *, harmed: bool) -> Verdict:
    budget = spec.analysis.error_budget
    harm, proof = format_e(each.log_e_harm), format_e(each.log_e_non_inferior)
    outcome: Outcome
    if each.distrusted:
        outcome = "error"
        reason = "baseline against baseline differs in this metric, so its pairs prove nothing"
    elif each.log_e_harm >= log(1 / budget.rollback) and (harmed or not each.weight):
        outcome = "fail"
        reason = f"worse than the baseline: e = {harm}, {1 / budget.rollback:g} is proof"
    elif not each.n:
        outcome = "no_data"
        reason = (
            "no pair has said anything about it yet"
            if each.applies
            else "it applied to none of the pairs, which the spec allows"
        )
    elif each.metric.min_human_labels:
        outcome = "inconclusive"
        reason = (
            f"{each.metric.min_human_labels} human labels are required and there is no human "
            "review yet: remove min_human_labels, or promote by hand"
        )
    elif each.proven(spec):
        outcome = "pass"
        reason = f"not worse by {each.metric.margin:g}: e = {proof} from {each.n} pairs"
    elif each.log_e_non_inferior >= log(1 / budget.promote) and each.log_e_live is not None:
        outcome = "inconclusive"
        reason = f"proven on pairs, but live only e = {format_e(each.log_e_live)}"
    else:
        outcome = "inconclusive"
        reason = (
            f"not yet proven: e = {proof} of {1 / budget.promote:g} for not worse by "
            f"{each.metric.margin:g}, e = {harm} for worse, from {each.n} pairs"
        )
    return Verdict(
        each.metric.name,
        None,
        each.metric.role,
        outcome,
        reason,
        each.n,
        each.log_e_harm,
        each.log_e_non_inferior,
    )


def _in_segment(metric: MetricSpec, known: MetricEvidence, name: str, spec: RolloutSpec) -> Verdict:
    """Return a segment's verdict. It informs; what acts is the segment's part of its metric."""
    paired, live = known.paired.get(name), known.live.get(name)
    streams = [paired.log_e_harm] if paired is not None else []
    if live is not None:
        streams.append(realised(live).log_e_harm)
    harm = combine_mean(streams)
    proof = paired.log_e_non_inferior if paired is not None else 0.0
    n = paired.n if paired is not None else 0
    outcome: Outcome
    if harm >= log(MAX_SEGMENTS / spec.analysis.error_budget.rollback):
        outcome, reason = "fail", f"worse than the baseline here: e = {format_e(harm)}"
    elif not n:
        outcome, reason = "no_data", "no pair here has said anything about it yet"
    elif proof >= log(1 / spec.analysis.error_budget.promote):
        outcome, reason = "pass", f"not worse by {metric.margin:g}: e = {format_e(proof)}"
    else:
        outcome = "inconclusive"
        reason = f"e = {format_e(proof)} for not worse, {format_e(harm)} for worse, {n} pairs"
    return Verdict(metric.name, name, metric.role, outcome, reason, n, harm, proof)
