"""The judge's health: whether its word counts, what it was asked to find out, what it favours."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlmodel import Session

from rollout import ledger
from rollout.api.context import Api, Context, Viewer, problems
from rollout.api.rollouts import Generation
from rollout.assessment import noise_alarm
from rollout.judge_health import JUDGE_METRIC, JudgeHealth
from rollout.records import Record
from shadow.health.anchors import AnchorSet, read_anchors
from shadow.health.report import (
    anchor_report,
    biases_json,
    controls_report,
    live_biases,
    window_report,
)

__all__ = ["JudgeHealthList", "JudgeHealthReport", "router"]

router = APIRouter(tags=["judge"])


class EstimateInfo(BaseModel):
    """A value with its 95% interval; null where too little is known."""

    value: float | None
    low: float | None
    high: float | None
    n: int = Field(description="Pairs that it rests on.")


class BiasInfo(BaseModel):
    """What the judge favours besides the better answer, over its latest 1,000 pairs."""

    segment: str | None = Field(description="Null: all segments.")
    position: EstimateInfo = Field(description="P(first wins) - P(second wins).")
    length: EstimateInfo = Field(
        description="Rank correlation of the verdict with log(candidate's / baseline's tokens)."
    )
    inconsistent: EstimateInfo = Field(description="Share of pairs that turn with the order.")


class WindowInfo(BaseModel):
    """One window of verdicts, and what its control pairs said of the judge."""

    window: int
    opened_at: float
    finished_at: float | None = Field(description="Null: it is being examined.")
    judged: int = Field(description="Pairs judged since the window before.")
    result: str | None = Field(
        description="pass, fail, or not_run: no verdict could be had, which is neither."
    )
    reason: str
    model: str | None
    fingerprint: str | None
    rubric: str | None = Field(description="Hash of the rubric.")


class ControlInfo(BaseModel):
    """Control pairs of one kind, over all windows."""

    kind: str = Field(description="identical, master_key, injection, padded or known.")
    asked: int
    passed: int
    failed: int
    no_verdict: int


class AnchorInfo(BaseModel):
    """How far the judge still says of the anchors what it said first."""

    at: float
    anchors: int
    compared: int = Field(description="Those with a first verdict; 0 the first time.")
    agreed: int
    agreement: float | None
    drifted: bool = Field(description="Below judge.health.least_agreement beyond chance.")
    model: str | None
    fingerprint: str | None
    former: float | None = Field(
        description="How far the first verdicts agree with those of the judge before this one."
    )


class NoiseInfo(BaseModel):
    """The judge on the baseline against itself, which should come out even."""

    pairs: int
    win_rate: EstimateInfo
    alarm: bool = Field(description="It differs: the evaluator is distrusted, rollouts pause.")


class JudgeHealthReport(BaseModel):
    """The judge's health as one rollout sees it."""

    rollout: str
    generation: int
    route: str
    state: str = Field(
        description="passed, quarantined, unexamined (no window has ended yet), or unwatched: "
        "nobody examines this judge."
    )
    window: int = Field(description="The last window that passed or failed.")
    at: float | None
    reason: str = Field(description="Why the last window failed.")
    unconfirmed: int = Field(description="Verdicts since the last pass, on trial until the next.")
    limit: int = Field(description="Verdicts that a pass is good for.")
    dropped: int = Field(description="Verdicts that did not count, for the judge had failed.")
    passes: int
    fails: int
    noise: NoiseInfo | None
    windows: list[WindowInfo] = Field(description="The latest 20, newest first.")
    controls: list[ControlInfo]
    anchors: AnchorInfo | None
    biases: list[BiasInfo] = Field(description="Over all pairs first, then by segment.")


class JudgeHealthList(BaseModel):
    """The judge's health in every rollout that is not over."""

    rollouts: list[JudgeHealthReport]


@router.get("/judge/health", responses=problems())
def list_judge_health(api: Context, _: Viewer) -> JudgeHealthList:
    """Say for each rollout under way whether its judge can be trusted."""
    anchors = _anchors(api)
    with api.store.read() as session:
        running = set(ledger.running_ids(session))
        found = [record for record in ledger.find_all(session) if record.id in running]
        return JudgeHealthList(rollouts=[_report(api, session, each, anchors) for each in found])


@router.get("/rollouts/{name}/judge-health", responses=problems(404))
def read_judge_health(
    api: Context, _: Viewer, name: str, generation: Generation = None
) -> JudgeHealthReport:
    """Say whether one rollout's judge can be trusted: windows, controls, anchors and biases."""
    anchors = _anchors(api)
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        return _report(api, session, record, anchors)


def _anchors(api: Api) -> AnchorSet:
    judge = api.settings.judge
    return read_anchors(judge.health.anchors if judge is not None else None)


def _report(api: Api, session: Session, record: Record, anchors: AnchorSet) -> JudgeHealthReport:
    known = record.evidence.judge_health
    health = known or JudgeHealth()
    judge = api.settings.judge
    least = judge.health.least_agreement if judge is not None else 0.8
    return JudgeHealthReport.model_validate(
        {
            "rollout": record.name,
            "generation": record.generation,
            "route": record.route,
            "state": "unwatched" if known is None else health.state,
            "window": health.window,
            "at": health.at or None,
            "reason": health.reason,
            "unconfirmed": health.unconfirmed,
            "limit": health.limit,
            "dropped": health.dropped,
            "passes": health.passes,
            "fails": health.fails,
            "noise": _noise(record),
            "windows": window_report(session, record.id),
            "controls": controls_report(session, record.id),
            "anchors": anchor_report(session, record.id, anchors, least=least),
            "biases": biases_json(live_biases(session, record.id)),
        }
    )


def _noise(record: Record) -> NoiseInfo | None:
    metric = record.spec.metric(JUDGE_METRIC)
    noise = record.evidence.metrics[JUDGE_METRIC].noise if metric is not None else None
    if metric is None or noise is None:
        return None
    low, high = noise[0].bounds(0.05)
    return NoiseInfo(
        pairs=noise[0].n,
        win_rate=EstimateInfo(value=noise[0].estimate, low=low, high=high, n=noise[0].n),
        alarm=noise_alarm(record.evidence, record.spec, metric),
    )
