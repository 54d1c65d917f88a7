"""The tables, as the newest migration leaves them.

Times are microseconds (since the Unix epoch for ``started_at``), money is picodollars (1e-12 USD); both whole numbers.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

HEAD = "0004"
"""Newest revision in `penstock.stores.migrations`; only a database of an older one needs the migration tool."""

metadata = MetaData()

Id = BigInteger().with_variant(Integer, "sqlite")
"""SQLite makes a primary key the row's own number only if its type is called INTEGER."""


ID_SHIFT = 21


def first_id(seconds: float) -> int:
    """Return what the ids of calls that started then, seconds since the Unix epoch, or later are not below."""
    return int(seconds * 1e3) << ID_SHIFT


def _tokens() -> tuple[Column[int], ...]:
    names = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
    return tuple(Column(name, BigInteger) for name in names)


calls = Table(
    "calls",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("request_id", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("operation", String(32), nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text),
    Column("provider_model", Text),
    Column("stream", Boolean, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("cache", String(16), nullable=False),
    Column("finish_reason", Text),
    *_tokens(),
    Column("usage_source", String(16)),
    Column("cost_pusd", BigInteger),
    Column("cost_source", String(16), nullable=False),
    Column("saved_pusd", BigInteger),
    Column("first_token_us", BigInteger),
    Column("duration_us", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("tags", JSON),
    Column("metadata", JSON),
    Column("key_id", Text),
    Column("cache_key", LargeBinary(16)),
    Column("answer_bytes", BigInteger),
    Column("semantic", String(16)),
    Column("semantic_key", LargeBinary(16)),
    Column("semantic_audit", Float(53)),
    Column("prompt", Text),
    Column("arms", JSON(none_as_null=True)),
    Column("context_before", BigInteger),
    Column("context_after", BigInteger),
    Column("stage", Text),
    Column("unit", String(16)),
    Index("calls_tenant", "tenant", "id"),
    Index("calls_arms", "id", sqlite_where=text("arms IS NOT NULL")),
)
"""One row an answer. Ids begin with the time (`first_id`), so the primary key is the index for it.

``cache_key`` is the beginning of the exact cache's key, which tells whether two calls asked the same; ``semantic_key``
is that of the answer to a question of the same meaning, ``semantic`` whether it was given, and ``semantic_audit`` the
probability that it is checked. ``prompt`` is the name and version of the prompt it was made from, ``arms`` an object
with the arm of each experiment, ``context_before`` and ``context_after`` the tokens of a conversation that was cut,
``stage`` the stage of a cascade that gave the answer, ``unit`` a digest of who or what was assigned to the arms.
"""

attempts = Table(
    "attempts",
    metadata,
    Column("call_id", Id, ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status_code", Integer),
    *_tokens(),
    Column("usage_source", String(16)),
    Column("cost_pusd", BigInteger),
    Column("cost_source", String(16), nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("first_token_us", BigInteger),
    Column("duration_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""One row a try; ``started_us`` counts from the call's start."""

answers = Table(
    "answers",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("form", String(16), nullable=False),
    Column("stored_at", Float(53), nullable=False),
    Column("fresh_until", Float(53), nullable=False),
    Column("cost_pusd", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("finish_reason", Text),
    Column("model", Text, nullable=False),
    Column("tags", Text),
    Column("data", LargeBinary, nullable=False),
)
"""The exact cache; ``tags`` is JSON, and ``data`` is last, so that reading the others does not touch it."""

completions = Table(
    "completions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    Column("messages", JSON, nullable=False),
    Index("completions_order", "tenant", "created", "id"),
)
"""Completions asked for with ``store: true``; ``body`` is without the metadata."""

usage_groups = Table(
    "usage_groups",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("operation", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("cache", String(16), nullable=False),
    Column("outcome", Text, nullable=False),
    UniqueConstraint("tenant", "key_id", "model", "provider", "operation", "name", "tags", "cache", "outcome"),
)
"""What calls of a roll-up have in common; empty text where there is none.

``name`` is what the client calls its operation (``x-penstock-operation``), ``tags`` a JSON array.
"""

usage = Table(
    "usage",
    metadata,
    Column("span_s", Integer, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("group_id", Id, ForeignKey("usage_groups.id"), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("input_tokens", "output_tokens", "cached_tokens")),
    Column("cost_pusd", BigInteger, nullable=False),
    Column("estimated_pusd", BigInteger, nullable=False),
    Column("saved_pusd", BigInteger, nullable=False),
    Column("priced", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("cut_tokens", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
"""Sums of calls by hour (``span_s`` 3600) and, when the hours are old, by day (86400); ``start`` in epoch seconds.

``priced``, ``estimated`` and ``unpriced`` count calls by how their cost was obtained; ``estimated_pusd`` is the part of
the cost that was estimated. ``cut_tokens`` are those that cut conversations had and were not sent.
"""

usage_latencies = Table(
    "usage_latencies",
    metadata,
    Column("start", BigInteger, primary_key=True),
    Column("group_id", Id, ForeignKey("usage_groups.id"), primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("bucket", SmallInteger, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How many calls of an hour took how long, in logarithmic buckets.

Kind 0 is the duration, 1 the time to the first token.
"""

usage_histograms = Table(
    "usage_histograms",
    metadata,
    Column("start", BigInteger, primary_key=True),
    Column("group_id", Id, ForeignKey("usage_groups.id"), primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("counts", LargeBinary, nullable=False),
)
"""The same by day, once the hours are old, and then by week; all buckets are in one value."""

hit_sums = Table(
    "hit_sums",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("start", BigInteger, nullable=False),
    Column("group_id", Id, ForeignKey("usage_groups.id"), nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("calls", "input_tokens", "output_tokens", "cached_tokens")),
    Column("saved_pusd", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("times", JSON, nullable=False),
)
"""Hits of an hour (``start``, epoch seconds) that have no row in ``calls``: what a process summed up of them.

``times`` has pairs of a bucket of ``usage_latencies`` and how many calls took so long. The sums of `usage` are those of
``calls`` and of these; both are removed when they are old.
"""

marks = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""How far upkeep has come, and which of the things done at a time were done last, for all processes together."""

states = Table(
    "states",
    metadata,
    Column("name", Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)
"""What people or experience decided while Penstock ran: labels of prompts, experiments, cascades."""

scores = Table(
    "scores",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Float(53), nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("scores_at", "at"),
    sqlite_with_rowid=False,
)
"""How good answers were, as applications say; ``request_id`` is that of `calls`."""
