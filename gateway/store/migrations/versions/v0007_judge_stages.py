"""Which stage judged, why it was asked and with which probability, and by which rubric."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this form. Judgments of before have none of it."""
    op.add_column("judgment", sa.Column("stage", sa.String(), nullable=True))
    op.add_column("judgment", sa.Column("asked", sa.String(), nullable=True))
    op.add_column("judgment", sa.Column("probability", sa.Float(), nullable=True))
    op.add_column("judgment", sa.Column("rubric", sa.String(), nullable=True))
    op.add_column("judgment", sa.Column("rubric_hash", sa.String(), nullable=True))
