"""The ledger's calls out of a database and into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.engine import Connection, Engine

from penstock.stores.records import CallRecord, TryRecord, microseconds, moment, picodollars, usd_text
from penstock.stores.sql import sqlite
from penstock.stores.sql.hits import KEPT_TOTALS
from penstock.stores.sql.queries import of_tenant
from penstock.stores.sql.rollups import HOUR_S, TOTALS, Rollup
from penstock.stores.sql.tables import attempts, calls, first_id, hit_sums, usage_groups
from penstock.stores.sql.tally import USUAL, CallRow
from penstock.stores.sql.upkeep import KEPT_FROM, mark

_AT_A_TIME = 500
_SAME = tuple(
    name for name in CallRecord.__struct_fields__
    if name in calls.c and name not in ("started_at", "cache_key", "semantic_key", "tags", "metadata", "arms", "stream")
)  # fmt: skip
_TRY = tuple(name for name in TryRecord.__struct_fields__ if name in attempts.c)
_GROUP = tuple(column for column in usage_groups.c if column.name != "id")
_SUMMED = ("calls", "input_tokens", "output_tokens", "cached_tokens", "saved_pusd", "duration_us")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str]).decode


class Added(msgspec.Struct):
    """What came of an import.

    Attributes:
        added: Calls that were not there.
        known: Calls that were there, and were left as they are.
        too_old: Calls left out because those of their time may have been removed, and are counted in the sums.
    """

    added: int = 0
    known: int = 0
    too_old: int = 0


def records(connection: Connection, since: float = 0.0, tenant: str | None = None) -> Iterator[CallRecord]:
    """Read the calls since a time, seconds since the epoch, oldest first; then the sums of hits that have no row."""
    last = first_id(since) - 1
    wanted = select(calls).where(of_tenant(tenant, calls)).order_by(calls.c.id).limit(_AT_A_TIME)
    while rows := connection.execute(wanted.where(calls.c.id > last)).all():
        last = rows[-1].id
        tried = select(attempts).where(attempts.c.call_id.between(rows[0].id, last))
        found = connection.execute(tried.order_by(attempts.c.call_id, attempts.c.position))
        tries = {ident: list(group) for ident, group in groupby(found, lambda row: row.call_id)}
        for row in rows:
            yield _record(row, tries.get(row.id, []))
    sums = select(hit_sums, *_GROUP).join(usage_groups).where(of_tenant(tenant), hit_sums.c.id >= first_id(since))
    for row in connection.execution_options(yield_per=_AT_A_TIME).execute(sums.order_by(hit_sums.c.id)):
        yield _sum_record(row)


class Import:
    """Adds records to a database, in transactions of some hundred."""

    def __init__(self, engine: Engine) -> None:
        self._rollup = Rollup(engine)
        self._calls = sqlite.Insert(calls, engine, columns=CallRow._fields, usual=USUAL)
        self._attempts = sqlite.Insert(attempts, engine)
        self._hit_sums = sqlite.Insert(hit_sums, engine, replace=True)

    def add(self, connection: Connection, some: Sequence[CallRecord], before: Added) -> Added:
        """Add those of `some` that are not there, with their tries and to the sums; return `before` and these."""
        done = Added(before.added, before.known, before.too_old)
        kept_from = mark(connection, KEPT_FROM) or 0
        new = [record for record in some if record.id >= kept_from]
        done.too_old += sum(record.calls for record in some if record.id < kept_from)
        self._add_calls(connection, [record for record in new if not record.times], done)
        for record in new:
            if record.times:
                self._add_sum(connection, record, done)
        return done

    def _add_calls(self, connection: Connection, some: Sequence[CallRecord], done: Added) -> None:
        ids = {record.id for record in some}
        known = set(connection.execute(select(calls.c.id).where(calls.c.id.in_(ids))).scalars())
        rows: list[CallRow] = []
        tries: list[tuple[Any, ...]] = []
        for record in some:
            if record.id in known:
                done.known += 1
            else:
                known.add(record.id)
                done.added += 1
                rows.append(_row(record))
                tries += [(record.id, at, *_try_row(each)) for at, each in enumerate(record.tries)]
        self._calls.run(connection, rows)
        self._attempts.run(connection, tries)
        self._rollup.tally(connection, rows)

    def _add_sum(self, connection: Connection, record: CallRecord, done: Added) -> None:
        """Add what a sum of hits has that is not there: it may have grown since it was imported."""
        found = connection.execute(select(hit_sums).where(hit_sums.c.id == record.id)).one_or_none()
        before = [0] * len(_SUMMED) if found is None else [getattr(found, name) for name in _SUMMED]
        done.known += min(before[0], record.calls)
        if before[0] >= record.calls:
            return
        done.added += record.calls - before[0]
        sums = [record.calls, record.input_tokens or 0, record.output_tokens or 0, record.cached_tokens or 0,
                picodollars(record.saved_usd) or 0, record.duration_us]  # fmt: skip
        totals = [0] * TOTALS
        for at, old, now in zip(KEPT_TOTALS, before, sums, strict=True):
            totals[at] = now - old
        known = dict(found.times) if found is not None else {}
        times = {number * 2: count - known.get(number, 0) for number, count in record.times}
        start = microseconds(record.started_at) // 1_000_000 // HOUR_S * HOUR_S
        tags = _encode(record.tags).decode() if record.tags else ""
        group = (record.tenant, record.key_id or "", record.model, "", record.operation,
                 record.metadata.get("operation", ""), tags, record.cache, record.outcome)  # fmt: skip
        placed = self._rollup.add(connection, {(start, group): (totals, times)})
        self._hit_sums.run(
            connection, [(record.id, start, placed[start, group], *sums, _encode(sorted(record.times)).decode())]
        )


def _sum_record(row: Row[Any]) -> CallRecord:
    return CallRecord(
        id=row.id,
        request_id="",
        started_at=moment(row.start * 1_000_000),
        tenant=row.tenant,
        operation=row.operation,
        model=row.model,
        outcome=row.outcome,
        duration_us=row.duration_us,
        cache=row.cache,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        cost_usd="0",
        saved_usd=usd_text(row.saved_pusd),
        tags=_decode(row.tags) if row.tags else [],
        metadata={"operation": row.name} if row.name else {},
        key_id=row.key_id or None,
        calls=row.calls,
        times=[(number, count) for number, count in row.times],
    )


def _record(row: Row[Any], tries: Sequence[Row[Any]]) -> CallRecord:
    same = {name: getattr(row, name) for name in _SAME}
    return CallRecord(
        **same,
        started_at=moment(row.started_at),
        stream=bool(row.stream),
        cost_usd=usd_text(row.cost_pusd),
        saved_usd=usd_text(row.saved_pusd),
        tags=row.tags or [],
        metadata=row.metadata or {},
        arms=row.arms or {},
        cache_key=_hex(row.cache_key),
        semantic_key=_hex(row.semantic_key),
        tries=[
            TryRecord(**{name: getattr(each, name) for name in _TRY}, cost_usd=usd_text(each.cost_pusd))
            for each in tries
        ],
    )


def _row(record: CallRecord) -> CallRow:
    same = {name: getattr(record, name) for name in _SAME}
    return CallRow(
        **same,
        started_at=microseconds(record.started_at),
        stream=record.stream,
        cost_pusd=picodollars(record.cost_usd),
        saved_pusd=picodollars(record.saved_usd),
        attempts=len(record.tries),
        tags=_encode(record.tags).decode() if record.tags else None,
        metadata=_encode(record.metadata).decode() if record.metadata else None,
        arms=_encode(record.arms).decode() if record.arms else None,
        cache_key=_unhex(record.cache_key),
        semantic_key=_unhex(record.semantic_key),
    )


def _try_row(each: TryRecord) -> tuple[Any, ...]:
    names = [column.name for column in attempts.columns if column.name not in ("call_id", "position")]
    cost = picodollars(each.cost_usd)
    return tuple(cost if name == "cost_pusd" else getattr(each, name) for name in names)


def _hex(key: bytes | None) -> str | None:
    return None if key is None else key.hex()


def _unhex(key: str | None) -> bytes | None:
    return None if key is None else bytes.fromhex(key)
