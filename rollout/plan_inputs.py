"""What a plan rests on, read from the store: traffic, failure rates, ties, and the judge's price.

Earlier rollouts on the same route have measured all of it; what none has is assumed and said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select

from gateway.settings import FirstStage, JudgeSettings, Settings
from gateway.store.evidence import load_funnel
from gateway.store.tables import EvidenceRow, JudgmentRow, RolloutRow, TransitionRow
from rollout.evidence import OVERALL, MetricEvidence
from rollout.plan_types import Assumptions, JudgeCost, Known
from rollout.records import Record
from rollout.spec import RolloutSpec
from shadow.prices import Prices

__all__ = ["Given", "Measured", "measure"]

_ROLLOUTS = 5
_LEAST_PAIRS = 200
_LEAST_COUNTED = 100
_LEAST_SPAN_S = 10.0
_WINDOWS = 300
_INPUT_TOKENS, _OUTPUT_TOKENS = 1500.0, 150.0


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller says, in the place of what is measured; ``None``: measure or assume it."""

    requests_per_second: float | None = None
    failure_rate: float | None = None
    tie_share: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Assumptions, with a sentence on where the traffic figure comes from."""

    assumptions: Assumptions
    traffic_from: str


def measure(
    session: Session, settings: Settings, spec: RolloutSpec, given: Given, *, now: float
) -> Measured:
    """Return the assumptions for a plan of ``spec``, at ``now`` (Unix seconds)."""
    rows = session.exec(
        select(RolloutRow)
        .where(RolloutRow.route == spec.route)
        .order_by(col(RolloutRow.id).desc())
        .limit(_ROLLOUTS)
    ).all()
    records = [Record.from_row(row) for row in rows]
    funnels = {record.id: load_funnel(session, record.id) for record in records}
    known = _known(records, spec)
    if given.failure_rate is not None:
        known = {name: each for name, each in known.items() if each.failure_rate is None}
    if given.tie_share is not None:
        known.pop("judge_win_rate", None)
    traffic, source = given.requests_per_second, "given"
    if traffic is None:
        traffic, source = _traffic(session, records, funnels, now)
    default = Assumptions()
    assumptions = Assumptions(
        requests_per_second=traffic,
        failure_rate=_or(given.failure_rate, default.failure_rate),
        tie_share=_or(given.tie_share, default.tie_share),
        paired_share=_paired_share(funnels),
        judge=_judge(session, settings, funnels),
        known=known,
    )
    return Measured(assumptions, source)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _known(records: Sequence[Record], spec: RolloutSpec) -> dict[str, Known]:
    """Return what the latest rollout that saw enough of it showed, by metric."""
    known: dict[str, Known] = {}
    for metric in spec.analysis.metrics:
        for record in records:
            evidence = record.evidence.metrics.get(metric.name)
            if evidence is None:
                continue
            found = _of(evidence, record.evidence.pairs, is_live=metric.source is not None)
            if found is not None:
                known[metric.name] = found
                break
    return known


def _of(evidence: MetricEvidence, pairs: int, *, is_live: bool) -> Known | None:
    requests, failures = evidence.baseline
    rate = (failures + 0.5) / (requests + 1) if requests >= _LEAST_PAIRS else None
    if is_live:
        return None if rate is None else Known(rate, None)
    paired = evidence.paired.get(OVERALL)
    if paired is None or paired.n < _LEAST_PAIRS:
        return None
    if paired.kind == "score":
        ties = sum(count for value, count in paired.counts if not value)
        differing = (paired.n - ties + 1) / (paired.n + 2)
    else:
        # Of a candidate that was not equal only the part that both arms have in common counts.
        differing = (max(0.0, paired.squares - abs(paired.total)) + 1) / (paired.n + 2)
    return Known(rate, differing, min(1.0, paired.n / pairs) if pairs else 1.0)


_Funnels = Mapping[int, Mapping[str, Mapping[str, int]]]


def _traffic(
    session: Session, records: Sequence[Record], funnels: _Funnels, now: float
) -> tuple[float | None, str]:
    """Return eligible requests a second on the route, and where that is from."""
    for record in records:
        payloads = session.exec(
            select(EvidenceRow.payload)
            .where(EvidenceRow.rollout_id == record.id, EvidenceRow.kind == "window")
            .order_by(col(EvidenceRow.seq).desc())
            .limit(_WINDOWS)
        ).all()
        if payloads:
            span = max(p["to_at"] for p in payloads) - min(p["from_at"] for p in payloads)
            requests = sum(arm["requests"] for p in payloads for arm in p["arms"].values())
            if span >= _LEAST_SPAN_S and requests:
                return requests / span, f"measured: the latest live windows of {record.name}"
        eligible = funnels[record.id].get("mirror", {}).get("eligible", 0)
        began = session.exec(
            select(func.min(TransitionRow.at)).where(TransitionRow.rollout_id == record.id)
        ).one()
        if eligible >= _LEAST_COUNTED and began is not None:
            span = (record.finished_at or now) - began
            if span >= _LEAST_SPAN_S:
                return eligible / span, f"measured: the mirrored traffic of {record.name}"
    return None, "unknown"


def _paired_share(funnels: _Funnels) -> float:
    """Return which share of the sampled requests became a pair, of all these rollouts."""
    sampled = compared = 0
    for funnel in funnels.values():
        mirror = funnel.get("mirror", {})
        absent = mirror.get("not_sampled", 0) + mirror.get("pending", 0)
        sampled += mirror.get("eligible", 0) - absent
        compared += mirror.get("compared", 0)
    return compared / sampled if sampled >= _LEAST_COUNTED and compared else 1.0


def _judge(session: Session, settings: Settings, funnels: _Funnels) -> JudgeCost | None:
    """Return what judging a pair takes, from earlier calls on the route where there are any."""
    judge = settings.judge
    if judge is None:
        return None
    rows = session.exec(
        select(
            JudgmentRow.stage,
            func.count(),
            func.avg(JudgmentRow.input_tokens),
            func.avg(JudgmentRow.output_tokens),
        )
        .where(col(JudgmentRow.rollout_id).in_(list(funnels)), col(JudgmentRow.cached).is_(False))
        .group_by(col(JudgmentRow.stage))
    ).all()
    compared = sum(
        funnel.get(stream, {}).get("compared", 0)
        for funnel in funnels.values()
        for stream in ("mirror", "noise")
    )
    most = 2.0 if judge.orders == "both" else 1 + judge.audit
    stages: list[tuple[str, JudgeSettings | FirstStage]] = [("final", judge)]
    if judge.first_stage is not None and judge.first_stage.deployment is not None:
        stages.append(("first", judge.first_stage))
    costs = []
    for stage, priced in stages:
        own = [row for row in rows if (row[0] or "final") == stage]
        costs.append(_stage_cost(own, compared, priced, most))
    calls = sum(each.calls for each in costs)
    return JudgeCost(calls, sum(each.calls * each.dollars for each in costs) / calls)


def _stage_cost(
    rows: Sequence[tuple[str | None, int, Any, Any]],
    compared: int,
    priced: JudgeSettings | FirstStage,
    most: float,
) -> JudgeCost:
    """Return what one hosted stage takes of a pair; until it is measured, every pair."""
    calls = sum(row[1] for row in rows)
    enough = calls >= _LEAST_COUNTED
    tokens_in, tokens_out = _INPUT_TOKENS, _OUTPUT_TOKENS
    if enough:
        tokens_in = sum(number * float(read) for _, number, read, _ in rows) / calls
        tokens_out = sum(number * float(written) for _, number, _, written in rows) / calls
    prices = Prices(
        priced.dollars_per_million_input_tokens, priced.dollars_per_million_output_tokens
    )
    return JudgeCost(
        # Pairs that are identical or fail a check are not judged.
        calls=min(most, calls / compared) if enough and compared >= _LEAST_COUNTED else most,
        dollars=(prices.input * tokens_in + prices.output * tokens_out) / 1_000_000,
    )
