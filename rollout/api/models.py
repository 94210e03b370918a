"""The documents about rollouts that the API answers with.

Weights and shares are percent, margins and rates fractions, instants Unix seconds, durations
seconds, steps are counted from 1. Evidence is given as logarithms of e-values to base 10, as in
the metrics: 1.3 is an e-value of 20, the proof at an error budget of 5%. (Receipts hold natural
logarithms, to the last bit as they were decided upon.)
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from rollout.waiting import WaitReason

__all__ = [
    "Applied",
    "Counts",
    "EvidenceReport",
    "Explanation",
    "Funnel",
    "LiveReport",
    "MetricReport",
    "PausedInfo",
    "Progress",
    "RolloutList",
    "RolloutStatus",
    "RolloutSummary",
    "SegmentShareInfo",
    "StepInfo",
    "SubsetReport",
    "TransitionInfo",
    "TransitionList",
]

PhaseName = Literal[
    "pending",
    "preflight",
    "shadowing",
    "progressing",
    "baking",
    "paused",
    "succeeded",
    "rolling_back",
    "rolled_back",
    "aborted",
    "superseded",
]


class PausedInfo(BaseModel):
    """Why a rollout is paused."""

    reason: str = Field(description="A word for programs, such as approval or inconclusive.")
    message: str
    phase: str = Field(description="The phase that it was paused in, and resumes to.")
    at: float


class StepInfo(BaseModel):
    """One step of the plan."""

    number: int
    kind: Literal["preflight", "mirror", "analysis", "pause", "bake"]
    label: str
    weight: float = Field(description="The candidate's share during the step, in percent.")
    state: Literal["done", "current", "ahead"]


class RolloutSummary(BaseModel):
    """A rollout, and where it is."""

    name: str
    generation: int = Field(description="Grows with every changed spec and every retry.")
    route: str
    baseline: str | None = Field(description="What it is compared with; null before the start.")
    candidate: str
    candidate_revision: str = Field(description="SHA-256 of the candidate's manifest.")
    phase: PhaseName
    why: str = Field(description="Why it is where it is.")
    step: int = Field(description="Number of the present step.")
    steps: int = Field(description="How many steps the plan has.")
    weight: float = Field(description="The candidate's live share, in percent.")
    paused: PausedInfo | None
    waiting: WaitReason | None = Field(
        description="What it waits for, though its own evidence would let it go on: another "
        "rollout's live traffic, a candidate that does not answer, arms that have changed."
    )
    revision: int = Field(description="Grows with every transition; for if_revision.")
    spec_hash: str
    created_at: float
    updated_at: float
    step_started_at: float | None
    finished_at: float | None


class RolloutList(BaseModel):
    """Rollouts, newest first."""

    rollouts: list[RolloutSummary]


class Applied(BaseModel):
    """What applying a spec did."""

    created: bool = Field(description="False: the same spec was there already.")
    warnings: list[str] = Field(description="What will hold the rollout up as it is.")
    rollout: RolloutSummary


class Progress(BaseModel):
    """How far the present step is. Null limits: the step has none."""

    elapsed: float
    min_duration: float
    max_duration: float | None
    pairs: int
    min_pairs: int
    max_pairs: int | None
    baseline_requests: int
    candidate_requests: int
    min_samples: int = Field(description="Candidate requests that the step asks for.")


class LiveReport(BaseModel):
    """What live traffic says about one metric at the present weight."""

    requests: int = Field(description="Both arms'.")
    candidate_requests: int
    failures: int = Field(description="Both arms'.")
    candidate_failures: int
    baseline_rate: float = Field(description="Failures per request.")
    candidate_rate: float = Field(description="Failures per request.")
    log10_e_harm: float
    log10_e_non_inferior: float
    limit: float | None = Field(description="Failure rate allowed while hardly any baseline is.")
    log10_e_over_limit: float | None


class LabelReport(BaseModel):
    """The win rate as people see it, corrected with the judge's scores."""

    n: int = Field(description="Human labels.")
    required: int = Field(description="Labels that the spec asks for.")
    judged: int = Field(description="Judged pairs, labelled or not.")
    estimate: float | None = Field(description="Null below two labels.")
    low: float | None = Field(description="Lower bound, valid at all times.")
    high: float | None = Field(description="Upper bound, valid at all times.")
    fixed_low: float | None = Field(description="Lower bound of one look (PPI++), for display.")
    fixed_high: float | None = Field(description="Upper bound of one look (PPI++), for display.")
    judge_estimate: float | None = Field(description="The judge alone, taken at its word.")
    judge_low: float | None = Field(description="Its lower bound, were the judge right.")
    people_estimate: float | None = Field(description="People's labels alone.")
    people_low: float | None = Field(description="Their lower bound at one look.")
    log10_e_non_inferior: float = Field(description="What decides where labels are asked for.")
    needed: int | None = Field(description="Labels still needed at the present estimate.")
    lower_bound: float | None = Field(
        description="Lower bound of all looks and labels together: the claim's."
    )
    claim: str = Field(description="What may be said on the strength of the labels.")


class ReadingReport(BaseModel):
    """The last value of a metric that has a limit."""

    value: float | None
    read_at: float | None
    breaches: int = Field(description="Readings in a row beyond the limit.")
    breach_limit: int = Field(description="So many pause the rollout.")
    error: str | None = Field(description="Why the latest reading failed.")
    max: float | None
    min: float | None


class MetricReport(BaseModel):
    """What is known about one metric, overall or in a segment."""

    name: str
    segment: str | None = Field(description="Null: over all segments.")
    role: Literal["guardrail", "signal"]
    critical: bool
    verdict: Literal["pass", "fail", "inconclusive", "no_data", "error"]
    reason: str
    margin: float = Field(description="How much worse still counts as not worse.")
    n: int = Field(description="Pairs that said something about it; of live-only ones, requests.")
    scale: Literal["win_rate", "difference"] = Field(
        description="Of estimate, low and high: the candidate's win rate, or candidate minus "
        "baseline (of failure rates; of tokens, as a share of both arms' together)."
    )
    estimate: float | None
    low: float | None = Field(description="Lower bound of the estimate, valid at all times.")
    high: float | None = Field(description="Upper bound of the estimate, valid at all times.")
    log10_e_harm: float = Field(description="Evidence that the candidate is worse.")
    log10_e_non_inferior: float = Field(description="Evidence that it is not worse by the margin.")
    live: LiveReport | None
    labels: LabelReport | None = None
    reading: ReadingReport | None = None
    heaviest_pairs: list[int] = Field(description="Pairs that spoke most against the candidate.")


class Counts(BaseModel):
    """How much has been seen."""

    pairs: int
    noise_pairs: int = Field(description="Baseline against baseline.")
    step_pairs: int
    step_baseline: int = Field(description="Live requests in this step.")
    step_candidate: int = Field(description="Live requests in this step.")
    step_checked: int = Field(description="Live answers of the candidate checked in this step.")
    unreadable: int = Field(description="Facts that could not be understood: missing data.")
    last_seq: int = Field(description="Sequence number of the last fact that was folded.")
    recent_judgments: int
    recent_judge_errors: int
    recent_inconsistent: int = Field(description="Verdicts that turned with the order.")
    candidate_share: float | None = Field(description="Observed, as a fraction.")
    expected_share: float | None = Field(description="Declared, as a fraction.")
    open_breakers: dict[str, str] = Field(description="Cause by replica.")


class RolloutStatus(RolloutSummary):
    """A rollout with everything that decides about it."""

    next: str = Field(description="What happens next, or what can be done.")
    needs: list[str] = Field(description="What would have to come for it to go on.")
    possible: list[str] = Field(description="Operations that are possible now.")
    decision: str = Field(description="What the evidence says now: hold, advance, pause, ...")
    plan: list[StepInfo]
    progress: Progress | None = Field(description="Null: no step is running.")
    log10_e_harm: float = Field(description="The guardrails' evidence of harm, taken together.")
    rollback_at: float = Field(description="log10_e_harm at which the rollout is rolled back.")
    promote_at: float = Field(
        description="log10_e_non_inferior that every guardrail must reach for the next step."
    )
    counts: Counts
    metrics: list[MetricReport] = Field(description="Over all segments, in the spec's order.")
    funnel: dict[str, dict[str, int]] = Field(description="Stream, outcome, count.")
    time_to_zero: float | None = Field(
        description="Seconds from a rollback until the last gateway had left the candidate."
    )
    spec: dict[str, Any]


class EvidenceReport(BaseModel):
    """All that is known about a rollout, in figures."""

    name: str
    generation: int
    log10_e_harm: float = Field(description="The guardrails' evidence of harm, taken together.")
    rollback_at: float
    promote_at: float
    counts: Counts
    metrics: list[MetricReport] = Field(description="Over all segments first, then by segment.")
    last_pair_at: float | None
    last_live_at: float | None
    recorded: int = Field(description="Facts recorded; last_seq of them are folded.")


class TransitionInfo(BaseModel):
    """One transition with its receipt."""

    number: int
    at: float
    actor: str = Field(description="Name of a token, local, or the controller.")
    event: str
    from_phase: str
    to_phase: str
    step: int = Field(description="The step after the transition.")
    weight_before: float
    weight_after: float
    reason: str
    receipt: dict[str, Any] = Field(
        description="What was known: verdicts, e-values, counts, hashes, the pairs that weighed."
    )


class TransitionList(BaseModel):
    """Transitions of one generation, oldest first."""

    name: str
    generation: int
    transitions: list[TransitionInfo]
    next_cursor: str | None = Field(description="Give it as cursor for the next page; null: end.")


class Explanation(RolloutStatus):
    """Why a rollout is where it is: its status, and the receipt of what brought it there."""

    decided_by: TransitionInfo | None = Field(
        description="The last transition but the end of a rollback, which only says that it worked."
    )


class SegmentShareInfo(BaseModel):
    """A segment's part of the mirrored pairs."""

    segment: str = Field(description="Empty: pairs without one, and segments beyond the first 12.")
    drawn: float = Field(description="Its share of the pairs that were drawn, as a fraction.")
    compared: float = Field(description="Its share of those that were compared, as a fraction.")


class SubsetReport(BaseModel):
    """Whether the pairs that were compared are a fair sample of those that were drawn."""

    compared: int
    dropped: int = Field(
        description="Drawn and lost: shed, over size, expired, unjudgeable, without a verdict."
    )
    log10_e_unfair: float = Field(description="Evidence that it depends on the segment; 3 holds.")
    segments: list[SegmentShareInfo]


class Funnel(BaseModel):
    """Where every eligible request ended, by stream. It adds up at all times."""

    name: str
    generation: int
    streams: dict[str, dict[str, int]] = Field(description="mirror, noise, live: outcome, count.")
    reconciles: bool = Field(description="Whether the outcomes add up to the eligible requests.")
    subset: SubsetReport | None = Field(description="Null: no pair has ended yet.")
