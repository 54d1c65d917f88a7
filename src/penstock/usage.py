"""The ledger's books for programs: reports, statistics, upkeep, import and export, of a store that may be in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.core.clock import SystemClock
from penstock.reporting.figures import GROUPS as GROUPS
from penstock.reporting.figures import ErrorPattern as ErrorPattern
from penstock.reporting.figures import Rating as Rating
from penstock.reporting.figures import RecentCall as RecentCall
from penstock.reporting.figures import Trend as Trend
from penstock.reporting.figures import UsageLine as UsageLine
from penstock.reporting.figures import UsageReport as UsageReport
from penstock.reporting.figures import UsageSlot as UsageSlot
from penstock.reporting.formats import FORMATS as FORMATS
from penstock.reporting.statistics import Figures as Figures
from penstock.reporting.statistics import Polling as Polling
from penstock.reporting.statistics import Statistics as Statistics
from penstock.stores import record_files as record_files
from penstock.stores.opening import MEMORY as MEMORY
from penstock.stores.opening import Books as Books
from penstock.stores.records import CallRecord as CallRecord
from penstock.stores.sql.billing import booked as booked
from penstock.stores.sql.reports import file_of
from penstock.stores.sql.reports import usage_report as usage_report

if TYPE_CHECKING:
    from penstock.stores.sql.database import Database
    from penstock.stores.sql.transfer import Added
    from penstock.stores.sql.upkeep import Kept

T = TypeVar("T")
_AT_A_TIME = 500


def usage_records(url: str, *, since: float = 0.0, tenant: str | None = None) -> Iterator[CallRecord]:
    """Read the calls of a store, oldest first.

    Args:
        url: The store's URL.
        since: From when on, seconds since the epoch.
        tenant: Whose; an organisation's name stands for all of its teams; None for everybody's.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
        StoreError: The file cannot be read.
    """
    path = file_of(url)
    from penstock.stores.sql import queries, transfer  # noqa: PLC0415 - SQLAlchemy, which not every command needs

    with queries.reading(path) as connection:
        yield from transfer.records(connection, since, tenant)


def usage_import(url: str, records: Iterable[CallRecord], progress: Callable[[Added], None] = lambda _: None) -> Added:
    """Add calls to a store; those that are there stay as they are. A store that is not there is made.

    Args:
        url: The store's URL.
        records: The calls, in any order.
        progress: Told what has been done so far, some times.

    Raises:
        ConfigError: The URL cannot be used, or a record is none.
        StoreError: The store cannot be written; what was added so far stays.
    """
    from penstock.stores.sql.transfer import Added, Import  # noqa: PLC0415 - as above
    from penstock.stores.sql.upkeep import Upkeep  # noqa: PLC0415 - as above

    async def work(database: Database) -> Added:
        await Upkeep(database, SystemClock(), None).sum_up()  # else a call might be summed up a second time
        done, adding, left = Added(), Import(database.engine), iter(records)
        while some := list(islice(left, _AT_A_TIME)):
            done = await database.execute(partial(adding.add, some=some, before=done))
            progress(done)
        return done

    return _with(url, work)


def usage_maintain(url: str, days: float | None, progress: Callable[[Kept], None] = lambda _: None) -> Kept:
    """Do now what a server does every six hours: sum up, by day and week, and remove old calls.

    Args:
        url: The store's URL.
        days: How old calls may be; None for any age.
        progress: Told what has been done so far, some times.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
        StoreError: The store cannot be written; what was done so far stays done.
    """
    file_of(url)
    from penstock.stores.sql.upkeep import Upkeep  # noqa: PLC0415 - as above

    async def work(database: Database) -> Kept:
        return await Upkeep(database, SystemClock(), days).once(progress=progress)

    return _with(url, work)


def usage_statistics(url: str, *, tenant: str | None = None, reset: bool = False, by: str | None = None) -> Statistics:
    """Return the ledger's statistics.

    Args:
        url: The store's URL.
        tenant: Whose; an organisation's name stands for all of its teams; None for everybody's.
        reset: Let `since_reset` begin now; what is returned is what had been counted until then.
        by: Who resets them, for the record.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
        StoreError: The store cannot be read, or written.
    """
    file_of(url)
    from penstock.stores.sql.books import SqlBooks  # noqa: PLC0415 - as above

    async def work(database: Database) -> Statistics:
        books = SqlBooks(database, SystemClock())
        return await (books.reset_statistics(tenant, by) if reset else books.statistics(tenant))

    return _with(url, work)


def _with(url: str, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    from penstock.stores.sql.database import Database  # noqa: PLC0415 - as above

    async def run() -> T:
        database = Database(url, SystemClock())
        await database.start()
        try:
            return await work(database)
        finally:
            await database.aclose()

    return asyncio.run(run())
