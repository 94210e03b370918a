"""The judge's budget: calls and dollars of a rollout on a day, reserved before they are spent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, or_, update

from gateway.store.engine import Store
from gateway.store.tables import JudgeBudgetRow


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rollout may spend on the judge on one day (UTC); None: no limit."""

    calls: int | None = None
    microusd: int | None = None


def day_of(now: float) -> str:
    """Return the day of an instant, in UTC, as `YYYY-MM-DD`."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def reserve(
    store: Store, rollout_id: int, day: str, limits: Limits, *, calls: int, microusd: int
) -> bool:
    """Set calls and micro-dollars aside in one transaction; False (and no change) beyond a limit.

    What is reserved by a worker that then dies stays spent: a budget errs on the cheap side.
    """
    dialect = sqlite if store.is_sqlite else postgresql
    row = JudgeBudgetRow
    fits = [col(row.rollout_id) == rollout_id, col(row.day) == day]
    if limits.calls is not None:
        fits.append(col(row.calls) + calls <= limits.calls)
    if limits.microusd is not None:
        fits.append(col(row.microusd) + microusd <= limits.microusd)
        # A limit of zero means nothing, also where the judge is free of charge.
        fits.append(or_(col(row.microusd) < limits.microusd, limits.microusd > 0))
    with store.write() as session:
        connection = session.connection()
        connection.execute(
            dialect.insert(row)
            .values(rollout_id=rollout_id, day=day, calls=0, microusd=0)
            .on_conflict_do_nothing(index_elements=["rollout_id", "day"])
        )
        taken = connection.execute(
            update(row)
            .where(*fits)
            .values(calls=col(row.calls) + calls, microusd=col(row.microusd) + microusd)
        )
        return bool(taken.rowcount)


def settle(store: Store, rollout_id: int, day: str, *, calls: int, microusd: int) -> None:
    """Add what was spent beyond what was reserved (negative: give the rest back)."""
    row = JudgeBudgetRow
    with store.write() as session:
        session.connection().execute(
            update(row)
            .where(col(row.rollout_id) == rollout_id, col(row.day) == day)
            .values(calls=col(row.calls) + calls, microusd=col(row.microusd) + microusd)
        )


class DailyBudget:
    """The budget of one rollout as the judge sees it. `clock` gives Unix seconds."""

    def __init__(
        self, store: Store, rollout_id: int, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._rollout_id = rollout_id
        self._limits = limits
        self._day = day_of(clock())

    async def reserve(self, *, calls: int, microusd: int) -> bool:
        """See `reserve`. Raises `StoreError`: without a store nothing is spent."""
        return await asyncio.to_thread(
            reserve,
            self._store,
            self._rollout_id,
            self._day,
            self._limits,
            calls=calls,
            microusd=microusd,
        )

    async def settle(self, *, calls: int, microusd: int) -> None:
        """See `settle`. Raises `StoreError`."""
        if calls or microusd:
            await asyncio.to_thread(
                settle, self._store, self._rollout_id, self._day, calls=calls, microusd=microusd
            )
