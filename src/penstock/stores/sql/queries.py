"""The SQL behind `reports`: sums of integers, and percentiles by rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, Select, case, func, select, true
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from penstock.core.errors import StoreError
from penstock.core.money import to_usd
from penstock.stores.sql import sqlite
from penstock.stores.sql.database import revision
from penstock.stores.sql.reports import RecentCall, UsageLine
from penstock.stores.sql.tables import HEAD, calls, first_id

Key = tuple[str | None, ...]
_COLUMNS = {"model": calls.c.model, "tenant": calls.c.tenant, "provider": calls.c.provider, "cache": calls.c.cache,
            "outcome": calls.c.outcome}  # fmt: skip


@contextmanager
def reading(path: str) -> Iterator[Connection]:
    """Open a database that is there, for reading, beside whoever writes it.

    Raises:
        StoreError: It cannot be read, or its tables are not this version's.
    """
    engine = sqlite.open_reading(path)
    try:
        with engine.begin() as connection:
            found = revision(connection, path)
            if found != HEAD:
                raise StoreError(
                    f"{path} is not up to date (revision {found}, not {HEAD}): start `penstock serve` once"
                )
            yield connection
    except SQLAlchemyError as error:
        raise sqlite.explain(error, path) from error
    finally:
        engine.dispose()


def lines(connection: Connection, since: float, by: Sequence[str]) -> list[UsageLine]:
    """Sum up the calls since a time, split by `by`, most calls first; one line without a split."""
    source, groups = _source(by)
    sums = connection.execute(_since(select(*groups, *_sums()).select_from(source).group_by(*groups), since)).all()
    ends = _percentiles(connection, source, groups, calls.c.duration_us, since)
    firsts = _percentiles(connection, source, groups, calls.c.first_token_us, since)
    found = [
        _line(by, row, ends.get(_key(row, by), (None, None)), firsts.get(_key(row, by), (None, None))) for row in sums
    ]
    return sorted(found, key=lambda line: (-line.calls, str(line.group)))


def recent(connection: Connection, count: int) -> list[RecentCall]:
    """Return the newest calls, newest first."""
    return [_recent(row) for row in connection.execute(select(calls).order_by(calls.c.id.desc()).limit(count))]


def _source(by: Sequence[str]) -> tuple[FromClause, list[ColumnElement[Any]]]:
    if "tag" not in by:
        return calls, [_COLUMNS[name] for name in by]
    tags = sqlite.elements(calls.c.tags)
    return calls.outerjoin(tags, true()), [tags.c.value if name == "tag" else _COLUMNS[name] for name in by]


def _since(statement: Select[Any], since: float) -> Select[Any]:
    return statement.where(calls.c.id >= first_id(since), calls.c.started_at >= int(since * 1e6))


def _sums() -> list[ColumnElement[Any]]:
    def count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    def total(column: Column[Any]) -> ColumnElement[Any]:
        return func.coalesce(func.sum(column), 0).label(column.name)

    return [
        func.count().label("calls"),
        count(calls.c.outcome.not_in(("ok", "client_closed"))).label("errors"),
        count(calls.c.cache.in_(("hit", "stale"))).label("hits"),
        total(calls.c.input_tokens),
        total(calls.c.output_tokens),
        total(calls.c.cost_pusd),
        total(calls.c.saved_pusd),
        count(calls.c.cost_source == "provider").label("priced"),
        count(calls.c.cost_source == "estimate").label("estimated"),
        count(calls.c.cost_source == "unknown").label("unpriced"),
    ]


def _percentiles(
    connection: Connection, source: FromClause, groups: list[ColumnElement[Any]], value: Column[Any], since: float
) -> dict[Key, tuple[float | None, float | None]]:
    """Find the smallest values that 50, and 95, of 100 of a group do not exceed (nearest rank), in seconds."""
    keys = [group.label(f"group{position}") for position, group in enumerate(groups)]
    ranked = _since(
        select(
            *keys,
            value.label("value"),
            func.row_number().over(partition_by=groups or None, order_by=value).label("place"),
            func.count().over(partition_by=groups or None).label("size"),
        )
        .select_from(source)
        .where(value.is_not(None)),
        since,
    ).subquery()
    found = [ranked.c[key.name] for key in keys]
    at = [func.min(case((ranked.c.place * 100 >= ranked.c.size * share, ranked.c.value))) for share in (50, 95)]
    rows = connection.execute(select(*found, *at).group_by(*found))
    return {tuple(row[: len(found)]): (_seconds(row[-2]), _seconds(row[-1])) for row in rows}


def _key(row: Row[Any], by: Sequence[str]) -> Key:
    return tuple(row[: len(by)])


def _line(
    by: Sequence[str], row: Row[Any], ends: tuple[float | None, float | None], firsts: tuple[float | None, float | None]
) -> UsageLine:
    return UsageLine(
        group={name: value or None for name, value in zip(by, row, strict=False)},
        calls=row.calls,
        errors=row.errors,
        hits=row.hits,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=to_usd(row.cost_pusd),
        saved_usd=to_usd(row.saved_pusd),
        priced=row.priced,
        estimated=row.estimated,
        unpriced=row.unpriced,
        p50_s=ends[0],
        p95_s=ends[1],
        first_token_s=firsts[0],
    )


def _recent(row: Row[Any]) -> RecentCall:
    return RecentCall(
        request_id=row.request_id,
        started_at=row.started_at / 1e6,
        tenant=row.tenant,
        operation=row.operation,
        model=row.model,
        provider=row.provider,
        provider_model=row.provider_model,
        outcome=row.outcome,
        cache=row.cache,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=None if row.cost_pusd is None else to_usd(row.cost_pusd),
        cost_source=row.cost_source,
        saved_usd=None if row.saved_pusd is None else to_usd(row.saved_pusd),
        first_token_s=_seconds(row.first_token_us),
        duration_s=row.duration_us / 1e6,
        attempts=row.attempts,
        tags=row.tags or [],
        metadata=row.metadata or {},
    )


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6
