import asyncio
from decimal import Decimal

import pytest

from penstock.config.settings import BreakerSettings, RetrySettings
from penstock.core.call import Call
from penstock.core.errors import ProviderError
from penstock.core.handler import compose
from penstock.core.request import Request
from penstock.core.route import HedgeTerms, Route, Target
from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.layers.attempt import Attempts
from penstock.layers.breaker import Breaker
from penstock.layers.hedge import Hedge
from penstock.layers.retry import Retry
from penstock.routing.health import Health
from penstock.routing.hedging import Hedging
from penstock.testing import FakeClock, Reply, ScriptedProvider

NEAR, FAR, RESERVE = Target("near", "m"), Target("far", "m"), Target("reserve", "m", order=1)
TERMS = HedgeTerms(budget=0.05)
INPUTS = 100


class NoJitter:
    def uniform(self, low, high):
        return high


class World:
    """The stack below failover, on scripted providers and a clock of its own."""

    def __init__(self, near="Near.", far="Far.", *, targets=(NEAR, FAR, RESERVE), terms=TERMS):
        self.clock = FakeClock()
        self.tasks = TaskGroup()
        self.policy = Hedging()
        self.health = Health(BreakerSettings(), self.clock)
        self.providers = {
            "near": ScriptedProvider("near", near),
            "far": ScriptedProvider("far", far),
            "reserve": ScriptedProvider("reserve"),
        }
        self.route = Route("fast", targets, b"", hedge=terms)
        hedge = Hedge(self.policy, self.health, lambda request: INPUTS, self.clock, self.tasks)
        retry = Retry(RetrySettings(), self.health, self.clock, NoJitter())
        attempts = Attempts(
            {}, lambda *_: (Decimal(1), "estimate"), lambda *_: Usage(INPUTS, 0, source="estimate"), self.clock
        )
        self.handler = compose([hedge, retry, Breaker(self.health), attempts], self.provide)

    def provide(self, request):
        return self.providers[request.target.provider].send(request, request.target)

    def teach(self, *, near_s=0.2, far_s=0.2):
        """Show the policy a thousand requests, so that one is late after 0.2 s or so and there is a budget."""
        for number in range(1000):
            slow = 30.0 if number % 50 == 0 else 1.0
            self.policy.learn(self.route, NEAR, INPUTS, near_s * slow)
            self.policy.learn(self.route, FAR, INPUTS, far_s)
            self.policy.earn(self.route, TERMS, INPUTS, 2 * INPUTS)
        return self

    def ask(self, **fields):
        request = Request("chat", "fast", {}, Call("id"), route=self.route, target=NEAR, **{"stream": True, **fields})
        return request, asyncio.create_task(answered(self.handler(request)))

    def rows(self, request):
        return [(row.provider, row.outcome, row.hedge) for row in request.call.attempts]

    @property
    def near(self):
        return self.providers["near"]

    @property
    def far(self):
        return self.providers["far"]


async def answered(coming):
    return await coming


async def text(response):
    return b"".join([event.data async for batch in response for event in batch]).decode()


def failing(code="upstream_error", **fields):
    return ProviderError("no", code=code, **fields)


async def test_an_answer_in_time_is_not_hedged():
    world = World(Reply(text="Near.")).teach()
    request, asked = world.ask()
    await world.clock.run(0.1)
    response = await asked
    assert "Near." in await text(response)
    assert world.rows(request) == [("near", "ok", False)]
    assert world.far.calls == 0
    assert len(world.tasks) == 0


async def test_a_late_request_is_sent_to_another_target_and_the_first_answer_is_given():
    gate = asyncio.Event()
    world = World(Reply(gate=gate)).teach()
    request, asked = world.ask()
    await world.clock.run(0.1)
    assert world.far.calls == 0
    await world.clock.run(1.0)
    response = await asked
    assert "Far." in await text(response)
    assert world.rows(request) == [("near", "hedge_lost", False), ("far", "ok", True)]
    assert world.near.endings == ["closed"]
    lost, won = request.call.attempts
    assert lost.usage == Usage(INPUTS, 0, source="estimate")
    assert lost.cost_usd == 1
    assert request.call.usage == won.usage
    assert won.usage.source == "provider"
    assert request.call.served is won
    counts = world.policy.counts
    assert (counts.late, counts.sent, counts.won, counts.tokens) == (1, 1, 1, INPUTS)
    assert len(world.tasks) == 0


async def test_the_first_request_may_still_win():
    gate = asyncio.Event()
    world = World(Reply(gate=gate), Reply(gate=asyncio.Event())).teach()
    request, asked = world.ask()
    await world.clock.run(1.0)
    assert world.far.calls == 1
    gate.set()
    response = await asked
    assert "Hello." in await text(response)
    assert world.rows(request) == [("near", "ok", False), ("far", "hedge_lost", True)]
    assert world.far.endings == ["closed"]
    assert request.call.served is request.call.attempts[0]
    assert world.policy.counts.won == 0


async def test_both_answer_at_once_and_one_is_closed():
    gate = asyncio.Event()
    world = World(Reply(gate=gate), Reply(gate=gate)).teach()
    request, asked = world.ask()
    await world.clock.run(1.0)
    gate.set()
    response = await asked
    assert request.call.usage is None
    await text(response)
    assert world.rows(request) == [("near", "ok", False), ("far", "hedge_lost", True)]
    assert (world.near.endings, world.far.endings) == (["finished"], ["closed"])
    assert request.call.usage == request.call.attempts[0].usage


async def test_an_answer_that_has_begun_is_not_hedged():
    begun, later = asyncio.Event(), asyncio.Event()
    begun.set()
    world = World(Reply(text="A long answer.", gates={1: later})).teach()
    request, asked = world.ask()
    response = await asked
    reading = asyncio.create_task(text(response))
    await world.clock.run(100.0)
    assert world.far.calls == 0
    later.set()
    await reading
    assert world.rows(request) == [("near", "ok", False)]


async def test_a_first_request_that_fails_leaves_it_to_the_second():
    near, far = asyncio.Event(), asyncio.Event()
    world = World(Reply(gate=near, error=failing("upstream_connect")), Reply(text="Far.", gate=far)).teach()
    request, asked = world.ask()
    await world.clock.run(1.0)
    near.set()
    await world.clock.settle()
    assert not asked.done()
    far.set()
    assert "Far." in await text(await asked)
    assert world.rows(request) == [("near", "upstream_connect", False), ("far", "ok", True)]


async def test_when_both_fail_the_first_ones_error_is_raised_and_failover_goes_on():
    near, far = asyncio.Event(), asyncio.Event()
    world = World(
        Reply(gate=near, error=failing("upstream_connect")), Reply(gate=far, error=failing("upstream_tls"))
    ).teach()
    request, asked = world.ask()
    await world.clock.run(1.0)
    far.set()
    await world.clock.settle()
    assert not asked.done()
    near.set()
    with pytest.raises(ProviderError) as caught:
        await asked
    assert caught.value.code == "upstream_connect"
    assert world.rows(request) == [("near", "upstream_connect", False), ("far", "upstream_tls", True)]
    assert len(world.tasks) == 0


async def test_a_failure_before_it_is_late_is_raised_at_once():
    world = World(failing("upstream_connect")).teach()
    _, asked = world.ask()
    with pytest.raises(ProviderError):
        await asked
    assert world.far.calls == 0
    assert len(world.tasks) == 0


async def test_a_fault_of_the_request_does_not_wait_for_the_second():
    near = asyncio.Event()
    refused = failing("invalid", status_code=400, elsewhere=False)
    world = World(Reply(gate=near, error=refused), Reply(gate=asyncio.Event())).teach()
    request, asked = world.ask()
    await world.clock.run(1.0)
    near.set()
    with pytest.raises(ProviderError) as caught:
        await asked
    assert caught.value is refused
    assert world.far.endings == ["closed"]
    assert world.rows(request)[1] == ("far", "client_closed", True)


async def test_cancelling_the_call_cancels_both():
    world = World(Reply(gate=asyncio.Event()), Reply(gate=asyncio.Event())).teach()
    request, asked = world.ask()
    await world.clock.run(1.0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (world.near.endings, world.far.endings) == (["closed"], ["closed"])
    assert world.rows(request) == [("near", "client_closed", False), ("far", "client_closed", True)]
    assert len(world.tasks) == 0
    assert not world.policy.crowded(NEAR)


async def test_a_call_cancelled_while_the_loser_ends_closes_the_winner():
    class Stubborn(ScriptedProvider):
        async def send(self, request, target):
            try:
                return await super().send(request, target)
            except asyncio.CancelledError:
                await asyncio.Event().wait()

    world = World().teach()
    world.providers["near"] = Stubborn("near", Reply(gate=asyncio.Event()))
    _, asked = world.ask()
    await world.clock.run(1.0)
    assert world.far.calls == 1
    assert not asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert world.far.endings == ["closed"]
    await world.tasks.aclose()


async def test_a_stream_that_is_closed_early_closes_its_upstream():
    world = World(Reply(gate=asyncio.Event())).teach()
    request, asked = world.ask()
    await world.clock.run(1.0)
    response = await asked
    await response.aclose()
    assert world.far.endings == ["closed"]
    assert world.rows(request) == [("near", "hedge_lost", False), ("far", "client_closed", True)]


async def test_without_terms_or_a_stream_nothing_is_hedged():
    for world, fields in (
        (World(Reply(gate=asyncio.Event()), terms=None).teach(), {}),
        (World(Reply(gate=asyncio.Event())).teach(), {"stream": False}),
    ):
        _, asked = world.ask(**fields)
        await world.clock.run(100.0)
        assert world.far.calls == 0
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_a_target_that_struggles_is_not_asked():
    world = World(Reply(gate=asyncio.Event())).teach()
    circuit = world.health.circuit(FAR)
    circuit.limited(circuit.admit(world.clock.monotonic()), world.clock.monotonic(), 1.0)
    world.clock.advance(20.0)
    assert world.health.recovers_in(FAR) == 0.0
    _, asked = world.ask()
    await world.clock.run(1.0)
    assert world.far.calls == 0
    assert world.policy.counts.saturated == 1
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_crowded_target_is_not_asked():
    world = World(Reply(gate=asyncio.Event())).teach()
    for _ in range(4):
        world.policy.enter(FAR)
        world.policy.tarry(FAR)
    _, asked = world.ask()
    await world.clock.run(1.0)
    assert world.far.calls == 0
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_targets_of_another_order_and_of_no_weight_and_those_that_failed_are_not_asked():
    others = (NEAR, Target("far", "m", weight=0.0), RESERVE)
    world = World(Reply(gate=asyncio.Event()), targets=others).teach()
    _, asked = world.ask()
    await world.clock.run(1.0)
    assert world.near.calls == 2, "the only one of its kind is asked twice"
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)

    world = World([failing(), Reply(gate=asyncio.Event())], targets=(NEAR, FAR)).teach()
    request, asked = world.ask()
    request.call.attempts.append(type("Row", (), {"provider": "far", "model": "m"})())
    await world.clock.run(1.0)
    assert world.far.calls == 0
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_without_tokens_it_is_asked_again_when_it_has_waited_twice_as_long():
    world = World(Reply(gate=asyncio.Event())).teach()
    while world.policy.spend(world.route, INPUTS):
        pass
    _, asked = world.ask()
    await world.clock.run(0.4)
    assert world.far.calls == 0
    assert world.policy.counts.unaffordable == 1
    for _ in range(100):
        world.policy.earn(world.route, TERMS, INPUTS, 2 * INPUTS)
    await world.clock.run(10.0)
    assert "Far." in await text(await asked)


async def test_there_is_no_hedge_that_cannot_answer_before_the_deadline():
    world = World(Reply(gate=asyncio.Event())).teach()
    _, asked = world.ask(deadline=world.clock.monotonic() + 0.3)
    await world.clock.run(1.0)
    assert world.far.calls == 0
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_hedge_is_not_retried_and_one_that_was_not_sent_is_not_paid_for():
    world = World(Reply(gate=asyncio.Event()), failing(status_code=503, retryable=True)).teach()
    _, asked = world.ask()
    await world.clock.run(60.0)
    assert world.far.calls == 1
    assert world.policy.counts.tokens == INPUTS
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)

    world = World(Reply(gate=asyncio.Event())).teach()
    world.health.fit = lambda target: True
    for _ in range(5):
        circuit = world.health.circuit(FAR)
        circuit.failed(circuit.admit(world.clock.monotonic()), world.clock.monotonic(), "upstream_connect")
    request, asked = world.ask()
    await world.clock.run(1.0)
    assert world.far.calls == 0
    assert (world.policy.counts.sent, world.policy.counts.tokens) == (0, 0)
    assert len(request.call.attempts) == 1
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_what_a_lost_request_would_have_taken_is_not_taken_for_short():
    world = World(Reply(gate=asyncio.Event())).teach()
    before = world.policy.late_after(world.route, TERMS, INPUTS)
    for _ in range(40):
        world.policy.earn(world.route, TERMS, INPUTS, 100 * INPUTS)
        _, asked = world.ask()
        await world.clock.run(1.0)
        await (await asked).aclose()
    assert world.policy.counts.won == 40
    assert world.policy.late_after(world.route, TERMS, INPUTS) >= before
