"""The one database: engine, tables, migrations and the queries that more than one package needs."""

from __future__ import annotations

from gateway.store.engine import Store, open_store

__all__ = ["Store", "open_store"]
