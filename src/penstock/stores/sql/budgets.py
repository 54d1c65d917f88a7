"""Budgets in a database: what is spent follows the ledger's rows, what is held are leases of processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Row, bindparam, delete, event, select, update
from sqlalchemy.engine import Connection, Engine

from penstock.budgeting.bill import grant
from penstock.budgeting.index import BudgetIndex
from penstock.budgeting.periods import start_of
from penstock.core.budget import Ask, Budget, BudgetEvent, BudgetState, Granted, Move
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.stores.sql.account_tables import budget_leases, budget_periods, budgets, versions
from penstock.stores.sql.database import Database
from penstock.stores.sql.ledger import SqlLedger
from penstock.stores.sql.sqlite import Insert, adding, raw, replacing
from penstock.stores.sql.tally import CallRow, CallValues

_NAME = "budgets"
_REMEMBERED = 10_000
"""Calls whose rows were written before their budgets were settled; a few, at the end of a call nobody waited for."""
_at = CallRow._fields.index
_STARTED_AT, _ATTEMPTS, _ID = map(_at, ("started_at", "attempts", "id"))
_COST, _COST_SOURCE = map(_at, ("cost_pusd", "cost_source"))
_WHOSE, _TOKENS = slice(_at("tenant"), _at("model")), slice(_at("input_tokens"), _at("cached_tokens"))
_MILLIONTHS = 1_000_000
_RAISE = adding(versions).values(name=_NAME, version=1)
_VERSION = select(versions.c.version).where(versions.c.name == _NAME)
_Period = tuple[str, int]


class BudgetTally:
    """`penstock.stores.sql.tally.Tally` for budgets: adds what calls cost, and lets go of what was held for it."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Nothing is read yet."""
        self.node = ""
        self.configured: Sequence[Budget] = ()
        self._moves: dict[int, list[Move]] = {}
        self._written: dict[int, None] = {}
        self._lock = threading.Lock()
        self.tell: Callable[[BudgetEvent], None] | None = None
        self._wall = clock.wall
        self._index = BudgetIndex()
        self._known: tuple[int, Sequence[Budget]] = (-1, ())
        self._taken: dict[int, list[Move]] = {}
        self._returned: list[Move] = []
        self._applied: list[Move] = []
        self._events: list[BudgetEvent] = []
        self._periods = Insert(budget_periods, engine, add=True, rows=1)
        self._leases = Insert(budget_leases, engine, add=True, rows=1)
        columns = (budget_periods.c.spent, budget_periods.c.held, budget_periods.c.told)
        period = (budget_periods.c.budget_id == bindparam("i")) & (budget_periods.c.start == bindparam("s"))
        self._read_version = str(_VERSION.compile(engine, compile_kwargs={"literal_binds": True}))
        self._read = str(select(*columns).where(period).compile(engine))
        event.listen(engine, "begin", self._begun)
        event.listen(engine, "commit", self._committed)
        event.listen(engine, "rollback", self._undone)

    def tally(self, connection: Connection, rows: Sequence[CallValues], /) -> None:
        """Add `rows` to their budgets."""
        if not rows:
            return
        index = self.index(connection)
        if not index and not self._moves:
            return
        spent: dict[_Period, list[int]] = {}
        held: dict[_Period, int] = {}
        sent = [row for row in rows if row[_ATTEMPTS]]
        found: dict[CallValues, Sequence[Budget]] = {}
        for row, moves in zip(sent, self._moved([row[_ID] for row in sent], wanted=bool(index)), strict=True):
            whose = row[_WHOSE]
            mine = found.get(whose)
            if mine is None:
                tenant, key_id = whose
                mine = found[whose] = index.find(tenant, key_id or "")
            for budget_id, start, amount in moves:
                held[budget_id, start] = held.get((budget_id, start), 0) - amount
            for budget in mine:
                _add(spent, budget, row, moves)
        for period, (amount, unpriced) in spent.items():
            self._periods.run(connection, [(*period, amount, 0, unpriced, 0)])
        for period, amount in held.items():
            self.hold(connection, period, amount)
        for budget_id, start in spent:
            self._look(connection, index.budgets[budget_id], start)

    def settle(self, ledger_id: int, moves: Sequence[Move]) -> bool:
        """Keep what is to be let go of with a row; False when that is written already."""
        with self._lock:
            if ledger_id in self._written:
                return False
            known = self._moves.get(ledger_id)
            self._moves[ledger_id] = list(moves) if known is None else [*known, *moves]
            return True

    def give(self, move: Move) -> None:
        """Keep what is given back for `take_back`."""
        with self._lock:
            self._returned.append(move)

    def take_back(self, connection: Connection) -> None:
        """Apply what was given back, so that whoever asks after that gets it."""
        with self._lock:
            returned, self._returned = self._returned, []
            self._applied += returned
        sums: dict[_Period, int] = {}
        for budget_id, start, amount in returned:
            sums[budget_id, start] = sums.get((budget_id, start), 0) + amount
        for period, amount in sums.items():
            self.hold(connection, period, -amount)

    def _moved(self, idents: Sequence[int], *, wanted: bool) -> list[Sequence[Move]]:
        """Return what is let go of with each row; those `wanted` are remembered, for moves that come after them.

        What a call held in parts, for one model after another, may be settled in parts, some of them after its row.
        """
        found: list[Sequence[Move]] = []
        with self._lock:
            for ident in idents:
                mine = self._moves.pop(ident, None)
                found.append(mine or ())
                if mine is not None:
                    self._taken[ident] = mine
                if wanted:
                    self._written[ident] = None
            while len(self._written) > _REMEMBERED:
                del self._written[next(iter(self._written))]
        return found

    def index(self, connection: Connection) -> BudgetIndex:
        """Return the budgets in force."""
        cursor = raw(connection)
        cursor.execute(self._read_version)
        row = cursor.fetchone()
        version = 0 if row is None else row[0]
        known = (version, self.configured)
        if known[0] != self._known[0] or known[1] is not self._known[1]:
            self._index = BudgetIndex([*_load(connection), *self.configured])
            self._known = known
        return self._index

    def hold(self, connection: Connection, period: _Period, amount: int) -> None:
        """Hold more of a budget, or less."""
        if amount:
            self._periods.run(connection, [(*period, 0, amount, 0, 0)])
            self._leases.run(connection, [(*period, self.node, amount)])

    def take(self, connection: Connection, asks: Sequence[Ask]) -> list[Granted]:
        """Give what there is."""
        self.take_back(connection)
        granted = []
        for ask in asks:
            budget, period = ask.budget, (ask.budget.id, ask.start)
            found = connection.exec_driver_sql(self._read, period).first()
            spent, held, told = (0, 0, 0) if found is None else found
            each = grant(ask, budget.amount - spent - held, spent)
            self.hold(connection, period, each.amount)
            if each.amount + ask.free < ask.least and 1.0 in budget.soft and told < _MILLIONTHS:
                self._tell(connection, budget, ask.start, spent, [1.0])
            granted.append(each)
        return granted

    def _look(self, connection: Connection, budget: Budget, start: int) -> None:
        if not budget.soft or budget.amount <= 0:
            return
        spent, _, told = connection.exec_driver_sql(self._read, (budget.id, start)).one()
        crossed = [each for each in budget.soft if told < each * _MILLIONTHS and spent >= each * budget.amount]
        if crossed:
            self._tell(connection, budget, start, spent, crossed)

    def _tell(self, connection: Connection, budget: Budget, start: int, spent: int, shares: Sequence[float]) -> None:
        highest = max(shares)
        period = (budget_periods.c.budget_id == budget.id) & (budget_periods.c.start == start)
        known = connection.execute(update(budget_periods).where(period).values(told=round(highest * _MILLIONTHS)))
        if not known.rowcount:
            self._periods.run(connection, [(budget.id, start, 0, 0, 0, round(highest * _MILLIONTHS))])
        self._events.append(BudgetEvent(budget, highest, spent, self._wall()))

    def _begun(self, _connection: Connection) -> None:
        self._taken.clear()
        self._applied.clear()
        self._events.clear()

    def _committed(self, _connection: Connection) -> None:
        events, self._events = self._events, []
        if self.tell is not None:
            for each in events:
                self.tell(each)

    def _undone(self, _connection: Connection) -> None:
        """It will be tried again."""
        with self._lock:
            self._moves.update(self._taken)
            self._returned[:0] = self._applied


class SqlBudgetStore:
    """`penstock.abc.BudgetStore` in a database. The leases of a process end with it, see `recover`.

    Raises:
        StoreError: From every `async` method, when the database could not be read or written.
    """

    lasting = True
    shared = True

    def __init__(self, database: Database, ledger: SqlLedger | None, tally: BudgetTally) -> None:
        """Started with `database`, after `ledger`, which must have `tally`; without one nothing can be held."""
        self.on_event: Callable[[BudgetEvent], None] = _unheard
        self._database = database
        self._ledger = ledger
        self._tally = tally
        if ledger is not None:
            database.starting.append(partial(self._start, ledger))

    def configure(self, budgets: Sequence[Budget]) -> None:
        """Count for these budgets too."""
        self._tally.configured = budgets

    async def version(self) -> int:
        """Return the number of changes."""
        return await self._database.read(lambda connection: connection.execute(_VERSION).scalar() or 0)

    async def load(self) -> Sequence[Budget]:
        """Return the budgets that are kept here."""
        return await self._database.read(_load)

    async def put(self, budget: Budget) -> None:
        """Add or replace a budget."""

        def change(connection: Connection) -> None:
            connection.execute(replacing(budgets).values(_row(budget)))
            connection.execute(_RAISE)

        await self._database.execute(change)

    async def delete(self, budget_id: str) -> bool:
        """Remove a budget with its periods."""

        def change(connection: Connection) -> bool:
            for table in (budget_leases, budget_periods):
                connection.execute(delete(table).where(table.c.budget_id == budget_id))
            done = connection.execute(delete(budgets).where(budgets.c.id == budget_id)).rowcount > 0
            if done:
                connection.execute(_RAISE)
            return done

        return await self._database.execute(change)

    async def state(self, budget_id: str, start: int) -> BudgetState:
        """Return one period of a budget."""
        columns = (budget_periods.c.spent, budget_periods.c.held, budget_periods.c.unpriced)
        period = (budget_periods.c.budget_id == budget_id) & (budget_periods.c.start == start)
        row = await self._database.read(lambda connection: connection.execute(select(*columns).where(period)).first())
        return BudgetState(start) if row is None else BudgetState(start, *row)

    async def take(self, asks: Sequence[Ask]) -> Sequence[Granted]:
        """Hold what `asks` want, in one transaction."""
        return await self._database.execute(lambda connection: self._tally.take(connection, asks))

    def give(self, budget_id: str, start: int, amount: int) -> None:
        """Let the tally know, and see that it is looked at."""
        self._tally.give(Move(budget_id, start, amount))
        self._database.writer.put(self, None, beyond=True)

    def settle(self, ledger_id: int, moves: Sequence[Move]) -> None:
        """Let the tally know."""
        if not self._tally.settle(ledger_id, moves):
            for move in moves:
                self.give(*move)

    async def recover(self) -> None:
        """Recover the ledger's calls first, so that what they spent is counted before what was held is free."""
        if self._ledger is not None:
            await self._ledger.recover()
            await self._database.execute(partial(_free_dead, self._ledger))

    def write(self, connection: Connection, items: Sequence[None]) -> None:
        """Write in the writer's thread."""
        self._tally.take_back(connection)

    def settled(self, items: Sequence[None], error: StoreError | None) -> None:
        """Nobody waits."""

    async def _start(self, ledger: SqlLedger) -> None:
        node, loop = str(ledger.node), asyncio.get_running_loop()
        self._tally.tell = lambda event: _deliver(loop, lambda: self.on_event(event))

        def begin(connection: Connection) -> None:
            _free(connection, [node])  # of an earlier process that had the same number
            _free_dead(ledger, connection)

        await self._database.execute(begin)
        self._tally.node = node


def _free_dead(ledger: SqlLedger, connection: Connection) -> None:
    known = connection.execute(select(budget_leases.c.node).distinct()).scalars().all()
    if known:
        alive = ledger.nodes()
        _free(connection, [node for node in known if int(node) not in alive])


def _add(spent: dict[_Period, list[int]], budget: Budget, row: CallValues, moves: Sequence[Move]) -> None:
    name = budget.id
    for move in moves:
        if move[0] == name:
            start = move[1]
            break
    else:
        start = start_of(budget.period, row[_STARTED_AT] / 1e6)
    period = (name, start)
    sums = spent.get(period)
    if sums is None:
        sums = spent[period] = [0, 0]
    if budget.unit == "usd":
        sums[0] += row[_COST] or 0
        sums[1] += row[_COST_SOURCE] == "unknown"
    elif used := [move.amount for move in moves if (move.budget_id, move.start) == period]:
        sums[0] += sum(used)  # the row has the tokens of the answer only, not of all attempts
    else:
        sums[0] += sum(filter(None, row[_TOKENS]))


def _free(connection: Connection, nodes: Sequence[str]) -> None:
    mine = budget_leases.c.node.in_(nodes)
    for lease in connection.execute(select(budget_leases).where(mine)).all():
        period = (budget_periods.c.budget_id == lease.budget_id) & (budget_periods.c.start == lease.start)
        connection.execute(update(budget_periods).where(period).values(held=budget_periods.c.held - lease.held))
    connection.execute(delete(budget_leases).where(mine))


def _load(connection: Connection) -> list[Budget]:
    rows = connection.execute(select(budgets).order_by(budgets.c.created_at, budgets.c.id))
    return [_budget(row) for row in rows]


def _budget(row: Row[Any]) -> Budget:
    return Budget(
        row.id, row.scope, row.subject, row.period, row.unit, row.amount, tuple(row.soft or ()), row.allow_unpriced,
        row.created_at / 1e6,
    )  # fmt: skip


def _row(budget: Budget) -> dict[str, Any]:
    return {
        "id": budget.id, "scope": budget.scope, "subject": budget.subject, "period": budget.period,
        "unit": budget.unit, "amount": budget.amount, "soft": list(budget.soft),
        "allow_unpriced": budget.allow_unpriced, "created_at": round(budget.created_at * 1e6),
    }  # fmt: skip


def _deliver(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)


def _unheard(event: BudgetEvent) -> None:
    """Until somebody listens."""
