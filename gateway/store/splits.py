"""Reading and writing splits. Only the controller and its operations write them."""

from __future__ import annotations

from sqlmodel import Session, col, select, update

from gateway.errors import Conflict
from gateway.split import Split
from gateway.store.engine import Store
from gateway.store.tables import SplitRow

__all__ = ["SPLIT_CHANNEL", "load_split", "load_splits", "save_split"]

SPLIT_CHANNEL = "coalmine_split"
"""PostgreSQL channel on which a changed route's name is announced."""


def load_splits(session: Session) -> dict[str, Split]:
    """Return all splits by route."""
    rows = session.exec(select(SplitRow)).all()
    return {
        row.route: Split.from_document({**row.document, "revision": row.revision}) for row in rows
    }


def load_split(session: Session, route: str) -> Split | None:
    """Return the split of ``route``, or ``None`` where no rollout has ever touched it."""
    row = session.get(SplitRow, route)
    return None if row is None else Split.from_document({**row.document, "revision": row.revision})


def save_split(store: Store, session: Session, split: Split, *, now: float) -> Split:
    """Write ``split`` over the revision that it was read at, and announce it on commit.

    ``split.revision`` is the revision last read (0: there was no row). Returns the split as
    written, with the next revision and ``updated_at``. Raises :class:`Conflict` when the row has
    changed in between.
    """
    written = split.evolve(revision=split.revision + 1, updated_at=now)
    if split.revision == 0:
        if session.get(SplitRow, split.route) is not None:
            raise Conflict(f"the split of route {split.route!r} exists already; read it again")
        session.add(
            SplitRow(route=split.route, revision=1, document=written.to_document(), updated_at=now)
        )
        session.flush()
    else:
        result = session.exec(
            update(SplitRow)
            .where(col(SplitRow.route) == split.route, col(SplitRow.revision) == split.revision)
            .values(revision=written.revision, document=written.to_document(), updated_at=now)
            .execution_options(synchronize_session=False)
        )
        if result.rowcount != 1:
            raise Conflict(f"the split of route {split.route!r} was changed; read it again")
    store.notify(session, SPLIT_CHANNEL, split.route)
    return written
