"""What the worker needs of a rollout's spec, read from the document as it is stored."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import col, select

from gateway.settings import parse_duration
from gateway.store.engine import Store
from gateway.store.tables import RolloutRow
from shadow.budget import Limits

_log = logging.getLogger("coalmine.worker")

FINISHED = frozenset({"succeeded", "rolling_back", "rolled_back", "aborted", "superseded"})
"""Phases in which no more evidence is wanted: pairs still waiting expire."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one rollout's pairs are evaluated. `timeout_s` and `slo_s` are seconds."""

    rollout_id: int
    name: str
    route: str
    candidate: str
    baseline: str = ""
    wanted: bool = True
    max_concurrency: int = 16
    timeout_s: float = 60.0
    slo_s: float | None = None
    limits: Limits = field(default_factory=Limits)
    wants_judge: bool = True
    wants_labels: bool = False


def read_plan(
    *,
    rollout_id: int,
    name: str,
    route: str,
    phase: str,
    spec: Mapping[str, Any],
    baseline: str = "",
) -> Plan:
    """Read a plan out of a spec that was validated when it was applied.

    ``baseline`` is the deployment that the candidate is compared with, as the rollout was started.
    A judge is asked where the metrics name `judge_win_rate` or where none are named at all.
    Raises `ValueError` for a spec that can't have been validated.
    """
    mirror = _mapping(spec.get("mirror"))
    budget = _mapping(mirror.get("budget"))
    analysis = _mapping(spec.get("analysis"))
    metrics = {
        metric["name"]: metric
        for metric in analysis.get("metrics") or ()
        if isinstance(metric, Mapping) and "name" in metric
    }
    dollars = budget.get("usd_per_day")
    calls = budget.get("calls_per_day")
    candidate = _mapping(spec.get("candidate")).get("deployment")
    if not candidate:
        raise ValueError(f"the spec of rollout {name!r} names no candidate deployment")
    slo = _mapping(metrics.get("latency")).get("slo")
    return Plan(
        rollout_id=rollout_id,
        name=name,
        route=route,
        candidate=str(candidate),
        baseline=baseline,
        wanted=phase not in FINISHED,
        max_concurrency=int(mirror.get("max_concurrency", 16)),
        timeout_s=float(parse_duration(mirror.get("timeout", 60.0))),
        slo_s=None if slo is None else float(parse_duration(slo)),
        limits=Limits(
            calls=None if calls is None else int(calls),
            microusd=None if dollars is None else round(float(dollars) * 1_000_000),
        ),
        wants_judge=not metrics or "judge_win_rate" in metrics,
        wants_labels=bool(_mapping(metrics.get("judge_win_rate")).get("min_human_labels")),
    )


def load_plans(store: Store, rollout_ids: Iterable[int]) -> dict[int, Plan]:
    """Read the plans of the rollouts as they are now. Raises `StoreError`."""
    with store.read() as session:
        rows = session.exec(select(RolloutRow).where(col(RolloutRow.id).in_(rollout_ids))).all()
    plans = {}
    for row in rows:
        rollout_id = int(row.id or 0)
        try:
            plans[rollout_id] = read_plan(
                rollout_id=rollout_id,
                name=row.name,
                route=row.route,
                phase=row.phase,
                spec=row.spec,
                baseline=str(_mapping(row.state).get("baseline") or ""),
            )
        except (ValueError, TypeError):
            _log.exception("the stored spec of rollout %s can't be read; its pairs wait", row.name)
    return plans


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
