"""What is to be known about a rollout's judge: missing verdicts, bias, stages, trends, length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from gateway.store.tables import EvidenceRow, JudgmentRow
from rollout import judging, ledger
from rollout.api.context import Context, Viewer, problems
from rollout.api.rollouts import Generation
from rollout.assessment import assess
from rollout.evidence import OVERALL, EvidenceState
from rollout.spec import RolloutSpec
from rollout.statistics.missing import VerdictCounts

__all__ = ["JudgingReport", "missing_report", "router"]

router = APIRouter(prefix="/rollouts", tags=["rollouts"])

_SEGMENTS = 50


class MissingInfo(BaseModel):
    """Verdicts given and missing, and what the missing ones could make of the win rate."""

    segment: str | None = Field(description="Null: over all segments.")
    given: int = Field(description="Pairs with a score: judged, or decided by checks.")
    missing: int = Field(description="Pairs that the judge left without a verdict.")
    share: float = Field(description="missing / (given + missing).")
    win_rate: float | None = Field(description="Of the given ones, a tie as one half.")
    worst: float | None = Field(description="With all missing ones lost.")
    best: float | None = Field(description="With all missing ones won.")


class MissingReport(BaseModel):
    """Whether the missing verdicts leave the metric open. This part decides."""

    most: float = Field(description="The share above which the metric is inconclusive.")
    inconclusive: str | None = Field(description="Why it is; null: it is not, for this reason.")
    counts: list[MissingInfo] = Field(description="Over all segments first, then by segment.")


class PositionInfo(BaseModel):
    """How a stage treats places, over pairs judged in both orders."""

    stage: str = Field(description="first: the cheap judge asked first; final: the judge.")
    segment: str | None
    pairs: int
    first_wins: float = Field(description="Share of verdicts for the answer shown first.")
    second_wins: float
    bias: float = Field(description="P(first wins) - P(second wins).")
    inconsistent: float = Field(description="Share of pairs whose winner changed with the order.")


class AgreementInfo(BaseModel):
    """How often both stages name the same winner."""

    audited: int = Field(description="Pairs drawn at random that the first stage could decide.")
    agreed: float | None = Field(description="Share of the audited ones; null: none yet.")
    low: float | None = Field(description="Its 95% lower bound.")
    high: float | None
    overall: float | None = Field(description="Over all pairs, audited ones weighed up.")
    both: int = Field(description="Pairs that both stages judged.")


class StagesInfo(BaseModel):
    """Who judged, and why."""

    asked: dict[str, dict[str, int]] = Field(description="Pairs by stage and reason for asking.")
    models: dict[str, dict[str, int]] = Field(description="Judgments by stage and model.")
    agreement: AgreementInfo | None = Field(description="Null: no pair that two stages judged.")


class ScoreInfo(BaseModel):
    """Mean points of both arms over one stretch of time; trends only, never a decision."""

    from_at: float
    to_at: float
    segment: str | None
    stage: str
    baseline: float
    candidate: float
    pairs: int


class LengthInfo(BaseModel):
    """The win rate at equal length (AlpacaEval's length control); a diagnostic."""

    pairs: int
    raw: float
    win_rate: float
    low: float = Field(description="95% lower bound.")
    high: float
    length_effect: float = Field(description="Log odds; above 0 the longer answer is preferred.")
    length_effect_se: float
    mean_difference: float = Field(description="Candidate less baseline, in tokens.")


class RubricInfo(BaseModel):
    """A rubric by which there are judgments."""

    rubric: str | None = Field(description="Its name; null: a local model, or not recorded.")
    hash: str | None = Field(description="SHA-256 of its words.")
    judgments: int


class JudgingReport(BaseModel):
    """The judge of one rollout. All but `missing` is over the latest pairs and decides nothing."""

    name: str
    generation: int
    pairs: int = Field(description="The latest pairs that the figures are over.")
    missing: MissingReport | None = Field(description="Null: the spec has no judge_win_rate.")
    position: list[PositionInfo]
    stages: StagesInfo
    scores: list[ScoreInfo]
    length_controlled: LengthInfo | None = Field(description="Null below 30 judged pairs.")
    rubrics: list[RubricInfo]


@router.get("/{name}/judging", responses=problems(404))
def show_judging(
    api: Context,
    _: Viewer,
    name: str,
    *,
    generation: Generation = None,
    limit: Annotated[
        int, Query(ge=1, le=20_000, description="The latest pairs to look at.")
    ] = 5000,
) -> JudgingReport:
    """Report on the judge: missing verdicts, position bias, its stages, trends, length.

    What is missing is over the whole rollout and holds it where it is too much; all else is over
    the latest pairs and decides nothing.
    """
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        facts = _facts(session, record.id, limit)
        rows = _judgments(session, record.id, facts)
    pairs = [_pair(row, rows.get(number, [])) for number, row in facts.items()]
    found = [row for each in rows.values() for row in each]
    length = judging.length_control(pairs)
    return JudgingReport(
        name=record.name,
        generation=record.generation,
        pairs=len(pairs),
        missing=missing_report(record.evidence, record.spec),
        position=[PositionInfo(**asdict(each)) for each in judging.positions(pairs)],
        stages=_stages(pairs, found),
        scores=[ScoreInfo(**asdict(each)) for each in judging.score_trend(pairs)],
        length_controlled=None if length is None else LengthInfo(**asdict(length)),
        rubrics=[
            RubricInfo(rubric=name, hash=digest, judgments=count)
            for (name, digest), count in Counter(
                (row.rubric, row.rubric_hash) for row in found
            ).most_common()
        ],
    )


def _facts(session: Session, rollout_id: int, limit: int) -> dict[int, EvidenceRow]:
    """Return the latest paired facts by pair."""
    query = (
        select(EvidenceRow)
        .where(EvidenceRow.rollout_id == rollout_id, EvidenceRow.kind == "pair")
        .order_by(col(EvidenceRow.seq).desc())
        .limit(limit)
    )
    return {
        int(row.payload["pair_id"]): row
        for row in session.exec(query).all()
        if isinstance(row.payload.get("pair_id"), int)
    }


def _judgments(
    session: Session, rollout_id: int, facts: Mapping[int, EvidenceRow]
) -> dict[int, list[JudgmentRow]]:
    if not facts:
        return {}
    query = (
        select(JudgmentRow)
        .where(JudgmentRow.rollout_id == rollout_id, col(JudgmentRow.pair_id) >= min(facts))
        .order_by(col(JudgmentRow.id))
        .execution_options(yield_per=1000)
    )
    found: dict[int, list[JudgmentRow]] = {}
    for row in session.exec(query):
        if row.pair_id in facts:
            found.setdefault(row.pair_id, []).append(row)
    return found


def _pair(fact: EvidenceRow, rows: list[JudgmentRow]) -> judging.PairJudged:
    payload = fact.payload
    tokens = payload.get("values", {}).get("output_tokens") or [None, None]
    return judging.PairJudged(
        at=fact.at,
        segment=fact.segment,
        score=payload.get("score"),
        judge=str(payload.get("judge")),
        tokens=None if None in tokens else (float(tokens[0]), float(tokens[1])),
        judgments=tuple(_judgment(row) for row in rows),
    )


def _judgment(row: JudgmentRow) -> judging.Judgment:
    scores: Any = row.scores
    values: dict[str, Any] = {
        "stage": row.stage or "final",
        "order": row.order,
        "verdict": row.verdict,
        "scores": None if scores is None else (scores["A"], scores["B"]),
        "asked": row.asked or "always",
        "probability": row.probability or 1.0,
    }
    return judging.Judgment(**values)


def missing_report(evidence: EvidenceState, spec: RolloutSpec) -> MissingReport | None:
    """Return what is missing of the judge's verdicts; None where no metric asks for any."""
    metric = spec.metric("judge_win_rate")
    if metric is None:
        return None
    assessments = {each.metric.name: each for each in assess(evidence, spec)}
    asked = evidence.metrics[metric.name].asked
    names = sorted(asked.keys() - {OVERALL})[:_SEGMENTS]
    counts = [_counts(None, asked.get(OVERALL, VerdictCounts()))]
    counts += [_counts(name, asked[name]) for name in names]
    return MissingReport(
        most=spec.on_evaluator_error.max_error_share,
        inconclusive=assessments[metric.name].incomplete(spec),
        counts=counts,
    )


def _counts(segment: str | None, counts: VerdictCounts) -> MissingInfo:
    worst, best = counts.bounds or (None, None)
    return MissingInfo(
        segment=segment,
        given=counts.given,
        missing=counts.missing,
        share=counts.share,
        win_rate=counts.win_rate,
        worst=worst,
        best=best,
    )


def _stages(pairs: list[judging.PairJudged], rows: list[JudgmentRow]) -> StagesInfo:
    asked: dict[str, Counter[str]] = {}
    for pair in pairs:
        for stage, reason in {(each.stage, each.asked) for each in pair.judgments}:
            asked.setdefault(stage, Counter())[reason] += 1
    models: dict[str, Counter[str]] = {}
    for row in rows:
        models.setdefault(row.stage or "final", Counter())[row.model] += 1
    agreed = judging.agreement(pairs)
    return StagesInfo(
        asked={stage: dict(counts) for stage, counts in sorted(asked.items())},
        models={stage: dict(counts) for stage, counts in sorted(models.items())},
        agreement=None if agreed is None else AgreementInfo(**asdict(agreed)),
    )
