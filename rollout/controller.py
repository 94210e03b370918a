"""The controller: load, decide, persist, emit.

One leads (see :mod:`rollout.lease`); the others wait. Facts are folded one by one and decided upon
after each, so that neither the end of a batch nor a restart changes a decision: what was folded
but not yet written is folded again from the store. Metrics and listeners hear of a transition
only after its commit.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.errors import CoalmineError, Conflict, StoreError
from gateway.settings import Settings
from gateway.split import Split
from gateway.store.engine import Store
from gateway.store.evidence import load_evidence
from gateway.store.replicas import this_replica
from gateway.store.splits import load_split
from rollout.clock import SteadyClock
from rollout.emission import Emitter, Listener
from rollout.execution import ACTOR, Executor
from rollout.fitting import changed_arms
from rollout.folding import update
from rollout.lease import Lease
from rollout.ledger import find_id, revision_of, running_ids
from rollout.metrics import ControlMetrics
from rollout.pacing import Pacer
from rollout.policy import Decision, decide
from rollout.records import Record, Transition
from rollout.restarting import Restarter, restarts
from rollout.service import HealthProbe
from rollout.states import ACTIVE, Phase
from rollout.traffic import claimed_weight
from rollout.waiting import Obstacle
from rollout.wake import Waker

__all__ = ["ACTOR", "Controller", "Listener"]

_log = logging.getLogger(__name__)

_Progress = tuple[int, str, str, float | None]

_WIDENING = frozenset({"advance", "succeed"})
_BATCH = 500
_MAX_ROUNDS = 20
_BEAT_S = 5.0
_RETRY_S = 1.0
_AHEAD_S = 1.0
_NEVER = float("-inf")


class Controller:
    """Leads the rollouts of one store while it holds the lease.

    ``health`` says what is wrong with a deployment, or ``None``. ``clock`` returns Unix seconds;
    by default it ignores jumps of the wall clock that do not last. ``persist_interval`` (seconds)
    bounds how often evidence without a decision is written; what is lost of it in a crash is folded
    again.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        health: HealthProbe,
        metrics: ControlMetrics | None = None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] | None = None,
        persist_interval: float = 0.5,
    ) -> None:
        clock = SteadyClock() if clock is None else clock
        self.replica = this_replica("control", clock())
        self.lease = Lease(store, holder=self.replica.id, ttl=settings.control.lease_ttl)
        self._executor = Executor(store, settings, lease=self.lease, health=health)
        self._restarter = Restarter(store, settings, self.lease, ACTOR)
        self._pacer = Pacer(store, lease=self.lease)
        self._store = store
        self._settings = settings
        self._emitter = Emitter(store, metrics=metrics, listeners=listeners)
        self._clock = clock
        self._persist_interval = persist_interval
        self._records: dict[int, Record] = {}
        self._saved: dict[int, tuple[float, _Progress]] = {}
        self._fresh: list[int] = []
        """Generations started in this look, to be looked at in it too."""
        self._renewed = _NEVER
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Start looking at the rollouts, in a thread of its own."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="coalmine-controller", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop, and give the lease up."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def tick(self, now: float | None = None) -> bool:
        """Look at every rollout once and do what is due. ``now`` is Unix seconds.

        Returns whether this controller leads. Raises :class:`StoreError` when the store fails.
        """
        now = self._clock() if now is None else now
        if not self._leads():
            return False
        began = time.monotonic()
        with self._store.read() as session:
            ids = running_ids(session)
        for rollout_id in ids:
            try:
                self._look_at(rollout_id, now)
                ids += self._fresh
                self._fresh.clear()
            except Conflict as error:
                _log.info("to be read again: %s", error)
                self._forget(rollout_id)
                if self.lease.token is None:
                    self._follow()
                    return False
            except StoreError:
                raise
            except (CoalmineError, ValueError, LookupError):
                # One rollout that can't be handled must not keep the others from being seen to.
                self._forget(rollout_id)
                _log.exception("rollout %s can't be handled and stays as it is", rollout_id)
        for gone in self._records.keys() - set(ids):
            self._emitter.show(self._records[gone], now, final=True)
            self._forget(gone)
        self._emitter.took(time.monotonic() - began)
        return True

    def _look_at(self, rollout_id: int, now: float) -> None:
        for _ in range(_MAX_ROUNDS):
            record = self._load(rollout_id)
            if record.phase is Phase.ROLLING_BACK:
                self._drain(record, now)
                return
            if record.phase not in ACTIVE or self._is_done(record, now):
                break
        self._save(rollout_id, now)
        self._emitter.show(self._records[rollout_id], now)
        self._pacer.adapt(self._records[rollout_id], now)

    def _load(self, rollout_id: int) -> Record:
        """Return the record, from memory while nobody else has changed it."""
        known = self._records.get(rollout_id)
        with self._store.read() as session:
            if known is not None and revision_of(session, rollout_id) == known.revision:
                return known
            record = find_id(session, rollout_id)
        self._records[rollout_id] = record
        self._saved[rollout_id] = (_NEVER, _progress(record))
        return record

    def _is_done(self, record: Record, now: float) -> bool:
        """Fold what has arrived and act as soon as a decision falls. True: nothing is left."""
        with self._store.read() as session:
            split = load_split(session, record.route)
            facts = load_evidence(session, record.id, after=record.evidence.last_seq, limit=_BATCH)
        arms = changed_arms(split, self._settings, record)
        record = self._begun(record, now)
        if self._found(record, split, arms, now):
            return False
        obstacle = Obstacle("arms_changed", arms[1]) if arms else None
        for seq, fact in facts:
            record = replace(record, evidence=update(record.evidence, seq, fact, record.spec))
            moment = min(now, max(record.evidence.clock, record.step_started_at or 0.0))
            decision = self._decide(record, moment)
            if decision.action in _WIDENING and obstacle is None:
                obstacle = self._executor.obstacle(record, decision)
            if decision.action == "hold" or (decision.action in _WIDENING and obstacle):
                continue
            self._did(self._executor.carry_out(record, decision, now=now), now)
            return False
        if len(facts) == _BATCH:
            # What is known so far is the past: the present is decided upon with all that is there.
            self._records[record.id] = record
            return False
        decision = self._decide(record, now)
        if decision.action in _WIDENING and obstacle is None:
            obstacle = self._executor.obstacle(record, decision)
        if decision.action == "hold" or (decision.action in _WIDENING and obstacle):
            note, waiting = decision.reason, ""
            if obstacle is not None and decision.action in _WIDENING:
                note, waiting = obstacle.message, obstacle.reason
            self._records[record.id] = replace(record, note=note, waiting=waiting)
            return True
        self._did(self._executor.carry_out(record, decision, now=now), now)
        return False

    def _found(
        self, record: Record, split: Split | None, arms: tuple[str, str] | None, now: float
    ) -> bool:
        """Act on what there is before any evidence is looked at, and say whether it was done."""
        if arms is not None and restarts(record, split, self._settings, arms[0]):
            ended, started = self._restarter.restart(record, now=now)
            self._did(ended, now)
            if started is not None:
                self._fresh.append(started[0].id)
                self._emitter.tell(started[1])
        elif arms is not None and record.phase is not Phase.PAUSED:
            self._did(self._executor.pause(record, *arms, now=now), now)
        elif record.phase is Phase.PREFLIGHT:
            if record.step.kind == "preflight":
                return False
            reason = "the spec has no preflight"
            entered = self._executor.enter(record, record.step_index, reason=reason, now=now)
            self._did(entered, now)
        elif claimed_weight(split, record.id, record.spec) != record.evidence.weight_bp:
            self._did(self._executor.adopt_weight(record, now=now), now)
        else:
            return False
        return True

    def _begun(self, record: Record, now: float) -> Record:
        """Return the record with its step begun at the latest now: clocks are set back."""
        began = record.step_started_at
        if began is None or began <= now + _AHEAD_S:
            return record
        _log.warning(
            "rollout %s: its step began ahead of the clock, %.0f s", record.name, began - now
        )
        return replace(record, step_started_at=now)

    def _decide(self, record: Record, moment: float) -> Decision:
        # The verdicts go into the receipt of what is done, and are worked out there.
        return decide(record.evidence, record.spec, record.status(), moment, with_verdicts=False)

    def _drain(self, record: Record, now: float) -> None:
        result = self._executor.drain(record, now=now)
        if isinstance(result, str):
            self._records[record.id] = replace(record, note=result)
            self._save(record.id, now)
            self._emitter.show(record, now)
        else:
            self._did(result, now)

    def _did(self, result: tuple[Record, Transition], now: float) -> None:
        """Take note of a transition that is committed, and tell of it."""
        record, transition = result
        self._records[record.id] = record
        self._saved[record.id] = (now, _progress(record))
        self._emitter.tell(transition)

    def _save(self, rollout_id: int, now: float) -> None:
        record = self._records[rollout_id]
        at, progress = self._saved[rollout_id]
        if _progress(record) == progress or 0 <= now - at < self._persist_interval:
            return
        self._records[rollout_id] = self._executor.save(record)
        self._saved[rollout_id] = (now, _progress(record))

    def _leads(self) -> bool:
        moment = time.monotonic()
        if self.lease.token is None or moment - self._renewed >= self.lease.ttl / 3:
            token = self.lease.token
            if not self.lease.acquire():
                self._follow()
                return False
            if self.lease.token != token:
                self._follow()  # whoever led in between may have gone further
            self._renewed = moment
        self._emitter.lead()
        return True

    def _follow(self) -> None:
        self._records.clear()
        self._saved.clear()
        self._emitter.follow()

    def _forget(self, rollout_id: int) -> None:
        self._records.pop(rollout_id, None)
        self._saved.pop(rollout_id, None)
        self._emitter.forget(rollout_id)
        self._pacer.forget(rollout_id)

    def _run(self) -> None:
        beaten = _NEVER
        while not self._stop.is_set():
            try:
                with Waker(self._store, self._stop) as waker:
                    while not self._stop.is_set():
                        if time.monotonic() - beaten >= _BEAT_S:
                            self.replica.beat(self._store, now=self._clock())
                            beaten = time.monotonic()
                        self.tick()
                        waker.wait(self._settings.control.tick_interval)
            except CoalmineError as error:
                _log.warning("the controller waits for the store: %s", error)
                self._stop.wait(_RETRY_S)
            except Exception:  # noqa: BLE001 - no controller at all would be worse than a late one
                _log.exception("the controller failed and starts over")
                self._follow()
                self._stop.wait(_RETRY_S)
        try:
            self.lease.release()
            self.replica.beat(self._store, now=self._clock(), stopped=True)
        except CoalmineError as error:
            _log.warning("the lease was not given up and will run out: %s", error)


def _progress(record: Record) -> _Progress:
    """Return what is written of a record without a transition."""
    return record.evidence.last_seq, record.note, record.waiting, record.step_started_at
