"""Outcomes that applications post, until and after they are joined with their requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this form."""
    op.create_table(
        "outcome",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("failure", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("request_at", sa.Float(), nullable=True),
        sa.Column("variant", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("rollout", sa.String(), nullable=True),
        sa.Column("posted_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("check_at", sa.Float(), nullable=False),
        sa.Column("settled_at", sa.Float(), nullable=True),
        sa.Column("rollout_id", sa.Integer(), nullable=True),
        sa.Column("capture_id", sa.String(), nullable=True),
        sa.Column("weight_bp", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("request_id", "name", name="uq_outcome"),
    )
    op.create_index("ix_outcome_due", "outcome", ["state", "check_at"])
    op.create_index("ix_outcome_created_at", "outcome", ["created_at"])
    op.create_index("ix_outcome_rollout_id", "outcome", ["rollout_id"])
