"""Questions whose answers are cached, what calls were made of, scores, and what was decided while running."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, let calls say what matching found for them, and keys with which secret they were made."""
    for column in (sa.Column("semantic", sa.String(16)), sa.Column("semantic_key", sa.LargeBinary(16)),
                   sa.Column("semantic_audit", sa.Float(53))):  # fmt: skip
        op.add_column("calls", column)
    op.add_column("calls", sa.Column("prompt", sa.Text))
    op.add_column("calls", sa.Column("arms", sa.JSON))
    for name in ("context_before", "context_after"):
        op.add_column("calls", sa.Column(name, sa.BigInteger))
    op.add_column("usage", sa.Column("cut_tokens", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("calls", sa.Column("stage", sa.Text))
    op.add_column("calls", sa.Column("unit", sa.String(16)))
    arms = sa.text("arms IS NOT NULL")
    op.create_index("calls_arms", "calls", ["id"], sqlite_where=arms, postgresql_where=arms)
    op.create_table(
        "states",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "scores",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("scores_at", "scores", ["at"])
    op.add_column("api_keys", sa.Column("seal", sa.LargeBinary(32)))
    with op.batch_alter_table("answers", recreate="always") as table:
        table.add_column(sa.Column("tags", sa.Text), insert_before="data")
    op.create_table(
        "questions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("partition", sa.LargeBinary(32), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("group", sa.LargeBinary(32), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("embedder", sa.Text, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("right", sa.Float(53), nullable=False),
        sa.Column("wrong", sa.Float(53), nullable=False),
        sa.Column("tags", sa.JSON),
    )
    op.create_index("questions_partition", "questions", ["partition", "id"])
    op.create_table(
        "learnt",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Remove the tables and all they hold."""
    op.drop_column("usage", "cut_tokens")
    op.drop_table("scores")
    op.drop_table("states")
    op.drop_index("calls_arms", "calls")
    op.drop_table("learnt")
    op.drop_table("questions")
    op.drop_column("answers", "tags")
    op.drop_column("api_keys", "seal")
    for column in ("unit", "stage", "context_after", "context_before", "arms", "prompt", "semantic_audit",
                   "semantic_key", "semantic"):  # fmt: skip
        op.drop_column("calls", column)
