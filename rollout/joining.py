"""Joining outcomes with the requests they are about: what makes evidence of them.

A request's capture says which arm served it, at which weight and in which epoch. Only a capture of
the live sample counts, for that sample is drawn alike in both arms; a mirror's is not. Without one,
what the application read from the response's headers counts, where it posted that too, and the
weight is the one that the rollout had at the time. Either way only requests that chance assigned
are evidence, each outcome once: the row and the evidence are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, and_, col, select

from gateway.split import BASIS_POINTS
from gateway.store.engine import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.tables import CaptureRow, OutcomeRow, PairRow, RolloutRow, TransitionRow
from rollout.outcomes import IGNORED, JOINED, PENDING, UNMATCHED
from rollout.states import FINISHED

__all__ = ["Request", "Tenure", "find_request", "join_outcomes", "tenure_at"]

CAPTURE_WAIT_S = 15.0
"""How long a capture is waited for before what the application said of the request counts."""

SETTLING_S = 5.0
"""So close to a change of the weight it is not certain which weight assigned a request."""

_MIN_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0

_DONE = frozenset(phase.value for phase in FINISHED)
_RANDOM = {"split": None, "fallback": "candidate"}  # who is charged: the arm that chance gave


@dataclass(frozen=True, slots=True)
class Request:
    """What has to be known of a request for its outcome to be evidence."""

    rollout_id: int
    variant: str
    weight_bp: int
    epoch: int
    at: float
    capture_id: str | None = None
    segment: str | None = None
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A capture; ``rollout_id`` is the rollout whose live sample it is in, if it is in one."""

    id: str
    variant: str
    reason: str
    weight_bp: int
    epoch: int
    at: float
    segment: str | None
    key_hash: str | None
    rollout_id: int | None


@dataclass(frozen=True, slots=True)
class Tenure:
    """A rollout's weight from an instant on, until the next tenure begins."""

    at: float
    rollout_id: int
    weight_bp: int
    epoch: int


def tenure_at(tenures: Sequence[Tenure], at: float) -> Tenure | None:
    """Return the tenure in which a request of that time was assigned; ``None``: not certain.

    ``tenures`` are in the order of time.
    """

    def latest(moment: float) -> Tenure | None:
        return next((each for each in reversed(tenures) if each.at <= moment), None)

    before, after = latest(at - SETTLING_S), latest(at + SETTLING_S)
    if before is None or after is None:
        return None
    same = (before.rollout_id, before.weight_bp, before.epoch) == (
        *(after.rollout_id, after.weight_bp, after.epoch),
    )
    return before if same else None


def find_request(
    outcome: OutcomeRow, seen: Sequence[Seen], tenures: Sequence[Tenure], *, now: float
) -> Request | str | None:
    """Return the request of an outcome, a word on why it can't be evidence, or ``None``: wait."""
    live = [each for each in seen if each.rollout_id is not None]
    if len({each.id for each in seen}) > 1:
        return "several_requests"
    if live:
        return _captured(live[0])
    if outcome.variant is not None and outcome.rollout is not None:
        if not seen and now - outcome.created_at < CAPTURE_WAIT_S:
            return None
        return _claimed(outcome, tenures, now=now)
    if seen:
        return "not_sampled" if seen[0].reason == "split" else "not_random"
    return None


def _captured(seen: Seen) -> Request | str:
    if seen.reason != "split" or seen.rollout_id is None:
        return "not_random"
    if not seen.weight_bp:
        return "no_traffic"
    return Request(
        rollout_id=seen.rollout_id,
        variant=seen.variant,
        weight_bp=seen.weight_bp,
        epoch=seen.epoch,
        at=seen.at,
        capture_id=seen.id,
        segment=seen.segment,
        cluster=seen.key_hash,
    )


def _claimed(outcome: OutcomeRow, tenures: Sequence[Tenure], *, now: float) -> Request | str:
    reason = outcome.reason or "split"
    if reason not in _RANDOM:
        return "not_random"
    at = min(now, outcome.created_at if outcome.request_at is None else outcome.request_at)
    if not tenures:
        return "unknown_rollout"
    tenure = tenure_at(tenures, at)
    variant = _RANDOM[reason] or str(outcome.variant)
    if tenure is None:
        return "weight_unknown"
    if not tenure.weight_bp or (tenure.weight_bp == BASIS_POINTS and variant == "baseline"):
        return "no_traffic"
    return Request(tenure.rollout_id, variant, tenure.weight_bp, tenure.epoch, at)


def join_outcomes(store: Store, *, now: float, wait_s: float, limit: int = 500) -> int:
    """Look at up to ``limit`` pending outcomes that are due; return how many it looked at.

    What can't be joined yet is looked at again later, less and less often, until it has waited for
    ``wait_s`` seconds and is unmatched. Any number of processes may do this at once. Raises
    :class:`StoreError`, and then nothing was changed.
    """
    due = (col(OutcomeRow.state) == PENDING, col(OutcomeRow.check_at) <= now)
    with store.read() as session:  # SQLite's one write lock is not taken for nothing
        if session.exec(select(OutcomeRow.id).where(*due).limit(1)).first() is None:
            return 0
    with store.write() as session:
        rows = session.exec(
            select(OutcomeRow)
            .where(*due)
            .order_by(col(OutcomeRow.check_at), col(OutcomeRow.id))
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        seen = _captures(session, {row.request_id for row in rows})
        tenures = _tenures(session, {row.rollout for row in rows if row.rollout is not None})
        found = [
            find_request(
                row, seen.get(row.request_id, ()), tenures.get(row.rollout or "", ()), now=now
            )
            for row in rows
        ]
        requests = [each for each in found if isinstance(each, Request)]
        rollouts = _rollouts(session, {each.rollout_id for each in requests})
        facts: dict[int, list[Evidence]] = {}
        for row, each in zip(rows, found, strict=True):
            if isinstance(each, Request):
                _join(row, each, rollouts.get(each.rollout_id, "finished"), facts, now)
            elif each is not None:
                _settle(row, IGNORED, each, now)
            elif now - row.created_at >= wait_s:
                _settle(row, UNMATCHED, "no_capture", now)
            else:
                row.check_at = min(
                    now + min(_MAX_PAUSE_S, max(_MIN_PAUSE_S, (now - row.created_at) / 4)),
                    row.created_at + wait_s,
                )
        session.flush()
        for rollout_id in sorted(facts):
            append_evidence(store, session, rollout_id, facts[rollout_id])
    return len(rows)


def _join(
    row: OutcomeRow,
    request: Request,
    asked: frozenset[str] | str,
    facts: dict[int, list[Evidence]],
    now: float,
) -> None:
    """Make evidence of an outcome, unless its rollout is over or asks for no such outcome."""
    row.rollout_id, row.capture_id = request.rollout_id, request.capture_id
    row.variant, row.weight_bp = request.variant, request.weight_bp
    if isinstance(asked, str):
        return _settle(row, IGNORED, asked, now)
    if row.name not in asked:
        return _settle(row, IGNORED, "no_metric", now)
    payload = {
        "request_id": row.request_id,
        "capture_id": request.capture_id,
        "name": row.name,
        "variant": request.variant,
        "weight_bp": request.weight_bp,
        "failure": row.failure,
        "cluster": request.cluster,
    }
    fact = Evidence("outcome", request.at, payload, request.segment, request.epoch)
    facts.setdefault(request.rollout_id, []).append(fact)
    return _settle(row, JOINED, None, now)


def _settle(row: OutcomeRow, state: str, detail: str | None, now: float) -> None:
    row.state, row.detail, row.settled_at = state, detail, now


def _captures(session: Session, request_ids: Iterable[str]) -> dict[str, list[Seen]]:
    """Return the captures of these requests, without their bodies."""
    live = and_(col(PairRow.capture_id) == col(CaptureRow.id), col(PairRow.stream) == "live")
    columns: Any = (
        CaptureRow.request_id,
        CaptureRow.id,
        CaptureRow.variant,
        CaptureRow.reason,
        CaptureRow.weight_bp,
        CaptureRow.epoch,
        CaptureRow.created_at,
        CaptureRow.segment,
        CaptureRow.key_hash,
        PairRow.rollout_id,
    )
    query = select(*columns).outerjoin(PairRow, live)
    rows = session.exec(query.where(col(CaptureRow.request_id).in_(request_ids))).all()
    found: dict[str, list[Seen]] = {}
    for request_id, *rest in rows:
        found.setdefault(request_id, []).append(Seen(*rest))
    return found


def _rollouts(session: Session, ids: Iterable[int]) -> dict[int, frozenset[str] | str]:
    """Return which outcomes the rollouts ask for, or a word on why none counts any more."""
    query = select(RolloutRow.id, RolloutRow.phase, RolloutRow.spec)
    rows = session.exec(query.where(col(RolloutRow.id).in_(ids))).all()
    return {
        int(number or 0): "finished" if phase in _DONE else _asked(spec)
        for number, phase, spec in rows
    }


def _asked(spec: Mapping[str, Any]) -> frozenset[str]:
    metrics = spec.get("analysis", {}).get("metrics", ())
    sources = (metric.get("source") or {} for metric in metrics)
    return frozenset(source["outcome"] for source in sources if "outcome" in source)


def _tenures(session: Session, names: Iterable[str]) -> dict[str, list[Tenure]]:
    """Return the weights that rollouts of these names have had, each in the order of time.

    A transition's receipt says in which epoch the split was before it; after the last one that is
    the rollout's own.
    """
    held = TransitionRow.receipt["split_before"]["epoch"]
    columns: Any = (
        RolloutRow.name,
        RolloutRow.id,
        RolloutRow.state["epoch"].as_integer(),
        TransitionRow.at,
        TransitionRow.weight_after_bp,
        held.as_integer(),
    )
    query = (
        select(*columns)
        .join(TransitionRow, col(TransitionRow.rollout_id) == col(RolloutRow.id))
        .where(col(RolloutRow.name).in_(names))
        .order_by(col(RolloutRow.id), col(TransitionRow.number))
    )
    found: dict[str, list[Tenure]] = {}
    rows = session.exec(query).all()
    for index, (name, rollout_id, present, at, weight_bp, _) in enumerate(rows):
        following = rows[index + 1] if index + 1 < len(rows) else None
        same = following is not None and following[1] == rollout_id
        epoch = following[5] if same and following is not None else present
        if epoch is not None:
            found.setdefault(name, []).append(Tenure(at, rollout_id, weight_bp, epoch))
    return found
