import asyncio
from random import Random

import pytest

from penstock.core.call import Call
from penstock.core.errors import ProviderError
from penstock.core.events import Event
from penstock.core.handler import compose
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.core.usage import Usage
from penstock.layers.load import Load
from penstock.pricing.estimate import estimate_request_tokens
from penstock.routing.balancing import Balancer
from penstock.testing import FakeClock

LONG = "the same beginning " * 500
A, B = Target("a", "m"), Target("b", "m")
ROUTE = Route("chat", (A, B), b"", strategy="balanced")


class Bench:
    def __init__(self):
        self.clock = FakeClock()
        self.balancer = Balancer(self.clock, Random(1), estimate_request_tokens)
        self.upstream = None
        self.handler = compose([Load(self.balancer)], self.provide)

    async def provide(self, request):
        self.during = self.load()
        return await self.upstream(request)

    async def run(self, upstream, *, stream=True, route=ROUTE):
        self.upstream = upstream
        payload = {"messages": [{"role": "user", "content": LONG}]}
        return await self.handler(Request("chat", "chat", payload, Call("req"), stream=stream, route=route, target=A))

    def load(self):
        state = next((each for each in self.balancer.states() if each.provider == "a"), None)
        return None if state is None else (state.waiting, state.running)

    @property
    def blocks(self):
        return sum(each.blocks for each in self.balancer.states())


@pytest.fixture
def bench():
    return Bench()


async def whole(_request):
    return Response(body=b"{}", usage=Usage(1000, 10))


def raising(error):
    async def upstream(_request):
        raise error

    return upstream


def streaming(error=None):
    async def source():
        yield [Event(b"1")]
        if error is not None:
            raise error
        yield [Event(b"2", usage=Usage(1000, 10))]

    async def upstream(_request):
        return Response(source=source())

    return upstream


async def test_a_request_waits_at_its_replica_until_it_is_answered(bench):
    await bench.run(whole, stream=False)
    assert bench.during == (1, 0)
    assert bench.load() == (0, 0)
    assert bench.blocks


async def test_a_stream_runs_from_its_first_event_to_its_end(bench):
    response = await bench.run(streaming())
    assert bench.load() == (0, 1)
    assert [len(batch) async for batch in response] == [1, 1]
    assert bench.load() == (0, 0)


async def test_a_stream_that_is_closed_or_breaks_is_over(bench):
    await (await bench.run(streaming())).aclose()
    assert bench.load() == (0, 0)
    response = await bench.run(streaming(ProviderError("broke", code="upstream_incomplete")))
    with pytest.raises(ProviderError):
        await response.read()
    assert bench.load() == (0, 0)


@pytest.mark.parametrize("error", [ProviderError("said 500", status_code=500), RuntimeError("a bug")])
async def test_a_failed_request_leaves_no_load_and_no_blocks(bench, error):
    with pytest.raises(type(error)):
        await bench.run(raising(error))
    assert bench.load() == (0, 0)
    assert bench.blocks == 0


async def test_a_cancelled_request_leaves_no_load(bench):
    async def never(_request):
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(bench.run(never))
    await asyncio.sleep(0)
    assert bench.load() == (1, 0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bench.load() == (0, 0)


async def test_a_replica_that_cannot_be_reached_has_lost_its_cache(bench):
    await bench.run(whole, stream=False)
    with pytest.raises(ProviderError):
        await bench.run(raising(ProviderError("refused", code="upstream_connect")))
    assert bench.blocks == 0


async def test_other_names_cost_nothing(bench):
    await bench.run(whole, route=Route("plain", (A, B), b""))
    assert bench.load() is None


async def test_a_whole_answer_to_a_request_for_a_stream_is_over_at_once(bench):
    await bench.run(whole, stream=True)
    assert bench.load() == (0, 0)
