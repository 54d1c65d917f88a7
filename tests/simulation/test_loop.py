import asyncio

import pytest

from penstock.testing.simulation import SimulatedClock, SimulatedLoop, Stuck


def run(main, seed=1):
    loop = SimulatedLoop(seed)
    try:
        return loop.run_until_complete(main(loop)), loop
    finally:
        loop.close()


def test_time_passes_only_where_a_loop_would_wait():
    async def main(loop):
        clock = SimulatedClock(loop)
        began, began_at = clock.monotonic(), clock.wall()
        await asyncio.gather(clock.sleep(3600), clock.sleep(5))
        clock.jump(-60)
        return clock.monotonic() - began, clock.wall() - began_at

    (passed, of_the_day), _ = run(main)
    assert passed == pytest.approx(3600, abs=0.002)
    assert of_the_day == pytest.approx(3540, abs=0.002)


def test_what_can_never_end_is_said_to_be_stuck():
    async def nothing():
        await asyncio.Event().wait()

    async def main(loop):
        await asyncio.gather(loop.create_task(nothing(), name="one that waits"))

    with pytest.raises(Stuck, match="one that waits"):
        run(main)


def test_what_never_waits_is_said_to_be_stuck():
    async def main(loop):
        def again():
            loop.call_soon(again)

        again()
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="steps"):
        run(main)


async def _order(loop):
    ran = []

    async def task(number):
        await asyncio.sleep(0)
        ran.append(number)

    for number in range(5):
        loop.call_soon(ran.append, f"callback {number}")
    await asyncio.gather(*(task(number) for number in range(5)))
    return ran


def test_the_seed_decides_the_order_of_tasks_and_keeps_that_of_callbacks():
    orders = [run(_order, seed)[0] for seed in range(40)]
    assert len({tuple(order) for order in orders}) > 5
    for order in orders:
        assert [each for each in order if isinstance(each, str)] == [f"callback {number}" for number in range(5)]
    assert orders == [run(_order, seed)[0] for seed in range(40)]


def test_tasks_are_cancelled_at_all_of_their_suspensions():
    async def main(loop):
        reached = []

        async def work():
            try:
                for step in range(4):
                    reached[:] = [step]
                    await asyncio.sleep(1)
            except asyncio.CancelledError:
                reached.append("cancelled")
                raise

        task = loop.create_task(work())
        loop.interrupt(task, within=4)
        await asyncio.wait([task])
        return tuple(reached)

    ends = {run(main, seed)[0] for seed in range(60)}
    assert ends >= {(step, "cancelled") for step in range(4)}


def test_work_for_threads_is_done_by_the_loop():
    async def main(loop):
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return await asyncio.to_thread(asyncio.get_running_loop)

    found, loop = run(main)
    assert found is loop


def test_errors_that_nobody_handles_are_kept():
    async def main(loop):
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.1)

    _, loop = run(main)
    assert len(loop.errors) == 1
    assert "ZeroDivisionError" in loop.errors[0]


def test_there_is_no_network():
    async def main(loop):
        with pytest.raises(NotImplementedError):
            loop.add_reader(0, print)

    run(main)
