"""What follows a commit: metrics and listeners hear of it. Nothing here changes a rollout."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from gateway.store.engine import Store
from gateway.store.evidence import load_funnel
from rollout.ledger import find_id
from rollout.metrics import ControlMetrics
from rollout.reading import live_weight
from rollout.records import Record, Transition
from rollout.review_report import label_counts, review_counts

__all__ = ["Emitter", "Listener"]

_log = logging.getLogger("rollout.controller")

Listener = Callable[[Transition], None]
"""Hears of a transition after its commit, at most once."""

_OBSERVE_S = 1.0
_NEVER = float("-inf")


class Emitter:
    """Tells of what a controller has written. Without ``metrics`` there is nothing to show."""

    def __init__(
        self, store: Store, *, metrics: ControlMetrics | None, listeners: Iterable[Listener]
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._listeners = tuple(listeners)
        self._observed: dict[int, float] = {}

    def tell(self, transition: Transition) -> None:
        """Tell of a transition that is committed."""
        _log.info(
            "rollout %s: %s, %s to %s: %s",
            transition.rollout,
            transition.event,
            transition.from_phase,
            transition.to_phase,
            transition.reason,
        )
        if self._metrics is not None:
            self._metrics.transition(transition)
        for listener in self._listeners:
            try:
                listener(transition)
            except Exception:  # noqa: BLE001 - the transition stands whatever a listener does
                _log.exception("a listener failed; the transition stands")

    def show(self, record: Record, now: float, *, final: bool = False) -> None:
        """Show where a rollout is, once a second at most. ``final``: it has come to its end."""
        if self._metrics is None:
            return
        if not final and 0 <= now - self._observed.get(record.id, _NEVER) < _OBSERVE_S:
            return
        with self._store.read() as session:
            record = find_id(session, record.id) if final else record
            weight_bp = live_weight(session, record)
            funnel = load_funnel(session, record.id)
            items = review_counts(session, record.id)
            labels = label_counts(session, record.id)
        self._metrics.observe(record, weight_bp=weight_bp, funnel=funnel)
        self._metrics.reviews(record, items=items, labels=labels)
        self._observed[record.id] = now

    def lead(self) -> None:
        """Show that this process leads."""
        if self._metrics is not None:
            self._metrics.leader.set(1)

    def follow(self) -> None:
        """Show that this process leads no more."""
        self._observed.clear()
        if self._metrics is not None:
            self._metrics.follow()

    def forget(self, rollout_id: int) -> None:
        """Show a rollout again the next time."""
        self._observed.pop(rollout_id, None)

    def took(self, seconds: float) -> None:
        """Note how long one look at all rollouts took."""
        if self._metrics is not None:
            self._metrics.tick.observe(seconds)
