import asyncio
import logging

import pytest

from penstock.core.errors import DeliveryFailed
from penstock.core.tasks import TaskGroup
from penstock.notify.log import LogSink
from penstock.notify.message import Message
from penstock.notify.outbox import PAUSES_S, Outbox
from penstock.testing import FakeClock

MESSAGE = Message("msg_1", "report.daily", 0.0, "Yesterday", "All was well.")


class Moody:
    """A sink that fails as told, then works."""

    name = "moody"

    def __init__(self, *failures):
        self.failures = list(failures)
        self.tried_at = []

    async def send(self, message):
        self.tried_at.append(self.clock.monotonic())
        if self.failures:
            raise DeliveryFailed("no", permanent=self.failures.pop(0))


@pytest.fixture
async def outbox():
    tasks = TaskGroup()
    clock = FakeClock()
    box = Outbox(tasks, clock)
    box.clock, box.tasks = clock, tasks
    yield box
    await tasks.aclose()


async def deliver(box, sink):
    sink.clock = box.clock
    box.sinks = {sink.name: sink}
    box.send(MESSAGE, [sink.name])
    while box.state.waiting:
        await box.clock.run(1.0)
    return [at - sink.tried_at[0] for at in sink.tried_at]


async def test_it_is_sent_again_until_it_arrives(outbox):
    waits = await deliver(outbox, Moody(False, False))
    assert waits == pytest.approx([0.0, 5.0, 35.0], abs=3.0)
    assert (outbox.state.delivered, outbox.state.failed) == (1, 0)


async def test_it_is_given_up_in_the_end(outbox, caplog):
    assert len(await deliver(outbox, Moody(*[False] * 20))) == len(PAUSES_S) + 1
    assert (outbox.state.delivered, outbox.state.failed) == (0, 1)
    assert "msg_1 is given up: no" in caplog.text


async def test_what_cannot_arrive_is_tried_once(outbox):
    assert len(await deliver(outbox, Moody(True))) == 1
    assert outbox.state.failed == 1


async def test_an_unknown_sink_is_an_error_in_the_log(outbox, caplog):
    outbox.send(MESSAGE, ["nobody"])
    assert "there is no sink nobody" in caplog.text


async def test_what_is_under_way_at_the_end_is_not_silently_lost(outbox, caplog):
    sink = Moody(False)
    sink.clock = outbox.clock
    outbox.sinks = {"moody": sink}
    outbox.send(MESSAGE, ["moody"])
    await asyncio.sleep(0)
    await outbox.tasks.aclose()
    assert outbox.state.waiting == 0
    assert "stops before it was delivered" in caplog.text


async def test_the_log_is_a_sink(caplog):
    with caplog.at_level(logging.WARNING, "penstock.notify"):
        await LogSink().send(MESSAGE)
    assert "report.daily msg_1: Yesterday" in caplog.text
