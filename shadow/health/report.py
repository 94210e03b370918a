"""What the store knows of a judge's health, for the API, the CLI and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlmodel import Session, col, func, select

from gateway.store.tables import (
    JudgeHealthRow,
    JudgeWindowRow,
    JudgmentRow,
    PairRow,
)
from shadow.health.anchors import AnchorSet, agreement, has_drifted
from shadow.health.biases import Biases, JudgedPair, measure
from shadow.health.windows import first_verdicts, last_anchors

__all__ = ["anchor_report", "biases_json", "controls_report", "live_biases", "window_report"]

MOST_PAIRS = 1000
"""Judged pairs, the latest, that biases are measured on."""


def window_report(session: Session, rollout_id: int, *, limit: int = 20) -> list[dict[str, Any]]:
    """Return the latest windows of a rollout, newest first."""
    rows = session.exec(
        select(JudgeWindowRow)
        .where(JudgeWindowRow.rollout_id == rollout_id)
        .order_by(col(JudgeWindowRow.window).desc())
        .limit(limit)
    ).all()
    return [
        {
            "window": row.window,
            "opened_at": row.opened_at,
            "finished_at": row.finished_at,
            "judged": row.judged,
            "result": row.result,
            "reason": row.reason,
            "model": row.model,
            "fingerprint": row.fingerprint,
            "rubric": row.rubric,
        }
        for row in rows
    ]


def controls_report(session: Session, rollout_id: int, *, since: int = 0) -> list[dict[str, Any]]:
    """Return by kind how many control pairs were asked and passed, in windows after ``since``."""
    statement = (
        select(JudgeHealthRow.kind, JudgeHealthRow.passed, func.count())
        .where(
            JudgeHealthRow.rollout_id == rollout_id,
            JudgeHealthRow.kind != "anchor",
            col(JudgeHealthRow.window) > since,
        )
        .group_by(col(JudgeHealthRow.kind), col(JudgeHealthRow.passed))
    )
    kinds: dict[str, dict[str, Any]] = {}
    for kind, passed, count in session.exec(statement).all():
        found = kinds.setdefault(
            kind, {"kind": kind, "asked": 0, "passed": 0, "failed": 0, "no_verdict": 0}
        )
        found["asked"] += count
        found["no_verdict" if passed is None else "passed" if passed else "failed"] += count
    return [kinds[kind] for kind in sorted(kinds)]


def anchor_report(
    session: Session, rollout_id: int, anchors: AnchorSet, *, least: float
) -> dict[str, Any] | None:
    """Return how far the judge still agrees with its first verdicts; None before the first time.

    Anchors belong to judge and rubric, so they may have been judged for another rollout of theirs.
    ``former`` is how far this judge's first verdicts agree with those of the one that the rollout
    had before, on the anchors that both know.
    """
    used = _identities(session, rollout_id)
    rubric = next((rubric for _, rubric in used if rubric), None)
    last = last_anchors(session, rubric) if rubric else None
    if last is None:
        return None
    rows = session.exec(
        select(JudgeHealthRow).where(
            JudgeHealthRow.rollout_id == last.rollout_id,
            JudgeHealthRow.kind == "anchor",
            JudgeHealthRow.window == last.window,
        )
    ).all()
    held = [row.passed for row in rows if row.passed is not None]
    agreed = sum(held)
    return {
        "at": last.at,
        "anchors": len(rows),
        "compared": len(held),
        "agreed": agreed,
        "agreement": agreed / len(held) if held else None,
        "drifted": has_drifted(agreed, len(held), least),
        "model": last.model,
        "fingerprint": last.fingerprint,
        "former": _former(session, [anchors.identity(identity) for identity, _ in used]),
    }


def _identities(session: Session, rollout_id: int) -> list[tuple[str, str | None]]:
    """Return the judges (with their rubrics) that a rollout has had, the latest first."""
    newest = func.max(JudgeWindowRow.window)
    statement = (
        select(JudgeWindowRow.identity, func.max(JudgeWindowRow.rubric))
        .where(JudgeWindowRow.rollout_id == rollout_id, col(JudgeWindowRow.identity).is_not(None))
        .group_by(col(JudgeWindowRow.identity))
        .order_by(newest.desc())
    )
    return [(str(identity), rubric) for identity, rubric in session.exec(statement).all()]


def _former(session: Session, identities: Sequence[str]) -> float | None:
    if len(identities) < 2:
        return None
    now, before = (first_verdicts(session, identity) for identity in identities[:2])
    same = agreement(now, before)
    return sum(same) / len(same) if same else None


def live_biases(session: Session, rollout_id: int) -> tuple[Biases, ...]:
    """Return the biases over the latest judged pairs, overall and by segment."""
    pairs: dict[tuple[int, str], dict[str, Any]] = {}
    statement = (
        select(JudgmentRow.pair_id, JudgmentRow.stage, JudgmentRow.order, JudgmentRow.verdict)
        .where(JudgmentRow.rollout_id == rollout_id, col(JudgmentRow.verdict).is_not(None))
        .order_by(col(JudgmentRow.id).desc())
        .limit(2 * MOST_PAIRS)
    )
    for judged, stage, order, verdict in session.exec(statement).all():
        pairs.setdefault((judged, stage or ""), {}).setdefault(order, verdict)
    known: dict[int, tuple[str | None, Any]] = {}
    ids = sorted({judged for judged, _ in pairs})
    for start in range(0, len(ids), 500):
        chosen = col(PairRow.id).in_(ids[start : start + 500])
        query = select(PairRow.id, PairRow.segment, PairRow.checks).where(chosen)
        for pair_id, segment, checks in session.exec(query).all():
            known[int(pair_id or 0)] = (segment, checks)
    return measure(
        [
            JudgedPair(known[each][0], sides["AB"], sides["BA"], _tokens(known[each][1]))
            for (each, _), sides in pairs.items()
            if {"AB", "BA"} <= sides.keys() and each in known
        ]
    )


def biases_json(biases: tuple[Biases, ...]) -> list[dict[str, Any]]:
    """Return biases as JSON."""
    return [asdict(each) for each in biases]


def _tokens(checks: Any) -> tuple[float, float] | None:
    measured = (checks or {}).get("output_tokens") or {}
    values = [measured.get(arm, {}).get("value") for arm in ("baseline", "candidate")]
    return None if None in values else (float(values[0]), float(values[1]))
