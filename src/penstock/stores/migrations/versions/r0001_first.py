"""The ledger, the exact cache and stored completions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    _calls()
    _attempts()
    op.create_table(
        "answers",
        sa.Column("key", sa.LargeBinary(32), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("stored_at", sa.Float(53), nullable=False),
        sa.Column("fresh_until", sa.Float(53), nullable=False),
        sa.Column("cost_pusd", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("finish_reason", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "completions",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
    )
    op.create_index("completions_order", "completions", ["tenant", "created", "id"])


def downgrade() -> None:
    """Remove the tables and all they hold."""
    for table in ("completions", "answers", "attempts", "calls"):
        op.drop_table(table)


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", _id(), primary_key=True, autoincrement=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("provider", sa.Text),
        sa.Column("provider_model", sa.Text),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("cache", sa.String(16), nullable=False),
        sa.Column("finish_reason", sa.Text),
        *_tokens(),
        sa.Column("usage_source", sa.String(16)),
        sa.Column("cost_pusd", sa.BigInteger),
        sa.Column("cost_source", sa.String(16), nullable=False),
        sa.Column("saved_pusd", sa.BigInteger),
        sa.Column("first_token_us", sa.BigInteger),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("tags", sa.JSON),
        sa.Column("metadata", sa.JSON),
    )
    op.create_index("calls_tenant", "calls", ["tenant", "id"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("call_id", _id(), sa.ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status_code", sa.Integer),
        *_tokens(),
        sa.Column("usage_source", sa.String(16)),
        sa.Column("cost_pusd", sa.BigInteger),
        sa.Column("cost_source", sa.String(16), nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
        sa.Column("first_token_us", sa.BigInteger),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _tokens() -> list[sa.Column[int]]:
    names = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
    return [sa.Column(name, sa.BigInteger) for name in names]
