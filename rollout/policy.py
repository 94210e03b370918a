"""The decision, as one pure function of what is known.

Harm acts at once. Widening needs everything at the same moment: every guardrail proven, the step's
minimum reached, the evaluator healthy, the sample ratio sound. Whatever is missing holds, and in
the end pauses. Nothing here latches: a proof that evidence has taken back is no proof.

In a live step the paired evidence has to stay proven while the live evidence shows no harm over
``min_samples`` candidate requests. A live *proof* of non-inferiority is not asked for by default:
at a failure rate of 1% and a margin of one percentage point, 600 requests can't give it
(``analysis.require_live_proof`` asks for it, and such a step then needs thousands).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Literal

from rollout.assessment import Assessment, assess, combined_harm, format_e
from rollout.evidence import EvidenceState
from rollout.judge_health import JUDGE_METRIC, JudgeHealth
from rollout.spec import RolloutSpec
from rollout.states import ACTIVE, Phase
from rollout.steps import Step
from rollout.verdicts import Verdict, verdicts

__all__ = ["Action", "Decision", "PauseReason", "Status", "decide"]

Action = Literal["hold", "advance", "rollback", "pause", "succeed"]

PauseReason = Literal[
    "approval",
    "baseline_changed",
    "candidate_changed",
    "evaluator_error",
    "failure",
    "inconclusive",
    "judge_quarantined",
    "limit",
    "manual",
    "manual_weight",
    "no_data",
    "preflight",
    "sample_ratio",
    "steps_done",
]
"""Why a rollout is paused, as a word for programs."""

_SAMPLE_RATIO_ALPHA = 0.001
_SUBSET_TOLERANCE = 0.1
_LEAST_JUDGMENTS = 20
_LEAST_PAIRS = 50
_ON_THE_WAY_S = 5.0


@dataclass(frozen=True, slots=True)
class Status:
    """Where a rollout is: its phase, its step of the plan, and what an operator has approved.

    ``step_started_at`` is Unix seconds, moved on by the time spent paused.
    """

    phase: Phase
    step: Step
    is_last: bool
    step_started_at: float
    approved: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why in a sentence.

    ``moment`` is the instant that was decided for (Unix seconds), so that the decision can be
    taken again. ``pause_reason`` is set when the action is to pause. ``log_e_harm`` is the
    guardrails' combined e-value (natural log), ``metric`` the guardrail that weighs most in it.
    """

    action: Action
    reason: str
    pause_reason: PauseReason | None = None
    log_e_harm: float = 0.0
    metric: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    moment: float = 0.0


def decide(
    evidence: EvidenceState,
    spec: RolloutSpec,
    status: Status,
    now: float,
    *,
    with_verdicts: bool = True,
) -> Decision:
    """Decide what happens to a rollout of which ``evidence`` is known, at ``now`` (Unix seconds).

    ``with_verdicts=False`` leaves the verdicts out, which costs less where only the action counts.
    """
    if status.phase not in ACTIVE:
        reason = f"the rollout is {status.phase.value}; nothing is decided"
        return Decision("hold", reason, moment=now)
    assessments = assess(evidence, spec)
    log_e, heaviest = combined_harm(evidence, assessments)
    action, reason, pause_reason = _act(evidence, spec, status, now, assessments)
    return Decision(
        action,
        reason,
        pause_reason,
        log_e,
        heaviest.metric.name,
        verdicts(evidence, spec) if with_verdicts else (),
        now,
    )


_Act = tuple[Action, str, PauseReason | None]


def _act(
    evidence: EvidenceState,
    spec: RolloutSpec,
    status: Status,
    now: float,
    assessments: tuple[Assessment, ...],
) -> _Act:
    harm = _harm(evidence, spec, assessments)
    if harm is not None and spec.on_failure == "rollback":
        return "rollback", harm, None
    if status.phase is Phase.PAUSED:
        return "hold", "paused; only a person goes on from here", None
    if harm is not None:
        return "pause", harm, "failure"
    elapsed = now - status.step_started_at
    return (
        _quarantine(evidence, spec)
        or _evaluator(evidence, spec, assessments)
        or _waits_for_a_person(status, elapsed)
        or _limits(spec, status, now, assessments)
        or _no_data(evidence, spec, status, now, assessments)
        or _sample_ratio(evidence, spec)
        or _unfair_subset(evidence, spec)
        or _not_enough(evidence, spec, status, elapsed, assessments)
        or _next(status)
    )


def _harm(
    evidence: EvidenceState, spec: RolloutSpec, assessments: tuple[Assessment, ...]
) -> str | None:
    budget = spec.analysis.error_budget.rollback
    log_e, heaviest = combined_harm(evidence, assessments)
    if log_e < log(1 / budget):
        return None
    return (
        f"harm is proven: e = {format_e(log_e)} over all guardrails, {1 / budget:g} is proof; "
        f"{heaviest.metric.name} weighs most (e = {format_e(heaviest.log_e_harm)})"
    )


def _evaluator(
    evidence: EvidenceState, spec: RolloutSpec, assessments: tuple[Assessment, ...]
) -> _Act | None:
    distrusted = [each.metric.name for each in assessments if each.weight and each.distrusted]
    if distrusted:
        reason = (
            f"baseline against baseline differs in {', '.join(distrusted)}: "
            "distrust the evaluator, not the candidate"
        )
        return "pause", reason, "evaluator_error"
    metric = spec.metric(JUDGE_METRIC)
    if metric is None or not metric.is_guardrail:
        return None
    rule, recent = spec.on_evaluator_error, evidence.recent
    then: _Act | None = None
    if evidence.consecutive_judge_errors >= rule.consecutive_error_limit:
        then = (
            rule.then,
            f"the judge failed {evidence.consecutive_judge_errors} times in a row",
            None,
        )
    elif recent.endswith("b"):
        return "hold", "the judge's budget for today is exhausted", None
    elif len(recent) >= _LEAST_JUDGMENTS:
        errors, given = recent.count("e") / len(recent), recent.count("v") + recent.count("i")
        turned = recent.count("i") / given if given else 0.0
        if turned > rule.max_inconsistent_share:
            reason = (
                f"the judge contradicts itself in {turned:.0%} of pairs when the order is swapped"
            )
            then = rule.then, reason, None
        elif errors > rule.max_error_share:
            return "hold", f"the judge failed on {errors:.0%} of its last {len(recent)} pairs", None
    if then is not None and then[0] == "pause":
        return "pause", then[1], "evaluator_error"
    return then


def _health(evidence: EvidenceState, spec: RolloutSpec) -> JudgeHealth | None:
    """Return the judge's health where it is examined and what it says acts."""
    metric = spec.metric(JUDGE_METRIC)
    return evidence.judge_health if metric is not None and metric.is_guardrail else None


def _quarantine(evidence: EvidenceState, spec: RolloutSpec) -> _Act | None:
    health, then = _health(evidence, spec), spec.on_evaluator_error.then
    if health is None or not health.quarantined:
        return None
    reason = (
        f"the judge is quarantined and its verdicts do not count: in window {health.window} "
        f"{health.reason}"
    )
    return then, reason, "judge_quarantined" if then == "pause" else None


def _waits_for_a_person(status: Status, elapsed: float) -> _Act | None:
    step = status.step
    if step.kind == "preflight" and not status.approved:
        reason = (
            f"preflight needs an offline report on {step.eval_set} and there is none: "
            "approve to go on without it"
        )
        return "pause", reason, "preflight"
    if step.kind == "pause":
        if step.approval and not status.approved:
            return "pause", f"step {step.index + 1} waits for an approval", "approval"
        if elapsed < step.min_duration:
            return "hold", f"waiting {step.min_duration - elapsed:.0f} s more", None
    return None


def _limits(
    spec: RolloutSpec, status: Status, now: float, assessments: tuple[Assessment, ...]
) -> _Act | None:
    """Hold at a value beyond its limit, pause when it lasts: it proves nothing, so no rollback."""
    rule = spec.on_no_data
    held: _Act | None = None
    for each in assessments:
        metric, reading = each.metric, each.reading
        if not (metric.is_threshold and metric.is_guardrail):
            continue
        read_at = 0.0 if reading is None else reading.at
        unread = now - max(status.step_started_at, read_at)
        if reading is not None and reading.breaches:
            reason = (
                f"{metric.name} is {reading.value:g}, beyond its limit, "
                f"{reading.breaches} times in a row"
            )
            if reading.breaches >= metric.consecutive_breach_limit:
                return "pause", reason, "limit"
            held = "hold", reason, None
        elif each.applies and (reading is None or reading.error or unread >= rule.after):
            reason = f"{metric.name} could not be read for {unread:.0f} s"
            if unread >= rule.after and "pause" in (rule.action, rule.then):
                return "pause", reason, "no_data"
            held = held or ("hold", reason, None)
    return held


def _no_data(
    evidence: EvidenceState,
    spec: RolloutSpec,
    status: Status,
    now: float,
    assessments: tuple[Assessment, ...],
) -> _Act | None:
    step, rule = status.step, spec.on_no_data
    if not step.compares:
        return None
    began = status.step_started_at
    pairs_silent = now - max(began, evidence.last_pair_at)
    live_silent = now - max(began, evidence.last_live_at)
    missing = [each.metric.name for each in assessments if _missing(each)]
    silent: list[tuple[float, str]] = []
    if step.kind != "bake":
        silent.append((pairs_silent, "no pair has arrived"))
    if step.weight_bp:
        silent.append((live_silent, "no live request has been counted"))
    if missing:
        silent.append((now - began, f"there is no data on {', '.join(missing)}"))
    longest, what = max(silent, key=lambda each: each[0])
    if longest >= rule.after:
        reason = f"{what} for {longest:.0f} s"
        if "pause" in (rule.action, rule.then):
            return "pause", reason, "no_data"
        return "hold", reason, None
    if missing:
        return "hold", f"there is no data on {', '.join(missing)} yet", None
    return None


def _missing(each: Assessment) -> bool:
    return bool(each.weight) and not each.n and each.applies


def _sample_ratio(evidence: EvidenceState, spec: RolloutSpec) -> _Act | None:
    ratio = evidence.sample_ratio
    if ratio is None or ratio.log_e < log(1 / _SAMPLE_RATIO_ALPHA):
        return None
    expected, observed = ratio.expected, ratio.observed
    tolerated = spec.analysis.sample_ratio_tolerance * min(expected, 1 - expected)
    if abs(observed - expected) <= tolerated:
        return None  # few sticky keys explain it: it is users that are drawn, not requests
    reason = (
        f"the candidate got {observed:.1%} of the requests instead of {expected:.1%}: "
        "the arms can't be compared"
    )
    if spec.on_sample_ratio_mismatch == "pause":
        return "pause", reason, "sample_ratio"
    return "hold", reason, None


def _unfair_subset(evidence: EvidenceState, spec: RolloutSpec) -> _Act | None:
    """Hold or pause where the pairs that were compared are no fair sample of those drawn."""
    subset = evidence.subset
    if subset is None or subset.log_e < log(1 / _SAMPLE_RATIO_ALPHA):
        return None
    worst = subset.worst
    if worst is not None and worst.departure <= _SUBSET_TOLERANCE:
        return None  # proven, and too little to matter
    if worst is None:
        reason = "no pair of those drawn was compared"
    else:
        named = f"segment {worst.segment!r}" if worst.segment else "what has no segment"
        reason = (
            f"{named} is {worst.compared:.1%} of the pairs that were compared and "
            f"{worst.drawn:.1%} of those drawn: they were not lost at random; see the funnel"
        )
    if spec.on_sample_ratio_mismatch == "pause":
        return "pause", reason, "sample_ratio"
    return "hold", reason, None


def _not_enough(
    evidence: EvidenceState,
    spec: RolloutSpec,
    status: Status,
    elapsed: float,
    assessments: tuple[Assessment, ...],
) -> _Act | None:
    step = status.step
    if step.kind == "preflight":
        return None
    lacking = _lacking(evidence, spec, step, _lasted(evidence, status, elapsed))
    open_ones = [
        each for each in assessments if each.weight and each.applies and not each.proven(spec)
    ]
    if open_ones:
        lacking.append(f"{', '.join(each.metric.name for each in open_ones)} not proven")
        lacking += [why for each in open_ones if (why := each.incomplete(spec))]
    health = _health(evidence, spec)
    if health is not None and health.lacking is not None:
        lacking.append(health.lacking)
    if not lacking:
        return None
    limit = spec.analysis.max_duration if step.max_duration is None else step.max_duration
    spent = elapsed >= step.min_duration + limit if step.kind == "pause" else elapsed >= limit
    if step.max_pairs is not None and evidence.step_pairs >= step.max_pairs:
        spent = True
    reason = "; ".join(lacking)
    if not spent:
        return "hold", reason, None
    reason = f"the step's budget is spent without proof: {reason}"
    if spec.on_inconclusive == "rollback":
        return "rollback", reason, None
    return "pause", reason, "inconclusive"


def _lasted(evidence: EvidenceState, status: Status, elapsed: float) -> float:
    """Return the seconds that a step has lasted by both clocks, the controller's and the facts'.

    So one clock that runs ahead does not shorten a step that compares, but by the seconds that
    facts are on their way.
    """
    if not status.step.compares:
        return elapsed
    return min(elapsed, max(0.0, evidence.clock - status.step_started_at) + _ON_THE_WAY_S)


def _lacking(evidence: EvidenceState, spec: RolloutSpec, step: Step, elapsed: float) -> list[str]:
    lacking: list[str] = []
    if elapsed < step.min_duration:
        lacking.append(f"{step.min_duration - elapsed:.0f} s to go")
    if evidence.step_pairs < step.min_pairs:
        lacking.append(f"{evidence.step_pairs} of {step.min_pairs} pairs")
    if evidence.step_candidate < step.min_samples:
        lacking.append(f"{evidence.step_candidate} of {step.min_samples} candidate requests")
    if step.min_samples:
        # Some captures are shed under load; far fewer means that nobody checks.
        checks = round(step.min_samples * spec.analysis.live_sample / 200)
        if evidence.step_checked < checks:
            lacking.append(f"{evidence.step_checked} of {checks} checked candidate answers")
        expected = evidence.step_baseline * spec.mirror.percentage / 100
        pairs = min(_LEAST_PAIRS, int(expected / 10))
        if evidence.step_pairs < pairs and expected >= _LEAST_PAIRS:
            lacking.append(f"{evidence.step_pairs} of at least {pairs} pairs while live")
    if evidence.breakers:
        replica, cause = min(evidence.breakers.items())
        lacking.append(f"the breaker of {replica} is open ({cause})")
    return lacking


def _next(status: Status) -> _Act:
    step = status.step
    if not status.is_last:
        return "advance", f"step {step.index + 1} ({step.label}) has passed", None
    if step.kind == "bake" or step.weight_bp == 10_000:
        return "succeed", f"step {step.index + 1} ({step.label}) has passed; it was the last", None
    reason = f"all steps have passed and end at {step.weight_bp / 100:g}%: promote or abort"
    return "pause", reason, "steps_done"
