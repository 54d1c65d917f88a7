"""The ledger: a row an answer, a row a try.

    reserve ──► spool           an attempt is about to be sent
    record ───► spool ──► queue ──► the writer's thread makes rows, inserts them and what follows from them

What is in the spool and not in the database when a process begins is put there by it, see `Recovery`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import Connection

from penstock.core.call import Attempt, Call
from penstock.core.errors import StoreError
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.failpoints import failpoint
from penstock.stores.sql.database import Database
from penstock.stores.sql.entry import Fields, begun, ended
from penstock.stores.sql.hits import CACHE, OUTCOME, Hits
from penstock.stores.sql.ids import SUMS, Ids
from penstock.stores.sql.recovery import Price, Recovered, Recovery
from penstock.stores.sql.rollups import Rollup
from penstock.stores.sql.rows import rows_of
from penstock.stores.sql.spool import Segment, Spool
from penstock.stores.sql.sqlite import Insert
from penstock.stores.sql.tables import attempts, calls
from penstock.stores.sql.tally import USUAL, CallRow, CallValues, Tally

_log = logging.getLogger("penstock.stores")
_CHUNK = 100
"""Rows made and inserted at a time, so that the interpreter is never held for long."""
_RETRY_AFTER_S = 5.0

_Item = tuple[Fields, Segment | None]
"""A call that ended, and the segment of the spool that has it, if it had to be there."""


class SqlLedger:
    """`penstock.abc.Ledger` in a database; a duplicate `Call.id` is another row, never a lost one.

    Attributes:
        recovered: What this process found in the spool when it began.
    """

    lasting = True

    def __init__(
        self,
        database: Database,
        rollup: Rollup,
        tallies: Sequence[Tally] = (),
        price: Price | None = None,
        hit_rows_per_s: float | None = None,
    ) -> None:
        """Started and closed with `database`.

        Args:
            database: Where.
            rollup: Has the sums of all calls, added up in the transaction that inserts them.
            tallies: Are told in it of each row that is not of a plain hit, which costs nothing.
            price: Prices attempts that were running when their process ended; without it their cost is unknown.
            hit_rows_per_s: How many rows of plain hits are kept a second; None for all.
        """
        self._database = database
        self._tallies = (rollup, *tallies)
        self._writer = database.writer
        self._calls = Insert(calls, database.engine, rows=_CHUNK, columns=CallRow._fields, usual=USUAL)
        self._attempts = Insert(attempts, database.engine, rows=_CHUNK)
        self._spool = Spool(Path(f"{database.path}-spool"))
        self._recovery = Recovery(database, self._spool, self.insert, price)
        self._hits = Hits(
            database.engine, rollup, self._entry, self._insert, self._sum_id, hit_rows_per_s, self._writer.limit
        )
        self._ids = self._sum_ids = Ids(0)
        self._next_complaint = 0.0
        database.starting.append(self._start)
        database.closing.append(self._spool.close)

    @property
    def recovered(self) -> Recovered:
        """What this process found in the spool when it began."""
        return self._recovery.recovered

    @property
    def node(self) -> int:
        """A number that no other process at work on the database has."""
        return self._spool.node

    def nodes(self) -> set[int]:
        """Return the numbers of the processes at work, and of those that have died and are not recovered yet."""
        return self._spool.nodes()

    async def recover(self) -> None:
        """Put what processes that died have left behind into the database.

        Raises:
            StoreError: It cannot be written.
        """
        await self._recovery.run()

    def reserve(self, request: Request, attempt: Attempt, expected: Usage) -> None:
        """Write down that `attempt` is about to be sent. Never waits.

        Raises:
            StoreError: ``ledger_unavailable``: it cannot be, so it must not be sent.
        """
        if self._writer.full:
            raise self._unavailable("too many calls are waiting to be written to the database")
        call = request.call
        ident = self._ident(call) if call.attempts else self._ids.next(call.started_at)
        attempt.ledger_id = ident
        try:
            self._spool.begin(ident, begun(ident, request, [*call.attempts, attempt], expected))
        except (OSError, ValueError) as error:
            raise self._unavailable(f"{self._spool.root}: {error}") from error

    def release(self, request: Request, attempt: Attempt) -> None:
        """Write down that nothing was sent for `attempt`, which `reserve` was told of. Never waits, never raises."""
        left = [each for each in request.call.attempts if each is not attempt]
        try:
            note = self._spool.begin if left else self._spool.release
            note(attempt.ledger_id, begun(attempt.ledger_id, request, left, None))
        except (OSError, ValueError) as error:
            self._complain(f"{self._spool.root}: {error}")

    def record(self, request: Request, call: Call, *, duration_s: float, outcome: str) -> None:
        """Queue the rows of one finished call; one that asked a provider is in the spool before this returns.

        Never waits, never raises.
        """
        if call.attempts:
            entry, segment = self._entry(request, call, duration_s, outcome), None
            try:
                segment = self._spool.settle(entry)
            except (OSError, ValueError) as error:
                self._complain(f"{self._spool.root}: {error}; calls that have ended are in memory only")
            self._writer.put(self, (entry, segment), beyond=segment is not None)
        elif call.cache == CACHE and outcome == OUTCOME and not (call.semantic or call.degraded or call.arms):
            bag = self._hits.count(request, call, duration_s)
            if bag is not None:
                self._writer.put(self._hits, bag, beyond=True)
        else:
            self._writer.put(self, (self._entry(request, call, duration_s, outcome), None))

    async def flush(self) -> None:
        """Wait until everything queued so far is on disk.

        Raises:
            StoreError: The newest of it could not be written.
        """
        await self._database.flush()

    def write(self, connection: Connection, items: Sequence[_Item]) -> None:
        """Write in the writer's thread."""
        self.insert(connection, [entry for entry, _ in items])

    @failpoint("ledger-committed")
    def settled(self, items: Sequence[_Item], error: StoreError | None) -> None:
        """The spool need not keep them any more; the writer counts what is lost."""
        for _, segment in items:
            if segment is not None:
                segment.stored += 1
        self._spool.sweep()

    @failpoint("ledger-insert")
    def insert(self, connection: Connection, entries: Sequence[Fields]) -> None:
        """Insert the rows of calls that ended, and what follows from them; for the writer's thread."""
        written = self._insert(connection, entries)
        for tally in self._tallies:
            tally.tally(connection, written)

    def _insert(self, connection: Connection, entries: Sequence[Fields]) -> list[CallValues]:
        written: list[CallValues] = []
        for start in range(0, len(entries), _CHUNK):
            answered, tried = rows_of(entries[start : start + _CHUNK])
            self._calls.run(connection, answered)
            self._attempts.run(connection, tried)
            written += answered
        return written

    def _entry(self, request: Request, call: Call, duration_s: float, outcome: str = OUTCOME) -> Fields:
        return ended(self._ident(call), request, call, duration_s, outcome)

    def _ident(self, call: Call) -> int:
        for attempt in call.attempts:
            if attempt.ledger_id:
                return attempt.ledger_id
        return self._ids.next(call.started_at)

    def _sum_id(self, at: float) -> int:
        return self._sum_ids.next(at)

    async def _start(self) -> None:
        await self._recovery.run()
        try:
            self._spool.open()
        except OSError as error:
            raise StoreError(
                f"{self._spool.root} cannot be used: {error}; calls are written there before they are sent, so make it "
                "writable for this user, or set store.url to a file in another directory"
            ) from error
        self._ids, self._sum_ids = Ids(self._spool.node), Ids(self._spool.node, SUMS)

    def _unavailable(self, reason: str) -> StoreError:
        self._complain(f"{reason}; calls that would cost something are refused")
        return StoreError(
            "The call cannot be written down, so it was not sent; try again later.",
            code="ledger_unavailable",
            retry_after=_RETRY_AFTER_S,
        )

    def _complain(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + 1.0
            _log.error("%s", reason)
