"""The controller with what feeds it from outside, started and stopped as one."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping

from gateway.errors import CoalmineError
from gateway.settings import Settings
from gateway.store.engine import Store
from rollout.controller import Controller
from rollout.joining import join_outcomes
from rollout.metrics import ControlMetrics
from rollout.outcomes import forget_outcomes
from rollout.panel_feed import PANEL_INTERVAL_S, PanelFeed
from rollout.polling import Poller
from rollout.retention import sweep
from rollout.reviews import settle_items

__all__ = ["FedController", "Repeating"]

_log = logging.getLogger(__name__)

_JOIN_S = 1.0
_FORGET_S = 60.0
_SWEEP_S = 10.0
_BATCH = 500
_STOP_S = 10.0


class Repeating:
    """Work done again and again in a thread of its own, ``interval`` seconds after its last end.

    What it raises is logged, once until it works again, and it is tried again.
    """

    def __init__(self, name: str, work: Callable[[], object], *, interval: float) -> None:
        self._name = name
        self._work = work
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop when the work at hand is done; what hangs is left behind."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None

    def _run(self) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                self._work()
            except CoalmineError as error:
                if not failing:
                    _log.warning("%s waits: %s", self._name, error)
                failing = True
            except Exception:  # noqa: BLE001 - missing evidence holds a rollout; a dead thread hides why
                if not failing:
                    _log.exception("%s failed and is tried again", self._name)
                failing = True
            else:
                failing = False
            self._stop.wait(self._interval)


class FedController:
    """A controller with what else the leader does.

    It joins outcomes with requests, settles reviews, reads Prometheus, removes what retention says,
    and with ``metrics`` shows the reward-hacking panel of running rollouts there. ``clock`` returns
    Unix seconds; ``environ`` holds the token for Prometheus.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        controller: Controller,
        *,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
        metrics: ControlMetrics | None = None,
    ) -> None:
        self._store = store
        self._settings = settings.control
        self._controller = controller
        self._clock = clock
        self._forgot = float("-inf")
        self._poller = Poller(store, settings, lease=controller.lease, clock=clock, environ=environ)
        self._retention = settings.retention
        self._feeds = [
            Repeating("coalmine-outcomes", self._join, interval=_JOIN_S),
            Repeating("coalmine-reviews", self._settle, interval=_JOIN_S),
            Repeating("coalmine-retention", self._sweep, interval=_SWEEP_S),
        ]
        if settings.control.prometheus_url is not None:
            every = settings.control.prometheus_interval
            self._feeds.append(Repeating("coalmine-queries", self._poller.poll, interval=every))
        if metrics is not None:
            panel = PanelFeed(store, metrics, leads=lambda: controller.lease.token is not None)
            self._feeds.append(Repeating("coalmine-panel", panel.look, interval=PANEL_INTERVAL_S))

    async def start(self) -> None:
        """Start all."""
        await self._controller.start()
        for feed in self._feeds:
            feed.start()

    async def stop(self) -> None:
        """Stop what feeds the controller, and then the controller, which gives the lease up."""
        await asyncio.gather(*(asyncio.to_thread(feed.stop) for feed in self._feeds))
        self._poller.close()
        await self._controller.stop()

    def _settle(self) -> None:
        if self._controller.lease.token is None:
            return
        while settle_items(self._store, now=self._clock(), limit=_BATCH) == _BATCH:
            pass

    def _sweep(self) -> None:
        if self._controller.lease.token is not None:
            sweep(self._store, self._retention, now=self._clock())

    def _join(self) -> None:
        if self._controller.lease.token is None:
            return
        now = self._clock()
        wait_s = self._settings.outcome_wait
        while join_outcomes(self._store, now=now, wait_s=wait_s, limit=_BATCH) == _BATCH:
            pass
        if now - self._forgot >= _FORGET_S:
            before = now - self._settings.outcome_retention
            if forget_outcomes(self._store, before=before) == 0:
                self._forgot = now
