"""The tables of keys, teams, budgets and alerts, as the newest migration leaves them.

Times are microseconds since the Unix epoch, periods begin in epoch seconds, money is picodollars; all whole numbers.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, LargeBinary, String, Table, Text

from penstock.stores.sql.tables import Id
from penstock.stores.sql.tables import metadata as metadata

teams = Table(
    "teams",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("models", JSON),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
)
"""``tenant`` is ``organisation/team``, which nothing is shared across, or ``organisation`` for the whole of it."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("models", JSON),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("replaces", Text),
    Column("seal", LargeBinary(32)),
    Index("api_keys_tenant", "tenant"),
)
"""``digest`` is a keyed hash, ``seal`` that of the id; ``hint`` the last characters, to recognise a key by."""

versions = Table(
    "versions",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""What rises with each change of something that other processes keep in memory."""

budgets = Table(
    "budgets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", String(16), nullable=False),
    Column("subject", Text, nullable=False),
    Column("period", String(16), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("soft", JSON),
    Column("allow_unpriced", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("budgets_subject", "scope", "subject"),
)
"""Scope is organisation, team or key; period day, month or total; the amount in picodollars or tokens by ``unit``."""

budget_periods = Table(
    "budget_periods",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("spent", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("told", BigInteger, nullable=False),
)
"""``spent`` changes with the calls that spent it, in one transaction; ``held`` is the sum of the period's leases.

``unpriced`` counts calls whose cost is unknown, ``told`` is the highest share an event was raised for, in millionths.
"""

budget_leases = Table(
    "budget_leases",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("held", BigInteger, nullable=False),
)
"""What a process may spend of a budget without asking again."""

alert_events = Table(
    "alert_events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("value", Float(53)),
    Column("threshold", Float(53)),
    Column("message", Text, nullable=False),
    Column("repeated", Boolean, nullable=False),
    Index("alert_events_at", "at"),
)
"""Alerts that began (``firing``) and ended (``resolved``)."""

statistics_resets = Table(
    "statistics_resets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("tenant", Text),
    Column("by", Text),
    Column("totals", JSON, nullable=False),
)
"""Since when statistics count anew, for one tenant or for all, and what they had counted by then."""
