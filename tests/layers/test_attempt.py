import asyncio
from decimal import Decimal

import pytest

from penstock.core.call import Call
from penstock.core.clock import SystemClock
from penstock.core.errors import DeadlineExceeded, ProviderError
from penstock.core.events import Event
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.layers.attempt import Attempts

A = Target("a", "m")
USED = Usage(input_tokens=7, output_tokens=3)


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now

    wall = monotonic

    async def sleep(self, seconds):
        self.now += seconds


def estimate(request, chars):
    return Usage(input_tokens=5, output_tokens=chars, source="estimate")


def price(provider, model, usage):
    assert (provider, model) == ("a", "m")
    return Decimal(usage.input_tokens + usage.output_tokens), usage.source


class Bench:
    def __init__(self, clock=None, **timeouts):
        self.clock = clock or Clock()
        self.layer = Attempts(timeouts, price, estimate, self.clock)
        self.call = Call("req-1")
        self.seen = None

    @property
    def attempt(self):
        (attempt,) = self.call.attempts
        return attempt

    async def run(self, outcome, *, takes=0.0, target=A, operation="chat", **fields):
        async def inner(request):
            self.seen = request
            await self.clock.sleep(takes)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return await self.layer(Request(operation, "fast", {}, self.call, target=target, **fields), inner)


def stream(*items, clock=None):
    async def source():
        for item in items:
            if clock is not None:
                clock.now += 1
            if isinstance(item, BaseException):
                raise item
            yield item

    return Response(source=source())


def text(content, **fields):
    return [Event(b'{"choices":[{"delta":{"content":"%s"}}]}' % content.encode(), **fields)]


async def read(response):
    async for _ in response:
        pass


async def test_an_answer_is_noted_with_its_times_tokens_and_cost():
    bench = Bench()
    await bench.run(Response(body=b"{}", usage=USED, finish_reason="stop"), takes=2.0)
    noted = bench.attempt
    assert (noted.provider, noted.model, noted.started) == ("a", "m", 100.0)
    assert (noted.duration_s, noted.first_token_s, noted.status_code) == (2.0, 2.0, 200)
    assert (noted.outcome, noted.usage) == ("ok", USED)
    assert (noted.cost_usd, noted.cost_source) == (Decimal(10), "provider")
    assert (bench.call.usage, bench.call.finish_reason) == (USED, "stop")


async def test_a_stream_is_noted_when_it_ends():
    bench = Bench()
    response = await bench.run(
        stream(text("a"), text("b", finish_reason="stop", usage=USED), clock=bench.clock), takes=3.0
    )
    assert (bench.attempt.first_token_s, bench.attempt.outcome) == (3.0, "")
    await read(response)
    assert (bench.attempt.duration_s, bench.attempt.outcome, bench.attempt.usage) == (5.0, "ok", USED)
    assert (bench.call.usage, bench.call.finish_reason) == (USED, "stop")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ProviderError("cut", code="upstream_incomplete"), "upstream_incomplete"),
        (DeadlineExceeded("late"), "upstream_timeout"),
        (RuntimeError("bug"), "internal_error"),
    ],
)
async def test_a_stream_that_breaks_costs_what_came(error, outcome):
    bench = Bench()
    response = await bench.run(stream(text(""), text("x" * 40), error))
    with pytest.raises(type(error)):
        await read(response)
    assert (bench.attempt.outcome, bench.attempt.status_code) == (outcome, 200)
    assert bench.attempt.usage == Usage(input_tokens=5, output_tokens=40, source="estimate")
    assert (bench.attempt.cost_usd, bench.attempt.cost_source) == (Decimal(45), "estimate")
    assert bench.call.finish_reason is None


@pytest.mark.parametrize("broken", [False, True])
async def test_errors_say_which_provider_they_are_of(broken):
    error = ProviderError("cut", code="upstream_incomplete")
    bench = Bench()
    with pytest.raises(ProviderError) as caught:
        await read(await bench.run(stream(text("x"), error) if broken else error))
    assert caught.value.provider == "a"


async def test_a_stream_the_client_closes_costs_what_came():
    bench = Bench()
    response = await bench.run(stream(text(""), text("x" * 40), text("never")))
    await response.__anext__()
    await response.__anext__()
    await response.aclose()
    assert bench.attempt.outcome == "client_closed"
    assert bench.attempt.usage == Usage(input_tokens=5, output_tokens=40, source="estimate")


@pytest.mark.parametrize(
    ("response", "least", "most"),
    [
        (lambda: Response(body=b"x" * 700), 300, 700),
        (lambda: Response(body=b"{}"), 0, 0),
        (lambda: Response(events=text("") + text("x" * 40)), 40, 40),
        (lambda: Response(events=text("x" * 400)), 200, 440),
        (lambda: Response(events=text("x")), 0, 10),
    ],
)
async def test_missing_usage_is_estimated_from_the_size_of_the_answer(response, least, most):
    bench = Bench()
    await bench.run(response())
    assert least <= bench.call.usage.output_tokens <= most
    assert bench.call.usage.source == "estimate"


async def test_vectors_are_not_counted_as_text():
    bench = Bench()
    await bench.run(Response(body=b"0" * 100_000), operation="embeddings")
    assert bench.call.usage.output_tokens == 0


async def test_a_failure_is_noted_and_costs_nothing():
    bench = Bench()
    with pytest.raises(ProviderError):
        await bench.run(ProviderError("down", status_code=503, code="upstream_error"), takes=2.0)
    noted = bench.attempt
    assert (noted.outcome, noted.status_code, noted.duration_s) == ("upstream_error", 503, 2.0)
    assert (noted.first_token_s, noted.usage, noted.cost_usd, noted.cost_source) == (None, None, None, "none")
    assert bench.call.usage is None


async def test_a_bug_in_a_provider_is_noted_and_not_hidden():
    bench = Bench()
    with pytest.raises(ZeroDivisionError):
        await bench.run(ZeroDivisionError())
    assert bench.attempt.outcome == "internal_error"


@pytest.mark.parametrize(
    ("deadline", "outcome"), [(None, "client_closed"), (200.0, "client_closed"), (102.0, "upstream_timeout")]
)
async def test_a_cancelled_try_costs_what_was_sent(deadline, outcome):
    bench = Bench()
    with pytest.raises(asyncio.CancelledError):
        await bench.run(asyncio.CancelledError(), takes=2.0, deadline=deadline)
    assert bench.attempt.outcome == outcome
    assert bench.attempt.usage == Usage(input_tokens=5, output_tokens=0, source="estimate")
    assert bench.call.usage is None


@pytest.mark.parametrize(
    ("provider_s", "target_s", "total", "expected"),
    [
        (None, None, None, None),
        (None, None, 160.0, 160.0),
        (30.0, None, None, 130.0),
        (30.0, None, 160.0, 130.0),
        (30.0, 5.0, 160.0, 105.0),
        (30.0, 50.0, 160.0, 150.0),
        (30.0, 90.0, 160.0, 160.0),
    ],
)
async def test_the_provider_sees_the_attempts_deadline(provider_s, target_s, total, expected):
    bench = Bench(**({"a": provider_s} if provider_s else {}))
    target = Target("a", "m", timeout_s=target_s)
    await bench.run(Response(body=b"{}", usage=USED), target=target, deadline=total)
    assert bench.seen.deadline == expected


async def test_a_provider_that_ignores_its_deadline_is_cut_off():
    bench = Bench(SystemClock(), a=0.02)
    with pytest.raises(ProviderError) as raised:
        await bench.run(Response(body=b"{}"), takes=30)
    assert (raised.value.code, raised.value.elsewhere, raised.value.retryable) == ("upstream_timeout", True, False)
    assert bench.attempt.outcome == "upstream_timeout"


async def test_a_timeout_inside_a_provider_is_its_own_bug():
    bench = Bench(SystemClock(), a=5.0)
    with pytest.raises(TimeoutError):
        await bench.run(TimeoutError())
    assert bench.attempt.outcome == "internal_error"


async def test_a_stream_may_not_take_longer_than_its_attempt():
    async def source():
        yield text("a")
        await asyncio.sleep(30)

    bench = Bench(SystemClock(), a=0.05)
    response = await bench.run(Response(source=source()))
    with pytest.raises(DeadlineExceeded):
        await read(response)
    assert bench.attempt.outcome == "upstream_timeout"
