"""What else changes when calls are written: sums that must agree with the rows, so they share the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection


class CallRow(NamedTuple):
    """A row of the table ``calls``; the values are the driver's own (JSON is text).

    Python's driver of SQLite takes a whole number, text or a bytearray as it is, and looks for an adapter of anything
    else, bytes included, which takes five times as long.

    First what roll-ups are made of, then what most calls have, then what few have (`USUAL`).
    """

    started_at: int
    tenant: str
    key_id: str | None
    model: str
    provider: str | None
    operation: str
    cache: str
    outcome: str
    attempts: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost_pusd: int | None
    cost_source: str
    duration_us: int
    first_token_us: int | None

    id: int
    request_id: str
    provider_model: str | None
    stream: int
    finish_reason: str | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str | None
    cache_key: bytes | bytearray | None
    answer_bytes: int | None

    saved_pusd: int | None = None
    tags: str | None = None
    metadata: str | None = None
    semantic: str | None = None
    semantic_key: bytes | None = None
    semantic_audit: float | None = None
    prompt: str | None = None
    arms: str | None = None
    context_before: int | None = None
    context_after: int | None = None
    stage: str | None = None
    unit: str | None = None


USUAL = CallRow._fields.index("saved_pusd")
"""How many of its values most rows have only."""

CallValues = tuple[Any, ...]
"""The values of a `CallRow`, or the first `USUAL` of one whose others are all null."""


class Tally(Protocol):
    """Sums that follow the ledger."""

    def tally(self, connection: Connection, rows: Sequence[CallValues], /) -> None:
        """Add `rows`, each of which is inserted in the same transaction; called again if that had to be repeated."""
