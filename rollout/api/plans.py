"""What a rollout will take, before anything is applied."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from rollout.api.context import Context, Viewer, problems
from rollout.api.operations import SPEC_BODY, parse_spec, spec_body
from rollout.fitting import fitting_baseline
from rollout.plan_inputs import Given, measure
from rollout.planner import plan_rollout
from rollout.spec import load_spec

__all__ = ["PlanReport", "router"]

router = APIRouter(tags=["rollouts"])

_SEED = 20


class NeedInfo(BaseModel):
    """How much is needed: null where no run of the simulation ever got there, or not known."""

    median: float | None = Field(description="In half of all runs.")
    most: float | None = Field(description="In 80% of all runs.")


class KnownInfo(BaseModel):
    """What earlier rollouts on the route showed of a metric."""

    failure_rate: float | None = Field(description="The baseline's; null: it has none.")
    differing: float | None = Field(description="Share of pairs in which the arms differ.")
    applies: float = Field(description="Share of pairs that the metric applies to.")


class JudgeCostInfo(BaseModel):
    """What judging takes."""

    calls: float = Field(description="Calls for a pair.")
    dollars: float = Field(description="Dollars for a call.")


class AssumptionsInfo(BaseModel):
    """What the plan rests on."""

    requests_per_second: float | None = Field(description="Eligible ones; null: not known.")
    traffic_from: str = Field(description="given, measured (and where), or unknown.")
    failure_rate: float = Field(description="The baseline's, where nothing is measured.")
    tie_share: float = Field(description="Pairs judged a tie, where nothing is measured.")
    paired_share: float = Field(description="Share of mirrored requests that become pairs.")
    judge: JudgeCostInfo | None = Field(description="Null: no judge is set.")
    known: dict[str, KnownInfo] = Field(description="What is measured, by metric.")


class MetricNeedInfo(BaseModel):
    """What one metric needs, in pairs."""

    name: str
    role: Literal["guardrail", "signal"]
    kind: Literal["binary", "score", "mean", "live", "limit"] = Field(
        description="live: only live requests say anything about it; limit: a value with a limit."
    )
    margin: float
    basis: Literal["assumed", "measured"]
    failure_rate: float | None = Field(description="The baseline's.")
    differing: float | None = Field(description="Share of pairs in which the arms differ.")
    regression: float = Field(description="Twice the margin: what is to be found.")
    prove: NeedInfo | None = Field(description="Pairs that prove an equal candidate.")
    detect: NeedInfo | None = Field(description="Pairs that find the regression.")
    live_detected: float | None = Field(
        description="Share of runs that find the regression before 100% if only users meet it."
    )
    live_users: float | None = Field(description="Candidate requests until then, at the median.")
    human_labels: int


class ShadowNeedInfo(BaseModel):
    """What it takes until every guardrail is proven at the same moment."""

    pairs: NeedInfo
    hours: NeedInfo
    requests: NeedInfo = Field(description="That pass on the route meanwhile.")
    mirrored: NeedInfo = Field(description="Requests that go to the candidate too.")
    judge_calls: NeedInfo
    dollars: NeedInfo
    concluded: float = Field(description="Share of runs that prove it within the step's limits.")


class StepNeedInfo(BaseModel):
    """What one step takes at the median."""

    number: int
    kind: str
    label: str
    weight: float = Field(description="The candidate's share, in percent.")
    pairs: float
    candidate_requests: float
    requests: float = Field(description="Both arms'.")
    hours: float | None = Field(description="Null: not known, or a person decides.")


class TotalInfo(BaseModel):
    """Everything until the candidate serves everybody, without the bake; at the median."""

    requests: float | None
    candidate_requests: float
    hours: float | None = Field(description="Without waiting for people.")
    judge_calls: float | None
    dollars: float | None


class CautionInfo(BaseModel):
    """What is wrong with the plan, and what would do."""

    field: str = Field(description="The place in the spec that would change it.")
    message: str
    blocking: bool = Field(description="True: an equal candidate would not get through.")


class PlanReport(BaseModel):
    """What a rollout will take: a simulation on these assumptions, not a promise."""

    name: str
    route: str
    candidate: str
    can_conclude: bool = Field(description="Whether no warning blocks.")
    assumptions: AssumptionsInfo
    metrics: list[MetricNeedInfo]
    shadow: ShadowNeedInfo
    steps: list[StepNeedInfo]
    total: TotalInfo
    warnings: list[CautionInfo] = Field(description="What blocks first.")


@router.post("/plan", responses=problems(400, 413, 415), openapi_extra=SPEC_BODY)
def plan_spec(
    api: Context,
    _: Viewer,
    body: Annotated[tuple[str, bytes], Depends(spec_body)],
    requests_per_second: Annotated[
        float | None, Query(ge=0, le=1e6, description="Eligible traffic; unset: as measured.")
    ] = None,
    failure_rate: Annotated[
        float | None,
        Query(gt=0, lt=1, description="The baseline's, as a fraction; unset: as measured, or 1%."),
    ] = None,
    tie_share: Annotated[
        float | None,
        Query(ge=0, lt=1, description="Pairs judged a tie; unset: as measured, or 30%."),
    ] = None,
) -> PlanReport:
    """Say what a rollout of a spec will take, and whether it can conclude. Changes nothing.

    Pairs, hours, judge calls and dollars are quantiles over simulated runs of the very evidence
    that will decide; the same request gives the same figures. About a second.
    """
    spec = load_spec(parse_spec(*body))
    given = Given(requests_per_second, failure_rate, tie_share)
    with api.store.read() as session:
        fitting_baseline(session, api.settings, spec)
        measured = measure(session, api.settings, spec, given, now=api.clock())
    plan = plan_rollout(spec, measured.assumptions, np.random.default_rng(_SEED))
    document: dict[str, Any] = plan.to_json()
    document["assumptions"] = {
        **asdict(measured.assumptions),
        "traffic_from": measured.traffic_from,
    }
    return PlanReport.model_validate(document)
