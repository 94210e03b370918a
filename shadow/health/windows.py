"""Windows in the store: claimed by one worker under a lease, ended in one transaction, once.

What a window came to, every pair asked for it, and the fact that the controller folds are written
together; of a judge that failed nothing is kept for later pairs. A worker that lost its lease meets
a row that is no longer its own and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, distinct, func, select, update

from gateway.store.engine import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.tables import JudgeAnchorRow, JudgeHealthRow, JudgeWindowRow, JudgmentRow
from shadow.health.examination import Asked, Examination
from shadow.health.trial import Levels, start_levels
from shadow.judge.cache import forget_verdicts

__all__ = [
    "Ended",
    "Rules",
    "Window",
    "claim_window",
    "finish_window",
    "first_verdicts",
    "is_due",
    "last_anchors",
    "release_window",
]

RETRY_S = 30.0
"""Seconds after which a window that could not be examined is tried again, at most ``every_s``."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a window ends, and who asks. ``lease_s`` and ``every_s`` are seconds."""

    worker: str
    every_pairs: int
    every_s: float
    lease_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Window:
    """A window that this worker examines the judge for; ``levels`` are what it begins with."""

    rollout_id: int
    number: int
    attempt: int
    worker: str
    levels: Levels


@dataclass(frozen=True, slots=True)
class Ended:
    """What a window came to, and with whom: the hash of judge and rubric is ``identity``.

    ``rubric`` is the rubric's own hash. ``limit`` is how many verdicts a pass is good for.
    ``anchors`` are those judged now, ``anchor_identity`` under which their first verdicts stand.
    """

    examination: Examination
    identity: str
    rubric: str
    limit: int
    anchors: Sequence[Asked] = ()
    anchor_identity: str = ""


def is_due(store: Store, rollout_id: int, rules: Rules, *, now: float) -> bool:
    """Say whether a window of the rollout has ended and nobody examines it. Only reads."""
    with store.read() as session:
        last = _last(session, rollout_id)
        return _is_due(session, last, rollout_id, rules, now)


def claim_window(
    store: Store, rollout_id: int, rules: Rules, *, identity: str, now: float
) -> Window | None:
    """Claim the window that has ended, or one whose worker is gone. None where another was first.

    A judge or rubric of another ``identity`` than before begins with no level at all.
    """
    with store.write() as session:
        last = _last(session, rollout_id)
        if not _is_due(session, last, rollout_id, rules, now):
            return None
        if last is not None and last.finished_at is None:
            return _taken_over(session, last, rules, identity, now)
        number = 1 if last is None else last.window + 1
        levels = _levels(last, identity)
        dialect = sqlite if store.is_sqlite else postgresql
        made = session.connection().execute(
            dialect.insert(JudgeWindowRow)
            .values(
                rollout_id=rollout_id,
                window=number,
                claimed_by=rules.worker,
                attempt=1,
                lease_until=now + rules.lease_s,
                opened_at=now,
                after_judgment=_last_judgment(session, rollout_id),
                judged=_judged(session, last, rollout_id),
                reason="",
                identity=identity,
                levels=_to_json(levels),
            )
            .on_conflict_do_nothing(index_elements=["rollout_id", "window"])
        )
        return Window(rollout_id, number, 1, rules.worker, levels) if made.rowcount else None


def finish_window(store: Store, window: Window, ended: Ended, *, now: float) -> bool:
    """Write what a window came to; False, and nothing written, where it is another worker's now."""
    examination = ended.examination
    every = [*examination.asked, *ended.anchors]
    known = next((each for each in every if each.model), None)
    with store.write() as session:
        done = session.exec(
            update(JudgeWindowRow)
            .where(*_is_mine(window))
            .values(
                finished_at=now,
                lease_until=0.0,
                result=examination.result,
                reason=examination.reason,
                model=known.model if known else None,
                fingerprint=known.fingerprint if known else None,
                rubric=ended.rubric,
                identity=ended.identity,
                levels=_to_json(examination.levels),
            )
        )
        if not done.rowcount:
            return False
        session.add_all(_row(window, each, ended.rubric, now) for each in every)
        session.flush()
        _keep_first(store, session, ended, now)
        _forget_doubtful(session, window, every, examination.result)
        if examination.result != "not_run":
            payload = {
                "window": window.number,
                "result": examination.result,
                "reason": examination.reason,
                "limit": ended.limit,
                "judge": known.model if known else None,
                "fingerprint": known.fingerprint if known else None,
                "rubric": ended.rubric,
            }
            fact = Evidence("judge_health", now, payload)
            append_evidence(store, session, window.rollout_id, [fact])
    return True


def release_window(store: Store, window: Window, *, until: float = 0.0) -> None:
    """Give a window back that could not be examined: free from ``until`` (Unix seconds) on."""
    with store.write() as session:
        session.exec(update(JudgeWindowRow).where(*_is_mine(window)).values(lease_until=until))


def first_verdicts(session: Session, identity: str) -> dict[str, float]:
    """Return the score that a judge gave each anchor the first time."""
    rows = session.exec(select(JudgeAnchorRow).where(JudgeAnchorRow.identity == identity)).all()
    return {row.anchor: row.score for row in rows}


def last_anchors(session: Session, rubric: str) -> JudgeHealthRow | None:
    """Return one of the anchors that were judged last with a rubric, for whichever rollout."""
    return session.exec(
        select(JudgeHealthRow)
        .where(
            JudgeHealthRow.kind == "anchor",
            JudgeHealthRow.rubric == rubric,
            col(JudgeHealthRow.model) != "",
        )
        .order_by(col(JudgeHealthRow.id).desc())
        .limit(1)
    ).first()


def _last(session: Session, rollout_id: int) -> JudgeWindowRow | None:
    return session.exec(
        select(JudgeWindowRow)
        .where(JudgeWindowRow.rollout_id == rollout_id)
        .order_by(col(JudgeWindowRow.window).desc())
        .limit(1)
    ).first()


def _is_due(
    session: Session, last: JudgeWindowRow | None, rollout_id: int, rules: Rules, now: float
) -> bool:
    if last is None:
        return True
    if last.finished_at is None:
        return last.lease_until < now
    ago = now - last.finished_at
    if last.result == "not_run":
        return ago >= min(RETRY_S, rules.every_s)
    if last.result == "fail" and ago >= rules.every_s:
        return True
    judged = _judged(session, last, rollout_id)
    return judged >= rules.every_pairs or (judged > 0 and ago >= rules.every_s)


def _judged(session: Session, last: JudgeWindowRow | None, rollout_id: int) -> int:
    """Count the pairs that the judge decided since the last window."""
    statement = select(func.count(distinct(col(JudgmentRow.pair_id)))).where(
        JudgmentRow.rollout_id == rollout_id,
        col(JudgmentRow.id) > (0 if last is None else last.after_judgment),
        col(JudgmentRow.verdict).is_not(None),
    )
    return int(session.exec(statement).one())


def _last_judgment(session: Session, rollout_id: int) -> int:
    statement = select(func.max(JudgmentRow.id)).where(JudgmentRow.rollout_id == rollout_id)
    return int(session.exec(statement).one() or 0)


def _taken_over(
    session: Session, last: JudgeWindowRow, rules: Rules, identity: str, now: float
) -> Window | None:
    taken = session.exec(
        update(JudgeWindowRow)
        .where(
            col(JudgeWindowRow.rollout_id) == last.rollout_id,
            col(JudgeWindowRow.window) == last.window,
            col(JudgeWindowRow.attempt) == last.attempt,
            col(JudgeWindowRow.finished_at).is_(None),
        )
        .values(claimed_by=rules.worker, attempt=last.attempt + 1, lease_until=now + rules.lease_s)
        .execution_options(synchronize_session=False)
    )
    if not taken.rowcount:
        return None
    levels = _levels(last, identity)
    return Window(last.rollout_id, last.window, last.attempt + 1, rules.worker, levels)


def _levels(last: JudgeWindowRow | None, identity: str) -> Levels:
    if last is None or last.identity != identity:
        return start_levels()
    kept: Mapping[str, Any] = last.levels
    return Levels({**start_levels().levels, **kept["kinds"]}, strict=bool(kept["strict"]))


def _to_json(levels: Levels) -> dict[str, Any]:
    return {"kinds": dict(levels.levels), "strict": levels.strict}


def _is_mine(window: Window) -> tuple[Any, ...]:
    return (
        col(JudgeWindowRow.rollout_id) == window.rollout_id,
        col(JudgeWindowRow.window) == window.number,
        col(JudgeWindowRow.attempt) == window.attempt,
        col(JudgeWindowRow.claimed_by) == window.worker,
        col(JudgeWindowRow.finished_at).is_(None),
    )


def _row(window: Window, asked: Asked, rubric: str, now: float) -> JudgeHealthRow:
    return JudgeHealthRow(
        rollout_id=window.rollout_id,
        window=window.number,
        kind=asked.kind,
        control=asked.name,
        verdict=asked.verdict,
        passed=asked.passed,
        model=asked.model,
        fingerprint=asked.fingerprint,
        rubric=rubric,
        at=now,
    )


def _forget_doubtful(session: Session, window: Window, asked: Sequence[Asked], result: str) -> None:
    """Forget the kept verdicts of a judge that failed: since its last window, until it passes."""
    before = session.exec(
        select(JudgeWindowRow.result, JudgeWindowRow.finished_at)
        .where(
            JudgeWindowRow.rollout_id == window.rollout_id,
            col(JudgeWindowRow.window) < window.number,
            col(JudgeWindowRow.result).in_(("pass", "fail")),
        )
        .order_by(col(JudgeWindowRow.window).desc())
        .limit(1)
    ).first()
    last, ended_at = before or (None, None)
    if result == "fail" or (result == "pass" and last == "fail"):
        models = {each.model for each in asked if each.model}
        forget_verdicts(session, models, since=ended_at or 0.0)


def _keep_first(store: Store, session: Session, ended: Ended, now: float) -> None:
    """Keep the anchors' verdicts where they are the first of this judge, rubric and set."""
    dialect = sqlite if store.is_sqlite else postgresql
    for each in sorted(ended.anchors, key=lambda asked: asked.name):
        if each.comparison is None:
            continue
        session.connection().execute(
            dialect.insert(JudgeAnchorRow)
            .values(
                identity=ended.anchor_identity,
                anchor=each.name,
                verdict=each.verdict,
                score=each.comparison.score,
                model=each.model,
                fingerprint=each.fingerprint,
                created_at=now,
            )
            .on_conflict_do_nothing(index_elements=["identity", "anchor"])
        )
