"""What is needed to keep no bodies, to delete a user's captures, and verdicts that they had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this form."""
    op.add_column(
        "capture",
        sa.Column("store_bodies", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.add_column("capture", sa.Column("bodies_removed_at", sa.Float(), nullable=True))
    op.create_index(
        "ix_capture_bodies", "capture", ["bodies_removed_at", "store_bodies", "created_at"]
    )
    op.add_column("judgment", sa.Column("cache_key", sa.String(), nullable=True))
    op.create_index("ix_judgment_cache_key", "judgment", ["cache_key"])
    op.create_table(
        "deletion",
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash"),
    )
    op.create_index("ix_deletion_requested_at", "deletion", ["requested_at"])
