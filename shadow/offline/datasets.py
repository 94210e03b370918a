"""Datasets that were exported: found, listed, read line by line, compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, func, select

from gateway.errors import NotFound
from gateway.store.engine import Store
from gateway.store.tables import DatasetItemRow, DatasetRow
from shadow.offline.splits import Split

__all__ = ["Comparison", "compare", "count_items", "find_dataset", "list_datasets", "read_lines"]

_PAGE = 100
_NAMED = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is in one dataset and not in the other, by key; some keys of each as examples."""

    same: int
    changed: int
    added: int
    removed: int
    examples: dict[str, list[str]]


def find_dataset(session: Session, reference: str) -> DatasetRow:
    """Return a dataset: `NAME` (its latest version), `NAME@VERSION`, or `NAME@` and its hash.

    Of the hash, the first eight digits or more will do. Raises `NotFound`.
    """
    name, _, which = reference.partition("@")
    query = select(DatasetRow).where(DatasetRow.name == name, DatasetRow.state == "ready")
    if re.fullmatch(r"[0-9]{1,7}", which):
        query = query.where(DatasetRow.version == int(which))
    elif re.fullmatch(r"[0-9a-f]{8,64}", which):
        query = query.where(col(DatasetRow.hash).startswith(which))
    elif which:
        raise NotFound(
            f"{which[:70]!r} is no version of a dataset; write NAME@2, or NAME@ and eight digits "
            "or more of its hash",
            field="dataset",
        )
    row = session.exec(query.order_by(col(DatasetRow.version).desc()).limit(1)).first()
    if row is None:
        raise NotFound(
            f"there is no dataset {reference!r}; `coalmine dataset list` shows them",
            field="dataset",
        )
    return row


def list_datasets(session: Session, *, limit: int = 200) -> list[DatasetRow]:
    """Return the datasets, newest first."""
    query = (
        select(DatasetRow)
        .where(DatasetRow.state == "ready")
        .order_by(col(DatasetRow.created_at).desc(), col(DatasetRow.id).desc())
        .limit(limit)
    )
    return list(session.exec(query).all())


def read_lines(store: Store, dataset_id: int, *, split: Split | None = None) -> Iterator[str]:
    """Yield the rows of a dataset as lines of JSON, in order, a page in memory at a time."""
    last = 0
    while True:
        query = (
            select(DatasetItemRow.number, DatasetItemRow.body)
            .where(DatasetItemRow.dataset_id == dataset_id, col(DatasetItemRow.number) > last)
            .order_by(col(DatasetItemRow.number))
            .limit(_PAGE)
        )
        if split is not None:
            query = query.where(DatasetItemRow.split == split)
        with store.read() as session:
            rows = session.exec(query).all()
        for last, body in rows:  # noqa: B007 - the last number is where the next page begins
            yield f"{body}\n"
        if len(rows) < _PAGE:
            return


def count_items(session: Session, dataset: DatasetRow) -> int:
    """Return how many of a dataset's rows are still there."""
    query = (
        select(func.count())
        .select_from(DatasetItemRow)
        .where(DatasetItemRow.dataset_id == dataset.id)
    )
    return int(session.exec(query).one())


def compare(session: Session, old: DatasetRow, new: DatasetRow) -> Comparison:
    """Return what changed from one dataset to another, counted in the store."""
    changed = _differing(session, old, new)
    added, removed = _missing(session, new, old), _missing(session, old, new)
    return Comparison(
        same=_common(session, old, new) - changed[0],
        changed=changed[0],
        added=added[0],
        removed=removed[0],
        examples={"changed": changed[1], "added": added[1], "removed": removed[1]},
    )


def _missing(session: Session, here: DatasetRow, there: DatasetRow) -> tuple[int, list[str]]:
    """Return the keys of one dataset that the other has not."""
    other = aliased(DatasetItemRow)
    absent = ~exists().where(
        col(other.dataset_id) == there.id, col(other.key) == DatasetItemRow.key
    )
    return _keys(session, col(DatasetItemRow.dataset_id) == here.id, absent)


def _differing(session: Session, old: DatasetRow, new: DatasetRow) -> tuple[int, list[str]]:
    other = aliased(DatasetItemRow)
    differs = exists().where(
        col(other.dataset_id) == old.id,
        col(other.key) == DatasetItemRow.key,
        col(other.hash) != DatasetItemRow.hash,
    )
    return _keys(session, col(DatasetItemRow.dataset_id) == new.id, differs)


def _common(session: Session, old: DatasetRow, new: DatasetRow) -> int:
    other = aliased(DatasetItemRow)
    there = exists().where(col(other.dataset_id) == old.id, col(other.key) == DatasetItemRow.key)
    return _keys(session, col(DatasetItemRow.dataset_id) == new.id, there)[0]


def _keys(session: Session, *conditions: Any) -> tuple[int, list[str]]:
    count = select(func.count()).select_from(DatasetItemRow).where(*conditions)
    some = select(DatasetItemRow.key).where(*conditions).order_by(col(DatasetItemRow.number))
    return int(session.exec(count).one()), list(session.exec(some.limit(_NAMED)).all())
