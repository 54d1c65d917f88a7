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

import msgspec
from sqlalchemy.engine import Connection

from penstock.core.call import HEDGE_LOST, Attempt, Call
from penstock.core.errors import StoreError
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.failpoints import failpoint
from penstock.stores.sql.database import Database
from penstock.stores.sql.entry import Entry, begun, ended
from penstock.stores.sql.hits import CACHE, OUTCOME, Bag, Hits
from penstock.stores.sql.ids import SUMS, Ids
from penstock.stores.sql.recovery import Price, Recovered, Recovery
from penstock.stores.sql.rollups import Rollup
from penstock.stores.sql.spool import Segment, Spool
from penstock.stores.sql.sqlite import Insert
from penstock.stores.sql.tables import attempts, calls
from penstock.stores.sql.tally import USUAL, CallRow, Tally

_log = logging.getLogger("penstock.stores")
_encode = msgspec.json.Encoder().encode
_row = tuple.__new__
"""Makes a named tuple of a tuple; its own constructor takes several times as long."""
_Tokens = tuple[int | None, int | None, int | None, int | None, int | None, str | None]
_NO_USAGE: _Tokens = (None, None, None, None, None, None)
_CHUNK = 100
"""Rows made and inserted at a time, so that the interpreter is never held for long."""
_RETRY_AFTER_S = 5.0

_Item = tuple[Entry, Segment | None] | Bag
"""A call that ended, and the segment of the spool that has it, if it had to be there; or the hits of a moment."""
_Row = tuple[object, ...]


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
        self._hits = Hits(database.engine, rollup, self._entry, hit_rows_per_s, self._writer.limit)
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
        tries = call.attempts
        ident = attempt.ledger_id = (_known_id(tries) if tries else 0) or self._ids.next(call.started_at)
        try:
            self._spool.begin(ident, begun(ident, request, [*tries, attempt], expected))
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
        if (
            call.cache == CACHE
            and outcome == OUTCOME
            and not (call.attempts or call.semantic or call.degraded or call.arms)
        ):
            bag = self._hits.count(request, call, duration_s)
            if bag is not None:
                self._writer.put(self, bag, beyond=True)
            return
        entry = self._entry(request, call, duration_s, outcome)
        segment = None
        if call.attempts:
            try:
                segment = self._spool.settle(entry)
            except (OSError, ValueError) as error:
                self._complain(f"{self._spool.root}: {error}; calls that have ended are in memory only")
        self._writer.put(self, (entry, segment), beyond=segment is not None)

    async def flush(self) -> None:
        """Wait until everything queued so far is on disk.

        Raises:
            StoreError: The newest of it could not be written.
        """
        await self._database.flush()

    def write(self, connection: Connection, items: Sequence[_Item]) -> None:
        """Write in the writer's thread."""
        bags = [item for item in items if isinstance(item, Bag)]
        if len(bags) < len(items):
            self.insert(connection, [item[0] for item in items if not isinstance(item, Bag)])
        for bag in bags:
            self._hits.close(bag)
        if bags:
            rows = self._insert(connection, [entry for bag in bags for entry in bag.entries])
            self._hits.write(connection, bags, rows, self._sum_ids.next)

    @failpoint("ledger-committed")
    def settled(self, items: Sequence[_Item], error: StoreError | None) -> None:
        """The spool need not keep them any more; the writer counts what is lost."""
        bags = False
        for item in items:
            if isinstance(item, Bag):
                bags = True
            elif item[1] is not None:
                item[1].stored += 1
        if bags:  # else what was written of any has been undone
            self._hits.settled(error)
        self._spool.sweep()

    @failpoint("ledger-insert")
    def insert(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Insert the rows of calls that ended, and what follows from them; for the writer's thread."""
        written = self._insert(connection, entries)
        for tally in self._tallies:
            tally.tally(connection, written)

    def _insert(self, connection: Connection, entries: Sequence[Entry]) -> list[CallRow]:
        written: list[CallRow] = []
        for start in range(0, len(entries), _CHUNK):
            answered: list[CallRow] = []
            tried: list[_Row] = []
            for entry in entries[start : start + _CHUNK]:
                _add(entry, answered, tried)
            self._calls.run(connection, answered)
            self._attempts.run(connection, tried)
            written += answered
        return written

    def _entry(self, request: Request, call: Call, duration_s: float, outcome: str = OUTCOME) -> Entry:
        saved, tries = call.saved_usd, call.attempts
        ident = (_known_id(tries) if tries else 0) or self._ids.next(call.started_at)
        return ended(ident, request, call, duration_s, outcome, None if saved is None else to_picodollars(saved))

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


def _known_id(tries: Sequence[Attempt]) -> int:
    for attempt in tries:
        if attempt.ledger_id:
            return attempt.ledger_id
    return 0


def _add(entry: Entry, answered: list[CallRow], tried: list[_Row]) -> None:
    tries, row_id = entry.attempts, entry.id
    provider = provider_model = first_token = None
    cost: int | None = 0
    source: str = "none"
    if tries:
        served = tries[0]
        cost, source = _cost(served), served.cost_source
        if len(tries) == 1:
            tried.append(_attempt_row(row_id, 0, served, cost, entry.started))
        else:
            costs = [_cost(attempt) for attempt in tries]
            for position, attempt in enumerate(tries):
                tried.append(_attempt_row(row_id, position, attempt, costs[position], entry.started))
            cost, source = _total(costs, tries)
            served = _served(tries)
        provider, provider_model = served.provider, served.model
        if served.first_token_s is not None:
            first_token = int((served.started - entry.started + served.first_token_s) * 1e6)
    tags, metadata, usage, key = entry.tags, entry.metadata, entry.usage, entry.cache_key
    given = made = cached = written = reasoned = counted = None
    if usage is not None:
        given, made, cached = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens
        written, reasoned, counted = usage.cache_write_tokens, usage.reasoning_tokens, usage.source
    answered.append(_row(CallRow, (
        int(entry.started_at * 1e6), entry.tenant, entry.key_id or None, entry.model, provider, entry.operation,
        entry.cache, entry.outcome, len(tries), given, made, cached, cost, source, int(entry.duration_s * 1e6),
        first_token, row_id, entry.request_id, provider_model, int(entry.stream), entry.finish_reason, written,
        reasoned, counted, None if key is None else bytearray(key), entry.answer_bytes, entry.saved_pusd,
        _encode(tags).decode() if tags else None, _encode(metadata).decode() if metadata else None,
        entry.semantic or None, entry.semantic_key, entry.semantic_audit, entry.prompt or None,
        _encode(entry.arms).decode() if entry.arms else None, entry.context_before, entry.context_after,
        entry.stage or None, entry.unit or None,
    )))  # fmt: skip


def _served(tries: list[Attempt]) -> Attempt:
    """The try whose answer was given, or what came nearest to one: the last that was not for want of another."""
    return next(
        (each for each in reversed(tries) if each.outcome == "ok"),
        next((each for each in reversed(tries) if each.outcome != HEDGE_LOST), tries[-1]),
    )


def _attempt_row(call_id: int, position: int, attempt: Attempt, cost: int | None, started: float) -> _Row:
    first = attempt.first_token_s
    return (
        call_id, position, attempt.provider, attempt.model, attempt.outcome, attempt.status_code,
        *_usage(attempt.usage), cost, attempt.cost_source, int((attempt.started - started) * 1e6),
        None if first is None else int(first * 1e6), int(attempt.duration_s * 1e6),
    )  # fmt: skip


def _usage(usage: Usage | None) -> _Tokens:
    if usage is None:
        return _NO_USAGE
    return (
        usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.cache_write_tokens,
        usage.reasoning_tokens, usage.source,
    )  # fmt: skip


def _cost(attempt: Attempt) -> int | None:
    """An attempt's cost in picodollars; 0 where there is nothing to pay, None where the price is unknown."""
    if attempt.cost_usd is None:
        return 0 if attempt.cost_source == "none" else None
    return to_picodollars(attempt.cost_usd)


def _total(costs: list[int | None], tries: list[Attempt]) -> tuple[int | None, str]:
    """Add up the tries' costs: what is known of them, marked by the least certain; None when nothing is known."""
    known = [
        cost for cost, attempt in zip(costs, tries, strict=True) if cost is not None and attempt.cost_source != "none"
    ]
    sources = {attempt.cost_source for attempt in tries}
    if "unknown" in sources:
        return (sum(known) if known else None), "unknown"
    return sum(known), next((source for source in ("estimate", "time", "provider") if source in sources), "none")
