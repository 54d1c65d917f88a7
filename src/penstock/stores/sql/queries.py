"""The SQL behind `reports`: sums of roll-ups, put together by what the lines are split by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Table, case, func, or_, select, true
from sqlalchemy.engine import Connection, Row

from penstock.core.call import CACHED
from penstock.core.errors import StoreError
from penstock.core.money import to_usd
from penstock.reporting import histogram
from penstock.reporting.figures import ErrorPattern, RecentCall, UsageLine, UsageSlot
from penstock.reporting.statistics import NO_ERRORS
from penstock.stores.sql import sqlite
from penstock.stores.sql.database import revision
from penstock.stores.sql.rollups import DAY_S, DURATION, HOUR_S
from penstock.stores.sql.tables import HEAD, calls, usage, usage_groups, usage_histograms, usage_latencies
from penstock.stores.sql.upkeep import UNSUMMED_FROM, UNSUMMED_UNTIL, mark

Key = tuple[str | None, ...]
Span = tuple[int, int]
"""From when, and until when, in epoch seconds, the latter excluded."""

PATTERNS = 20
"""How many error patterns are told apart."""
_SUMS = ("calls", "attempts", "input_tokens", "output_tokens", "cached_tokens", "cost_pusd", "estimated_pusd",
         "saved_pusd", "priced", "estimated", "unpriced", "duration_us", "cut_tokens")  # fmt: skip
_OVER_TIME = ("calls", "input_tokens", "output_tokens", "cost_pusd", "saved_pusd", "duration_us")
_COLUMNS = {"model": "model", "tenant": "tenant", "key": "key_id", "provider": "provider", "operation": "operation",
            "name": "name", "cache": "cache", "outcome": "outcome"}  # fmt: skip
_decode_tags = msgspec.json.Decoder(list[str]).decode


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
    except sqlite.ERRORS as error:
        raise sqlite.explain(error, path) from error
    finally:
        engine.dispose()


class Period:
    """The roll-ups of a period, read once, to be put together in several ways.

    Args:
        connection: Where.
        span: From when until when.
        tenant: Whose calls; those of a whole organisation by its name; None for everybody's.
        alone: Leave out the teams of an organisation of that name.
    """

    def __init__(self, connection: Connection, span: Span, tenant: str | None = None, *, alone: bool = False) -> None:
        self._connection = connection
        self._span = span
        self._mine = of_tenant(tenant, alone=alone)
        self._groups = self._read_groups()
        self._times = self._read_times()

    def lines(self, by: Sequence[str]) -> list[UsageLine]:
        """Sum up the calls, split by `by`, most calls first; one line without a split."""
        found: dict[Key, _Sum] = {} if by else {(): _Sum()}
        for row in self._groups:
            times = self._times.get(row.id, (0, 0))
            for key in _keys(row, by):
                held = found.get(key)
                if held is None:
                    held = found[key] = _Sum()
                held.add(row, times)
        made = [held.line(dict(zip(by, key, strict=True))) for key, held in found.items()]
        return sorted(made, key=lambda line: (-line.calls, str(line.group)))

    def errors(self) -> list[ErrorPattern]:
        """Return what failed alike: by outcome, model and provider; most calls first."""
        found: dict[tuple[str, str, str], list[int]] = {}
        for row in self._groups:
            if row.outcome not in NO_ERRORS:
                held = found.setdefault((row.outcome, row.model, row.provider), [0, row.first, row.last])
                held[:] = held[0] + row.calls, min(held[1], row.first), max(held[2], row.last)
        total = sum(held[0] for held in found.values())
        most = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))[:PATTERNS]
        return [
            ErrorPattern(outcome, model, provider or None, count, count / total, first, last)
            for (outcome, model, provider), (count, first, last) in most
        ]

    def slots(self, slot_s: int) -> list[UsageSlot]:
        """Sum up the calls by time."""

        def count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
            return func.sum(case((condition, usage.c.calls), else_=0))

        # In the order of the primary key, so that nothing has to be sorted.
        place = usage.c.span_s, usage.c.start
        group = usage_groups.c
        sums = [count(group.outcome.not_in(NO_ERRORS)), count(group.cache.in_(CACHED))]
        sums += [func.sum(usage.c[name]) for name in _OVER_TIME]
        wanted = self._within(usage, select(*place, *sums).join_from(usage, usage_groups)).where(self._mine)
        found: dict[int, list[int]] = {}
        for _, start, *values in self._connection.execute(wanted.group_by(*place).order_by(*place)):
            slot = start - start % slot_s
            held = found.get(slot)
            found[slot] = values if held is None else [old + new for old, new in zip(held, values, strict=True)]
        return [_slot(start, *found[start]) for start in sorted(found)]

    def _within(self, table: Table, wanted: Select[Any]) -> Select[Any]:
        since, until = self._span
        if table is usage:
            wanted = wanted.where(usage.c.span_s.in_((HOUR_S, DAY_S)))
        return wanted.where(table.c.start >= since, table.c.start < until)

    def _read_groups(self) -> Sequence[Row[Any]]:
        ends = func.min(usage.c.start).label("first"), func.max(usage.c.start).label("last")
        sums = self._within(usage, select(usage.c.group_id, *ends, *_sums())).group_by(usage.c.group_id).subquery()
        wanted = select(usage_groups, *(column for column in sums.columns if column.name != "group_id"))
        wanted = wanted.join_from(sums, usage_groups, usage_groups.c.id == sums.c.group_id).where(self._mine)
        return self._connection.execute(wanted).all()

    def _read_times(self) -> dict[int, tuple[histogram.Packed, histogram.Packed]]:
        """Add up how long calls took, by group: the durations, and the times to the first token."""
        counts: dict[tuple[int, int], dict[int, int]] = {}
        table = usage_latencies
        columns = table.c.group_id, table.c.kind, table.c.bucket
        hours = self._within(table, select(*columns, func.sum(table.c.calls))).group_by(*columns)
        for group, kind, number, count in self._connection.execute(hours):
            counts.setdefault((group, kind), {})[number] = count
        packed = {place: histogram.pack(each) for place, each in counts.items()}
        days = usage_histograms
        stored = self._within(days, select(days.c.group_id, days.c.kind, days.c.counts))
        for group, kind, data in self._connection.execute(stored):
            place = group, kind
            packed[place] = packed.get(place, 0) + histogram.from_bytes(data)
        found: dict[int, tuple[histogram.Packed, histogram.Packed]] = {}
        for (group, kind), each in packed.items():
            durations, firsts = found.get(group, (0, 0))
            found[group] = (each, firsts) if kind == DURATION else (durations, each)
        return found


class _Sum:
    """Sums of groups that make a line."""

    __slots__ = ("broken_off", "collapsed", "durations", "errors", "firsts", "hits", "saved_tokens", "sums")

    def __init__(self) -> None:
        self.sums = [0] * len(_SUMS)
        self.errors = self.broken_off = self.hits = self.collapsed = self.saved_tokens = 0
        self.durations: histogram.Packed = 0
        self.firsts: histogram.Packed = 0

    def add(self, row: Row[Any], times: tuple[histogram.Packed, histogram.Packed]) -> None:
        self.sums = [total + more for total, more in zip(self.sums, row[-len(_SUMS) :], strict=True)]
        if row.outcome == "client_closed":
            self.broken_off += row.calls
        elif row.outcome != "ok":
            self.errors += row.calls
        if row.cache in CACHED:
            self.hits += row.calls
            self.saved_tokens += row.input_tokens + row.output_tokens
        elif row.cache == "collapsed":
            self.collapsed += row.calls
        self.durations += times[0]
        self.firsts += times[1]

    def line(self, group: dict[str, str | None]) -> UsageLine:
        held = dict(zip(_SUMS, self.sums, strict=True))
        number, cost = held["calls"], to_usd(held["cost_pusd"])
        p50, p95, p99 = histogram.percentiles(self.durations, 50, 95, 99)
        known = number - held["unpriced"]
        return UsageLine(
            group=group,
            calls=number,
            errors=self.errors,
            broken_off=self.broken_off,
            hits=self.hits,
            collapsed=self.collapsed,
            attempts=held["attempts"],
            input_tokens=held["input_tokens"],
            output_tokens=held["output_tokens"],
            cached_tokens=held["cached_tokens"],
            saved_tokens=self.saved_tokens,
            cut_tokens=held["cut_tokens"],
            cost_usd=cost,
            estimated_usd=to_usd(held["estimated_pusd"]),
            saved_usd=to_usd(held["saved_pusd"]),
            priced=held["priced"],
            estimated=held["estimated"],
            unpriced=held["unpriced"],
            mean_s=held["duration_us"] / number / 1e6 if number else None,
            p50_s=p50,
            p95_s=p95,
            p99_s=p99,
            first_token_s=histogram.percentiles(self.firsts, 50)[0],
            success_rate=(number - self.errors - self.broken_off) / number if number else None,
            error_rate=self.errors / number if number else None,
            hit_rate=self.hits / number if number else None,
            cost_per_call_usd=round(cost / known, 12) if known else None,
        )


def _slot(  # noqa: PLR0913 - the columns of a row
    start: int, errors: int, hits: int, number: int, tokens_in: int, tokens_out: int, cost: int, saved: int, took: int
) -> UsageSlot:
    mean_s = took / number / 1e6
    return UsageSlot(start, number, errors, hits, tokens_in, tokens_out, to_usd(cost), to_usd(saved), mean_s)


def uncounted(connection: Connection) -> int:
    """Return how many calls of an older database the roll-ups do not have yet."""
    start, end = mark(connection, UNSUMMED_FROM), mark(connection, UNSUMMED_UNTIL)
    if start is None or end is None:
        return 0
    return connection.execute(select(func.count()).where(calls.c.id.between(start, end))).scalar_one()


def recent(connection: Connection, count: int, tenant: str | None = None, *, alone: bool = False) -> list[RecentCall]:
    """Return the newest calls, newest first."""
    wanted = select(calls).where(of_tenant(tenant, calls, alone=alone)).order_by(calls.c.id.desc()).limit(count)
    return [_recent(row) for row in connection.execute(wanted)]


def of_tenant(tenant: str | None, table: Table = usage_groups, *, alone: bool = False) -> ColumnElement[bool]:
    """Return the condition that a row is the tenant's or, unless `alone`, of a team of the organisation so named."""
    if tenant is None:
        return true()
    if alone:
        return table.c.tenant == tenant
    return or_(table.c.tenant == tenant, table.c.tenant.startswith(f"{tenant}/", autoescape=True))


def _sums() -> list[ColumnElement[Any]]:
    return [func.sum(usage.c[name]).label(name) for name in _SUMS]


def _keys(row: Row[Any], by: Sequence[str]) -> list[Key]:
    """Return the lines a group of calls belongs to: several when they are split by tag and have several."""
    tags: list[str | None] = [*(_decode_tags(row.tags) if row.tags else ())] or [None]
    return [tuple(_value(row, name, tag) for name in by) for tag in (tags if "tag" in by else tags[:1])]


def _value(row: Row[Any], name: str, tag: str | None) -> str | None:
    if name == "tag":
        return tag
    if name == "organisation":
        return str(row.tenant).partition("/")[0]
    return getattr(row, _COLUMNS[name]) or None


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
        first_token_s=None if row.first_token_us is None else row.first_token_us / 1e6,
        duration_s=row.duration_us / 1e6,
        attempts=row.attempts,
        tags=row.tags or [],
        metadata=row.metadata or {},
    )
