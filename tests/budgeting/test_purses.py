"""What a process holds of budgets."""

import asyncio

import pytest

from penstock.budgeting.purses import Purses
from penstock.core.budget import Ask, Budget
from penstock.core.tasks import TaskGroup
from penstock.stores.memory_budgets import MemoryBudgetStore
from penstock.testing import FakeClock

BUDGET = Budget("b", "team", "default", "total", "tokens", 1000, configured=True)


@pytest.mark.parametrize("steps", range(7))
async def test_nothing_stays_held_for_who_goes_while_it_is_granted(steps):
    clock = FakeClock()
    store = MemoryBudgetStore(clock)
    purses = Purses(store, clock, TaskGroup())
    purses.configure([BUDGET])
    (purse,) = purses.of("default", "", clock.wall(), clock.monotonic()).purses
    claiming = asyncio.ensure_future(purses.claim([purse], [Ask(BUDGET, purse.start, 10, 100, 100, 0)]))
    for _ in range(steps):
        await asyncio.sleep(0)
    gone = claiming.cancel()
    (mine,) = await asyncio.gather(claiming, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert gone == isinstance(mine, asyncio.CancelledError)
    if not gone:
        purses.put_back([purse], mine)
    purses.close()
    assert (await store.state("b", purse.start)).held == 0
