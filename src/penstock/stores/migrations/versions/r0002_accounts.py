"""Roll-ups of the ledger; teams, keys, budgets and alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEW = ("statistics_resets", "alert_events", "budget_leases", "budget_periods", "budgets", "api_keys", "teams",
        "versions", "marks", "usage_histograms", "usage_latencies", "usage", "usage_groups")  # fmt: skip


def upgrade() -> None:
    """Create the tables."""
    for column in (sa.Column("key_id", sa.Text), sa.Column("cache_key", sa.LargeBinary(16)),
                   sa.Column("answer_bytes", sa.BigInteger)):  # fmt: skip
        op.add_column("calls", column)
    _usage()
    _accounts()
    _budgets()
    op.create_table(
        "alert_events",
        sa.Column("id", _id(), primary_key=True),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        _time("at"),
        sa.Column("value", sa.Float(53)),
        sa.Column("threshold", sa.Float(53)),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("repeated", sa.Boolean, nullable=False),
    )
    op.create_index("alert_events_at", "alert_events", ["at"])
    op.create_table(
        "statistics_resets",
        sa.Column("id", _id(), primary_key=True),
        _time("at"),
        sa.Column("tenant", sa.Text),
        sa.Column("by", sa.Text),
        sa.Column("totals", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Remove the tables and all they hold."""
    for table in _NEW:
        op.drop_table(table)
    for column in ("answer_bytes", "cache_key", "key_id"):
        op.drop_column("calls", column)


def _usage() -> None:
    op.create_table(
        "usage_groups",
        sa.Column("id", _id(), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("cache", sa.String(16), nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.UniqueConstraint("tenant", "key_id", "model", "provider", "operation", "name", "tags", "cache", "outcome"),
    )
    sums = ("calls", "attempts", "input_tokens", "output_tokens", "cached_tokens", "cost_pusd", "estimated_pusd",
            "saved_pusd", "priced", "estimated", "unpriced", "duration_us")  # fmt: skip
    op.create_table(
        "usage",
        sa.Column("span_s", sa.Integer, primary_key=True),
        *_slot(),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_latencies",
        *_slot(),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("bucket", sa.SmallInteger, primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_histograms",
        *_slot(),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("counts", sa.LargeBinary, nullable=False),
    )
    marks = op.create_table(
        "marks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    first, last = op.get_bind().execute(sa.text("SELECT min(id), max(id) FROM calls")).one()
    if last is not None:  # calls that no roll-up counts yet; upkeep adds them in small steps
        op.bulk_insert(marks, [{"name": "unsummed_from", "value": first}, {"name": "unsummed_until", "value": last}])


def _slot() -> tuple[sa.Column[int], ...]:
    return (
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("group_id", _id(), sa.ForeignKey("usage_groups.id"), primary_key=True),
    )


def _accounts() -> None:
    op.create_table(
        "teams",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        _time("created_at"),
        sa.Column("archived_at", sa.BigInteger),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        _time("created_at"),
        sa.Column("created_by", sa.Text),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("replaces", sa.Text),
    )
    op.create_index("api_keys_tenant", "api_keys", ["tenant"])
    op.create_table(
        "versions",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("soft", sa.JSON),
        sa.Column("allow_unpriced", sa.Boolean, nullable=False),
        _time("created_at"),
    )
    op.create_index("budgets_subject", "budgets", ["scope", "subject"])
    op.create_table(
        "budget_periods",
        sa.Column("budget_id", sa.Text, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("unpriced", sa.BigInteger, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "budget_leases",
        sa.Column("budget_id", sa.Text, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("held", sa.BigInteger, nullable=False),
    )


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")
