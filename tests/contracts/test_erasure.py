"""No table keeps what is made of a capture without a deletion reaching it."""

from __future__ import annotations

from sqlmodel import SQLModel

import gateway.store.tables  # noqa: F401 - declares the tables
from gateway.store.erasure import DEPENDENTS

_LISTED = {(table.__tablename__, column) for table, column, _ in DEPENDENTS}


def test_every_table_that_names_a_capture_or_a_pair_ends_with_it() -> None:
    """By the declared list, or by the database itself."""
    lost = []
    for table in SQLModel.metadata.tables.values():
        for column in table.columns:
            if column.name not in {"capture_id", "pair_id"}:
                continue
            cascades = any(key.ondelete == "CASCADE" for key in column.foreign_keys)
            if not cascades and (table.name, column.name) not in _LISTED:
                lost.append(f"{table.name}.{column.name}")
    assert lost == []


def test_the_list_names_columns_that_are_there() -> None:
    """And what it says that they name."""
    for table, column, of in DEPENDENTS:
        assert column in table.model_fields
        assert column == f"{of}_id"
