"""What this process holds of budgets, and how it gets more.

    purse ──► reserve ──► request ──► settle ──► purse
      ▲                                            │
      └── take ── store: spent + held ≤ amount ◄── give back

A purse has what was taken from the store's budget and is neither reserved for a request nor spent; it may be spent
without asking. What a request has spent stays held in the store until the request's row is written, and becomes spent
in the same transaction, so nothing is counted twice and nothing is free in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from penstock.abc import BudgetStore
from penstock.budgeting.index import BudgetIndex
from penstock.budgeting.periods import SteadyClock, start_of
from penstock.budgeting.purse import Group, Held, Purse
from penstock.core.budget import Ask, Budget, BudgetEvent, Granted, Move
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.core.tasks import TaskGroup

_log = logging.getLogger("penstock.budgets")
_INTERVAL_S = 1.0
"""How often the store is asked for changes by others."""
_IDLE_S = 10.0
"""A purse nobody used for so long is emptied into the store."""
_RECOVERY_S = 30.0
"""How often it is looked for processes that have died."""
_SAME_S = 900.0
"""A call that began longer ago than this did not: the wall clock has jumped."""
_tuple = tuple.__new__
"""Makes a named tuple of a tuple; its own constructor takes several times as long."""
_REMEMBERED = 4096
"""Subjects whose purses are remembered; the names may come from clients."""


class Purses:
    """All purses of this process.

    Attributes:
        store: Where budgets are kept.
        clock: Where time comes from.
        steady: The time of day that periods follow.
        index: The budgets in force.
        configured: Those of the configuration.
        refused: Requests that no budget allowed since the start.
    """

    def __init__(self, store: BudgetStore, clock: Clock, tasks: TaskGroup) -> None:
        """`tasks` are waited for before the store is closed."""
        self.store = store
        self._tasks = tasks
        self.clock = clock
        self.steady = SteadyClock(clock)
        self.index = BudgetIndex()
        self.refused = 0
        self.configured: Sequence[Budget] = ()
        self._version = -1
        self._purses: dict[tuple[str, int], Purse] = {}
        self._found: dict[tuple[str, str], Group] = {}
        self._changed: list[Callable[[], None]] = []
        self._events: list[Callable[[BudgetEvent], None]] = []
        store.on_event = self._tell

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when there are budgets for the first time, and when there are none any more."""
        self._changed.append(callback)

    def on_event(self, callback: Callable[[BudgetEvent], None]) -> None:
        """Have `callback` called when a share of a budget that it names is spent."""
        self._events.append(callback)

    def configure(self, budgets: Sequence[Budget]) -> None:
        """Put the budgets of the configuration in force, beside those of the store."""
        stored = [budget for budget in self.index.budgets.values() if not budget.configured]
        self.configured = budgets
        self.store.configure(budgets)
        self._put_in_force(stored)

    async def refresh(self) -> None:
        """Read the store's budgets, if they have changed.

        Raises:
            StoreError: They could not be read.
        """
        version = await self.store.version()
        if version != self._version:
            self._put_in_force(await self.store.load())
            self._version = version

    async def follow(self) -> None:
        """Keep up with changes by other processes, and give back what is not needed, for ever."""
        recovered_at = self.clock.monotonic()
        while True:
            await self.clock.sleep(_INTERVAL_S)
            self.steady.check()
            self.tidy()
            try:
                await self.refresh()
                if self.index and self.clock.monotonic() - recovered_at >= _RECOVERY_S:
                    recovered_at = self.clock.monotonic()
                    await self.store.recover()
            except StoreError as error:
                _log.error("budgets cannot be read, those in memory stay in force: %s", error)

    def of(self, tenant: str, key_id: str, began: float, now: float) -> Group:
        """Return the purses of everything a request falls under.

        Args:
            tenant: Whose it is.
            key_id: Which of the tenant's keys asked.
            began: When it did, seconds since the epoch.
            now: `Clock.monotonic`.
        """
        at, today = began, now + self.steady.offset
        if not -_SAME_S <= at - today <= _SAME_S:
            at = today
        found = self._found.get((tenant, key_id))
        if found is not None and found.begins <= at < found.ends:
            return found
        purses = [self._purse(budget, start_of(budget.period, at)) for budget in self.index.find(tenant, key_id)]
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        group = self._found[tenant, key_id] = Group(purses)
        return group

    async def claim(self, purses: Sequence[Purse], asks: Sequence[Ask]) -> list[int]:
        """Take all that is free in `purses`, and from the store what `asks` want beside that, as far as it has it.

        Returns:
            How much that is, for each purse; `put_back` what is not needed.

        Raises:
            StoreError: The store could not be written.
        """
        mine = [purse.free for purse in purses]
        for purse in purses:
            purse.free = 0
        taking = self._tasks.spawn(self._take(purses, asks), name="take from budgets")
        try:
            granted = await asyncio.shield(taking)
        except BaseException:
            self.put_back(purses, mine)
            # Whoever wanted it has gone, perhaps after it was granted and before it could be told.
            if taking.done():
                self._unclaimed(purses, taking)
            else:
                taking.add_done_callback(lambda done: self._unclaimed(purses, done))
            raise
        return [held + each.amount for held, each in zip(mine, granted, strict=True)]

    def put_back(self, purses: Sequence[Purse], amounts: Sequence[int]) -> None:
        """Put back what was claimed and is not needed."""
        for purse, amount in zip(purses, amounts, strict=True):
            purse.free += amount
            if purse.tight:
                self._give_back(purse)

    def settle(self, held: Sequence[Held], usd: int, tokens: int, ledger_id: int) -> None:
        """Let what a call cost take the place of what was held for it.

        Args:
            held: What that was.
            usd: What it cost, in picodollars.
            tokens: How many tokens it used.
            ledger_id: Under which number the ledger knows it.
        """
        now, moves = self.clock.monotonic(), []
        for purse, amount in held:
            budget = purse.budget
            used = usd if budget.unit == "usd" else tokens
            purse.running -= 1
            purse.used_at = now
            purse.free += amount - used
            if purse.free < 0 or purse.tight:
                self._give_back(purse)
            if used:
                moves.append(_tuple(Move, (budget.id, purse.start, used)))
        if moves:
            self.store.settle(ledger_id, moves)

    def tidy(self) -> None:
        """Give back what nobody has used for a while, and forget periods that are over."""
        now, today = self.clock.monotonic(), self.steady.now()
        for key, purse in list(self._purses.items()):
            known = purse.budget is self.index.budgets.get(purse.budget.id)
            if purse.running or (known and today < purse.end and now - purse.used_at < _IDLE_S):
                continue
            self._give_back(purse)
            if not known or today >= purse.end:
                del self._purses[key]
                self._found.clear()

    def close(self) -> None:
        """Give everything back that is not reserved."""
        for purse in self._purses.values():
            self._give_back(purse)

    async def _take(self, purses: Sequence[Purse], asks: Sequence[Ask]) -> Sequence[Granted]:
        granted = await self.store.take(asks)
        now = self.clock.monotonic()
        for purse, ask, each in zip(purses, asks, granted, strict=True):
            purse.left = max(each.left, 0)
            purse.spent = each.spent
            purse.tight = each.amount + ask.free <= ask.most
            purse.used_at = now
            if each.amount + ask.free < ask.least:
                purse.refused_at = now
        return granted

    def _unclaimed(self, purses: Sequence[Purse], taking: asyncio.Task[Sequence[Granted]]) -> None:
        if not taking.cancelled() and taking.exception() is None:
            self.put_back(purses, [each.amount for each in taking.result()])

    def _give_back(self, purse: Purse) -> None:
        free, purse.free = purse.free, 0
        if free:
            self.store.give(purse.budget.id, purse.start, free)
            purse.left = max(purse.left + free, 0)

    def _purse(self, budget: Budget, start: int) -> Purse:
        purse = self._purses.get((budget.id, start))
        if purse is None:
            purse = self._purses[budget.id, start] = Purse(budget, start)
            purse.used_at = self.clock.monotonic()
        return purse

    def _put_in_force(self, stored: Sequence[Budget]) -> None:
        had = bool(self.index)
        old = self.index.budgets
        kept = [old[each.id] if old.get(each.id) == each else each for each in (*stored, *self.configured)]
        self.index = BudgetIndex(kept)
        for purse in self._purses.values():
            purse.budget = self.index.budgets.get(purse.budget.id, purse.budget)
        self._found.clear()
        if had != bool(self.index):
            for callback in self._changed:
                callback()

    def _tell(self, event: BudgetEvent) -> None:
        _log.warning("%s", event.message)
        for callback in self._events:
            callback(event)
