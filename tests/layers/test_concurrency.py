import asyncio
from random import Random

import pytest

from penstock.config.providers import ProviderLimitSettings, ProviderSettings
from penstock.config.settings import BreakerSettings, LimitSettings
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.errors import ProviderError, RateLimited, TargetBusy
from penstock.core.handler import compose
from penstock.core.quota import Quota
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.core.usage import Usage
from penstock.layers.breaker import Breaker
from penstock.layers.concurrency import Concurrency, ProviderDoors
from penstock.layers.failover import Failover
from penstock.limiting.ticket import Ticket
from penstock.routing.health import Health
from penstock.testing import Reply, ScriptedProvider

A, B = Target("a", "m"), Target("b", "m")
DOWN = ProviderError("down", status_code=500)


class Bench:
    def __init__(self, *targets, max_queued=1000, **limits):
        self.clock = SystemClock()
        self.health = Health(BreakerSettings(), self.clock)
        self.doors = ProviderDoors(self.clock)
        self.configure(max_queued=max_queued, **limits)
        self.route = Route("chat", targets or (A,), b"")
        self.providers = {name: ScriptedProvider(name) for name in "ab"}
        limit = Concurrency(self.doors, self.health, lambda request: 10)
        inside = compose([Breaker(self.health), limit], self.provide)
        self.handler = compose([Failover(self.health, self.clock, Random(1))], inside)

    def configure(self, *, max_queued=1000, **limits):
        settings = ProviderLimitSettings(**limits)
        providers = [ProviderSettings(name=name, kind="simulated", limits=settings) for name in "a"]
        self.doors.configure(providers, LimitSettings(max_queued=max_queued))

    async def provide(self, request):
        target = request.target
        request.call.attempts.append(Attempt(target.provider, target.model, self.clock.monotonic()))
        return await self.providers[target.provider].send(request, target)

    def request(self, *, timeout_s=60.0, **fields):
        deadline = self.clock.monotonic() + timeout_s
        return Request("chat", "chat", {}, Call("req"), route=self.route, deadline=deadline, **fields)

    async def run(self, **fields):
        return await self.handler(self.request(**fields))

    def start(self, **fields):
        return asyncio.get_running_loop().create_task(self.run(**fields))

    @property
    def state(self):
        (state,) = self.doors.states()
        return state

    def learn_that_answers_take(self, seconds):
        ticket = Ticket("default", "m", 10, 10)
        self.gate.enter(ticket, 0.0)
        self.gate.answered(ticket, (10, 10), seconds)

    @property
    def gate(self):
        return self.doors.get("a").gate


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_than_the_limit_at_once_and_the_next_when_one_ends():
    bench, gate = Bench(max_concurrency=2), asyncio.Event()
    bench.providers["a"] = ScriptedProvider("a", Reply(gate=gate))
    tasks = [bench.start() for _ in range(5)]
    await settle()
    assert bench.providers["a"].calls == 2
    assert (bench.state.in_use, bench.state.queued) == (2, 3)
    gate.set()
    await asyncio.gather(*tasks)
    assert bench.providers["a"].calls == 5
    assert (bench.state.in_use, bench.state.queued) == (0, 0)


async def test_a_stream_holds_its_place_until_it_ends():
    bench = Bench(max_concurrency=1)
    first = await bench.run(stream=True)
    second = bench.start(stream=True)
    await settle()
    assert not second.done()
    assert [event async for batch in first for event in batch]
    response = await second
    assert bench.state.in_use == 1
    await response.aclose()
    assert bench.state.in_use == 0


@pytest.mark.parametrize("error", [DOWN, ProviderError("late", code="upstream_timeout"), RuntimeError("bug")])
async def test_a_failure_frees_its_place(error):
    bench = Bench(max_concurrency=1)

    async def fail(request, target):
        raise error

    bench.providers["a"].send = fail
    with pytest.raises(type(error)):
        await bench.run()
    assert bench.state.in_use == 0


async def test_a_thousand_aborts_leave_every_place_free():
    """Whole answers and streams; those that wait, that run, and that are in the middle of a stream."""
    bench, random = Bench(max_concurrency=20, max_queued=5000), Random(1)
    bench.learn_that_answers_take(0.1)
    never = asyncio.Event()
    replies = [Reply(gate=never), Reply(text="A long story.", gates={1: never})]
    bench.providers["a"] = ScriptedProvider("a", [random.choice(replies) for _ in range(1000)])
    begun = []

    async def use(**fields):
        response = await bench.run(**fields)
        try:
            async for batch in response:
                begun.append(batch)
        finally:
            await response.aclose()

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(use(stream=random.random() < 0.7, tenant=random.choice("ab"))) for _ in range(1000)]
    await settle()
    assert (bench.state.in_use, bench.state.queued) == (20, 980)
    assert begun
    random.shuffle(tasks)
    for number, task in enumerate(tasks):
        task.cancel()
        if number % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (bench.state.in_use, bench.state.queued) == (0, 0)
    bench.providers["a"] = ScriptedProvider("a")
    await bench.run()


async def test_who_is_cancelled_in_the_moment_of_admission_passes_the_place_on():
    bench, gate = Bench(max_concurrency=1), asyncio.Event()
    bench.providers["a"] = ScriptedProvider("a", [Reply(gate=gate), "Hello."])
    first, second, third = bench.start(), bench.start(), bench.start()
    await settle()
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await third
    assert bench.state.in_use == 0


async def test_another_target_that_has_room_is_better_than_waiting():
    bench, gate = Bench(A, B, max_concurrency=1), asyncio.Event()
    bench.providers["a"] = ScriptedProvider("a", Reply(gate=gate))
    first = bench.start()
    await settle()
    await bench.run()
    assert (bench.providers["a"].calls, bench.providers["b"].calls) == (1, 1)
    gate.set()
    await first


async def test_when_the_other_one_fails_the_busy_one_is_waited_for():
    bench, gate = Bench(A, B, max_concurrency=1), asyncio.Event()
    bench.providers["a"] = ScriptedProvider("a", Reply(gate=gate))
    bench.providers["b"] = ScriptedProvider("b", DOWN)
    first, second = bench.start(), bench.start()
    await settle()
    assert bench.providers["b"].calls == 1
    gate.set()
    await asyncio.gather(first, second)
    assert bench.providers["a"].calls == 2


async def test_a_hedge_does_not_wait():
    bench = Bench(max_concurrency=1)
    stream = await bench.run(stream=True)
    with pytest.raises(TargetBusy):
        await bench.run(stream=True, hedge=True)
    await stream.aclose()


async def test_what_cannot_be_in_time_is_refused_at_once():
    bench = Bench(max_concurrency=1)
    bench.learn_that_answers_take(30.0)
    stream = await bench.run(stream=True)
    task = bench.start(timeout_s=10)
    await settle()  # no time passes
    with pytest.raises(RateLimited) as refused:
        task.result()
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.retry_after >= 1
    assert bench.state.refused == 1
    await stream.aclose()


async def test_who_has_waited_too_long_is_refused_rather_than_sent_late():
    bench = Bench(max_concurrency=1)
    bench.learn_that_answers_take(0.05)
    stream = await bench.run(stream=True)
    with pytest.raises(RateLimited):
        await bench.run(timeout_s=0.3)
    assert bench.providers["a"].calls == 1
    assert bench.state.queued == 0
    await stream.aclose()


async def test_without_places_to_wait_the_next_is_refused():
    bench = Bench(max_concurrency=1, max_queued=0)
    stream = await bench.run(stream=True)
    with pytest.raises(RateLimited):
        await bench.run()
    await stream.aclose()


async def test_time_alone_lets_in_who_waits_for_the_minute():
    bench = Bench(requests_per_minute=6000)
    while bench.gate.room(bench.clock.monotonic()):
        await bench.run()
    before = bench.providers["a"].calls
    tasks = [bench.start() for _ in range(5)]
    await settle()
    assert bench.state.queued > 0
    await asyncio.gather(*tasks)
    assert bench.providers["a"].calls == before + 5


async def test_what_the_upstream_says_of_its_limits_is_heeded():
    bench = Bench(requests_per_minute=600, tokens_per_minute=600_000)

    async def send(request, target):
        return Response(body=b"{}", usage=Usage(10, 5), quota=Quota(requests_remaining=0))

    bench.providers["a"].send = send
    await bench.run()
    assert not bench.gate.room(bench.clock.monotonic())


async def test_a_refusal_of_the_upstream_pauses_those_who_wait():
    bench = Bench(max_concurrency=1)
    limited = ProviderError("slow down", status_code=429, code="rate_limit_exceeded", retry_after=0.2)
    gate = asyncio.Event()
    bench.providers["a"] = ScriptedProvider("a", [Reply(error=limited, gate=gate), "Hello."])
    first, second = bench.start(), bench.start()
    await settle()
    gate.set()
    with pytest.raises(ProviderError):
        await first
    await settle()
    assert (bench.state.in_use, bench.state.queued) == (0, 1)
    await second


async def test_the_time_in_the_queue_is_noted():
    bench = Bench(max_concurrency=1)
    stream = await bench.run(stream=True)
    request = bench.request()
    waiting = asyncio.get_running_loop().create_task(bench.handler(request))
    await asyncio.sleep(0.02)
    await stream.aclose()
    await waiting
    assert request.call.queued_s >= 0.01


async def test_high_goes_before_low_among_a_tenants_own():
    bench, order = Bench(max_concurrency=1), []
    stream = await bench.run(stream=True)

    async def send(request, target):
        order.append(request.priority)
        return Response(body=b"{}", usage=Usage(10, 5))

    bench.providers["a"].send = send
    tasks = [bench.start(priority=priority) for priority in ("low", "normal", "high")]
    await settle()
    await stream.aclose()
    await asyncio.gather(*tasks)
    assert order == ["high", "normal", "low"]


async def test_other_limits_are_in_force_at_once_and_know_what_is_under_way():
    bench = Bench(max_concurrency=1)
    stream = await bench.run(stream=True)
    waiting = [bench.start(stream=True) for _ in range(2)]
    await settle()
    bench.configure(max_concurrency=2)
    await settle()
    assert (bench.state.in_use, bench.state.queued, bench.state.limit) == (2, 1, 2)
    bench.configure()
    await asyncio.gather(*waiting)
    assert bench.doors.get("a") is None
    for each in (stream, *(task.result() for task in waiting)):
        await each.aclose()
    bench.configure(max_concurrency=1)
    await bench.run()
    assert bench.state.in_use == 0
