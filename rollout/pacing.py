"""Keeping mirrors at the pace that their steps need, while the traffic changes.

Not a transition: nobody's arm, no salt and no epoch changes, only the shares that gateways sample.
It is written as everything of the leader's is: in one transaction, under the lease, over the
revisions that were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlmodel import Session

from gateway.errors import Conflict
from gateway.store.engine import Store
from gateway.store.evidence import load_funnel
from gateway.store.splits import load_split, save_split
from gateway.store.tables import JudgeBudgetRow
from rollout.lease import Lease
from rollout.ledger import lock_split, revision_of
from rollout.records import Record
from rollout.sampling import Budget, Meter, live_bp, needed_pace, wanted_bp
from rollout.states import ACTIVE, Phase
from rollout.traffic import mirror_of, sampled, weight_of
from shadow.budget import day_of

__all__ = ["Pacer"]

_LOOK_S = 2.0
_CHANGE_S = 10.0
_DAY_S = 86400.0
_FINISHED = (
    "candidate_failed",
    "unjudgeable",
    "budget_exhausted",
    "judge_error",
    "compared",
    "checked",
)
"""Outcomes of pairs that a worker has worked on."""


@dataclass(frozen=True, slots=True)
class _Seen:
    traffic: Meter = field(default_factory=Meter)
    finishing: Meter = field(default_factory=Meter)
    live_traffic: Meter = field(default_factory=Meter)
    live_finishing: Meter = field(default_factory=Meter)
    changed_at: float = float("-inf")


class Pacer:
    """Adapts what is mirrored and checked for the rollouts of one store.

    ``lease`` is the controller's. What it has seen of the traffic is kept in memory: another leader
    has seen enough after a few seconds.
    """

    def __init__(self, store: Store, *, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._seen: dict[int, _Seen] = {}

    def adapt(self, record: Record, now: float) -> float | None:
        """Look at a rollout's traffic, and change what is sampled where that is far off.

        Looks every two seconds and changes at most every ten. Returns the mirror's share in basis
        points where something was changed, ``None`` otherwise. Raises :class:`Conflict` when the
        lease is lost or the rollout was changed meanwhile, and :class:`StoreError`.
        """
        mirror = record.spec.mirror
        if not mirror.adaptive or record.phase not in ACTIVE or record.step.kind == "preflight":
            return None
        seen = self._seen.get(record.id, _Seen())
        if seen.traffic.at is not None and 0 <= now - seen.traffic.at < _LOOK_S:
            return None
        with self._store.read() as session:
            funnel = load_funnel(session, record.id)
            split = load_split(session, record.route)
            budget = _budget(session, record, now)
        live = {"live": funnel.get("live", {})}
        seen = replace(
            seen,
            traffic=seen.traffic.read(funnel.get("mirror", {}).get("eligible", 0), now),
            finishing=seen.finishing.read(_total(funnel, _FINISHED), now),
            live_traffic=seen.live_traffic.read(_total(live, ("eligible",)), now),
            live_finishing=seen.live_finishing.read(_total(live, _FINISHED), now),
        )
        self._seen[record.id] = seen
        own = mirror_of(split, record.id)
        if split is None or own is None or 0 <= now - seen.changed_at < _CHANGE_S:
            return None
        idle = record.phase is Phase.PAUSED or record.waiting == "live_traffic_held"
        pace = needed_pace(
            # While it waits for others nothing is needed but that the evidence does not end.
            replace(record.step, kind="pause") if idle else record.step,
            pairs=record.evidence.step_pairs,
            pending=_total(funnel, ("pending",)),
            finishing=seen.finishing.mean,
            elapsed=max(0.0, now - (record.step_started_at or now)),
            target=mirror.target_duration,
            affordable=budget.pairs(mirror.noise_probe / 100),
            left_today=_DAY_S - now % _DAY_S,
        )
        share = wanted_bp(
            pace,
            traffic=seen.traffic.high,
            most_bp=mirror.percentage * 100,
            present_bp=own.percentage_bp,
        )
        checked: int | None = None
        if weight_of(split, record.id) and split.live_sample_bp:
            checked = live_bp(
                pending=_total(live, ("pending",)),
                finishing=seen.live_finishing.mean,
                traffic=seen.live_traffic.high,
                most_bp=round(record.spec.analysis.live_sample * 100),
                present_bp=split.live_sample_bp,
            )
        if sampled(split, record.id, mirror_bp=share, live_bp=checked) == split:
            return None
        self._write(record, share, checked, now)
        self._seen[record.id] = replace(seen, changed_at=now)
        return share

    def forget(self, rollout_id: int) -> None:
        """Forget what was seen of a rollout's traffic."""
        self._seen.pop(rollout_id, None)

    def _write(self, record: Record, share: float, checked: int | None, now: float) -> None:
        with self._store.write() as session:
            # Locked in this order everywhere: lease, rollout, split.
            self._lease.guard(session)
            if revision_of(session, record.id, lock=True) != record.revision:
                raise Conflict(f"rollout {record.name!r} was changed by an operator")
            split = lock_split(self._store, session, record.route, "")
            if mirror_of(split, record.id) is None:
                raise Conflict(f"rollout {record.name!r} mirrors no more")
            after = sampled(split, record.id, mirror_bp=share, live_bp=checked)
            save_split(self._store, session, after, now=now)


def _budget(session: Session, record: Record, now: float) -> Budget:
    limits = record.spec.mirror.budget
    judged = record.spec.metric("judge_win_rate") is not None
    if not judged or (limits.calls_per_day is None and limits.usd_per_day is None):
        return Budget()
    row = session.get(JudgeBudgetRow, (record.id, day_of(now)))
    calls, microusd = (row.calls, row.microusd) if row is not None else (0, 0)
    dollars = limits.usd_per_day
    return Budget(
        calls=None if limits.calls_per_day is None else limits.calls_per_day - calls,
        microusd=None if dollars is None else round(dollars * 1_000_000) - microusd,
        microusd_per_call=microusd / calls if calls else None,
    )


def _total(funnel: Mapping[str, Mapping[str, int]], outcomes: tuple[str, ...]) -> int:
    return sum(stream.get(outcome, 0) for stream in funnel.values() for outcome in outcomes)
