"""Blind reviews: pairs drawn for people, what they said, and who has which before them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables to this form."""
    op.create_table(
        "review_item",
        sa.Column("id", _BIG, nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", _BIG, nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("segment", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("left_arm", sa.String(), nullable=False),
        sa.Column("expert_only", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("position", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("label", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("settled_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["pair_id"], ["pair.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("pair_id", name="uq_review_item_pair"),
    )
    op.create_index("ix_review_item_queue", "review_item", ["state", "rollout_id", "position"])
    op.create_index("ix_review_item_week", "review_item", ["route", "created_at"])
    op.create_index("ix_review_item_rollout_id", "review_item", ["rollout_id"])
    op.create_table(
        "review",
        sa.Column("id", _BIG, nullable=False),
        sa.Column("item_id", _BIG, nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", _BIG, nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("expert", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("label", sa.Float(), nullable=True),
        sa.Column("categories", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("via", sa.String(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["review_item.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_review_current",
        "review",
        ["item_id", "reviewer"],
        unique=True,
        sqlite_where=sa.column("superseded") == sa.false(),
        postgresql_where=sa.column("superseded") == sa.false(),
    )
    op.create_index("ix_review_rollout", "review", ["rollout_id", "id"])
    op.create_index("ix_review_item_id", "review", ["item_id"])
    op.create_table(
        "review_lease",
        sa.Column("item_id", _BIG, nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["review_item.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("item_id", "reviewer"),
    )
    op.add_column(
        "token", sa.Column("expert", sa.Boolean(), nullable=False, server_default=sa.false())
    )
