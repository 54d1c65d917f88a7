"""Roll-ups: sums of calls by hour and by what they have in common, added up in the transaction of the calls' rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, select
from sqlalchemy.engine import Connection, Engine

from penstock.reporting.histogram import GROWTH
from penstock.stores.sql import sqlite
from penstock.stores.sql.tables import usage, usage_groups, usage_latencies
from penstock.stores.sql.tally import CallRow

HOUR_S = 3600
DAY_S = 86_400
DURATION, FIRST_TOKEN = 0, 1
OTHER = "(other)"
"""Stands for models, names and tags that a process met after `_MOST_GROUPS` others; clients choose them freely."""

_COUNTED = {"provider": 8, "time": 8, "estimate": 9, "unknown": 10}
"""Where among the totals calls are counted by how their cost was obtained."""
_MOST_GROUPS = 20_000
_MADE = "penstock.usage_groups"
_HOUR_US = HOUR_S * 1_000_000
PER_LOG = 1 / math.log(GROWTH)
TOTALS = 13
"""Columns of ``usage`` that are added up."""
_ROWS = 50
_decode = msgspec.json.Decoder(dict[str, str]).decode

Group = tuple[str, str, str, str, str, str, str, str, str]
"""The columns of ``usage_groups``: tenant, key, model, provider, operation, name, tags, cache, outcome."""
Sums = dict[tuple[int, Group], tuple[list[int], dict[int, int]]]
"""By hour and group: the columns of ``usage`` that are added up, and how many calls by twice the bucket plus kind."""


class Rollup:
    """`penstock.stores.sql.tally.Tally` for the tables that reports read.

    Takes a few microseconds a call: rows are added up in memory first, and one statement adds a batch's sums.
    """

    def __init__(self, engine: Engine, *, most_groups: int = _MOST_GROUPS) -> None:
        """Nothing is read yet.

        Args:
            engine: Tells how SQL is spelled.
            most_groups: How many groups are kept apart; calls of further ones are summed up under `OTHER`.
        """
        self._usage = sqlite.Insert(usage, engine, add=True, rows=_ROWS)
        self._latencies = sqlite.Insert(usage_latencies, engine, add=True, rows=_ROWS)
        columns = [column for column in usage_groups.columns if column.name != "id"]
        wanted = and_(*(column == bindparam(column.name) for column in columns))
        self._find = str(select(usage_groups.c.id).where(wanted).compile(engine))
        self._make = str(sqlite.if_new(usage_groups, [column.name for column in columns]).compile(engine))
        self._most_groups = most_groups
        self._ids: dict[Group, int] = {}

    def tally(self, connection: Connection, rows: Sequence[CallRow], /) -> None:
        """Add `rows` to the sums of their hours."""
        self.add(connection, sum_up(rows))

    def add(self, connection: Connection, sums: Sums) -> dict[tuple[int, Group], int]:
        """Add `sums` to those of their hours; return the numbers of their groups."""
        hours: list[tuple[Any, ...]] = []
        latencies: list[tuple[Any, ...]] = []
        ids: dict[Group, int] = {}
        placed: dict[tuple[int, Group], int] = {}
        for (start, group), (totals, times) in sums.items():
            ident = ids.get(group) or self._ids.get(group)
            if ident is None:
                ident = ids[group] = self._identify(connection, group)
            placed[start, group] = ident
            hours.append((HOUR_S, start, ident, *totals))
            latencies.extend([(start, ident, time & 1, time >> 1, count) for time, count in times.items()])
        hours.sort()
        latencies.sort()
        self._usage.run(connection, hours)
        self._latencies.run(connection, latencies)
        return placed

    def _identify(self, connection: Connection, group: Group) -> int:
        """Find or make a group. One that this transaction made is not remembered, for it may yet be undone."""
        if len(self._ids) >= self._most_groups:
            tenant, key_id, _, provider, operation, _, _, cache, outcome = group
            group = (tenant, key_id, OTHER, provider, operation, OTHER, f'["{OTHER}"]', cache, outcome)
            if group in self._ids:
                return self._ids[group]
        found = connection.exec_driver_sql(self._find, group).scalar()
        made = _made(connection)
        if found is None:
            connection.exec_driver_sql(self._make, group)
            found = connection.exec_driver_sql(self._find, group).scalar_one()
            made.add(found)
        elif found not in made:
            self._ids[group] = found
        return int(found)


def sum_up(rows: Sequence[CallRow]) -> Sums:
    """Add up `rows` by hour and group."""
    sums: Sums = {}
    log = math.log
    for row in rows:
        (started, tenant, key_id, model, provider, operation, cache, outcome, attempts, given, made, cached, cost,
         source, taken, first) = row[:16]  # fmt: skip
        metadata, tags = row.metadata, row.tags
        slot = (started // _HOUR_US * HOUR_S, (
            tenant, key_id or "", model, provider or "", operation, _name(metadata) if metadata else "", tags or "",
            cache, outcome,
        ))  # fmt: skip
        held = sums.get(slot)
        if held is None:
            held = sums[slot] = ([0] * TOTALS, {})
        totals, times = held
        totals[0] += 1
        totals[1] += attempts
        totals[2] += given or 0
        totals[3] += made or 0
        if cached:
            totals[4] += cached
        if row.saved_pusd:
            totals[7] += row.saved_pusd
        if source in _COUNTED:
            totals[_COUNTED[source]] += 1
        if cost:
            totals[5] += cost
            if source == "estimate":
                totals[6] += cost
        totals[11] += taken
        if attempts and row.context_before is not None:  # who joined another's call would have sent nothing
            totals[12] += row.context_before - (row.context_after or 0)
        time = int(log(taken) * PER_LOG) * 2 if taken > 1 else 0
        times[time] = times.get(time, 0) + 1
        if first is not None:
            time = int(log(first) * PER_LOG) * 2 + 1 if first > 1 else 1
            times[time] = times.get(time, 0) + 1
    return sums


def _made(connection: Connection) -> set[int]:
    """Return the ids of groups that the transaction of `connection` made, whoever had it do so."""
    transaction = connection.get_transaction()
    held: tuple[object, set[int]] | None = connection.info.get(_MADE)
    if held is None or held[0] is not transaction:
        held = connection.info[_MADE] = (transaction, set())
    return held[1]


def _name(metadata: str) -> str:
    return _decode(metadata).get("operation", "") if '"operation"' in metadata else ""
