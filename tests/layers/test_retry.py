import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.settings import BreakerSettings, RetrySettings
from penstock.core.call import Attempt, Call
from penstock.core.errors import DeadlineExceeded, ProviderError
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.layers.retry import Retry
from penstock.routing.health import Health

A, B = Target("a", "m"), Target("b", "m")
ANSWER = Response(body=b"{}")


class Clock:
    """Sleeping takes no time but moves the clock."""

    def __init__(self):
        self.now = 100.0
        self.waits = []

    def monotonic(self):
        return self.now

    wall = monotonic

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Bench:
    """A retry layer around a target that plays a list of outcomes, the last one for ever."""

    def __init__(self, *outcomes, targets=(A,), **settings):
        self.outcomes = list(outcomes)
        self.clock = Clock()
        self.health = Health(BreakerSettings(), self.clock)
        self.retry = Retry(RetrySettings(**settings), self.health, self.clock, Random(3))
        self.route = Route("fast", targets, b"")
        self.tries = 0

    def request(self, deadline=None, tried=()):
        call = Call("req-1", attempts=[Attempt(target.provider, target.model, 0.0) for target in tried])
        return Request("chat", "fast", {}, call, route=self.route, target=self.route.targets[0], deadline=deadline)

    async def inner(self, request):
        self.tries += 1
        request.call.attempts.append(Attempt(request.target.provider, request.target.model, self.clock.now))
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def run(self, **kwargs):
        try:
            return await self.retry(self.request(**kwargs), self.inner)
        except ProviderError as error:
            return error


def server_error(status=503, retry_after=None):
    return ProviderError("down", status_code=status, retryable=True, retry_after=retry_after)


def rate_limit(retry_after=None):
    return ProviderError("slow down", status_code=429, code="rate_limit_exceeded", retry_after=retry_after)


def refused():
    return ProviderError("refused", code="upstream_connect", retryable=True)


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_server_error_is_tried_once_more(status):
    bench = Bench(server_error(status), ANSWER)
    assert await bench.run() is ANSWER
    assert bench.tries == 2
    assert 0 <= bench.clock.waits[0] <= 0.5


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_what_cannot_pass_is_not_tried_again(status):
    error = ProviderError("no", status_code=status)
    bench = Bench(error)
    assert await bench.run() is error
    assert bench.tries == 1


async def test_the_last_error_is_raised_when_all_tries_failed():
    first, last = server_error(500), server_error(502)
    bench = Bench(first, server_error(500), last, attempts=3)
    assert await bench.run() is last
    assert bench.tries == 3


async def test_only_upstream_errors_are_tried_again():
    bench = Bench(DeadlineExceeded("late"))
    with pytest.raises(DeadlineExceeded):
        await bench.run()
    assert bench.tries == 1


async def test_the_waits_are_spread_and_grow_to_their_limit():
    waits = []
    for seed in range(300):
        bench = Bench(server_error(), attempts=6, budget=1, backoff_s=0.5, max_backoff_s=2.0)
        bench.retry._random.seed(seed)
        await bench.run()
        waits.append(bench.clock.waits)
    columns = list(zip(*waits, strict=True))
    for column, bound in zip(columns, (1.0, 2.0, 2.0, 2.0, 2.0), strict=True):
        assert 0.9 * bound < max(column) <= bound
        assert 0.4 * bound < sum(column) / len(column) < 0.6 * bound


@pytest.mark.parametrize("error", [rate_limit(3.0), server_error(503, 3.0)])
async def test_a_sole_target_is_given_the_pause_it_asks_for(error):
    bench = Bench(error, ANSWER)
    assert await bench.run() is ANSWER
    assert 3.0 <= bench.clock.waits[0] <= 3.5


async def test_waking_early_does_not_cost_the_try():
    bench = Bench(rate_limit(3.0), ANSWER, backoff_s=0.0001)
    circuit = bench.health.circuit(A)
    circuit.limited(circuit.admit(100.0), 100.0, 3.0)
    await bench.run()
    assert circuit.admit(bench.clock.now - 0.004) is not None


@pytest.mark.parametrize("error", [rate_limit(3.0), rate_limit(), server_error(503, 3.0)])
@pytest.mark.parametrize("tried", [(), (B,)])
async def test_with_other_targets_nothing_waits_for_a_pause(error, tried):
    bench = Bench(error, targets=(A, B))
    assert await bench.run(tried=tried) is error
    assert (bench.tries, bench.clock.waits) == (1, [])


async def test_a_pause_beyond_the_longest_wait_is_not_waited_for():
    error = rate_limit(30.0)
    bench = Bench(error)
    assert await bench.run() is error
    assert bench.clock.waits == []


async def test_a_pause_beyond_the_deadline_is_not_waited_for():
    error = rate_limit(5.0)
    bench = Bench(error)
    assert await bench.run(deadline=104.0) is error
    assert bench.clock.waits == []


async def test_an_open_circuit_is_as_good_as_a_pause():
    bench = Bench(server_error())
    circuit = bench.health.circuit(A)
    for _ in range(5):
        circuit.failed(circuit.admit(100.0), 100.0, "upstream_error")
    await bench.run()
    assert bench.tries == 1


async def test_with_another_healthy_target_a_server_error_is_tried_only_once_more():
    bench = Bench(server_error(), targets=(A, B), attempts=4)
    await bench.run()
    assert bench.tries == 2


async def test_with_another_healthy_target_a_dead_connection_is_left_at_once():
    bench = Bench(refused(), targets=(A, B), attempts=4)
    await bench.run()
    assert bench.tries == 1


@pytest.mark.parametrize("why", ["tried", "open"])
async def test_the_last_resort_gets_all_its_tries(why):
    bench = Bench(refused(), targets=(A, B), attempts=4)
    if why == "open":
        circuit = bench.health.circuit(B)
        for _ in range(5):
            circuit.failed(circuit.admit(100.0), 100.0, "upstream_error")
    await bench.run(tried=(B,) if why == "tried" else ())
    assert bench.tries == 4


@given(st.lists(st.sampled_from(["good", "bad"]), max_size=120), st.sampled_from([0.0, 0.1, 0.2, 1.0]))
def test_retries_stay_within_the_budget(outcomes, budget):
    async def run():
        bench = Bench(ANSWER, budget=budget)
        for made, outcome in enumerate(outcomes, 1):
            bench.outcomes = [ANSWER if outcome == "good" else server_error()]
            await bench.run()
            assert bench.tries - made <= budget * made + 10 + 1e-6
        if budget == 0:
            assert bench.tries == len(outcomes)

    asyncio.run(run())


async def test_a_quiet_gateway_can_retry_its_first_request():
    bench = Bench(server_error(), ANSWER, budget=0.01)
    assert await bench.run() is ANSWER


async def test_targets_tried_later_in_the_same_call_do_not_pay_in_again():
    bench = Bench(ANSWER, targets=(B, A), budget=1.0)
    for _ in range(50):
        await bench.run(tried=(A,))
    bench.outcomes = [server_error()]
    for _ in range(50):
        await bench.run(tried=(A,))
    assert bench.tries == 50 + 50 + 10


async def test_a_cancelled_wait_ends_the_call():
    bench = Bench(server_error())
    waiting = asyncio.Event()

    async def sleep(seconds):
        waiting.set()
        await asyncio.sleep(30)

    bench.clock.sleep = sleep
    task = asyncio.get_running_loop().create_task(bench.run())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.tries == 1
