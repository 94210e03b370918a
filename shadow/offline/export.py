"""Writing an export: pairs in, a dataset in the store out, with bounded memory.

A dataset is built unseen, a page of pairs a transaction, and becomes visible with its hash, its
version and its manifest in the last one. An export that died leaves a building one behind, which a
later export removes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, delete, func, insert, select

from gateway.errors import RequestError
from gateway.store.engine import Store
from gateway.store.tables import CaptureRow, DatasetItemRow, DatasetRow, PairRow
from shadow.offline.build import Build, Made
from shadow.offline.datasets import count_items
from shadow.offline.reading import read_pages
from shadow.offline.request import ExportRequest
from shadow.offline.rows import Origin

__all__ = ["Exported", "export_pairs"]

_ABANDONED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Exported:
    """A dataset that an export led to; `created` is false where it was there already."""

    dataset: DatasetRow
    created: bool


def export_pairs(
    store: Store,
    request: ExportRequest,
    origin: Origin,
    *,
    rollout_id: int,
    by: str,
    now: float,
    committing: Callable[[Session, DatasetRow], None] = lambda _session, _row: None,
) -> Exported:
    """Export a rollout's pairs; the same pairs and request give the dataset that is there.

    `committing` runs in the transaction that makes a new dataset visible. Raises `RequestError`
    (422) where no pair can be exported, with the reasons, and `StoreError`.
    """
    build = Build.start(request, origin)
    dataset_id = _begin(store, request, rollout_id, by, now)
    try:
        for page in read_pages(store, rollout_id, request):
            _write(store, dataset_id, build, build.make(page))
            if build.full:
                break
        return _finish(store, dataset_id, build, committing)
    except BaseException:
        _remove(store, dataset_id)
        raise


def _begin(store: Store, request: ExportRequest, rollout_id: int, by: str, now: float) -> int:
    with store.write() as session:
        session.exec(
            delete(DatasetRow).where(
                col(DatasetRow.state) == "building", col(DatasetRow.created_at) < now - _ABANDONED_S
            )
        )
        row = DatasetRow(
            name=request.name,
            kind=request.kind,
            rollout_id=rollout_id,
            created_at=now,
            created_by=by,
        )
        session.add(row)
        session.flush()
        return row.id or 0


def _write(store: Store, dataset_id: int, build: Build, made: Sequence[Made]) -> None:
    """Write a page's rows, but for those whose pair or text was deleted meanwhile."""
    if not made:
        return
    with store.write() as session:
        ids = {material.pair_id for material, _ in made}
        query = select(PairRow.id).where(
            col(PairRow.id).in_(ids),
            PairRow.capture_id == CaptureRow.id,
            CaptureRow.request_body != "",
        )
        there = set(session.exec(query.with_for_update(read=True)).all())
        values: list[dict[str, Any]] = []
        for material, row in made:
            if material.pair_id not in there:
                build.lost(row)
                continue
            values.append(
                {
                    "dataset_id": dataset_id,
                    "number": build.written(row),
                    "key": row.key,
                    "hash": row.hash,
                    "split": row.split,
                    "segment": row.segment,
                    "source": row.source,
                    "pair_id": material.pair_id,
                    "capture_id": material.capture_id,
                    "body": row.body,
                }
            )
        if values:
            session.connection().execute(insert(DatasetItemRow), values)


def _finish(
    store: Store,
    dataset_id: int,
    build: Build,
    committing: Callable[[Session, DatasetRow], None],
) -> Exported:
    if not build.items:
        raise RequestError(build.nothing(), status=422)
    manifest = build.manifest()
    with store.write() as session:
        row = session.get(DatasetRow, dataset_id)
        if row is None:
            raise RequestError("the export took over an hour and was given up", status=409)
        known = session.exec(
            select(DatasetRow).where(
                DatasetRow.name == row.name,
                DatasetRow.kind == row.kind,
                DatasetRow.hash == manifest["sha256"],
            )
        ).first()
        if known is not None and count_items(session, known) == known.items:
            session.delete(row)
            return Exported(known, created=False)
        latest = session.exec(
            select(func.max(DatasetRow.version)).where(DatasetRow.name == row.name)
        ).one()
        row.version = (latest or 0) + 1
        row.hash, row.items, row.state = manifest["sha256"], build.items, "ready"
        row.manifest = {
            "name": row.name,
            "version": row.version,
            "created_at": row.created_at,
            "created_by": row.created_by,
            **manifest,
        }
        session.add(row)
        committing(session, row)
    return Exported(row, created=True)


def _remove(store: Store, dataset_id: int) -> None:
    with store.write() as session:
        session.exec(
            delete(DatasetRow).where(
                col(DatasetRow.id) == dataset_id, col(DatasetRow.state) == "building"
            )
        )
