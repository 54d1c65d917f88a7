import asyncio

import pytest

from penstock.config.settings import BreakerSettings
from penstock.core.call import Attempt, Call
from penstock.core.errors import DeadlineExceeded, ProviderError
from penstock.core.events import Event
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.layers.breaker import Breaker
from penstock.routing.health import Health

A = Target("a", "m")
FAILURES = 3


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now

    wall = monotonic

    async def sleep(self, seconds):
        raise AssertionError


class Bench:
    def __init__(self):
        self.clock = Clock()
        self.health = Health(BreakerSettings(failures=FAILURES, recovery_s=10), self.clock)
        self.breaker = Breaker(self.health)
        self.asked = 0

    @property
    def state(self):
        return self.health.circuit(A).state(self.clock.now)

    async def run(self, outcome, *, earlier=0, **fields):
        call = Call("req-1", attempts=[Attempt("b", "m", 0.0)] * earlier)
        request = Request("chat", "fast", {}, call, target=A, **fields)

        async def inner(request):
            self.asked += 1
            request.call.attempts.append(Attempt("a", "m", self.clock.now))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome() if callable(outcome) else outcome

        return await self.breaker(request, inner)

    async def fail(self, error=None, times=FAILURES, **fields):
        for _ in range(times):
            raised = error or ProviderError("down", status_code=503)
            with pytest.raises(type(raised)):
                await self.run(raised, **fields)


def answer():
    return Response(body=b'{"choices":[]}')


def stream(error=None):
    async def source():
        yield [Event(b"{}")]
        if error:
            raise error
        yield [Event(b"{}", finish_reason="stop")]

    return Response(source=source())


async def read(response):
    async for _ in response:
        pass


async def test_a_target_that_keeps_failing_is_left_alone_and_says_for_how_long():
    bench = Bench()
    await bench.fail(ProviderError("refused", code="upstream_connect"))
    bench.clock.now += 4
    with pytest.raises(ProviderError) as refused:
        await bench.run(answer)
    assert bench.asked == FAILURES
    assert (refused.value.code, refused.value.retry_after) == ("upstream_connect", 6.0)
    assert refused.value.elsewhere
    assert not refused.value.retryable
    assert "a/m" in refused.value.message


async def test_it_is_asked_again_after_the_recovery_time():
    bench = Bench()
    await bench.fail()
    bench.clock.now += 10
    await bench.run(answer)
    assert bench.state == "closed"


@pytest.mark.parametrize("good", [answer, stream])
async def test_a_success_between_failures_keeps_it_closed(good):
    bench = Bench()
    for _ in range(4):
        await bench.fail(times=FAILURES - 1)
        await read(await bench.run(good))
    assert bench.state == "closed"


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_the_clients_faults_do_not_count(status):
    bench = Bench()
    await bench.fail(ProviderError("no", status_code=status, code="invalid_request"), times=20)
    assert bench.state == "closed"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), DeadlineExceeded("late"), RuntimeError("bug")])
async def test_what_is_not_the_upstreams_doing_does_not_count(error):
    bench = Bench()
    await bench.fail(error, times=20)
    assert bench.state == "closed"


async def test_a_rate_limit_pauses_it_for_as_long_as_asked():
    bench = Bench()
    limit = ProviderError("slow down", status_code=429, code="rate_limit_exceeded", retry_after=7.0)
    await bench.fail(limit, times=1)
    with pytest.raises(ProviderError) as refused:
        await bench.run(answer)
    assert (refused.value.code, refused.value.retry_after) == ("rate_limit_exceeded", 7.0)
    bench.clock.now += 7
    await bench.run(answer)
    assert bench.state == "closed"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("bug")])
async def test_an_abandoned_probe_lets_the_next_request_probe(error):
    bench = Bench()
    await bench.fail()
    bench.clock.now += 10
    await bench.fail(error, times=1)
    await bench.run(answer)
    assert bench.state == "closed"


async def test_concurrent_requests_do_not_all_probe():
    bench = Bench()
    await bench.fail()
    bench.clock.now += 10
    release = asyncio.Event()

    async def slow(request):
        await release.wait()
        return answer()

    request = Request("chat", "fast", {}, Call("probe"), target=A)
    probe = asyncio.get_running_loop().create_task(bench.breaker(request, slow))
    await asyncio.sleep(0)
    for _ in range(5):
        with pytest.raises(ProviderError):
            await bench.run(answer)
    release.set()
    await probe
    await bench.run(answer)
    assert bench.asked == FAILURES + 1


async def test_streams_that_break_off_count():
    bench = Bench()
    for _ in range(FAILURES):
        response = await bench.run(lambda: stream(ProviderError("cut", code="upstream_incomplete")))
        with pytest.raises(ProviderError):
            await read(response)
    assert bench.state == "open"


async def test_streams_the_client_closes_do_not_count():
    bench = Bench()
    for _ in range(20):
        response = await bench.run(stream)
        await response.__anext__()
        await response.aclose()
    assert bench.state == "closed"


async def test_a_probing_stream_does_not_block_others_until_it_ends():
    bench = Bench()
    await bench.fail()
    bench.clock.now += 10
    response = await bench.run(stream)
    await bench.run(answer)
    await read(response)
    assert bench.state == "closed"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ProviderError("silent", code="upstream_timeout")])
@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"deadline": 100.0}, "open"),
        ({"deadline": 100.0, "timeout_s": 0.001}, "closed"),
        ({"deadline": 100.0, "earlier": 1}, "closed"),
    ],
)
async def test_running_into_the_total_deadline_counts_unless_the_target_had_little_time(error, fields, state):
    bench = Bench()
    await bench.fail(error, **fields)
    assert bench.state == state


async def test_a_timeout_before_the_total_deadline_counts_always():
    bench = Bench()
    await bench.fail(ProviderError("silent", code="upstream_timeout"), deadline=160.0, timeout_s=60.0)
    assert bench.state == "open"
