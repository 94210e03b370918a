"""The reward-hacking panel: what moved from baseline to candidate, and the samples behind it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from gateway.errors import NotFound
from rollout import ledger
from rollout.api.context import Context, Viewer, problems
from rollout.api.pairs import PairInfo, load_pairs
from rollout.api.panel_sides import SideInfo, sides
from rollout.api.rollouts import Generation
from rollout.panel_lines import ALPHA, Line
from rollout.panel_metrics import PANEL
from rollout.panel_reading import find_samples, read_panel

__all__ = ["router"]

router = APIRouter(prefix="/rollouts", tags=["panel"])

_Source = Annotated[
    Literal["pairs", "live"],
    Query(description="pairs: both answers to one request. live: what users got of either arm."),
]
_Limit = Annotated[
    int, Query(ge=1, le=100_000, description="The newest so many pairs (or live answers) only.")
]


class PanelLine(BaseModel):
    """One figure, overall or in a segment."""

    metric: str
    segment: str | None = Field(description="null: overall.")
    says: str = Field(description="What is counted, or the amount.")
    kind: Literal["rate", "amount"] = Field(description="rate: a share. amount: a mean.")
    status: Literal["moved", "leaning", "steady", "unclear", "no_data"] = Field(
        description="moved: the whole interval is beyond the margin. leaning: only the estimate "
        "is. steady: the whole interval is within. unclear: anything else."
    )
    before: float | None = Field(description="The baseline's.")
    after: float | None = Field(description="The candidate's.")
    change: float | None = Field(
        description="After minus before for a rate, relative for an amount; on its interval's "
        "scale, where users whose pairs are near each other count once."
    )
    low: float | None = Field(description="Lower end of the interval.")
    high: float | None = Field(description="Upper end of the interval; null: none.")
    margin: float = Field(description="The change that calls for reading samples.")
    n: int = Field(description="Pairs it applied to; of live answers, the candidate's.")
    observations: int = Field(description="What the interval rests on.")


class Panel(BaseModel):
    """The reward-hacking panel of one rollout."""

    name: str
    generation: int
    source: Literal["pairs", "live"]
    pairs: int = Field(description="How many were read.")
    complete: bool = Field(description="Whether these are all of the rollout's.")
    interval: Literal["anytime", "per_look"] = Field(
        description="anytime: all looks hold together at the level. per_look: this one does."
    )
    level: float = Field(description="Coverage of each interval by itself.")
    lines: list[PanelLine]


class PanelSample(BaseModel):
    """One pair behind a figure, both answers side by side."""

    contribution: float = Field(
        description="How far it moves the figure; between -1 and 1 for pairs."
    )
    prompt: str = Field(description="The last message of the request.")
    baseline: SideInfo | None = Field(description="null: a live answer of the candidate.")
    candidate: SideInfo | None
    verdict: str | None = Field(description="The comparison's result, from the candidate's view.")
    decided_by: str | None
    pair: PairInfo


class PanelSamples(BaseModel):
    """The pairs that move one figure most."""

    name: str
    generation: int
    metric: str
    segment: str | None
    source: Literal["pairs", "live"]
    direction: Literal["increase", "decrease"]
    samples: list[PanelSample]


@router.get("/{name}/panel", responses=problems(404))
def show_panel(
    api: Context,
    _: Viewer,
    name: str,
    *,
    generation: Generation = None,
    source: _Source = "pairs",
    limit: _Limit = 10_000,
) -> Panel:
    """Show length, citations, refusals and other figures before and after, by segment.

    None of them is bad by itself: one that moved beyond its margin is a reason to read its samples.
    """
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        found = read_panel(session, record, source=source, limit=limit)
    anytime = source == "pairs" and found.complete
    return Panel(
        name=record.name,
        generation=record.generation,
        source=source,
        pairs=found.read,
        complete=found.complete,
        interval="anytime" if anytime else "per_look",
        level=1 - ALPHA,
        lines=[_line(each) for each in found.lines],
    )


@router.get("/{name}/panel/{metric}/samples", responses=problems(404))
def list_panel_samples(
    api: Context,
    _: Viewer,
    name: str,
    metric: str,
    *,
    generation: Generation = None,
    source: _Source = "pairs",
    segment: Annotated[str | None, Query(description="Only this segment.")] = None,
    direction: Annotated[
        Literal["increase", "decrease"] | None,
        Query(description="Which way the samples move the figure; unset: as it changed."),
    ] = None,
    count: Annotated[int, Query(ge=1, le=50, description="How many samples.")] = 5,
    limit: _Limit = 10_000,
) -> PanelSamples:
    """Show the pairs that moved a figure most, with both answers, findings and the verdict."""
    watched = next((each for each in PANEL if each.name == metric), None)
    if watched is None:
        known = ", ".join(each.name for each in PANEL)
        raise NotFound(f"the panel has no figure called {metric!r}; it has {known}", field="metric")
    with api.store.read() as session:
        record = ledger.find(session, name, generation=generation)
        if direction is None:
            panel = read_panel(session, record, source=source, limit=limit)
            line = next(
                each
                for each in (*panel.lines, Line(watched, segment, "no_data"))
                if each.metric is watched and each.segment == segment
            )
            direction = "decrease" if (line.change or 0.0) < 0 else "increase"
        samples = find_samples(
            session, record, watched,
            source=source, direction=direction, segment=segment, count=count, limit=limit,
        )  # fmt: skip
        pairs = load_pairs(session, [each.pair_id for each in samples])
    return PanelSamples(
        name=record.name,
        generation=record.generation,
        metric=metric,
        segment=segment,
        source=source,
        direction=direction,
        samples=[
            _sample(pairs[each.pair_id], metric, each.contribution)
            for each in samples
            if each.pair_id in pairs
        ],
    )


def _line(line: Line) -> PanelLine:
    metric = line.metric
    return PanelLine(
        metric=metric.name,
        segment=line.segment,
        says=metric.says,
        kind=metric.kind,
        status=line.status,
        before=line.before,
        after=line.after,
        change=line.change,
        low=line.low,
        high=line.high,
        margin=metric.margin,
        n=line.n,
        observations=line.observations,
    )


def _sample(pair: PairInfo, metric: str, contribution: float) -> PanelSample:
    prompt, baseline, candidate = sides(pair, metric)
    comparison = pair.comparison or {}
    return PanelSample(
        contribution=contribution,
        prompt=prompt,
        baseline=baseline,
        candidate=candidate,
        verdict=comparison.get("result"),
        decided_by=comparison.get("decided_by"),
        pair=pair,
    )
