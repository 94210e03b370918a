"""Pairs are claimed rollout by rollout, so that none has to wait behind another's backlog."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this form."""
    op.drop_index("ix_pair_claim", table_name="pair")
    op.create_index("ix_pair_claim", "pair", ["state", "rollout_id", "lease_until", "id"])
