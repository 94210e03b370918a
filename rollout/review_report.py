"""Where a rollout's reviews stand, read from the store: queue, quota, agreement."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlmodel import Session, col, func, select

from gateway.settings_review import RouteReview
from gateway.store.tables import JudgmentRow, PairRow, ReviewItemRow, ReviewRow
from rollout.agreeing import Labelled, agreement_of, harms_of
from rollout.records import Record
from rollout.reviews import DONE, OPEN, WITHDRAWN, current_reviews
from shadow.disagreement import score_gap
from shadow.drawing import WEEK_S, share_considered

__all__ = ["agreement_report", "label_counts", "queue_report", "review_counts"]

_HARM = "safety"


def review_counts(session: Session, rollout_id: int) -> dict[str, int]:
    """Return how many items are open, done and withdrawn."""
    query = (
        select(ReviewItemRow.state, func.count())
        .where(ReviewItemRow.rollout_id == rollout_id)
        .group_by(ReviewItemRow.state)
    )
    found = dict(session.exec(query).all())
    return {state: int(found.get(state, 0)) for state in (OPEN, DONE, WITHDRAWN)}


def label_counts(session: Session, rollout_id: int) -> dict[float, int]:
    """Return how many labels of each kind settled items have: 0, ½ and 1, for the candidate."""
    query = (
        select(ReviewItemRow.label, func.count())
        .where(ReviewItemRow.rollout_id == rollout_id, col(ReviewItemRow.label).is_not(None))
        .group_by(col(ReviewItemRow.label))
    )
    found = {label: count for label, count in session.exec(query).all() if label is not None}
    return {label: int(found.get(label, 0)) for label in (0.0, 0.5, 1.0)}


def queue_report(
    session: Session, record: Record, rules: RouteReview, *, now: float
) -> dict[str, Any]:
    """Return items by state and source, the quota of the route, and how much people have said."""
    mine = ReviewItemRow.rollout_id == record.id
    sources = dict(
        session.exec(
            select(ReviewItemRow.source, func.count()).where(mine).group_by(ReviewItemRow.source)
        ).all()
    )
    experts = session.exec(
        select(func.count())
        .select_from(ReviewItemRow)
        .where(
            mine,
            ReviewItemRow.state == OPEN,
            col(ReviewItemRow.settle_at).is_(None),
            col(ReviewItemRow.expert_only).is_(True),
        )
    ).one()
    used = session.exec(
        select(func.count())
        .select_from(ReviewItemRow)
        .where(ReviewItemRow.route == record.route, col(ReviewItemRow.created_at) > now - WEEK_S)
    ).one()
    said, people = session.exec(
        select(func.count(), func.count(func.distinct(ReviewRow.reviewer))).where(
            ReviewRow.rollout_id == record.id, col(ReviewRow.superseded).is_(False)
        )
    ).one()
    return {
        "items": review_counts(session, record.id),
        "sources": {name: int(sources.get(name, 0)) for name in ("random", "disagreement")},
        "open_for_experts": int(experts),
        "labels": sum(label_counts(session, record.id).values()),
        "reviews": int(said),
        "reviewers": int(people),
        "quota": {
            "weekly": rules.weekly_quota,
            "used": int(used),
            "considered": share_considered(int(used), rules.weekly_quota),
        },
    }


def agreement_report(session: Session, rollout_id: int) -> dict[str, Any]:
    """Return how far judge and people agree, people among each other, and what harms were seen."""
    labelled = _labelled(session, rollout_id)
    score: Any = col(PairRow.comparison)["score"].as_float()
    by: Any = col(PairRow.comparison)["decided_by"].as_string()
    compared = (
        PairRow.rollout_id == rollout_id,
        PairRow.stream == "mirror",
        by.in_(("check", "judge")),
        score.is_not(None),
    )
    count = select(func.count()).select_from(PairRow)
    pairs = int(session.exec(count.where(*compared)).one())
    flagged = int(session.exec(count.where(*compared, score < 0)).one())
    return {**agreement_of(labelled), "harms": harms_of(labelled, flagged=flagged, pairs=pairs)}


def _labelled(session: Session, rollout_id: int) -> list[Labelled]:
    said: defaultdict[int, list[ReviewRow]] = defaultdict(list)
    items: dict[int, ReviewItemRow] = {}
    for review, item in current_reviews(session, rollout_id):
        if review.label is not None:
            said[review.item_id].append(review)
            items[review.item_id] = item
    leads = _leads(session, [item.pair_id for item in items.values()])
    found = []
    for number, item in items.items():
        if item.label is None:
            continue
        opinions = tuple(r.label for r in said[number] if r.label is not None)
        harmful = any(_is_harm(review) for review in said[number])
        found.append(
            Labelled(
                segment=item.segment,
                source=item.source,
                probability=item.probability,
                label=item.label,
                opinions=opinions,
                score=item.score,
                lead=leads.get(item.pair_id),
                harmful=harmful,
            )
        )
    return found


def _is_harm(review: ReviewRow) -> bool:
    """Say whether somebody saw a harm in the candidate's answer, or in both."""
    against = review.label == 0 or review.verdict == "both_bad"
    return against and _HARM in review.categories


def _leads(session: Session, pair_ids: list[int]) -> dict[int, float]:
    """Return by pair the candidate's lead in the judge's scores, the mean over judgments."""
    rows = session.exec(
        select(JudgmentRow)
        .where(col(JudgmentRow.pair_id).in_(pair_ids))
        .order_by(col(JudgmentRow.id))
    ).all()
    gaps: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        gap = score_gap(row)
        if gap is not None:
            gaps[row.pair_id].append(gap)
    return {pair_id: sum(each) / len(each) for pair_id, each in gaps.items()}
