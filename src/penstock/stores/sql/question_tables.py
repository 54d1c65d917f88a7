"""Tables of questions whose answers are cached, and of what matching has learnt.

`metadata` is complete here: the other tables are declared before these.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, LargeBinary, Table, Text

from penstock.stores.sql.account_tables import metadata as metadata
from penstock.stores.sql.tables import Id

questions = Table(
    "questions",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("tenant", Text, nullable=False),
    Column("partition", LargeBinary(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("key", LargeBinary(32), nullable=False),
    Column("group", LargeBinary(32), nullable=False),
    Column("model", Text, nullable=False),
    Column("embedder", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("right", Float(53), nullable=False),
    Column("wrong", Float(53), nullable=False),
    Column("tags", JSON),
    Index("questions_partition", "partition", "id"),
)
"""``key`` is where the cache has the answer. Ids rise with time."""

learnt = Table("learnt", metadata, Column("name", Text, primary_key=True), Column("state", LargeBinary, nullable=False))
"""What matching has learnt, by what it was learnt of."""
