import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import DeadlineExceeded
from penstock.polling.backoff import Backoff, poll


class ManualClock:
    """Time passes only by sleeping."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def wall(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Work:
    """Is done after some seconds of the clock."""

    def __init__(self, clock, seconds):
        self.clock = clock
        self.ready_at = clock.now + seconds
        self.looks = 0

    async def look(self):
        self.looks += 1
        return "completed" if self.clock.now >= self.ready_at else "queued"


def completed(status):
    return status == "completed"


def test_waits_grow_to_the_limit():
    schedule = Backoff(2, 8, 1.5)
    assert [schedule.wait(n) for n in range(6)] == [2, 3, 4.5, 6.75, 8, 8]
    assert schedule.wait(10**9) == 8


@given(
    low=st.floats(0.001, 100),
    span=st.floats(1, 1000),
    factor=st.floats(1, 10),
    n=st.integers(0, 10_000),
)
def test_waits_never_shrink_and_stay_inside(low, span, factor, n):
    schedule = Backoff(low, low * span, factor)
    assert low <= schedule.wait(n) <= schedule.wait(n + 1) <= low * span


@pytest.mark.parametrize("wrong", [(0, 1, 2), (2, 1, 2), (1, 2, 0.5), (1, float("inf"), 2), (float("nan"), 1, 1)])
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(ValueError, match="min_s"):
        Backoff(*wrong)


async def test_returns_the_value_that_is_done():
    clock = ManualClock()
    work = Work(clock, 6)
    assert await poll(work.look, completed, schedule=Backoff(2, 8, 1.5), clock=clock, timeout_s=60) == "completed"
    assert clock.slept == [2, 3, 4.5]
    assert work.looks == 4


async def test_done_at_once_waits_for_nothing():
    clock = ManualClock()
    await poll(Work(clock, 0).look, completed, schedule=Backoff(2, 8, 1.5), clock=clock, timeout_s=60)
    assert clock.slept == []


async def test_gives_up_at_the_deadline_and_not_after_it():
    clock = ManualClock()
    start = clock.now
    with pytest.raises(DeadlineExceeded):
        await poll(Work(clock, 1e9).look, completed, schedule=Backoff(2, 8, 2), clock=clock, timeout_s=30)
    assert 25 < clock.now - start <= 30


async def test_work_that_ends_within_the_last_wait_is_seen():
    clock = ManualClock()
    work = Work(clock, 9)
    assert await poll(work.look, completed, schedule=Backoff(1, 60, 3), clock=clock, timeout_s=12) == "completed"


async def test_a_look_that_hangs_is_cancelled_at_the_deadline():
    cancelled = asyncio.Event()

    async def hang():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(DeadlineExceeded):
        await poll(hang, completed, schedule=Backoff(1, 1, 1), clock=ManualClock(), timeout_s=0.02)
    assert cancelled.is_set()


async def test_errors_of_the_look_come_through():
    async def fail():
        raise TimeoutError("the look's own")

    with pytest.raises(TimeoutError, match="own"):
        await poll(fail, completed, schedule=Backoff(1, 1, 1), clock=ManualClock(), timeout_s=5)
