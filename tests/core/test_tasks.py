import asyncio
import gc
import logging

import pytest

from penstock.core.tasks import TaskGroup


async def test_tasks_stay_alive_without_anybody_holding_them():
    tasks, done = TaskGroup(), []

    async def work():
        await asyncio.sleep(0.01)
        done.append(True)

    tasks.spawn(work(), name="work")
    gc.collect()
    assert len(tasks) == 1
    await tasks.drain()
    assert done == [True]
    assert len(tasks) == 0


async def test_the_result_can_be_waited_for():
    async def work():
        return 5

    task = TaskGroup().spawn(work(), name="five")
    assert task.get_name() == "five"
    assert await task == 5


async def test_a_failure_is_logged_by_name_and_leaves_the_others_alone(caplog):
    tasks, going_on = TaskGroup(), asyncio.Event()

    async def fail():
        raise ValueError("no luck")

    failed = tasks.spawn(fail(), name="unlucky")
    other = tasks.spawn(going_on.wait(), name="other")
    with caplog.at_level(logging.ERROR, "penstock.tasks"):
        await asyncio.wait([failed])
        await asyncio.sleep(0)
    assert "unlucky failed: ValueError('no luck')" in caplog.text
    assert not other.done()
    going_on.set()
    await tasks.drain()
    assert other.result() is True


async def test_closing_cancels_and_waits_for_what_is_tidied_up(caplog):
    tasks, tidied = TaskGroup(), []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            tidied.append(True)

    task = tasks.spawn(work(), name="work")
    await asyncio.sleep(0)
    await tasks.aclose()
    assert tidied == [True]
    assert task.cancelled()
    assert len(tasks) == 0
    assert not caplog.text


async def test_closing_survives_a_task_that_fails_meanwhile(caplog):
    tasks = TaskGroup()

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("while closing")

    tasks.spawn(work(), name="clumsy")
    await asyncio.sleep(0)
    await tasks.aclose()
    assert "clumsy failed" in caplog.text


async def test_closing_also_ends_what_tasks_start_when_they_are_ended():
    tasks, ended = TaskGroup(), []

    async def second():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("second")

    async def first():
        try:
            await asyncio.sleep(60)
        finally:
            tasks.spawn(second(), name="second")
            await asyncio.sleep(0.01)

    tasks.spawn(first(), name="first")
    await asyncio.sleep(0)
    await tasks.aclose()
    assert ended == ["second"]
    assert len(tasks) == 0


async def test_drain_also_waits_for_tasks_that_tasks_start():
    tasks, done = TaskGroup(), []

    async def second():
        await asyncio.sleep(0.01)
        done.append("second")

    async def first():
        tasks.spawn(second(), name="second")
        done.append("first")

    tasks.spawn(first(), name="first")
    await tasks.drain()
    assert done == ["first", "second"]


def test_without_a_loop_nothing_is_started():
    async def work():
        pass

    coroutine = work()
    with pytest.raises(RuntimeError):
        TaskGroup().spawn(coroutine, name="work")
    coroutine.close()
