"""The reward-hacking panel as metrics: looked at now and then, beside the controller."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import col, select

from gateway.store.engine import Store
from gateway.store.tables import EvidenceHeadRow
from rollout.ledger import find_id, running_ids
from rollout.metrics import ControlMetrics
from rollout.panel_reading import read_panel

__all__ = ["PANEL_INTERVAL_S", "PanelFeed"]

PANEL_INTERVAL_S = 10.0
_PAIRS = 2_000
"""Newest pairs that the metrics tell of: about 0.2 s of work, and only after new evidence."""


class PanelFeed:
    """Shows the panel of each running rollout in ``metrics`` while ``leads()``."""

    def __init__(self, store: Store, metrics: ControlMetrics, *, leads: Callable[[], bool]) -> None:
        self._store = store
        self._metrics = metrics
        self._leads = leads
        self._shown: dict[int, int] = {}

    def look(self) -> None:
        """Read the panels that have new evidence. Raises :class:`StoreError`."""
        if not self._leads():
            self._shown.clear()
            return
        with self._store.read() as session:
            query = select(EvidenceHeadRow.rollout_id, EvidenceHeadRow.seq).where(
                col(EvidenceHeadRow.rollout_id).in_(running_ids(session))
            )
            heads = dict(session.exec(query).all())
        for rollout_id, seq in heads.items():
            if self._shown.get(rollout_id) == seq:
                continue
            with self._store.read() as session:
                record = find_id(session, rollout_id)
                panel = read_panel(session, record, source="pairs", limit=_PAIRS)
            self._metrics.panel(record.name, panel.lines)
            self._shown[rollout_id] = seq
