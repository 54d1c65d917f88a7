"""What several processes on one store, and stores that fail, make of what was learnt."""

import asyncio

import pytest

from penstock.cascading.cascades import PREFIX, Cascades
from penstock.core.cascade import Cascade, Stage
from penstock.core.errors import StoreError
from penstock.core.route import Route, Target
from penstock.core.tasks import TaskGroup
from penstock.routing.cascade.answers import Answer
from penstock.stores.memory import MemoryStateStore
from penstock.testing import FakeClock


def route(name):
    return Route(name, (Target("near", name),), name.encode())


def smart(**terms):
    return Cascade((Stage("small", route=route("small")), Stage("large", route=route("large"))), **terms)


class Failing(MemoryStateStore):
    """Fails to save while told to, and tells of saving."""

    def __init__(self):
        super().__init__()
        self.failing = False
        self.saved = asyncio.Event()

    async def save(self, name, state):
        if self.failing:
            raise StoreError("the disk is full")
        await super().save(name, state)
        self.saved.set()


@pytest.fixture
def states():
    return Failing()


@pytest.fixture
async def begin(states):
    """Begins one process after the other, all on the same store."""
    groups = []

    async def begin(cascade=None, clock=None):
        groups.append(TaskGroup())
        begun = Cascades(states, clock or FakeClock(), groups[-1])
        await begun.configure({"smart": cascade or smart()})
        return begun

    yield begin
    for group in groups:
        await group.aclose()


def labels(cascades):
    return cascades.known["smart"].learners["small"].labels


async def teach(cascades, number):
    for each in range(number):
        answer = Answer(f"The answer is {each}.", "stop")
        await cascades.known["smart"].learn("small", "What?", answer, lost=False, escalated=False)


async def test_what_was_learnt_is_kept_now_and_then(begin, states):
    clock = FakeClock()
    first = await begin(clock=clock)
    await teach(first, 10)
    assert not await states.load(PREFIX)
    await asyncio.sleep(0)
    assert clock.sleeping == 1
    clock.advance(61.0)
    await states.saved.wait()
    assert list(await states.load(PREFIX)) == ["cascade/smart"]
    assert labels(await begin()) == 5, "every second one is fitted on"


async def test_the_process_that_is_behind_takes_up_what_the_other_kept(begin):
    first, second = await begin(), await begin()
    await teach(first, 10)
    await teach(second, 4)
    await first.save()
    await second.save()
    assert labels(second) == 5
    await teach(second, 4)
    await second.save()
    await teach(first, 1)
    await first.save()
    assert labels(first) == labels(second) == 7


async def test_what_could_not_be_kept_is_kept_the_next_time(begin, states, caplog):
    first = await begin()
    await teach(first, 10)
    states.failing = True
    await first.save()
    assert "could not be kept: the disk is full" in caplog.text
    states.failing = False
    await first.save()
    assert labels(await begin()) == 5


async def test_what_cannot_be_read_is_said_and_begun_anew(begin, states, caplog):
    await states.save("cascade/smart", b"?")
    assert labels(await begin()) == 0
    assert "what was learnt for smart is not used" in caplog.text


async def test_what_was_learnt_of_another_model_does_not_count(begin):
    first = await begin()
    await teach(first, 10)
    first.known["smart"].counts.requests = 7
    await first.save()
    other = Cascade((Stage("small", route=route("smaller")), Stage("large", route=route("large"))))
    again = await begin(other)
    assert (labels(again), again.known["smart"].counts.requests) == (0, 7)
