"""Reports on a period, for people and programs; read while a server writes, without disturbing it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ConfigError
from penstock.reporting import judging
from penstock.reporting.figures import GROUPS as GROUPS
from penstock.reporting.figures import RecentCall as RecentCall
from penstock.reporting.figures import UsageLine as UsageLine
from penstock.reporting.figures import UsageReport as UsageReport

_HOUR_S, _DAY_S = 3600, 86_400
_ALIASES = {"team": "tenant"}
_BY_THE_HOUR_S = 3 * _DAY_S
"""Periods up to this length are shown by the hour."""


def usage_report(
    url: str,
    *,
    days: float,
    by: Sequence[str] = (),
    recent: int = 0,
    tenant: str | None = None,
    alone: bool = False,
    until: float | None = None,
    clock: Clock | None = None,
) -> UsageReport:
    """Report on the last days, from sums that are kept by the hour, after three days by the day (UTC).

    Latencies are kept by the week after five weeks, so a longer period begins on a Monday.

    Args:
        url: The store's URL.
        days: How far back to look; the period is made longer, to the start of its first hour, day or week.
        by: What to split by, out of `GROUPS`; ``team`` means ``tenant``.
        recent: How many single calls to return.
        tenant: Whose calls; an organisation's name stands for all of its teams; None for everybody's.
        alone: Leave out the teams of an organisation of that name.
        until: The end of the period, seconds since the epoch, in whole hours; by default now.
        clock: Says when now is; by default the machine's.

    Raises:
        ConfigError: The URL cannot be used, there is no such file yet, or `by` names no group.
        StoreError: The file cannot be read.
    """
    by = tuple(_ALIASES.get(name, name) for name in by)
    for name in by:
        if name not in GROUPS:
            raise ConfigError(f"cannot split usage by {name!r}", key="by", expected=", ".join(GROUPS))
    path = file_of(url)
    from penstock.stores.sql import queries, upkeep  # noqa: PLC0415 - see `file_of`

    now = (clock or SystemClock()).wall()
    end = now if until is None else min(until, now)
    horizon = upkeep.horizon_at(now)

    def aligned(time: float) -> int:
        """Return the start of the hour, or of the day or week when its hours or days may not be there any more."""
        if time < upkeep.week_horizon_at(now):
            return upkeep.week_of(int(time))
        step = _HOUR_S if time >= horizon else _DAY_S
        return int(time // step) * step

    since = aligned(end - days * _DAY_S)
    before = aligned(since - (end - since))
    slot_s = _HOUR_S if end - since <= _BY_THE_HOUR_S and since >= horizon else _DAY_S
    with queries.reading(path) as connection:
        period = queries.Period(connection, (since, math.ceil(end)), tenant, alone=alone)
        total = period.lines(())[0]
        previous = queries.Period(connection, (before, since), tenant, alone=alone).lines(())[0]
        length, length_before = (end - since) / _DAY_S, (since - before) / _DAY_S
        return UsageReport(
            since=since,
            until=end,
            by=by,
            tenant=tenant,
            total=total,
            previous=previous,
            lines=period.lines(by) if by else [],
            slot_s=slot_s,
            slots=period.slots(slot_s),
            errors=period.errors(),
            trends=judging.trends(total, previous, days=length, days_before=length_before),
            ratings=judging.ratings(total),
            uncounted=queries.uncounted(connection),
            recent=queries.recent(connection, recent, tenant, alone=alone) if recent else [],
        )


def file_of(url: str) -> str:
    """Return the file of a store that is there.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
    """
    if url == "memory:":
        raise ConfigError("store.url is memory:, which keeps no record; set it to sqlite:///FILE", key="store.url")
    from penstock.stores.sql import sqlite  # noqa: PLC0415 - SQLAlchemy, which importing Penstock must not load

    path = sqlite.file_of(url)
    if not os.path.exists(path):
        raise ConfigError(f"there is no {path} yet; it is made by the first `penstock serve`", key="store.url")
    return path
