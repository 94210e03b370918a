"""Drawing pairs for people when they are finished, in the transaction that finishes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, func, select

from gateway.settings import Settings
from gateway.settings_review import RouteReview
from gateway.store.engine import Store
from gateway.store.tables import JudgmentRow, ReviewItemRow, ReviewPoolRow
from shadow.compare import Decision
from shadow.disagreement import judges_disagree
from shadow.drawing import WEEK_S, Askable, Draw, Pool, draw
from shadow.plan import Plan

if TYPE_CHECKING:
    from shadow.pairs import Finished

__all__ = ["askable", "draw_pairs", "rules_for"]

PROBABILITY = "review_probability"
"""Key in a pair's fact: with which probability people could be asked; null: they could not."""

_DECIDED = frozenset({"check", "judge"})


def rules_for(settings: Settings, plan: Plan) -> RouteReview | None:
    """Return how people are asked about a rollout's pairs, or `None` where they are not.

    They are where its route declares a review or its spec asks for human labels, unless the route's
    bodies are not kept: there is nothing to read then.
    """
    if not settings.keeps_bodies(plan.route):
        return None
    route = settings.routes.get(plan.route)
    declared = route.review if route is not None else None
    return declared or (RouteReview() if plan.wants_labels else None)


def askable(
    rules: RouteReview,
    plan: Plan,
    decision: Decision,
    judgments: Sequence[JudgmentRow],
    *,
    salt: str,
    answered: bool,
) -> Askable | None:
    """Return what the draw has to know of a pair, or `None` where people are not to be asked.

    They are asked where both arms answered and a judge or a check compared them. Identical answers
    need nobody.
    """
    if not answered or decision.score is None or decision.decided_by not in _DECIDED:
        return None
    return Askable(
        plan.route, rules, salt, judges_disagree(judgments), score=(1 + decision.score) / 2
    )


def draw_pairs(
    store: Store, session: Session, finished: Sequence[Finished], *, now: float
) -> list[Finished]:
    """Draw among finished pairs, and return them with the probability in their facts.

    The pool of a route is locked from here to the end of the transaction, so that draws of one
    route follow each other. Routes are taken in one order everywhere.
    """
    routes = sorted({each.askable.route for each in finished if each.askable is not None})
    pools = {route: _lock_pool(store, session, route, now) for route in routes}
    done: list[Finished] = []
    for each in finished:
        drawn = None
        if each.askable is not None:
            pool = pools[each.askable.route]
            drawn = draw(each.askable, pool)
            pools[each.askable.route] = pool.after(each.askable, drawn)
            if drawn is not None and drawn.source is not None:
                session.add(_item(each, each.askable, drawn, now))
        done.append(_noted(each, drawn) if each.reviewed else each)
    for route in routes:
        row = session.get(ReviewPoolRow, route)
        if row is not None:
            row.pairs, row.disagreed = pools[route].pairs, pools[route].disagreed
    session.flush()
    return done


def _noted(each: Finished, drawn: Draw | None) -> Finished:
    if each.evidence is None or each.evidence.kind != "pair":
        return each
    chance = None if drawn is None else drawn.probability
    payload = {**each.evidence.payload, PROBABILITY: chance}
    return replace(each, evidence=replace(each.evidence, payload=payload))


def _item(each: Finished, pair: Askable, drawn: Draw, now: float) -> ReviewItemRow:
    return ReviewItemRow(
        rollout_id=each.claim.rollout_id,
        pair_id=each.claim.pair_id,
        route=pair.route,
        segment=each.claim.segment,
        source=str(drawn.source),
        probability=drawn.probability,
        left_arm=drawn.left_arm,
        expert_only=pair.rules.expert_only,
        wanted=pair.rules.reviewers_per_pair,
        score=pair.score,
        position=drawn.position,
        created_at=now,
    )


def _lock_pool(store: Store, session: Session, route: str, now: float) -> Pool:
    session.connection().execute(
        _ensure(store.is_sqlite), {"route": route, "pairs": 0, "disagreed": 0}
    )
    row = session.exec(
        select(ReviewPoolRow)
        .where(ReviewPoolRow.route == route)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    used = session.exec(
        select(func.count())
        .select_from(ReviewItemRow)
        .where(ReviewItemRow.route == route, col(ReviewItemRow.created_at) > now - WEEK_S)
    ).one()
    return Pool(row.pairs, row.disagreed, int(used))


@cache
def _ensure(is_sqlite: bool) -> Any:
    table = ReviewPoolRow.__table__  # type: ignore[attr-defined]
    return (sqlite if is_sqlite else postgresql).insert(table).on_conflict_do_nothing()
