"""No table keeps what is made of a capture without a deletion reaching it."""

from __future__ import annotations

from sqlalchemy import Table
from sqlmodel import SQLModel

from gateway.store.erasure import dependents
from gateway.store.tables import JudgmentRow, OutcomeRow


def _refers(table: Table) -> bool:
    """Whether a table's rows end with a row of capture or pair, directly or by way of another."""
    return any(
        key.ondelete == "CASCADE"
        and (key.column.table.name in {"capture", "pair"} or _refers(key.column.table))
        for key in table.foreign_keys
    )


def test_every_table_that_names_a_capture_or_a_pair_ends_with_it() -> None:
    """What a deletion takes itself, and what the database takes with it."""
    taken = {table.name for table, _ in dependents()}
    assert {JudgmentRow.__tablename__, OutcomeRow.__tablename__} <= taken
    about = [
        table
        for table in SQLModel.metadata.tables.values()
        if any(column.name.endswith(("capture_id", "pair_id")) for column in table.columns)
    ]
    assert len(about) >= 3
    assert [table.name for table in about if table.name not in taken and not _refers(table)] == []


def test_pairs_end_with_their_capture_by_the_database() -> None:
    """So that nothing made later can outlive it either."""
    (key,) = SQLModel.metadata.tables["pair"].foreign_keys
    assert (key.column.table.name, key.ondelete) == ("capture", "CASCADE")
