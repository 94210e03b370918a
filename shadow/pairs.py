"""Pairs in the store: claimed in batches under a lease, finished in one transaction, once.

A claim is known by worker and attempt. Whatever a worker that lost its lease still tries to write
meets a row that is no longer its own, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import Any

from sqlalchemy import text
from sqlmodel import Session, and_, col, func, or_, select, update

from gateway.intake import any_packets, count_packed, unpack
from gateway.store.engine import Store
from gateway.store.erasure import erase_finished_bodies
from gateway.store.evidence import Evidence, append_evidence, move_funnel
from gateway.store.tables import LIVE_FIRST, CaptureRow, JudgmentRow, PairRow, RolloutRow
from shadow.drawing import Askable
from shadow.judge.cache import Kept, keep_verdicts
from shadow.plan import FINISHED
from shadow.review import draw_pairs

PENDING, CLAIMED, DONE = "pending", "claimed", "done"
EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Claim:
    """A pair that this worker may work on until its lease ends, with its capture."""

    pair_id: int
    rollout_id: int
    stream: str
    attempt: int
    worker: str
    created_at: float
    segment: str | None
    capture: CaptureRow


@dataclass(frozen=True, slots=True)
class Finished:
    """What a pair came to; everything in it is written in one transaction, or nothing is.

    `reviewed` says that people are asked about the rollout's pairs, `askable` about this one too.
    """

    claim: Claim
    outcome: str
    evidence: Evidence | None = None
    judgments: tuple[JudgmentRow, ...] = ()
    verdicts: tuple[Kept, ...] = ()
    columns: dict[str, Any] = field(default_factory=dict)
    reviewed: bool = False
    askable: Askable | None = None


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """How a worker claims: under which name, for how long, and what is given up.

    `lease_s` and `ttl_s` are seconds, `ttl_s` from a pair's creation to its first claim.
    `concurrency` is how many pairs the worker has in work at a time; where several rollouts have
    pairs, each gets an equal part of it, so that a candidate that hangs holds up no other. None:
    whoever's pairs are oldest. `reserved` places of this claim go to other than live pairs where
    some wait: live ones come first, and of a backlog of them no mirrored pair would ever be seen.
    """

    worker: str
    lease_s: float = 180.0
    max_attempts: int = 3
    ttl_s: float = 3600.0
    concurrency: int | None = None
    reserved: int = 0


def claim_pairs(
    store: Store,
    rules: ClaimRules,
    *,
    now: float,
    limit: int,
    busy: Mapping[int, int] = MappingProxyType({}),
    expired: Callable[[str, str, str], None] = lambda _route, _rollout, _stream: None,
) -> list[Claim]:
    """Claim up to `limit` pairs: those whose lease ran out, live ones, the oldest waiting.

    `busy` says how many pairs of each rollout the worker has in work.

    In the same transaction pairs expire that were claimed `max_attempts` times in vain, waited
    longer than `ttl_s`, or belong to a rollout that is over; `expired` hears of each after the
    commit, by route, rollout and stream. What gateways handed over meanwhile becomes pairs first.
    An idle store is only read. Raises `StoreError`.
    """
    claims: list[Claim] = []
    while not claims:
        with store.read() as session:
            packed, waiting = any_packets(session), _anything(session, now)
        if packed:
            unpack(store)
        elif not waiting:
            break
        with store.write() as session:
            claims, gone = _claim_batch(store, session, rules, now, limit, busy)
        for route, rollout, stream in gone:
            expired(route, rollout, stream)
        if not claims and not gone:
            break  # all that is there is locked by other workers
    return claims


def _claim_batch(
    store: Store,
    session: Session,
    rules: ClaimRules,
    now: float,
    limit: int,
    busy: Mapping[int, int],
) -> tuple[list[Claim], list[tuple[str, str, str]]]:
    rows = _lapsed(session, now, limit)
    rows += _waiting(session, limit - len(rows), rules, busy)
    rollouts = _rollouts(session, {row.rollout_id for row in rows})
    gone: list[PairRow] = []
    kept: list[PairRow] = []
    for row in rows:
        stale = (
            row.attempts >= rules.max_attempts
            or (row.state == PENDING and now - row.created_at > rules.ttl_s)
            or row.rollout_id not in rollouts
            or rollouts[row.rollout_id].phase in FINISHED
        )
        (gone if stale else kept).append(row)
    for row in gone:
        row.state, row.outcome, row.finished_at = DONE, EXPIRED, now
        row.claimed_by, row.lease_until = None, 0.0
    for row in kept:
        row.state, row.claimed_by = CLAIMED, rules.worker
        row.lease_until, row.attempts = now + rules.lease_s, row.attempts + 1
    session.flush()
    _move(store, session, [(row.rollout_id, row.stream, EXPIRED) for row in gone])
    _tell_of_expired(store, session, gone, rollouts, now)
    captures = _captures(session, [row.capture_id for row in kept])
    names = {number: (row.route, row.name) for number, row in rollouts.items()}
    lost = ("unknown", "unknown")
    return (
        [_claim(row, captures[row.capture_id]) for row in kept],
        [(*names.get(row.rollout_id, lost), row.stream) for row in gone],
    )


def finish_pairs(store: Store, finished: Sequence[Finished], *, now: float) -> list[bool]:
    """Write finished pairs: row, judgments, funnel, draws for people and evidence move together.

    Returns for each whether it counted. One whose lease went to another worker does not, and
    nothing of it is written. Raises `StoreError`, and then nothing at all was written.
    """
    with store.write() as session:
        # In one order everywhere, so that two workers never wait for each other.
        ordered = sorted(finished, key=lambda each: each.claim.pair_id)
        taken = {id(each): _take_back(session, each, now) for each in ordered}
        counted = [taken[id(each)] for each in finished]
        mine = [each for each in ordered if taken[id(each)]]
        for each in mine:
            session.add_all(each.judgments)
        session.flush()
        keep_verdicts(store, session, (kept for each in mine for kept in each.verdicts), now=now)
        passing = {e.claim.capture.id for e in mine if not e.claim.capture.store_bodies}
        if passing:
            erase_finished_bodies(store, session, now=now, ids=passing)
        _move(store, session, [(e.claim.rollout_id, e.claim.stream, e.outcome) for e in mine])
        facts: dict[int, list[Evidence]] = {}
        for each in draw_pairs(store, session, mine, now=now):
            if each.evidence is not None:
                facts.setdefault(each.claim.rollout_id, []).append(each.evidence)
        for rollout_id in sorted(facts):
            append_evidence(store, session, rollout_id, facts[rollout_id])
    return counted


def renew_leases(store: Store, claims: Sequence[Claim], *, now: float, lease_s: float) -> None:
    """Keep claims that are still worked on. Raises `StoreError`."""
    with store.write() as session:
        for claim in sorted(claims, key=lambda each: each.pair_id):
            session.exec(update(PairRow).where(*_is_mine(claim)).values(lease_until=now + lease_s))


def release_pairs(store: Store, claims: Sequence[Claim]) -> None:
    """Give claims back that were not begun; the attempt does not count. Raises `StoreError`."""
    with store.write() as session:
        for claim in sorted(claims, key=lambda each: each.pair_id):
            session.exec(
                update(PairRow)
                .where(*_is_mine(claim))
                .values(state=PENDING, claimed_by=None, lease_until=0.0, attempts=claim.attempt - 1)
            )


def count_pending(store: Store) -> int:
    """Count the pairs that nobody has claimed, packed ones included. Raises `StoreError`."""
    with store.read() as session:
        statement = select(func.count()).select_from(PairRow).where(col(PairRow.state) == PENDING)
        return int(session.exec(statement).one()) + count_packed(session)


def _lapsed(session: Session, now: float, limit: int) -> list[PairRow]:
    statement = (
        select(PairRow)
        .where(col(PairRow.state) == CLAIMED, col(PairRow.lease_until) < now)
        .order_by(col(PairRow.lease_until), col(PairRow.id))
    )
    return _locked(session, statement, limit)


def _waiting(
    session: Session, limit: int, rules: ClaimRules, busy: Mapping[int, int]
) -> list[PairRow]:
    """Return live pairs first, for they cost no call, then a fair part of each rollout's."""
    if limit <= 0:
        return []
    ids = [int(rollout_id) for (rollout_id,) in session.connection().execute(_WITH_PENDING)]
    alone = rules.concurrency is None or len({*ids, *busy}) <= 1
    if alone and not rules.reserved:
        return _pending(session, ids, limit)
    live = _pending(session, ids, limit, live=True)
    room = limit - min(len(live), max(0, limit - rules.reserved))
    others = _others(session, ids, room, None if alone else rules.concurrency, busy)
    return [*live[: limit - len(others)], *others]


def _others(
    session: Session,
    ids: Sequence[int],
    limit: int,
    concurrency: int | None,
    busy: Mapping[int, int],
) -> list[PairRow]:
    """Return pairs that are not live, of several rollouts a fair part of each one's."""
    if concurrency is None:
        return _pending(session, ids, limit, live=False)
    rows: list[PairRow] = []
    share = ceil(concurrency / len({*ids, *busy}))
    for rollout_id in sorted(ids, key=lambda each: (busy.get(each, 0), each)):
        room = min(limit - len(rows), share - busy.get(rollout_id, 0))
        rows += _pending(session, [rollout_id], room, live=False)
    return rows


# Their ids one after the other along the index, however many pairs wait.
_WITH_PENDING = text(
    "WITH RECURSIVE waiting(id) AS ("
    " SELECT min(rollout_id) FROM pair WHERE state = 'pending'"
    " UNION ALL"
    " SELECT (SELECT min(pair.rollout_id) FROM pair"
    "         WHERE pair.state = 'pending' AND pair.rollout_id > waiting.id)"
    " FROM waiting WHERE waiting.id IS NOT NULL"
    ") SELECT id FROM waiting WHERE id IS NOT NULL"
)


def _pending(
    session: Session, rollout_ids: Sequence[int], limit: int, *, live: bool | None = None
) -> list[PairRow]:
    statement = (
        select(PairRow)
        .where(col(PairRow.state) == PENDING, col(PairRow.rollout_id).in_(rollout_ids))
        .order_by(col(PairRow.lease_until), col(PairRow.id))
    )
    if live is not None:
        first = col(PairRow.lease_until) == LIVE_FIRST
        statement = statement.where(first if live else ~first)
    return _locked(session, statement, limit)


def _locked(session: Session, statement: Any, limit: int) -> list[PairRow]:
    """Read rows under a lock; SQLite, which has one writer, leaves the clause out."""
    if limit <= 0:
        return []
    locked = statement.limit(limit).with_for_update(skip_locked=True)
    return list(session.exec(locked).all())


def _anything(session: Session, now: float) -> bool:
    """Say whether there is something to claim, without taking SQLite's one write lock."""
    lapsed = and_(col(PairRow.state) == CLAIMED, col(PairRow.lease_until) < now)
    statement = select(PairRow.id).where(or_(col(PairRow.state) == PENDING, lapsed)).limit(1)
    return session.exec(statement).first() is not None


def _rollouts(session: Session, ids: set[int]) -> dict[int, RolloutRow]:
    rows = session.exec(select(RolloutRow).where(col(RolloutRow.id).in_(ids))).all()
    return {row.id: row for row in rows if row.id is not None}


def _captures(session: Session, ids: list[str]) -> dict[str, CaptureRow]:
    if not ids:
        return {}
    statement = select(CaptureRow).where(col(CaptureRow.id).in_(ids))
    rows = {row.id: row for row in session.exec(statement).all()}
    for row in rows.values():
        session.expunge(row)
    return rows


def _claim(row: PairRow, capture: CaptureRow) -> Claim:
    return Claim(
        pair_id=int(row.id or 0),
        rollout_id=row.rollout_id,
        stream=row.stream,
        attempt=row.attempts,
        worker=str(row.claimed_by),
        created_at=row.created_at,
        segment=row.segment,
        capture=capture,
    )


def _is_mine(claim: Claim) -> tuple[Any, ...]:
    return (
        col(PairRow.id) == claim.pair_id,
        col(PairRow.state) == CLAIMED,
        col(PairRow.claimed_by) == claim.worker,
        col(PairRow.attempts) == claim.attempt,
    )


def _take_back(session: Session, each: Finished, now: float) -> bool:
    done = session.exec(
        update(PairRow)
        .where(*_is_mine(each.claim))
        .values(
            state=DONE,
            outcome=each.outcome,
            finished_at=now,
            claimed_by=None,
            lease_until=0.0,
            **each.columns,
        )
        .execution_options(synchronize_session=False)
    )
    return bool(done.rowcount)


def _move(store: Store, session: Session, ended: Sequence[tuple[int, str, str]]) -> None:
    changes = [(rollout, stream, PENDING, -1) for rollout, stream, _ in ended]
    changes += [(rollout, stream, outcome, 1) for rollout, stream, outcome in ended]
    move_funnel(store, session, changes)


def _tell_of_expired(
    store: Store,
    session: Session,
    gone: Sequence[PairRow],
    rollouts: Mapping[int, RolloutRow],
    now: float,
) -> None:
    """Append which segments' mirrored pairs expired, to rollouts that still want to know."""
    lost: dict[int, Counter[str]] = {}
    for row in gone:
        going_on = row.rollout_id in rollouts and rollouts[row.rollout_id].phase not in FINISHED
        if row.stream == "mirror" and going_on:
            lost.setdefault(row.rollout_id, Counter())[row.segment or ""] += 1
    for rollout_id in sorted(lost):
        segments = {name: {EXPIRED: count} for name, count in sorted(lost[rollout_id].items())}
        append_evidence(
            store, session, rollout_id, [Evidence("dropped", now, {"segments": segments})]
        )
