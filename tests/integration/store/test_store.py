"""The store behaves alike on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import inspect
from sqlmodel import SQLModel

from gateway.errors import Conflict, StoreError, StoreUnavailable
from gateway.split import Mirror, Split
from gateway.store import Store, open_store
from gateway.store.evidence import (
    Evidence,
    append_evidence,
    load_evidence,
    load_funnel,
    move_funnel,
)
from gateway.store.splits import load_split, load_splits, save_split
from gateway.store.tables import ReplicaRow


def test_migrations_build_exactly_the_tables_that_the_models_declare(store: Store) -> None:
    """Every declared table and column exists after migrating, and none besides."""
    inspector = inspect(store.engine)
    found = {
        table: {column["name"] for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }
    declared = {
        name: {column.name for column in table.columns}
        for name, table in SQLModel.metadata.tables.items()
    }
    assert found == declared
    assert store.is_current()


def test_migrating_again_changes_nothing(store: Store) -> None:
    """A second process that migrates at its start does no harm."""
    store.migrate()
    assert store.is_current()


def test_a_split_comes_back_as_it_was_written(store: Store) -> None:
    """The document keeps every field, mirrors included, and counts its revisions."""
    split = Split(
        route="support",
        revision=0,
        baseline="v6",
        candidate="v7",
        weight_bp=500,
        salt="s",
        mirrors=(Mirror(1, "r", "v7", 2000, 200, "m"),),
    )
    with store.write() as session:
        first = save_split(store, session, split, now=10.0)
    with store.write() as session:
        second = save_split(store, session, first.evolve(weight_bp=0), now=11.0)
    with store.read() as session:
        assert load_splits(session) == {"support": second}
        assert load_split(session, "other") is None
    assert (second.revision, second.updated_at, second.weight_bp) == (2, 11.0, 0)


def test_two_writers_of_one_split_conflict(store: Store) -> None:
    """The second writer of the same revision is told, and nothing of its change stays."""
    split = Split(route="support", revision=0, baseline="v6")
    with store.write() as session:
        written = save_split(store, session, split, now=1.0)
    with store.write() as session:
        save_split(store, session, written.evolve(reason="first"), now=2.0)
    with pytest.raises(Conflict), store.write() as session:
        save_split(store, session, written.evolve(reason="second"), now=3.0)
    with pytest.raises(Conflict), store.write() as session:
        save_split(store, session, split, now=3.0)
    with store.read() as session:
        found = load_split(session, "support")
    assert found is not None
    assert found.reason == "first"


def test_evidence_is_numbered_without_gaps_in_the_order_of_commits(store: Store) -> None:
    """Many writers at once: a reader that follows the numbers misses nothing."""
    writers, each = 6, 5

    def write(writer: int) -> None:
        for index in range(each):
            with store.write() as session:
                item = Evidence("pair", float(index), {"writer": writer, "x": 0.1 + index})
                append_evidence(store, session, 7, [item, item])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < writers * each * 2:
        writing = any(thread.is_alive() for thread in threads)
        with store.read() as session:
            rows = load_evidence(session, 7, after=seen[-1] if seen else 0, limit=7)
        seen += [seq for seq, _ in rows]
        if not writing and not rows:
            break
    for thread in threads:
        thread.join()
    assert seen == list(range(1, writers * each * 2 + 1))


def test_evidence_floats_come_back_exactly(store: Store) -> None:
    """Receipts are recomputed bit for bit, so numbers must survive the store."""
    numbers = [0.1, 1e-17, 123456789.123456789, 2.5e300, -7.0]
    with store.write() as session:
        append_evidence(store, session, 1, [Evidence("pair", 1.0, {"numbers": numbers})])
    with store.read() as session:
        [(_, item)] = load_evidence(session, 1, after=0)
    assert item.payload["numbers"] == numbers


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    """What was written before an exception is rolled back with it."""
    with pytest.raises(RuntimeError), store.write() as session:
        move_funnel(store, session, [(1, "mirror", "eligible", 3)])
        raise RuntimeError
    with store.write() as session:
        move_funnel(store, session, [(1, "mirror", "eligible", 2), (1, "mirror", "eligible", 1)])
        move_funnel(store, session, [(1, "mirror", "eligible", 4)])
    with store.read() as session:
        assert load_funnel(session, 1) == {"mirror": {"eligible": 7}}


def test_sqlite_takes_the_write_lock_at_the_start(sqlite_url: str) -> None:
    """Two read-modify-write transactions can't both read before either writes."""
    store = open_store(sqlite_url)
    with store.write() as session:
        session.add(
            ReplicaRow(id="a", role="worker", host="h", pid=1, started_at=0, heartbeat_at=0)
        )

    def bump() -> None:
        for _ in range(20):
            with store.write() as session:
                row = session.get(ReplicaRow, "a")
                assert row is not None
                row.last_batch += 1
                session.add(row)

    threads = [threading.Thread(target=bump) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        row = session.get(ReplicaRow, "a")
    store.close()
    assert row is not None
    assert row.last_batch == 80


def test_a_store_that_is_down_is_said_to_be_unavailable() -> None:
    """Callers can tell 'try again' from 'broken', and opening alone never fails."""
    store = open_store("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        store.ping()
    store.close()


def test_a_sqlite_store_without_a_file_is_refused(open_stores: Callable[[str], Store]) -> None:
    """An in-memory store could not be shared between processes, so it is an error."""
    with pytest.raises(StoreError, match="needs a file"):
        open_stores("sqlite:///:memory:")
