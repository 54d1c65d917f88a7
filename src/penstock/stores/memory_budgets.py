"""Budgets for ``store.url: memory:``: of this process, and gone with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.budgeting.bill import grant
from penstock.budgeting.index import BudgetIndex
from penstock.budgeting.periods import start_of
from penstock.core.budget import Ask, Budget, BudgetEvent, BudgetState, Granted, Move
from penstock.core.call import Call
from penstock.core.clock import Clock
from penstock.core.money import to_picodollars
from penstock.core.request import Request

_REMEMBERED = 1000
"""Calls that were recorded before their budgets were settled."""
_Period = tuple[str, int]


class MemoryBudgetStore:
    """`penstock.abc.BudgetStore` of one process."""

    shared = False

    def __init__(self, clock: Clock) -> None:
        self.on_event: Callable[[BudgetEvent], None] = lambda event: None
        self._clock = clock
        self._stored: dict[str, Budget] = {}
        self._configured: Sequence[Budget] = ()
        self._index = BudgetIndex()
        self._version = 0
        self._states: dict[_Period, BudgetState] = {}
        self._moves: dict[int, list[Move]] = {}
        self._counted: dict[int, None] = {}
        self._told: dict[_Period, float] = {}

    def configure(self, budgets: Sequence[Budget]) -> None:
        """Count for these budgets too."""
        self._configured = budgets
        self._index = BudgetIndex([*self._stored.values(), *budgets])

    async def version(self) -> int:
        """Return the number of changes."""
        return self._version

    async def load(self) -> Sequence[Budget]:
        """Return the budgets that are kept here."""
        return list(self._stored.values())

    async def put(self, budget: Budget) -> None:
        """Add or replace a budget."""
        self._stored[budget.id] = budget
        self._changed()

    async def delete(self, budget_id: str) -> bool:
        """Remove a budget with its periods."""
        if self._stored.pop(budget_id, None) is None:
            return False
        self._states = {period: state for period, state in self._states.items() if period[0] != budget_id}
        self._changed()
        return True

    async def state(self, budget_id: str, start: int) -> BudgetState:
        """Return one period of a budget."""
        return self._state((budget_id, start))

    async def take(self, asks: Sequence[Ask]) -> Sequence[Granted]:
        """Hold what `asks` want."""
        granted = []
        for ask in asks:
            budget, period = ask.budget, (ask.budget.id, ask.start)
            state = self._state(period)
            each = grant(ask, budget.amount - state.spent - state.held, state.spent)
            self._add(period, held=each.amount)
            if each.amount + ask.free < ask.least:
                self._tell(budget, period, [share for share in budget.soft if share == 1.0])
            granted.append(each)
        return granted

    def give(self, budget_id: str, start: int, amount: int) -> None:
        """Let go of what is held."""
        self._add((budget_id, start), held=-amount)

    def settle(self, ledger_id: int, moves: Sequence[Move]) -> None:
        """Keep for `count`; what was counted already is let go of at once."""
        if ledger_id in self._counted:
            for move in moves:
                self.give(*move)
            return
        self._moves[ledger_id] = [*self._moves.get(ledger_id, ()), *moves]

    async def recover(self) -> None:
        """Nothing survives a process."""

    def count(self, request: Request, call: Call) -> None:
        """Add one finished call."""
        if not call.attempts or not (self._index or self._moves):
            return
        ident = next((attempt.ledger_id for attempt in call.attempts if attempt.ledger_id), 0)
        moves = self._moves.pop(ident, None)
        # What a call held in parts may be settled in parts, some of them after it.
        self._counted[ident] = None
        if len(self._counted) > _REMEMBERED:
            del self._counted[next(iter(self._counted))]
        starts: dict[str, int] = {}
        for budget_id, start, amount in moves or ():
            starts[budget_id] = start
            self._add((budget_id, start), held=-amount)
        costs = [attempt.cost_usd for attempt in call.attempts if attempt.cost_usd is not None]
        usd = sum(map(to_picodollars, costs))
        tokens = sum(attempt.usage.total_tokens for attempt in call.attempts if attempt.usage is not None)
        unpriced = any(attempt.cost_source == "unknown" for attempt in call.attempts)
        for budget in self._index.find(request.tenant, request.key_id):
            period = (budget.id, starts.get(budget.id, start_of(budget.period, call.started_at)))
            dollars = budget.unit == "usd"
            self._add(period, spent=usd if dollars else tokens, unpriced=int(dollars and unpriced))
            spent = self._state(period).spent
            self._tell(budget, period, [share for share in budget.soft if spent >= share * budget.amount])

    def _tell(self, budget: Budget, period: _Period, shares: Sequence[float]) -> None:
        highest = max(shares, default=0.0)
        if highest > self._told.get(period, 0.0):
            self._told[period] = highest
            self.on_event(BudgetEvent(budget, highest, self._state(period).spent, self._clock.wall()))

    def _state(self, period: _Period) -> BudgetState:
        return self._states.get(period) or BudgetState(period[1])

    def _add(self, period: _Period, *, spent: int = 0, held: int = 0, unpriced: int = 0) -> None:
        old = self._state(period)
        self._states[period] = BudgetState(period[1], old.spent + spent, old.held + held, old.unpriced + unpriced)

    def _changed(self) -> None:
        self._version += 1
        self.configure(self._configured)
