"""Blind review: two answers side by side, a verdict, and what came of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import Session, col, func, select

from gateway.settings_review import RouteReview
from gateway.store.tables import CaptureRow, PairRow, ReviewItemRow, ReviewRow
from rollout.api.auth import Principal
from rollout.api.context import Api, Context, Operator, Viewer, problems
from rollout.api.context import Reviewer as ReviewerRole
from rollout.api.review_models import (
    AgreementReport,
    HandedItem,
    LabelList,
    MyReview,
    NextItem,
    ReviewPost,
    ReviewPosted,
    ReviewRecord,
    ReviewsOfMine,
    ReviewStatus,
    ReviewTurn,
)
from rollout.api.rollouts import Generation
from rollout.api.views import label_report
from rollout.labelling import CATEGORIES, VERDICTS
from rollout.ledger import find
from rollout.records import Record
from rollout.review_queue import Handed, hand_out, release_item, withdraw_items
from rollout.review_report import agreement_report, queue_report
from rollout.review_view import Shown, show
from rollout.reviews import OPEN, Reviewer, Said, post_review
from rollout.states import FINISHED

__all__ = ["router", "rules_of", "shown_of"]

router = APIRouter(tags=["reviews"])


@router.post("/rollouts/{name}/reviews/next", responses=problems(404))
def next_review(
    api: Context, reviewer: ReviewerRole, name: str, *, generation: Generation = None
) -> NextItem:
    """Take the next item, under a lease: nobody else is given it meanwhile.

    Asked again before a verdict, it gives the same item. Which model answered left is random and
    nowhere said.
    """
    with api.store.read() as session:
        record = find(session, name, generation=generation)
    now = api.clock()
    if record.phase in FINISHED:
        withdraw_items(api.store, record.id, now=now)
        handed = None
    else:
        handed = hand_out(
            api.store,
            record.id,
            _reviewer(reviewer),
            lease_s=rules_of(api, record.route).lease,
            now=now,
        )
    with api.store.read() as session:
        waiting, experts = _open(session, record.id)
    reason = "" if handed else _reason(record, reviewer, waiting, experts)
    return NextItem(
        item=_item(handed) if handed else None,
        open=waiting,
        reason=reason,
        verdicts=list(VERDICTS),
        categories=list(CATEGORIES),
    )


@router.post("/reviews/{item}", responses=problems(404))
def post_verdict(api: Context, reviewer: ReviewerRole, item: int, body: ReviewPost) -> ReviewPosted:
    """Say which answer of an item is better, or correct what you said.

    Once as many people as the route asks for have said something, and its correction_time is over,
    the item's label is evidence, and that does not change. Later verdicts and corrections are kept
    and count for agreement.
    """
    said = Said(body.verdict, tuple(dict.fromkeys(body.categories)), body.note)
    posted = post_review(
        api.store,
        item,
        said,
        _reviewer(reviewer),
        now=api.clock(),
        correction_s=lambda route: rules_of(api, route).correction_time,
    )
    return ReviewPosted(
        id=posted.item_id,
        state=posted.state,
        settles_at=posted.settle_at,
        known=posted.known,
        corrected=posted.corrected,
        counted=posted.counted,
    )


@router.delete("/reviews/{item}/lease", responses=problems())
def release_review(api: Context, reviewer: ReviewerRole, item: int) -> dict[str, bool]:
    """Give an item back without a verdict, so that somebody else is given it at once."""
    release_item(api.store, item, _reviewer(reviewer))
    return {"released": True}


@router.get("/rollouts/{name}/reviews/mine", responses=problems(404))
def list_my_reviews(
    api: Context,
    reviewer: ReviewerRole,
    name: str,
    *,
    generation: Generation = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Reviews at most.")] = 50,
) -> ReviewsOfMine:
    """List your own verdicts, to correct one by posting it again."""
    with api.store.read() as session:
        record = find(session, name, generation=generation)
        rows = session.exec(
            select(ReviewRow)
            .where(
                ReviewRow.rollout_id == record.id,
                ReviewRow.reviewer == reviewer.name,
                col(ReviewRow.superseded).is_(False),
            )
            .order_by(col(ReviewRow.id).desc())
            .limit(limit)
        ).all()
    mine = [
        MyReview(
            id=row.item_id,
            verdict=row.verdict,
            categories=row.categories,
            note=row.note,
            at=row.created_at,
        )
        for row in rows
    ]
    return ReviewsOfMine(reviews=mine)


@router.get("/rollouts/{name}/reviews", responses=problems(404))
def list_reviews(
    api: Context,
    _: Operator,
    name: str,
    *,
    generation: Generation = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Reviews on a page.")] = 100,
    cursor: Annotated[
        int | None, Query(ge=1, description="next_cursor of the page before.")
    ] = None,
) -> LabelList:
    """List every verdict with reviewer, sides and label, corrected ones too. Not for reviewers."""
    with api.store.read() as session:
        record = find(session, name, generation=generation)
        query = (
            select(ReviewRow, ReviewItemRow)
            .where(ReviewRow.rollout_id == record.id, ReviewRow.item_id == ReviewItemRow.id)
            .order_by(col(ReviewRow.id).desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            query = query.where(col(ReviewRow.id) < cursor)
        rows = session.exec(query).all()
    page = rows[:limit]
    return LabelList(
        name=record.name,
        generation=record.generation,
        reviews=[_record(review, item) for review, item in page],
        next_cursor=str(page[-1][0].id) if len(rows) > limit else None,
    )


@router.get("/rollouts/{name}/reviews/status", responses=problems(404))
def review_status(
    api: Context, _: Viewer, name: str, *, generation: Generation = None
) -> ReviewStatus:
    """Show the queue, the quota, and what the labels allow to say about the candidate."""
    with api.store.read() as session:
        record = find(session, name, generation=generation)
        found = queue_report(session, record, rules_of(api, record.route), now=api.clock())
    return ReviewStatus.model_validate(
        {
            "name": record.name,
            "generation": record.generation,
            **found,
            "evidence": label_report(record),
        }
    )


@router.get("/rollouts/{name}/reviews/agreement", responses=problems(404))
def review_agreement(
    api: Context, _: Viewer, name: str, *, generation: Generation = None
) -> AgreementReport:
    """Show how far judge and people agree, people among each other, and bounds on rare harms."""
    with api.store.read() as session:
        record = find(session, name, generation=generation)
        found = agreement_report(session, record.id)
    return AgreementReport.model_validate(
        {"name": record.name, "generation": record.generation, **found}
    )


def _record(review: ReviewRow, item: ReviewItemRow) -> ReviewRecord:
    return ReviewRecord(
        item=review.item_id,
        pair=review.pair_id,
        segment=item.segment,
        source=item.source,
        probability=item.probability,
        left_arm=item.left_arm,
        reviewer=review.reviewer,
        role=review.role,
        expert=review.expert,
        verdict=review.verdict,
        label=review.label,
        categories=review.categories,
        note=review.note,
        via=review.via,
        seconds=review.seconds,
        at=review.created_at,
        superseded=review.superseded,
    )


def shown_of(item: ReviewItemRow, pair: PairRow, capture: CaptureRow) -> Shown:
    """Return an item as reviewers see it."""
    captured, mirrored = capture.response_body, pair.candidate_response
    reverse = capture.variant == "candidate"
    return show(
        endpoint=capture.endpoint,
        request=capture.request_body,
        baseline=mirrored if reverse else captured,
        candidate=captured if reverse else mirrored,
        left_arm=item.left_arm,
    )


def _item(handed: Handed) -> HandedItem:
    shown = shown_of(handed.item, handed.pair, handed.capture)
    return HandedItem(
        id=handed.item.id or 0,
        segment=handed.item.segment,
        conversation=[ReviewTurn(role=turn.role, text=turn.text) for turn in shown.conversation],
        tools=list(shown.tools),
        left=shown.left,
        right=shown.right,
        lease_ends_at=handed.until,
    )


def _reviewer(principal: Principal) -> Reviewer:
    return Reviewer(principal.name, principal.role.name, principal.expert)


def rules_of(api: Api, name: str) -> RouteReview:
    """Return how a route is reviewed."""
    route = api.settings.routes.get(name)
    return (route.review if route is not None else None) or RouteReview()


def _open(session: Session, rollout_id: int) -> tuple[int, int]:
    """Return how many items wait, and how many of them for an expert."""
    query = (
        select(col(ReviewItemRow.expert_only), func.count())
        .where(
            ReviewItemRow.rollout_id == rollout_id,
            ReviewItemRow.state == OPEN,
            col(ReviewItemRow.settle_at).is_(None),
        )
        .group_by(col(ReviewItemRow.expert_only))
    )
    counts = dict(session.exec(query).all())
    return sum(counts.values()), counts.get(True, 0)


def _reason(record: Record, reviewer: Principal, waiting: int, experts: int) -> str:
    if record.phase in FINISHED:
        return f"the rollout is over ({record.phase.value}); its items are withdrawn"
    if not waiting:
        return "no item waits; pairs are drawn as they are compared"
    if experts == waiting and not reviewer.expert:
        return (
            f"{experts} items wait for an expert; an admin creates one's token with "
            "`coalmine token create NAME --role reviewer --expert`"
        )
    return "the items that wait are with others now, or you have reviewed them"
