"""Exports: rows to train on and to evaluate with, which go when their pairs go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables to this form."""
    op.create_table(
        "dataset",
        sa.Column("id", _BIG, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=True),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "version", name="uq_dataset"),
    )
    op.create_index("ix_dataset_hash", "dataset", ["hash"])
    op.create_index("ix_dataset_rollout_id", "dataset", ["rollout_id"])
    op.create_table(
        "dataset_item",
        sa.Column("dataset_id", _BIG, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("segment", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("pair_id", _BIG, nullable=False),
        sa.Column("capture_id", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["pair_id"], ["pair.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["capture_id"], ["capture.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("dataset_id", "number"),
    )
    op.create_index("ix_dataset_item_key", "dataset_item", ["dataset_id", "key"])
    op.create_index("ix_dataset_item_pair_id", "dataset_item", ["pair_id"])
    op.create_index("ix_dataset_item_capture_id", "dataset_item", ["capture_id"])
