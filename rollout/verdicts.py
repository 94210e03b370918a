"""Verdicts: what is to be said of every metric, overall and in each segment, and why.

They inform people and programs. What acts is the assessment (see :mod:`rollout.assessment`); the
two agree because verdicts are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Literal

from rollout.assessment import Assessment, assess, combined_harm, format_e, samples_needed
from rollout.evidence import MAX_SEGMENTS, OVERALL, EvidenceState, MetricEvidence
from rollout.shares import realised, towards_harm
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import combine_mean

__all__ = ["Outcome", "Verdict", "labels_needed", "verdicts"]

Outcome = Literal["pass", "fail", "inconclusive", "no_data", "error"]

_Said = tuple[Outcome, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said about one metric, overall (``segment`` is ``None``) or in a segment.

    ``n`` counts the pairs it rests on; of what only live requests tell, the requests.
    """

    metric: str
    segment: str | None
    role: str
    verdict: Outcome
    reason: str
    n: int
    log_e_harm: float
    log_e_non_inferior: float


def verdicts(
    evidence: EvidenceState, spec: RolloutSpec, *, segments: bool = True
) -> tuple[Verdict, ...]:
    """Return the verdict on every metric, overall and (with ``segments``) in each segment."""
    assessments = assess(evidence, spec)
    log_e, _ = combined_harm(evidence, assessments)
    needed = log(1 / spec.analysis.error_budget.rollback)
    found = [_overall(each, spec, harmed=log_e >= needed) for each in assessments]
    if segments:
        for metric in spec.analysis.metrics:
            known = evidence.metrics[metric.name]
            names = sorted((known.paired.keys() | known.live.keys()) - {OVERALL})
            found.extend(_in_segment(metric, known, name, spec) for name in names)
    return tuple(found)


def labels_needed(each: Assessment, spec: RolloutSpec) -> int:
    """Return about how many more human labels a proof needs, at least those that are asked for."""
    estimated = each.labels.needed(spec.analysis.error_budget.promote) if each.labels else None
    return max(each.labels_missing, estimated or 0)


def _overall(each: Assessment, spec: RolloutSpec, *, harmed: bool) -> Verdict:
    outcome, reason = _say(each, spec, harmed=harmed)
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


def _say(each: Assessment, spec: RolloutSpec, *, harmed: bool) -> _Said:
    budget = spec.analysis.error_budget
    if each.metric.is_threshold:
        return _of_a_limit(each)
    if each.distrusted:
        reason = "baseline against baseline differs in this metric, so its pairs prove nothing"
        return "error", reason
    if each.log_e_harm >= log(1 / budget.rollback) and (harmed or not each.weight):
        harm = format_e(each.log_e_harm)
        return "fail", f"worse than the baseline: e = {harm}, {1 / budget.rollback:g} is proof"
    return _proof(each, spec) if each.n else ("no_data", _silence(each))


def _proof(each: Assessment, spec: RolloutSpec) -> _Said:
    if each.metric.is_live_only:
        return _of_requests(each, spec)
    if incomplete := each.incomplete(spec):
        return "inconclusive", incomplete
    return _of_people(each, spec) if each.metric.min_human_labels else _of_pairs(each, spec)


def _silence(each: Assessment) -> str:
    if each.metric.is_live_only:
        return (
            "no request of either arm has been counted yet"
            if each.applies
            else "only live requests tell, and none are needed now"
        )
    if each.applies:
        return "no pair has said anything about it yet"
    return "it applied to none of the pairs, which the spec allows"


def _of_pairs(each: Assessment, spec: RolloutSpec) -> _Said:
    harm, proof = format_e(each.log_e_harm), format_e(each.log_e_non_inferior)
    margin, needed = each.metric.margin, 1 / spec.analysis.error_budget.promote
    if each.proven(spec):
        return "pass", f"not worse by {margin:g}: e = {proof} from {each.n} pairs"
    if each.log_e_non_inferior >= log(needed) and each.log_e_live is not None:
        return "inconclusive", f"proven on pairs, but live only e = {format_e(each.log_e_live)}"
    reason = (
        f"not yet proven: e = {proof} of {needed:g} for not worse by {margin:g}, "
        f"e = {harm} for worse, from {each.n} pairs"
    )
    return "inconclusive", reason


def _of_people(each: Assessment, spec: RolloutSpec) -> _Said:
    """Say what the win rate is that people's labels and the judge together give."""
    labels, margin = each.labels, each.metric.margin
    given = labels.n if labels is not None else 0
    said = f"{given} of {each.metric.min_human_labels} human labels"
    if labels is not None and labels.estimate is not None:
        low, _ = labels.bounds(spec.analysis.error_budget.promote)
        said += f", corrected win rate {labels.estimate:.3f}, at least {low:.3f}"
    proof = format_e(each.log_e_non_inferior)
    if each.proven(spec):
        return "pass", f"not worse by {margin:g} as people see it: e = {proof}; {said}"
    more = labels_needed(each, spec)
    remedy = f"about {more} more labels" if more else "the labels do not point to a proof"
    needed = 1 / spec.analysis.error_budget.promote
    return "inconclusive", f"not yet proven: {said}, e = {proof} of {needed:g}; {remedy}"


def _of_requests(each: Assessment, spec: RolloutSpec) -> _Said:
    """Say what live requests tell of a metric that no pair knows."""
    harm, proof = format_e(each.log_e_harm), format_e(each.log_e_non_inferior)
    margin, needed = each.metric.margin, 1 / spec.analysis.error_budget.promote
    if each.log_e_non_inferior >= log(needed):
        return "pass", f"not worse by {margin:g}: e = {proof} from {each.n} requests"
    if each.proven(spec):
        return "pass", f"no harm over {each.served} of the candidate's requests: e = {harm}"
    reason = (
        f"not yet proven: e = {proof} of {needed:g} for not worse by {margin:g}, e = {harm} for "
        f"worse, {each.served} of {samples_needed(each.metric, spec)} candidate requests"
    )
    return "inconclusive", reason


def _of_a_limit(each: Assessment) -> _Said:
    """Say whether the last value is within its limit: it holds or pauses, and proves nothing."""
    reading, most = each.reading, each.metric.consecutive_breach_limit
    if reading is None:
        return "no_data", "Prometheus has not been read yet"
    if reading.error is not None:
        return "error", f"the last reading failed: {reading.error}"
    if not reading.breaches:
        return "pass", f"{reading.value:g} is within its limit"
    reason = f"{reading.value:g} is beyond its limit, {reading.breaches} of {most} times in a row"
    return ("fail" if reading.breaches >= most else "inconclusive"), reason


def _in_segment(metric: MetricSpec, known: MetricEvidence, name: str, spec: RolloutSpec) -> Verdict:
    """Return a segment's verdict. It informs; what acts is the segment's part of its metric."""
    paired, reverse, live = (
        states.get(name) for states in (known.paired, known.reverse, known.live)
    )
    proof, n = 0.0, 0
    streams: list[float] = []
    if paired is not None:
        both = [paired] if reverse is None else [paired, reverse]
        streams.append(combine_mean([each.log_e_harm for each in both]))
        proof, n = min(each.log_e_non_inferior for each in both), paired.n
    if live is not None:
        real = realised(live)
        streams.append(combine_mean([each.log_e_harm for each in towards_harm(real, metric)]))
        if metric.is_live_only:
            proof, n = real.log_e_non_inferior, real.n
    harm = combine_mean(streams)
    unit = "requests" if metric.is_live_only else "pairs"
    outcome: Outcome
    if harm >= log(MAX_SEGMENTS / spec.analysis.error_budget.rollback):
        outcome, reason = "fail", f"worse than the baseline here: e = {format_e(harm)}"
    elif not n:
        outcome, reason = "no_data", "no pair here has said anything about it yet"
    elif proof >= log(1 / spec.analysis.error_budget.promote):
        outcome, reason = "pass", f"not worse by {metric.margin:g}: e = {format_e(proof)}"
    else:
        outcome = "inconclusive"
        reason = f"e = {format_e(proof)} for not worse, {format_e(harm)} for worse, {n} {unit}"
    return Verdict(metric.name, name, metric.role, outcome, reason, n, harm, proof)
