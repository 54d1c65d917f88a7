"""Hits that have no row of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of their sums."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    sums = ("calls", "input_tokens", "output_tokens", "cached_tokens", "saved_pusd", "duration_us")
    op.create_table(
        "hit_sums",
        sa.Column("id", number, primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("group_id", number, sa.ForeignKey("usage_groups.id"), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        sa.Column("times", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Remove the table and all it holds."""
    op.drop_table("hit_sums")
