"""Budgets shared by processes: two stores on one file stand for them."""

import asyncio
import os
import shutil
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from penstock.core.budget import Ask, Budget, BudgetState, Move
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.money import to_usd
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store
from penstock.testing import check_budget_store

LIMIT = 10_000
BUDGET = Budget("bud_1", "team", "acme/search", "total", "usd", LIMIT)
INTERRUPTED = 1
"""Picodollars an interrupted call is taken to have cost."""


def rows(path, query):
    with sqlite3.connect(path) as connection:
        return connection.execute(query).fetchall()


class Process:
    """What a process does with a budget, and what it must be holding."""

    def __init__(self, path):
        self.stores = open_store(f"sqlite:///{path}", SystemClock(), lambda *_: (to_usd(INTERRUPTED), "estimate"))
        self.stores._backend.writer._gather_s = 0.0
        self.free = 0
        self.running = []

    async def begin(self, most):
        ask = Ask(BUDGET, 0, 1, 1, most, self.free)
        (granted,) = await self.stores.budgets.take([ask])
        self.free += granted.amount
        amount = min(most, self.free)
        if not amount:
            return
        self.free -= amount
        attempt = Attempt("p", "m", 1.0, running=True)
        request = Request("chat", "m", {"max_tokens": 1}, Call(id="r"), tenant=BUDGET.subject)
        self.stores.ledger.reserve(request, attempt, Usage(1))
        request.call.attempts.append(attempt)
        self.running.append((request, attempt, amount))

    def end(self, number, cost, *, recorded_first=False):
        request, attempt, amount = self.running.pop(number % len(self.running))
        cost = min(cost, amount)
        attempt.end()
        attempt.outcome, attempt.cost_usd, attempt.cost_source = "ok", to_usd(cost), "provider"
        if recorded_first:
            self.stores.ledger.record(request, request.call, duration_s=0.1, outcome="ok")
        if cost:
            self.stores.budgets.settle(attempt.ledger_id, [Move(BUDGET.id, 0, cost)])
        if not recorded_first:
            self.stores.ledger.record(request, request.call, duration_s=0.1, outcome="ok")
        self.free += amount - cost

    def give(self):
        self.stores.budgets.give(BUDGET.id, 0, self.free)
        self.free = 0

    def kill(self):
        """End it as `kill -9` would: what is queued is gone, the lock on its spool is free."""
        writer, spool = self.stores._backend.writer, self.stores.ledger._spool
        writer._queue.clear()
        os.close(spool._lock)
        spool._lock = -1


class Processes(RuleBasedStateMachine):
    empty: Path

    @initialize()
    def start(self):
        self.runner = asyncio.Runner()
        self.path = self.empty.with_name(f"{os.urandom(6).hex()}.db")
        shutil.copy(self.empty, self.path)
        self.each = [Process(self.path), Process(self.path)]
        for one in self.each:
            self.runner.run(one.stores.start())

    @rule(which=st.integers(0, 1), most=st.integers(1, 6_000))
    def begin(self, which, most):
        self.runner.run(self.each[which].begin(most))

    @rule(which=st.integers(0, 1), number=st.integers(0, 9), cost=st.integers(0, 6_000), late=st.booleans())
    def end(self, which, number, cost, late):
        if self.each[which].running:
            self.runner.run(asyncio.sleep(0, self.each[which].end(number, cost, recorded_first=late)))

    @rule(which=st.integers(0, 1))
    def give(self, which):
        self.each[which].give()

    @rule(which=st.integers(0, 1), recovered=st.booleans())
    def kill(self, which, recovered):
        self.each[which].kill()
        self.runner.run(self.each[which].stores.aclose())
        if recovered:
            self.runner.run(self.each[1 - which].stores.budgets.recover())
        self.each[which] = Process(self.path)
        self.runner.run(self.each[which].stores.start())

    @invariant()
    def nothing_is_lost_and_the_limit_holds(self):
        if not hasattr(self, "each"):
            return
        for one in self.each:
            self.runner.run(one.stores.flush())
        spent, held = rows(self.path, "SELECT ifnull(sum(spent), 0), ifnull(sum(held), 0) FROM budget_periods")[0]
        assert spent == rows(self.path, "SELECT ifnull(sum(cost_pusd), 0) FROM calls")[0][0]
        assert held == rows(self.path, "SELECT ifnull(sum(held), 0) FROM budget_leases")[0][0]
        assert held == sum(one.free + sum(amount for *_, amount in one.running) for one in self.each)
        assert spent + held <= LIMIT

    def teardown(self):
        if hasattr(self, "each"):
            for one in self.each:
                self.runner.run(one.stores.aclose())
            self.runner.close()


@pytest.fixture
async def empty(path):
    stores = open_store(f"sqlite:///{path}", SystemClock())
    await stores.start()
    await stores.budgets.put(BUDGET)
    await stores.aclose()
    return path


def test_processes_never_pass_a_budget_and_lose_none_of_it(empty):
    Processes.empty = empty
    run_state_machine_as_test(Processes, settings=settings(max_examples=15, stateful_step_count=15))


async def test_what_a_closed_process_held_is_free_at_the_next_start(empty):
    one = Process(empty)
    await one.stores.start()
    await one.begin(5_000)
    await one.stores.aclose()
    again = Process(empty)
    await again.stores.start()
    assert await again.stores.budgets.state(BUDGET.id, 0) == BudgetState(0, INTERRUPTED, 0, 0)
    await again.stores.aclose()


async def test_a_transaction_that_fails_moves_nothing_twice(empty, monkeypatch):
    one = Process(empty)
    await one.stores.start()
    await one.begin(5_000)
    look = one.stores.budgets._tally._look
    failures = iter([True])

    def fail(*args):
        if next(failures, False):
            raise sqlite3.OperationalError("database is locked")
        look(*args)

    monkeypatch.setattr(one.stores.budgets._tally, "_look", fail)
    cost = one.running[0][-1]
    one.end(0, cost)
    one.give()
    await one.stores.flush()
    assert await one.stores.budgets.state(BUDGET.id, 0) == BudgetState(0, cost, 0, 0)
    await one.stores.aclose()


async def test_the_budget_stores_keep_their_promises(stores):
    await check_budget_store(stores.budgets, stores.ledger)
    memory = open_store("memory:", SystemClock())
    await check_budget_store(memory.budgets, memory.ledger)


async def test_budgets_are_kept_changed_and_removed(stores):
    budgets = stores.budgets
    kept = Budget("bud_2", "key", "key_1", "month", "tokens", 500, (0.5, 1.0), True, 1_700_000_000.5)
    before = await budgets.version()
    await budgets.put(kept)
    assert await budgets.load() == [kept]
    assert await budgets.version() > before
    assert await budgets.delete("bud_2")
    assert not await budgets.delete("bud_2")
    assert await budgets.load() == []


async def test_an_unpriced_call_is_counted_as_such(stores, record, attempt):
    await stores.budgets.put(BUDGET)
    record(stores.ledger, attempt(None, "unknown"), tenant=BUDGET.subject)
    record(stores.ledger, attempt("0.000135"), tenant=BUDGET.subject)
    record(stores.ledger, attempt("0.5"), tenant="other")
    await stores.flush()
    assert await stores.budgets.state(BUDGET.id, 0) == BudgetState(0, int(Decimal("0.000135").scaleb(12)), 0, 1)
