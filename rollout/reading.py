"""What there is to see of rollouts, for the admin API, the console and the CLI."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlmodel import Session

from gateway.settings import Settings
from gateway.store.engine import Store
from gateway.store.evidence import load_funnel
from gateway.store.splits import load_split
from rollout import receipts
from rollout.ledger import find, find_all, share_of, transitions
from rollout.records import Record, Transition

__all__ = ["RolloutReader", "live_weight"]


class RolloutReader:
    """Reads rollouts. Every method raises :class:`NotFound` for a name that does not exist."""

    def __init__(
        self, store: Store, settings: Settings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock

    def rollouts(self, *, every_generation: bool = False) -> list[dict[str, Any]]:
        """Return the latest generation of each rollout, or every one, newest first."""
        with self._store.read() as session:
            return [
                receipts.describe(each, weight_bp=live_weight(session, each))
                for each in find_all(session, every_generation=every_generation)
            ]

    def get(self, name: str, *, generation: int | None = None) -> Record:
        """Return a rollout's record, by default of its latest generation."""
        with self._store.read() as session:
            return find(session, name, generation=generation)

    def show(self, name: str, *, generation: int | None = None) -> dict[str, Any]:
        """Return a rollout as JSON: where it is, its funnel, its spec."""
        with self._store.read() as session:
            record = find(session, name, generation=generation)
            return {
                **receipts.describe(record, weight_bp=live_weight(session, record)),
                "funnel": load_funnel(session, record.id),
                "spec": record.spec.to_document(),
            }

    def explain(self, name: str, *, generation: int | None = None) -> dict[str, Any]:
        """Return why it is where it is, every metric's numbers, and what is needed next.

        The last transition, with its receipt, is under ``last_transition``.
        """
        with self._store.read() as session:
            record = find(session, name, generation=generation)
            weight_bp = live_weight(session, record)
            history = transitions(session, record)
        explained = receipts.explain(record, now=self._clock(), weight_bp=weight_bp)
        explained["last_transition"] = receipts.transition_json(history[-1]) if history else None
        return explained

    def transitions(
        self, name: str, *, generation: int | None = None, after: int = 0, limit: int = 1000
    ) -> list[Transition]:
        """Return the transitions with numbers above ``after``, oldest first."""
        with self._store.read() as session:
            record = find(session, name, generation=generation)
            return transitions(session, record, after=after, limit=limit)

    def funnel(self, name: str, *, generation: int | None = None) -> dict[str, dict[str, int]]:
        """Return how many requests ended where: ``{stream: {outcome: count}}``."""
        with self._store.read() as session:
            return load_funnel(session, find(session, name, generation=generation).id)


def live_weight(session: Session, record: Record) -> int:
    """Return the share of users that the candidate serves on its route, in basis points."""
    return share_of(record, load_split(session, record.route))
