import asyncio

import pytest

from penstock.core.clock import Clock
from penstock.testing import FakeClock


async def test_time_stands_still_until_moved():
    clock: Clock = FakeClock(monotonic=5, wall=100)
    assert (clock.monotonic(), clock.wall()) == (5, 100)
    await clock.sleep(0)
    assert clock.monotonic() == 5


async def test_sleepers_wake_in_order_at_their_time():
    clock, woken = FakeClock(monotonic=0), []

    async def nap(name, seconds):
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    naps = [asyncio.create_task(nap(name, seconds)) for name, seconds in [("c", 3), ("a", 1), ("b", 2), ("b2", 2)]]
    await clock.run(0)
    assert clock.sleeping == 4
    await clock.run(2.5)
    assert woken == [("a", 1), ("b", 2), ("b2", 2)]
    assert clock.monotonic() == 2.5
    clock.advance(0.5)
    assert clock.sleeping == 0
    await asyncio.gather(*naps)
    assert woken[-1] == ("c", 3)


async def test_time_passes_for_those_who_go_back_to_sleep():
    clock, ticks = FakeClock(monotonic=0), []

    async def tick():
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    ticking = asyncio.create_task(tick())
    await clock.run(3.5)
    assert ticks == [1, 2, 3]
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    assert clock.sleeping == 0
    await clock.run(5)
    assert ticks == [1, 2, 3]


def test_it_moves_without_an_event_loop_and_never_back():
    clock = FakeClock(monotonic=0, wall=0)
    clock.advance(2)
    clock.jump(-3600)
    assert (clock.monotonic(), clock.wall()) == (2, -3598)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
