"""What else changes when calls are written: sums that must agree with the rows, so they share the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sqlalchemy.engine import Connection


class CallRow(NamedTuple):
    """A row of the table ``calls``, in the order of its columns; the values are the driver's own (JSON is text)."""

    id: int
    request_id: str
    started_at: int
    tenant: str
    operation: str
    model: str
    provider: str | None
    provider_model: str | None
    stream: bool | int
    outcome: str
    cache: str
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str | None
    cost_pusd: int | None
    cost_source: str
    saved_pusd: int | None
    first_token_us: int | None
    duration_us: int
    attempts: int
    tags: str | None
    metadata: str | None
    key_id: str | None
    cache_key: bytes | None
    answer_bytes: int | None
    semantic: str | None
    semantic_key: bytes | None
    semantic_audit: float | None
    prompt: str | None = None
    arms: str | None = None
    context_before: int | None = None
    context_after: int | None = None
    stage: str | None = None
    unit: str | None = None


class Tally(Protocol):
    """Sums that follow the ledger."""

    def tally(self, connection: Connection, rows: Sequence[CallRow], /) -> None:
        """Add `rows`, each of which is inserted in the same transaction; called again if that had to be repeated."""
