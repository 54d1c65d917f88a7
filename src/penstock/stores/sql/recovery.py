"""What an ended process left in the spool is put into the database by the next one that begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import islice

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from penstock.core.call import Attempt, CostSource
from penstock.core.errors import StoreError
from penstock.core.usage import Usage
from penstock.stores.failpoints import failpoint
from penstock.stores.sql.database import Database
from penstock.stores.sql.entry import Entry, Fields
from penstock.stores.sql.spool import Leftover, Spool
from penstock.stores.sql.tables import calls

INTERRUPTED = "interrupted"
"""Outcome of a call, and of an attempt, whose process ended before it did."""
_BATCH = 1000
_LOOKED_AT = 5000
"""Newest calls in which a model's usual output is looked for."""
_UNKNOWN_OUTPUT = 256

Price = Callable[[str, str, Usage], tuple[Decimal | None, CostSource]]
"""Prices the tokens a provider (by name) used with a model."""
InsertEntries = Callable[[Connection, Sequence[Fields]], None]

_log = logging.getLogger("penstock.stores")
_replace = msgspec.structs.replace


class Recovered(msgspec.Struct):
    """How many calls a process found in the spool that were not in the database.

    Attributes:
        settled: Ended ones; their rows are what they would have been.
        interrupted: Running ones; their rows have estimates.
    """

    settled: int = 0
    interrupted: int = 0


class Recovery:
    """Inserts what leftovers have and the database has not, by row id, in the writer's transactions.

    A leftover is removed when all of it is committed, so nothing is lost or counted twice wherever this is killed.
    """

    lasting = False

    def __init__(self, database: Database, spool: Spool, insert: InsertEntries, price: Price | None) -> None:
        self.recovered = Recovered()
        self._database = database
        self._spool = spool
        self._insert = insert
        self._price = price
        self._usual: dict[str, int] = {}
        self._new: list[Entry] = []

    async def run(self) -> None:
        """Recover everything there is; what other processes recover at the same time is left to them.

        Raises:
            StoreError: The database cannot be written, or another version wrote to the spool.
        """
        for leftover in self._spool.leftovers():
            try:
                entries = leftover.entries()
                while batch := await asyncio.to_thread(_some, entries):
                    for entry in batch:
                        self._database.writer.put(self, entry, beyond=True)
                    await self._database.flush()
                self._finish(leftover)
            except OSError as error:
                raise StoreError(f"{self._spool.root} cannot be read: {error}") from error
            finally:
                leftover.close()
        found = self.recovered
        if found.settled or found.interrupted:
            _log.warning(
                "recovered from a process that was killed: %d calls that had ended, and %d that were running, which "
                "are in the ledger as %s with estimated tokens and cost",
                found.settled, found.interrupted, INTERRUPTED,
            )  # fmt: skip

    @failpoint("recovery-insert")
    def write(self, connection: Connection, items: Sequence[Entry]) -> None:
        """Write in the writer's thread."""
        idents = [entry.id for entry in items]
        known = set(connection.execute(select(calls.c.id).where(calls.c.id.in_(idents))).scalars())
        self._new = [
            entry if entry.outcome else self._interrupted(connection, entry) for entry in items if entry.id not in known
        ]
        self._insert(connection, [msgspec.structs.astuple(entry) for entry in self._new])

    def settled(self, items: Sequence[Entry], error: StoreError | None) -> None:
        """Count; the writer counts what is lost."""
        if error is None:
            interrupted = sum(entry.outcome == INTERRUPTED for entry in self._new)
            self.recovered.interrupted += interrupted
            self.recovered.settled += len(self._new) - interrupted

    def _finish(self, leftover: Leftover) -> None:
        for path in leftover.remove():
            _log.error("%s is damaged; what could be read is in the ledger, the rest may be lost", path)

    def _interrupted(self, connection: Connection, entry: Entry) -> Entry:
        """Close a call that was running with what it has probably cost."""
        sent = entry.expected.input_tokens if entry.expected else 0
        usage = Usage(sent, self._output(connection, entry), source="estimate")
        attempts = [self._interrupt(attempt, usage) if attempt.running else attempt for attempt in entry.attempts]
        return _replace(entry, outcome=INTERRUPTED, usage=usage, attempts=attempts)

    def _interrupt(self, attempt: Attempt, usage: Usage) -> Attempt:
        cost: tuple[Decimal | None, CostSource] = (None, "unknown")
        if self._price is not None:
            cost = self._price(attempt.provider, attempt.model, usage)
        return _replace(attempt, running=False, outcome=INTERRUPTED, usage=usage, cost_usd=cost[0], cost_source=cost[1])

    def _output(self, connection: Connection, entry: Entry) -> int:
        """Output tokens that are usual for the model, or as many as the request allows."""
        most = _UNKNOWN_OUTPUT * 1000 if entry.most_output is None else entry.most_output
        if not most:
            return 0
        if entry.model not in self._usual:
            columns = (calls.c.model, calls.c.outcome, calls.c.output_tokens)
            newest = select(*columns).order_by(calls.c.id.desc()).limit(_LOOKED_AT).subquery()
            mine = (newest.c.model == entry.model, newest.c.outcome == "ok")
            mean = connection.execute(select(func.avg(newest.c.output_tokens)).where(*mine)).scalar()
            self._usual[entry.model] = _UNKNOWN_OUTPUT if mean is None else round(mean)
        return min(self._usual[entry.model], most)


@failpoint("recovery-read")
def _some(entries: Iterator[Entry]) -> list[Entry]:
    return list(islice(entries, _BATCH))
