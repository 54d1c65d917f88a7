"""What is done with the ledger beside writing and reporting: upkeep, statistics, and what is done once for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, case, func, insert, select, true
from sqlalchemy.engine import Connection

from penstock.core.call import CACHED
from penstock.core.clock import Clock
from penstock.reporting.statistics import COLLAPSED, NO_ERRORS, Statistics, Totals, figures
from penstock.stores.sql import upkeep
from penstock.stores.sql.account_tables import statistics_resets
from penstock.stores.sql.database import Database
from penstock.stores.sql.queries import of_tenant
from penstock.stores.sql.tables import usage, usage_groups


class SqlBooks:
    """`penstock.stores.opening.Books` in a database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def keep(self, days: float | None) -> None:
        """Do the upkeep that is due, and go on so for ever; rows of calls are kept for `days`, None for ever."""
        await upkeep.Upkeep(self._database, self._clock, days).run()

    async def maintain(self, days: float | None, progress: Callable[[upkeep.Kept], None]) -> upkeep.Kept:
        """Do all upkeep that is due now, as fast as it goes.

        Raises:
            StoreError: The store cannot be written; what was done so far stays done.
        """
        return await upkeep.Upkeep(self._database, self._clock, days).once(progress=progress)

    async def claim(self, name: str, due: int) -> bool:
        """Return whether what is `due` (epoch seconds) is still to be done; of all who ask, one is told so.

        Raises:
            StoreError: The store cannot be written.
        """
        return await self._database.execute(lambda connection: upkeep.claim(connection, name, due))

    async def claimed(self, name: str) -> int | None:
        """Return what was claimed last; None when nothing was.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._database.read(lambda connection: upkeep.mark(connection, name))

    async def statistics(self, tenant: str | None = None, *, alone: bool = False) -> Statistics:
        """Count everything, up to the calls that ended just now.

        Args:
            tenant: Whose; those of a whole organisation by its name; None for everybody's.
            alone: Leave out the teams of an organisation of that name.

        Raises:
            StoreError: The store cannot be read or written.
        """
        await self._database.flush()
        return await self._database.read(lambda connection: statistics(connection, tenant, alone=alone))

    async def reset_statistics(self, tenant: str | None = None, by: str | None = None) -> Statistics:
        """Let `since_reset` begin now; return what had been counted until then.

        Args:
            tenant: Whose statistics; None for those of all together.
            by: Who did it, for the record.

        Raises:
            StoreError: The store cannot be written.
        """
        await self._database.flush()
        return await self._database.execute(lambda connection: self._reset(connection, tenant, by))

    def _reset(self, connection: Connection, tenant: str | None, by: str | None) -> Statistics:
        before = statistics(connection, tenant)
        counted = msgspec.to_builtins(totals(connection, tenant)[0])
        at = int(self._clock.wall() * 1e6)
        connection.execute(insert(statistics_resets), {"at": at, "tenant": tenant, "by": by, "totals": counted})
        return before


def statistics(connection: Connection, tenant: str | None, *, alone: bool = False) -> Statistics:
    """Count everything, and what came since the last reset."""
    counted, since = totals(connection, tenant, alone=alone)
    last = connection.execute(
        select(statistics_resets.c.at, statistics_resets.c.totals)
        .where(statistics_resets.c.tenant.is_(None) if tenant is None else statistics_resets.c.tenant == tenant)
        .order_by(statistics_resets.c.id.desc())
        .limit(1)
    ).first()
    start = figures(counted, since)
    if last is None or alone:  # a reset counts the teams, too
        return Statistics(start, start)
    return Statistics(start, figures(counted.minus(msgspec.convert(last.totals, Totals)), last.at / 1e6))


def totals(connection: Connection, tenant: str | None, *, alone: bool = False) -> tuple[Totals, float | None]:
    """Add up all roll-ups; also say when the first of them begins."""

    def count(condition: ColumnElement[bool], *values: ColumnElement[Any]) -> ColumnElement[Any]:
        value = sum(values[1:], values[0]) if values else usage.c.calls
        return func.coalesce(func.sum(case((condition, value), else_=0)), 0)

    group = usage_groups.c
    hit = group.cache.in_(CACHED)
    found = {
        "calls": count(true()),
        "errors": count(group.outcome.not_in(NO_ERRORS)),
        "hits": count(hit),
        "collapsed": count(group.cache == COLLAPSED),
        "attempts": count(true(), usage.c.attempts),
        "input_tokens": count(true(), usage.c.input_tokens),
        "output_tokens": count(true(), usage.c.output_tokens),
        "saved_tokens": count(hit, usage.c.input_tokens, usage.c.output_tokens),
        "cost_pusd": count(true(), usage.c.cost_pusd),
        "saved_pusd": count(true(), usage.c.saved_pusd),
        "duration_us": count(true(), usage.c.duration_us),
    }
    wanted = select(func.min(usage.c.start).label("since"), *(value.label(name) for name, value in found.items()))
    wanted = wanted.join_from(usage, usage_groups).where(of_tenant(tenant, alone=alone))
    row = connection.execute(wanted).one()
    return Totals(**{name: getattr(row, name) for name in found}), row.since
