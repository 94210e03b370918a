"""Exporting a rollout's pairs: what the rollout and the settings add to a dataset's provenance."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

from sqlmodel import Session

from gateway.errors import SettingsError
from gateway.settings import Settings
from gateway.store import Store
from gateway.store.tables import DatasetRow
from rollout import ledger
from rollout.audit import Actor, record_audit
from rollout.records import Record
from shadow.offline.export import Exported, export_pairs
from shadow.offline.request import ExportRequest
from shadow.offline.rows import Origin
from shadow.serve import read_rubric

__all__ = ["export_rollout"]


def export_rollout(
    store: Store, settings: Settings, request: ExportRequest, *, actor: Actor, now: float
) -> Exported:
    """Export pairs of the rollout that ``request`` names, and write down who did (``now``: Unix s).

    Raises :class:`NotFound` for a rollout that there is not, :class:`RequestError` (422) where no
    pair gives a row, and :class:`StoreError`.
    """
    with store.read() as session:
        record = ledger.find(session, request.rollout, generation=request.generation)

    def committing(session: Session, row: DatasetRow) -> None:
        record_audit(
            session,
            at=now,
            actor=actor,
            action="export",
            target=f"{row.name}@{row.version}",
            detail={"kind": row.kind, "items": row.items, "rollout": record.name},
        )

    return export_pairs(
        store,
        request,
        _origin(record, settings),
        rollout_id=record.id,
        by=actor.name,
        now=now,
        committing=committing,
    )


def _origin(record: Record, settings: Settings) -> Origin:
    route = settings.routes.get(record.route)
    return Origin(
        rollout=record.name,
        generation=record.generation,
        baseline=record.baseline,
        baseline_revision=record.baseline_revision,
        candidate=record.spec.candidate.deployment,
        candidate_revision=record.candidate_revision,
        rubric_hash=_rubric_hash(settings),
        code_version=version("coalmine"),
        contract=route.contract if route is not None else None,
    )


def _rubric_hash(settings: Settings) -> str | None:
    if settings.judge is None:
        return None
    try:
        return hashlib.sha256(read_rubric(settings).encode()).hexdigest()
    except SettingsError:  # the rubric lies with the workers, not here
        return None
