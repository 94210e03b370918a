"""Verdicts kept by the hash of everything that determined them. Errors are never kept."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, delete

from gateway.store.engine import Store
from gateway.store.tables import JudgeCacheRow
from shadow.judge.parse import SCHEMA, Verdict
from shadow.judge.prompt import SYSTEM, TEMPLATE, USER, Material


def cache_key(
    *,
    endpoint: str,
    model: str,
    parameters: dict[str, Any],
    rubric: str,
    material: Material,
    judge: str = "",
    version: str = "",
    stage: str = "final",
    replicate: int = 0,
) -> str:
    """Return the SHA-256 of the canonical JSON of all that a verdict depends on.

    `judge` and `version` are the deployment's name and revision. The order of the answers is part
    of `material`; the nonce is not, for it decides nothing. A verdict that is wanted anew, as for
    a measure of how far the judge repeats itself, has another `replicate`.
    """
    document = {
        "judge": [judge, version],
        "stage": stage,
        "replicate": replicate,
        "endpoint": endpoint,
        "model": model,
        "parameters": parameters,
        "rubric": _digest(rubric),
        "template": [TEMPLATE, _digest(SYSTEM + USER)],
        "schema": _digest(_canonical(SCHEMA)),
        "conversation": material.conversation,
        "tools": material.tools,
        "first": material.first,
        "second": material.second,
    }
    return _digest(_canonical(document))


class JudgeCache:
    """Reads the cache in the store; synchronous, to be called through a thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what was kept under `key`: verdict, model and fingerprint."""
        with self._store.read() as session:
            row = session.get(JudgeCacheRow, key)
            return None if row is None else dict(row.payload)


@dataclass(frozen=True, slots=True)
class Kept:
    """A verdict to be kept under its key."""

    key: str
    verdict: Verdict
    model: str
    fingerprint: str | None


def keep_verdicts(store: Store, session: Session, verdicts: Iterable[Kept], *, now: float) -> None:
    """Keep verdicts in the caller's transaction; the first one under a key stays."""
    values = {
        kept.key: {
            "key": kept.key,
            "payload": {
                "verdict": kept.verdict.model_dump(mode="json"),
                "model": kept.model,
                "fingerprint": kept.fingerprint,
            },
            "created_at": now,
        }
        for kept in verdicts
    }
    dialect = sqlite if store.is_sqlite else postgresql
    for key in sorted(values):
        session.connection().execute(
            dialect.insert(JudgeCacheRow)
            .values(values[key])
            .on_conflict_do_nothing(index_elements=["key"])
        )


def keep_payload(store: Store, key: str, payload: dict[str, Any], *, now: float) -> None:
    """Keep one payload in a transaction of its own; the first one under a key stays."""
    dialect = sqlite if store.is_sqlite else postgresql
    with store.write() as session:
        session.connection().execute(
            dialect.insert(JudgeCacheRow)
            .values(key=key, payload=payload, created_at=now)
            .on_conflict_do_nothing(index_elements=["key"])
        )


def forget_verdicts(session: Session, models: Collection[str], *, since: float) -> None:
    """Delete what models have said from an instant on (Unix seconds), in the caller's transaction.

    For verdicts that are not to be trusted: the same answers are then judged anew.
    """
    session.exec(
        delete(JudgeCacheRow).where(
            col(JudgeCacheRow.created_at) >= since,
            col(JudgeCacheRow.payload)["model"].as_string().in_(sorted(models)),
        )
    )


def _canonical(document: Any) -> str:
    return msgspec.json.encode(document, order="sorted").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
