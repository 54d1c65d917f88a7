"""Calls of the ledger, for replaying them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from penstock.core.clock import Clock, SystemClock
from penstock.insight.facts import Fact
from penstock.stores.sql import queries
from penstock.stores.sql.reports import file_of
from penstock.stores.sql.tables import calls, first_id, hit_sums

_COLUMNS = (
    calls.c.started_at, calls.c.tenant, calls.c.operation, calls.c.model, calls.c.provider, calls.c.provider_model,
    calls.c.stream, calls.c.outcome, calls.c.cache, calls.c.finish_reason, calls.c.input_tokens, calls.c.output_tokens,
    calls.c.cached_tokens, calls.c.cost_pusd, calls.c.cost_source, calls.c.saved_pusd, calls.c.duration_us,
    calls.c.attempts, calls.c.cache_key, calls.c.answer_bytes, calls.c.semantic, calls.c.semantic_key,
    calls.c.semantic_audit, calls.c.tags, calls.c.metadata,
)  # fmt: skip


def read_facts(url: str, *, days: float, most: int, clock: Clock | None = None) -> list[Fact]:
    """Return the newest calls of the last `days`, at most so many, oldest first.

    Args:
        url: The store's URL.
        days: How far back to look.
        most: How many to return.
        clock: Says when now is; by default the machine's.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
        StoreError: The file cannot be read.
    """
    since = (clock or SystemClock()).wall() - days * 86_400
    statement = select(*_COLUMNS).where(calls.c.id >= first_id(since)).order_by(calls.c.id.desc()).limit(most)
    with queries.reading(file_of(url)) as connection:
        found = [_fact(row) for row in connection.execution_options(yield_per=5_000).execute(statement)]
    found.reverse()
    return found


def unlisted_hits(url: str, since: float) -> int:
    """Return how many hits have no row, and so no `Fact`, since a time, seconds since the epoch, by the hour.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
        StoreError: The file cannot be read.
    """
    with queries.reading(file_of(url)) as connection:
        found = connection.execute(select(func.sum(hit_sums.c.calls)).where(hit_sums.c.start >= since)).scalar()
        return int(found or 0)


def _fact(row: Sequence[Any]) -> Fact:
    (at, tenant, operation, model, provider, provider_model, stream, outcome, cache, finish_reason, given, made, cached,
     cost, source, saved, duration, attempts, key, size, semantic, same_key, audit, tags, metadata) = row  # fmt: skip
    return Fact(
        at=at / 1e6,
        tenant=tenant,
        operation=operation,
        model=model,
        provider=provider or "",
        provider_model=provider_model or "",
        stream=stream,
        outcome=outcome,
        cache=cache,
        finish_reason=finish_reason,
        input_tokens=given or 0,
        output_tokens=made or 0,
        cached_tokens=cached or 0,
        cost_pusd=None if source == "unknown" else cost,
        saved_pusd=saved,
        seconds=duration / 1e6,
        attempts=attempts,
        key=key or b"",
        answer_bytes=size or 0,
        semantic=semantic or "",
        semantic_key=same_key or b"",
        semantic_audit=audit,
        tags=tuple(tags or ()),
        name=(metadata or {}).get("operation", ""),
    )
