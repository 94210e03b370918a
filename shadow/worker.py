"""The worker: claims pairs, has them evaluated, writes what they came to.

Nobody waits for it. Killed at any moment it loses nothing: what it had claimed is claimed again
when the lease ends, and counted once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import StoreError
from gateway.settings import WorkerSettings
from gateway.store.engine import Store
from gateway.store.replicas import Replica
from shadow.evaluate import Evaluator
from shadow.finisher import Finisher
from shadow.health.watch import HealthWatch
from shadow.metrics import WorkerMetrics
from shadow.pairs import (
    Claim,
    ClaimRules,
    Finished,
    claim_pairs,
    count_pending,
    release_pairs,
    renew_leases,
)
from shadow.plan import Plan, load_plans

_log = logging.getLogger("coalmine.worker")

SHORTEST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0
"""Seconds between two looks at an idle store: doubling from the one to the other."""

HEARTBEAT_S = 5.0

LIVE_FOR_ONE = 3
"""Live pairs taken for each mirrored one, where more of both wait than can be worked on."""


@dataclass(slots=True)
class Worker:
    """One worker process. `clock` gives Unix seconds."""

    store: Store
    evaluator: Evaluator
    metrics: WorkerMetrics
    settings: WorkerSettings
    replica: Replica
    clock: Callable[[], float]
    health: HealthWatch | None = None
    _work: dict[asyncio.Task[None], Claim] = field(default_factory=dict)
    _ahead: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is begun within `drain_timeout` seconds.

        What is still unfinished then is given back to other workers. Store outages are waited out.
        """
        self._work = {}
        finisher = Finisher(self.store, self.clock)
        helpers = [
            asyncio.create_task(finisher.run()),
            asyncio.create_task(self.evaluator.lag.watch()),
            asyncio.create_task(self._every(HEARTBEAT_S, self._beat)),
            asyncio.create_task(self._every(self.settings.claim_lease / 3, self._renew)),
        ]
        if self.health is not None:
            helpers.append(asyncio.create_task(self.health.run()))
        try:
            await self._claim_until(stop, finisher)
            await self._drain()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self.evaluator.close()
            await self._say_goodbye()

    async def _claim_until(self, stop: asyncio.Event, finisher: Finisher) -> None:
        stopped = asyncio.create_task(stop.wait())
        wait = SHORTEST_WAIT_S
        try:
            while not stop.is_set():
                free = self.settings.concurrency - len(self._work)
                if free <= 0:
                    await asyncio.wait([stopped, *self._work], return_when=asyncio.FIRST_COMPLETED)
                    continue
                claims, plans = await self._claim(min(free, self.settings.claim_batch))
                for claim in claims:
                    plan = plans[claim.rollout_id]
                    self._start(claim, self._process(claim, plan, finisher))
                if claims:
                    wait = SHORTEST_WAIT_S
                    continue
                # A pair that ends makes room for its own rollout's next one.
                ended, _ = await asyncio.wait(
                    [stopped, *self._work], timeout=wait, return_when=asyncio.FIRST_COMPLETED
                )
                wait = wait if ended else min(LONGEST_WAIT_S, wait * 2)
        finally:
            stopped.cancel()

    async def _claim(self, limit: int) -> tuple[list[Claim], dict[int, Plan]]:
        try:
            claims = await asyncio.to_thread(
                claim_pairs,
                self.store,
                ClaimRules(
                    self.replica.id,
                    self.settings.claim_lease,
                    self.settings.max_attempts,
                    self.settings.capture_ttl,
                    self.settings.concurrency,
                    reserved=min(limit, self._ahead // LIVE_FOR_ONE),
                ),
                now=self.clock(),
                limit=limit,
                busy=Counter(claim.rollout_id for claim in self._work.values()),
                expired=self._expired,
            )
            if not claims:
                return [], {}
            self._settle(claims)
            ids = {claim.rollout_id for claim in claims}
            plans = await asyncio.to_thread(load_plans, self.store, ids)
        except StoreError as error:
            _log.warning("can't claim pairs: %s", error)
            await asyncio.sleep(LONGEST_WAIT_S)
            return [], {}
        return [claim for claim in claims if claim.rollout_id in plans], plans

    def _settle(self, claims: Sequence[Claim]) -> None:
        """Count the live pairs for which mirrored ones have not had their places yet."""
        live = sum(claim.stream == "live" for claim in claims)
        ahead = self._ahead + live - LIVE_FOR_ONE * (len(claims) - live)
        self._ahead = min(max(0, ahead), max(LIVE_FOR_ONE, self.settings.claim_batch))

    def _expired(self, route: str, rollout: str, stream: str) -> None:
        self.metrics.pairs.labels(route, rollout, stream, "expired").inc()

    def _start(self, claim: Claim, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work[task] = claim
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        claim = self._work.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # Type and place only: the message may hold a customer's words.
            _log.error("pair %d failed: %s; it is tried again", claim.pair_id, type(error).__name__)

    async def _process(self, claim: Claim, plan: Plan, finisher: Finisher) -> None:
        finished = await self.evaluator.evaluate(claim, plan)
        if await finisher.finish(finished):
            self._count(finished, plan)
        else:
            _log.warning("pair %d was finished by another worker", claim.pair_id)

    def _count(self, finished: Finished, plan: Plan) -> None:
        claim = finished.claim
        self.metrics.pairs.labels(plan.route, plan.name, claim.stream, finished.outcome).inc()
        self.metrics.checked(plan.route, finished.columns.get("checks") or {})
        if finished.judgments:
            self.metrics.judgments(plan.name, finished)

    async def _drain(self) -> None:
        if self._work:
            await asyncio.wait(list(self._work), timeout=self.settings.drain_timeout)
        late = dict(self._work)
        for task in late:
            task.cancel()
        if late:
            await asyncio.gather(*late, return_exceptions=True)
            try:
                await asyncio.to_thread(release_pairs, self.store, list(late.values()))
            except StoreError as error:
                _log.warning("can't give %d pairs back: %s; their lease ends", len(late), error)

    async def _beat(self) -> None:
        await asyncio.to_thread(self.replica.beat, self.store, now=self.clock())
        self.metrics.pending.set(await asyncio.to_thread(count_pending, self.store))

    async def _renew(self) -> None:
        if claims := list(self._work.values()):
            await asyncio.to_thread(
                renew_leases,
                self.store,
                claims,
                now=self.clock(),
                lease_s=self.settings.claim_lease,
            )

    async def _every(self, seconds: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await act()
            except StoreError as error:
                _log.warning("the store is away: %s", error)
            await asyncio.sleep(seconds)

    async def _say_goodbye(self) -> None:
        try:
            await asyncio.to_thread(self.replica.beat, self.store, now=self.clock(), stopped=True)
        except StoreError as error:
            _log.warning("can't report the end: %s", error)
