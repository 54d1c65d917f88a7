"""Roll-ups: sums of calls by hour and by what they have in common, added up in the transaction of the calls' rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, select
from sqlalchemy.engine import Connection, Engine

from penstock.reporting.histogram import GROWTH
from penstock.stores.sql import sqlite
from penstock.stores.sql.tables import usage, usage_groups, usage_latencies
from penstock.stores.sql.tally import USUAL, CallRow, CallValues

HOUR_S = 3600
DAY_S = 86_400
DURATION, FIRST_TOKEN = 0, 1
OTHER = "(other)"
"""Stands for models, names and tags that a process met after `_MOST_GROUPS` others; clients choose them freely."""

_COUNTED = {"provider": 8, "time": 8, "estimate": 9, "unknown": 10}
"""Where among the totals calls are counted by how their cost was obtained."""
_at = CallRow._fields.index
_SAME, _SUMMED = slice(_at("tenant"), _at("attempts")), slice(_at("attempts"), _at("id"))
_SAVED, _NAMED = _at("saved_pusd"), slice(_at("tags"), _at("semantic"))
_CONTEXT = slice(_at("context_before"), _at("stage"))
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

    def tally(self, connection: Connection, rows: Sequence[CallValues], /) -> None:
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


def sum_up(rows: Sequence[CallValues]) -> Sums:
    """Add up `rows` by hour and group."""
    alike: dict[tuple[int, CallValues, CallValues], list[CallValues]] = {}
    for row in rows:
        slot = row[0] // _HOUR_US, row[_SAME], row[_NAMED]
        same = alike.get(slot)
        if same is None:
            same = alike[slot] = []
        same.append(row)
    sums: Sums = {}
    for (hour, (tenant, key_id, model, provider, operation, cache, outcome), named), same in alike.items():
        tags, metadata = named or (None, None)
        group = (
            tenant, key_id or "", model, provider or "", operation, _name(metadata) if metadata else "", tags or "",
            cache, outcome,
        )  # fmt: skip
        totals, times = sums.setdefault((hour * HOUR_S, group), ([0] * TOTALS, {}))
        _add(list(zip(*same, strict=True)), totals, times)
    return sums


def _add(columns: Sequence[CallValues], totals: list[int], times: dict[int, int]) -> None:
    """Add calls to the sums of their hour and group, given all their values of each column of `CallRow`."""
    attempts, given, made, cached, costs, sources, taken, first = columns[_SUMMED]
    totals[0] += len(attempts)
    totals[1] += sum(attempts)
    totals[2] += sum(filter(None, given))
    totals[3] += sum(filter(None, made))
    totals[4] += sum(filter(None, cached))
    totals[5] += sum(filter(None, costs))
    for source, place in _COUNTED.items():
        totals[place] += sources.count(source)
    if "estimate" in sources:
        totals[6] += sum(cost for cost, source in zip(costs, sources, strict=True) if source == "estimate" and cost)
    totals[11] += sum(taken)
    if len(columns) > USUAL:
        totals[7] += sum(filter(None, columns[_SAVED]))
        # Who joined another's call would have sent nothing.
        totals[12] += sum(
            before - (after or 0)
            for tries, before, after in zip(attempts, *columns[_CONTEXT], strict=True)
            if tries and before is not None
        )
    log = math.log
    found = Counter([int(log(each) * PER_LOG) * 2 if each > 1 else 0 for each in taken])
    found.update([int(log(each) * PER_LOG) * 2 + 1 if each > 1 else 1 for each in first if each is not None])
    for time, count in found.items():
        times[time] = times.get(time, 0) + count


def _made(connection: Connection) -> set[int]:
    """Return the ids of groups that the transaction of `connection` made, whoever had it do so."""
    transaction = connection.get_transaction()
    held: tuple[object, set[int]] | None = connection.info.get(_MADE)
    if held is None or held[0] is not transaction:
        held = connection.info[_MADE] = (transaction, set())
    return held[1]


def _name(metadata: str) -> str:
    return _decode(metadata).get("operation", "") if '"operation"' in metadata else ""
