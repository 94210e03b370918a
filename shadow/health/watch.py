"""Watching the judge's health: a task of the worker that never stands in the way of pairs.

Every second it looks for rollouts of which a window has ended; whichever worker claims a window
asks its control pairs, by the rollout's own budget for the judge. What can't be asked is tried
again; nothing is taken for a pass but a pass.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from sqlmodel import col, select

from gateway.errors import SettingsError, StoreError
from gateway.settings import JudgeHealthSettings, Settings
from gateway.store.engine import Store
from gateway.store.tables import RolloutRow
from shadow.budget import DailyBudget
from shadow.health.anchors import AnchorSet, agrees, has_drifted
from shadow.health.biases import Biases
from shadow.health.examination import Asked, Examination, Examiner
from shadow.health.report import live_biases
from shadow.health.samples import recent_samples
from shadow.health.windows import (
    RETRY_S,
    Ended,
    Rules,
    Window,
    claim_window,
    finish_window,
    first_verdicts,
    is_due,
    last_anchors,
    release_window,
)
from shadow.judge import Comparer, Situation, refuse_self_judging
from shadow.plan import Plan, load_plans

__all__ = ["Examined", "HealthWatch", "Subject"]

_log = logging.getLogger("coalmine.worker")

LOOK_S = 1.0
"""Seconds between two looks for a window that has ended."""

PASS_COVERS = 2
"""Windows' worth of verdicts that one pass is good for: then someone has to examine again."""

_LEASE_S = 300.0
_WATCHED = ("shadowing", "progressing", "baking", "paused")


@dataclass(frozen=True, slots=True)
class Subject:
    """The judge of one route, without its cache. ``name`` tells one judge from another.

    ``rubric`` is the hash of the route's rubric.
    """

    judge: Comparer
    name: str
    rubric: str

    @property
    def identity(self) -> str:
        """The hash of judge and rubric: another one starts with no history."""
        return hashlib.sha256(f"{self.name}\0{self.rubric}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Examined:
    """A window that was written, for those who count; ``least`` is the anchors' least agreement."""

    plan: Plan
    examination: Examination
    anchors: tuple[Asked, ...]
    biases: tuple[Biases, ...]
    least: float

    @property
    def agreed(self) -> tuple[int, int]:
        """On how many anchors the judge agrees with its first verdicts, and of how many."""
        held = [each.passed for each in self.anchors if each.passed is not None]
        return sum(held), len(held)

    @property
    def drifted(self) -> bool:
        """Whether that is too few."""
        return has_drifted(*self.agreed, self.least)


class HealthWatch:
    """Examines judges for one worker process.

    ``subjects`` gives the judge of a route. ``clock`` gives Unix seconds; ``told`` hears of every
    window after its commit.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        subjects: Callable[[str], Subject],
        anchors: AnchorSet,
        rules: JudgeHealthSettings,
        worker: str,
        clock: Callable[[], float],
        told: Callable[[Examined], None] = lambda _examined: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._subjects = subjects
        self._anchors = anchors
        self._health = rules
        self._rules = Rules(worker, rules.every_pairs, rules.every, _LEASE_S)
        self._clock = clock
        self._told = told

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                _log.warning("the judge's health waits for the store: %s", error)
            except Exception as error:  # noqa: BLE001 - a dead watch would leave rollouts holding
                # Type and place only: the message may hold a customer's words.
                _log.error("the judge could not be examined: %s", type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> int:
        """Examine the judge of every rollout whose window has ended; return how many were."""
        examined = 0
        for rollout_id, plan in (await asyncio.to_thread(self._plans)).items():
            if await self._look_at(rollout_id, plan):
                examined += 1
        return examined

    def _plans(self) -> Mapping[int, Plan]:
        with self._store.read() as session:
            statement = select(RolloutRow.id).where(col(RolloutRow.phase).in_(_WATCHED))
            ids = [int(each or 0) for each in session.exec(statement).all()]
        plans = load_plans(self._store, ids) if ids else {}
        return {number: plan for number, plan in plans.items() if self._has_judge(plan)}

    def _has_judge(self, plan: Plan) -> bool:
        if not plan.wants_judge or not plan.wanted:
            return False
        try:
            refuse_self_judging(self._settings, baseline=plan.baseline, candidate=plan.candidate)
        except SettingsError:
            return False  # its pairs end as judge errors, which say so
        return True

    async def _look_at(self, rollout_id: int, plan: Plan) -> bool:
        now = self._clock()
        if not await asyncio.to_thread(is_due, self._store, rollout_id, self._rules, now=now):
            return False
        subject = self._subjects(plan.route)
        window = await asyncio.to_thread(
            claim_window, self._store, rollout_id, self._rules, identity=subject.identity, now=now
        )
        if window is None:
            return False
        try:
            return await self._examine(window, plan, subject)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.to_thread(self._give_back, window, 0.0))
            raise
        except Exception:
            # What fails once may fail again at once, and every try costs calls.
            await asyncio.to_thread(self._give_back, window, self._clock() + RETRY_S)
            raise

    def _give_back(self, window: Window, until: float) -> None:
        try:
            release_window(self._store, window, until=until)
        except StoreError as error:
            _log.warning("a window can't be given back: %s; its lease ends", error)

    async def _examine(self, window: Window, plan: Plan, subject: Subject) -> bool:
        samples = await asyncio.to_thread(recent_samples, self._store, window.rollout_id)
        budget = DailyBudget(self._store, plan.rollout_id, plan.limits, self._clock)
        examiner = Examiner(
            subject.judge,
            situation=Situation(plan.route),
            max_concurrency=self._health.max_concurrency,
        )
        async with asyncio.timeout(_LEASE_S * 0.8):
            examination = await examiner.examine(
                window.levels,
                controls=self._health.controls,
                number=window.number,
                samples=samples,
                rng=Random(f"{window.rollout_id}:{window.number}"),
                spending=budget,
            )
            anchors: tuple[Asked, ...] = ()
            if await asyncio.to_thread(self._anchors_due, subject, examination):
                anchors = await examiner.ask_anchors(self._anchors.anchors, budget)
        ended = await asyncio.to_thread(self._ended, subject, examination, anchors)
        written = await asyncio.to_thread(
            finish_window, self._store, window, ended, now=self._clock()
        )
        if not written:
            _log.warning("window %d of %s was examined by another worker", window.number, plan.name)
            return False
        level = logging.INFO if examination.result == "pass" else logging.WARNING
        _log.log(
            level, "judge of %s, window %d: %s %s", plan.name, window.number, examination.result,
            examination.reason,
        )  # fmt: skip
        biases = await asyncio.to_thread(self._biases, window.rollout_id)
        self._told(
            Examined(plan, examination, tuple(ended.anchors), biases, self._health.least_agreement)
        )
        return True

    def _biases(self, rollout_id: int) -> tuple[Biases, ...]:
        with self._store.read() as session:
            return live_biases(session, rollout_id)

    def _anchors_due(self, subject: Subject, examination: Examination) -> bool:
        """Say whether the anchors are to be judged: the first time, again, or after a change."""
        if examination.result == "not_run":
            return False
        with self._store.read() as session:
            if not first_verdicts(session, self._anchors.identity(subject.identity)):
                return True
            last = last_anchors(session, subject.rubric)
        if last is None or self._clock() - last.at >= self._health.anchors_every:
            return True
        now = next((each for each in examination.asked if each.model), None)
        return now is not None and (now.model, now.fingerprint) != (last.model, last.fingerprint)

    def _ended(
        self, subject: Subject, examination: Examination, anchors: tuple[Asked, ...]
    ) -> Ended:
        """Hold the anchors against their first verdicts, where there are any."""
        identity = self._anchors.identity(subject.identity)
        with self._store.read() as session:
            first = first_verdicts(session, identity)
        held = [
            each
            if each.comparison is None or each.name not in first
            else replace(each, passed=agrees(each.comparison.score, first[each.name]))
            for each in anchors
        ]
        return Ended(
            examination=examination,
            identity=subject.identity,
            rubric=subject.rubric,
            limit=PASS_COVERS * self._health.every_pairs,
            anchors=held,
            anchor_identity=identity,
        )
