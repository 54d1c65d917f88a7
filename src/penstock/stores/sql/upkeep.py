"""Upkeep of the ledger: roll-ups of older databases, days out of hours, and an end for old rows; in small steps.

Each step is one transaction of a few milliseconds among those of the writer's thread, so nobody waits for it. It leaves
everything consistent, so it may be the last for a while.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.engine import Connection, Engine

from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.reporting import histogram
from penstock.stores.sql import scores, sqlite
from penstock.stores.sql.database import Database
from penstock.stores.sql.rollups import DAY_S, HOUR_S, Rollup
from penstock.stores.sql.tables import calls, first_id, hit_sums, marks, usage, usage_histograms, usage_latencies
from penstock.stores.sql.tally import CallRow

_log = logging.getLogger("penstock.stores")

HOURLY_DAYS = 3
"""How many whole days are kept by the hour before they are summed up by the day."""
DAILY_DAYS = 35
"""How many days' latencies are kept by the day before they are summed up by the week, which begins on Monday."""
UNSUMMED_FROM, UNSUMMED_UNTIL = "unsummed_from", "unsummed_until"
"""Marks: ids between which no roll-up counts the calls yet."""
KEPT_FROM = "kept_from"
"""Mark: rows of calls with smaller ids may have been removed."""
_DONE = "upkeep"
"""Mark: when upkeep was last done."""
WEEK_S = 7 * DAY_S
_MONDAY = 4 * DAY_S
"""The first of all Mondays: the epoch began on a Thursday."""
_SUMMED_ROWS = 1000
_FOLDED_GROUPS = 50
_EXPIRED_ROWS = 500
_EVERY_S = 6 * 3600.0
_PAUSE_S = 0.05

Step = Callable[[Connection], int]


class Kept(msgspec.Struct):
    """What upkeep did.

    Attributes:
        summed: Calls of an older database that were added to the roll-ups.
        folded: Sums that became part of a day's or a week's.
        removed: Calls, and sums of hits, that were removed because they were old; the roll-ups stay.
    """

    summed: int = 0
    folded: int = 0
    removed: int = 0


class Upkeep:
    """What keeps a year queryable and the file small.

    Args:
        database: Where.
        clock: Says how old something is.
        days: How long rows of calls and attempts are kept; None for ever.
    """

    def __init__(self, database: Database, clock: Clock, days: float | None) -> None:
        self._database = database
        self._clock = clock
        self._days = days

    async def run(self) -> None:
        """Do what is due every six hours, once for all processes that share the database, for ever."""
        while True:
            try:
                if await self._database.execute(lambda connection: claim(connection, _DONE, self._slot())):
                    await self.once(pause_s=_PAUSE_S)
                elif await self._database.execute(lambda connection: mark(connection, UNSUMMED_FROM)) is not None:
                    await self.sum_up(pause_s=_PAUSE_S)  # whoever began has perhaps ended
            except StoreError as error:
                _log.warning("the ledger's upkeep is put off: %s", error.message)
            await self._clock.sleep(_EVERY_S)

    async def once(self, *, pause_s: float = 0.0, progress: Callable[[Kept], None] = lambda _: None) -> Kept:
        """Do all that is due.

        Args:
            pause_s: Seconds to leave the database to others between two steps.
            progress: Told what has been done so far, after each step.

        Raises:
            StoreError: The store is not open or cannot be written; what was done so far stays done.
        """
        now = self._clock.wall()
        done = await self.sum_up(pause_s=pause_s, progress=progress)
        horizon, weeks = horizon_at(now), week_horizon_at(now)
        fold = Fold(self._database.engine)
        while step := await self._database.execute(lambda connection: fold.step(connection, horizon)):
            done.folded += step
            progress(done)
            await self._clock.sleep(pause_s)
        while step := await self._database.execute(lambda connection: fold.step_weeks(connection, weeks)):
            done.folded += step
            progress(done)
            await self._clock.sleep(pause_s)
        if self._days is not None:
            limit = first_id(now - self._days * DAY_S)
            while step := await self._database.execute(lambda connection: expire(connection, limit)):
                done.removed += step
                progress(done)
                await self._clock.sleep(pause_s)
            posted = now - self._days * DAY_S
            while await self._database.execute(lambda connection: scores.expire(connection, posted)):
                await self._clock.sleep(pause_s)
        return done

    async def sum_up(self, *, pause_s: float = 0.0, progress: Callable[[Kept], None] = lambda _: None) -> Kept:
        """Add the calls of an older database to the roll-ups.

        Raises:
            StoreError: The store is not open or cannot be written; what was done so far stays done.
        """
        done, rollup = Kept(), Rollup(self._database.engine)
        while step := await self._database.execute(lambda connection: sum_missing(connection, rollup)):
            done.summed += step
            progress(done)
            await self._clock.sleep(pause_s)
        return done

    def _slot(self) -> int:
        return int(self._clock.wall() // _EVERY_S * _EVERY_S)


def horizon_at(now: float) -> int:
    """Return when the hours begin that are not summed up by the day, if upkeep is done at `now`; epoch seconds."""
    return int(now // DAY_S - HOURLY_DAYS) * DAY_S


def week_horizon_at(now: float) -> int:
    """Return when the days begin whose latencies are not summed up by the week, if upkeep is done at `now`."""
    return week_of(int(now) - DAILY_DAYS * DAY_S)


def week_of(time: int) -> int:
    """Return when the week began, on Monday at midnight (UTC)."""
    return time - (time - _MONDAY) % WEEK_S


def mark(connection: Connection, name: str) -> int | None:
    """Return a mark's value; None when it is not set."""
    return connection.execute(select(marks.c.value).where(marks.c.name == name)).scalar()


def set_mark(connection: Connection, name: str, value: int) -> None:
    """Set a mark."""
    connection.execute(sqlite.replacing(marks), {"name": name, "value": value})


def claim(connection: Connection, name: str, due: int) -> bool:
    """Return whether what is `due` (epoch seconds) is still to be done, and note that it is being done now."""
    found = mark(connection, name)
    if found is not None and found >= due:
        return False
    set_mark(connection, name, due)
    return True


def sum_missing(connection: Connection, rollup: Rollup) -> int:
    """Add some of the calls to the roll-ups that were written before there were any; return how many."""
    start, end = mark(connection, UNSUMMED_FROM), mark(connection, UNSUMMED_UNTIL)
    if start is None or end is None:
        return 0
    columns = [calls.c[name] for name in CallRow._fields]
    wanted = select(*columns).where(calls.c.id.between(start, end)).order_by(calls.c.id).limit(_SUMMED_ROWS)
    statement = str(wanted.compile(connection, compile_kwargs={"literal_binds": True}))
    rows = [CallRow._make(row) for row in connection.exec_driver_sql(statement)]
    rollup.tally(connection, rows)
    if len(rows) < _SUMMED_ROWS:
        connection.execute(delete(marks).where(marks.c.name.in_((UNSUMMED_FROM, UNSUMMED_UNTIL))))
    else:
        set_mark(connection, UNSUMMED_FROM, rows[-1].id + 1)
    return len(rows)


class Fold:
    """Turns old hours into days; made once, because compiling its statements takes longer than a step."""

    def __init__(self, engine: Engine) -> None:
        self._days = sqlite.Insert(usage, engine, add=True, rows=_FOLDED_GROUPS)
        self._histograms = sqlite.Insert(usage_histograms, engine, replace=True, rows=_FOLDED_GROUPS)

    def step(self, connection: Connection, horizon: int) -> int:
        """Sum up by the day some of the hours before `horizon` (epoch seconds); return how many sums went into it."""
        old = select(func.min(usage.c.start)).where(usage.c.span_s == HOUR_S, usage.c.start < horizon)
        first = connection.execute(old).scalar()
        if first is None:
            return 0
        day = first // DAY_S * DAY_S
        hours = list(range(day, day + DAY_S, HOUR_S))
        wanted = select(usage.c.group_id).where(usage.c.span_s == HOUR_S, usage.c.start.in_(hours)).distinct()
        groups = list(connection.execute(wanted.order_by(usage.c.group_id).limit(_FOLDED_GROUPS)).scalars())
        here = (usage.c.span_s == HOUR_S, usage.c.start.in_(hours), usage.c.group_id.in_(groups))
        sums = [func.sum(column) for column in usage.columns if not column.primary_key]
        rows = connection.execute(select(usage.c.group_id, *sums).where(*here).group_by(usage.c.group_id)).all()
        self._days.run(connection, [(DAY_S, day, *row) for row in rows])
        self._fold_latencies(connection, day, hours, groups)
        return connection.execute(delete(usage).where(*here)).rowcount

    def step_weeks(self, connection: Connection, horizon: int) -> int:
        """Sum up by the week some of the days' latencies before `horizon`, a Monday; return how many went into it."""
        days, after = usage_histograms, -1
        while True:
            next_one = select(func.min(days.c.start)).where(days.c.start > after, days.c.start < horizon)
            first = connection.execute(next_one).scalar()
            if first is None:
                return 0
            if first != week_of(first):
                break
            after = first
        week = week_of(first)
        rest = list(range(week + DAY_S, week + WEEK_S, DAY_S))
        wanted = select(days.c.group_id).where(days.c.start.in_(rest)).distinct().order_by(days.c.group_id)
        groups = list(connection.execute(wanted.limit(_FOLDED_GROUPS)).scalars())
        here = (days.c.start.in_(rest), days.c.group_id.in_(groups))
        packed: dict[tuple[int, int], histogram.Packed] = defaultdict(int)
        for group, kind, stored in connection.execute(select(days.c.group_id, days.c.kind, days.c.counts).where(*here)):
            packed[group, kind] += histogram.from_bytes(stored)
        self._add_histograms(connection, week, groups, packed)
        return connection.execute(delete(days).where(*here)).rowcount

    def _fold_latencies(self, connection: Connection, day: int, hours: list[int], groups: list[int]) -> None:
        table = usage_latencies
        here = (table.c.start.in_(hours), table.c.group_id.in_(groups))
        found: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        for _, group, kind, number, count in connection.execute(select(table).where(*here)):
            counts = found[group, kind]
            counts[number] = counts.get(number, 0) + count
        packed = {place: histogram.pack(counts) for place, counts in found.items()}
        self._add_histograms(connection, day, groups, packed)
        connection.execute(delete(table).where(*here))

    def _add_histograms(
        self, connection: Connection, start: int, groups: list[int], packed: dict[tuple[int, int], histogram.Packed]
    ) -> None:
        table = usage_histograms
        known = select(table.c.group_id, table.c.kind, table.c.counts)
        for group, kind, stored in connection.execute(
            known.where(table.c.start == start, table.c.group_id.in_(groups))
        ):
            packed[group, kind] = packed.get((group, kind), 0) + histogram.from_bytes(stored)
        rows = [(start, group, kind, histogram.to_bytes(counts)) for (group, kind), counts in packed.items()]
        self._histograms.run(connection, rows)


def expire(connection: Connection, limit: int) -> int:
    """Remove some of the calls whose ids are below `limit`, and their attempts, and of the sums of hits; how many."""
    if mark(connection, UNSUMMED_FROM) is not None:
        return 0
    oldest = select(calls.c.id).where(calls.c.id < limit).order_by(calls.c.id).limit(_EXPIRED_ROWS)
    ids = list(connection.execute(oldest).scalars())
    end = ids[-1] + 1 if ids else limit
    connection.execute(delete(calls).where(calls.c.id < end))
    sums = connection.execute(delete(hit_sums).where(hit_sums.c.id < end)).rowcount
    if ids or sums:
        set_mark(connection, KEPT_FROM, max(end, mark(connection, KEPT_FROM) or 0))
    return len(ids) + sums
