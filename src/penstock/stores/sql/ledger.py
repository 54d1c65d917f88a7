"""The ledger: a row an answer, a row a try, made and written in the writer's thread."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy.engine import Connection

from penstock.core.call import HEDGE_LOST, Attempt, Call
from penstock.core.errors import StoreError
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.sql.database import Database
from penstock.stores.sql.sqlite import Insert
from penstock.stores.sql.tables import attempts, calls, first_id
from penstock.stores.sql.tally import CallRow, Tally

_encode = msgspec.json.Encoder().encode
_Tokens = tuple[int | None, int | None, int | None, int | None, int | None, str | None]
_NO_USAGE: _Tokens = (None, None, None, None, None, None)
_KEY_BYTES = 16
_CHUNK = 100
"""Rows made and inserted at a time, so that the interpreter is never held for long."""

_Item = tuple[Call, str, str, str, str, bool, tuple[str, ...], Mapping[str, str] | None, float, str]
"""Call, tenant, key, operation, model, stream, tags, metadata, duration, outcome: all but the body, often large."""
_Row = tuple[object, ...]


class SqlLedger:
    """`penstock.abc.Ledger` in a database; a duplicate `Call.id` is another row, never a lost one.

    What is in `tallies` is told of each row in the transaction that inserts it.
    """

    def __init__(self, database: Database, tallies: Sequence[Tally] = ()) -> None:
        self._database = database
        self._tallies = tallies
        self._put = database.writer.put
        self._calls = Insert(calls, database.engine, rows=_CHUNK)
        self._attempts = Insert(attempts, database.engine, rows=_CHUNK)
        self._node = secrets.randbelow(1 << 10) << 11
        self._last_id = 0

    def record(self, request: Request, call: Call, *, duration_s: float, outcome: str) -> None:
        """Queue the rows of one finished call. Never waits, never raises."""
        item: _Item = (
            call, request.tenant, request.key_id, request.operation, request.model, request.stream, request.tags,
            request.metadata, duration_s, outcome,
        )  # fmt: skip
        self._put(self, item)

    async def flush(self) -> None:
        """Wait until everything queued so far is on disk.

        Raises:
            StoreError: The newest of it could not be written.
        """
        await self._database.flush()

    def write(self, connection: Connection, items: Sequence[_Item]) -> None:
        """Write in the writer's thread."""
        written: list[CallRow] = []
        for start in range(0, len(items), _CHUNK):
            answered: list[CallRow] = []
            tried: list[_Row] = []
            for item in items[start : start + _CHUNK]:
                self._add(item, answered, tried)
            self._calls.run(connection, answered)
            self._attempts.run(connection, tried)
            written += answered
        for tally in self._tallies:
            tally.tally(connection, written)

    def settled(self, items: Sequence[_Item], error: StoreError | None) -> None:
        """Nobody waits; the writer counts what is lost."""

    def _add(self, item: _Item, answered: list[CallRow], tried: list[_Row]) -> None:
        call, tenant, key_id, operation, model, stream, tags, metadata, duration_s, outcome = item
        row_id = self._next_id(call.started_at)
        provider = provider_model = first_token = None
        cost: int | None = 0
        source: str = "none"
        if call.attempts:
            costs = [_cost(attempt) for attempt in call.attempts]
            for position, attempt in enumerate(call.attempts):
                tried.append(_attempt_row(row_id, position, attempt, costs[position], call.started))
            cost, source = _total(costs, call.attempts)
            served = _served(call.attempts)
            provider, provider_model = served.provider, served.model
            if served.first_token_s is not None:
                first_token = int((served.started - call.started + served.first_token_s) * 1e6)
        saved = call.saved_usd
        answered.append(CallRow(
            row_id, call.id, int(call.started_at * 1e6), tenant, operation, model, provider, provider_model, stream,
            outcome, call.cache, call.finish_reason, *_usage(call.usage), cost, source,
            None if saved is None else to_picodollars(saved), first_token, int(duration_s * 1e6), len(call.attempts),
            _encode(tags).decode() if tags else None, _encode(metadata).decode() if metadata else None,
            key_id or None, None if call.key is None else call.key[:_KEY_BYTES], call.answer_bytes,
        ))  # fmt: skip

    def _next_id(self, started_at: float) -> int:
        """Make ids of milliseconds, node and count: they grow, so rows are appended, and differ between processes."""
        self._last_id = max(self._last_id + 1, first_id(started_at) | self._node)
        return self._last_id


def _served(tries: list[Attempt]) -> Attempt:
    """The try whose answer was given, or what came nearest to one: the last that was not for want of another."""
    if len(tries) == 1:
        return tries[0]
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
    if len(tries) == 1:
        return costs[0], tries[0].cost_source
    known = [
        cost for cost, attempt in zip(costs, tries, strict=True) if cost is not None and attempt.cost_source != "none"
    ]
    sources = {attempt.cost_source for attempt in tries}
    if "unknown" in sources:
        return (sum(known) if known else None), "unknown"
    return sum(known), next((source for source in ("estimate", "time", "provider") if source in sources), "none")
