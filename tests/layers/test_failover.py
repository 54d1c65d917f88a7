import asyncio
from collections import Counter
from random import Random

import pytest

from penstock.config.settings import BreakerSettings, RetrySettings
from penstock.core.call import Call
from penstock.core.errors import DeadlineExceeded, ProviderError
from penstock.core.events import Event
from penstock.core.handler import compose
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.core.usage import Usage
from penstock.layers.attempt import Attempts
from penstock.layers.breaker import Breaker
from penstock.layers.failover import Failover
from penstock.layers.retry import Retry
from penstock.routing.health import Health

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    wall = monotonic

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class Bench:
    """Failover over the real per-target stack, with scripted upstreams."""

    def __init__(self, *targets, strategy="ordered"):
        self.clock = Clock()
        self.health = Health(BreakerSettings(failures=3, recovery_s=10), self.clock)
        self.route = Route("fast", targets, b"", strategy=strategy)
        self.upstreams = {}
        self.asked = []
        random = Random(5)
        per_target = [
            Retry(RetrySettings(budget=1), self.health, self.clock, random),
            Breaker(self.health),
            Attempts({}, lambda *_: (None, "none"), lambda *_: Usage(), self.clock),
        ]
        handler = compose(per_target, self.provide)
        self.handler = compose([Failover(self.health, self.clock, random)], handler)

    async def provide(self, request):
        self.asked.append(request.target.provider)
        outcome = self.upstreams.get(request.target.provider, answer)
        if isinstance(outcome, list):
            outcome = outcome.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        if asyncio.iscoroutinefunction(outcome):
            return await outcome(request)
        return outcome()

    async def run(self, **fields):
        return await self.handler(Request("chat", "fast", {}, Call("req-1"), route=self.route, **fields))

    async def fail(self, **fields):
        with pytest.raises(ProviderError) as raised:
            await self.run(**fields)
        return raised.value

    async def open(self, provider):
        """Make the circuit of `provider` open now, as requests for it alone would have done."""
        circuit = self.health.circuit(Target(provider, "m"))
        for _ in range(3):
            circuit.failed(circuit.admit(self.clock.now), self.clock.now, "upstream_connect")


def answer():
    return Response(body=b'{"choices":[]}')


def stream(error=None):
    async def source():
        yield [Event(b"1")]
        if error is not None:
            raise error
        yield [Event(b"2", finish_reason="stop")]

    return Response(source=source())


def failure(kind):
    if kind.isdigit():
        status = int(kind)
        code = {401: "upstream_auth", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(status, "upstream_error")
        return ProviderError(f"said {kind}", status_code=status, code=code, retryable=status >= 500)
    return ProviderError(kind, code=kind, retryable=kind == "upstream_connect")


KINDS = [
    "500", "502", "503", "529", "429", "401", "404", "upstream_timeout", "upstream_connect", "upstream_dns",
    "upstream_tls", "upstream_invalid", "upstream_incomplete",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", [1, 2])
@pytest.mark.parametrize("form", [answer, stream])
async def test_the_next_target_answers_whatever_the_others_failure(kind, position, form):
    bench = Bench(A, B, C)
    bench.upstreams = {name: failure(kind) for name in "abc"[:position]} | {"abc"[position]: form}
    response = await bench.run(stream=form is stream)
    batches = [event.data async for batch in response for event in batch]
    assert batches == ([b"1", b"2"] if form is stream else [])
    tries = 2 if kind[0] == "5" else 1
    assert Counter(bench.asked) == Counter(dict.fromkeys("abc"[:position], tries) | {"abc"[position]: 1})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [True, False])
async def test_after_the_first_event_nothing_is_started_elsewhere(kind, first):
    bench = Bench(A, B)
    broken = failure(kind)
    bench.upstreams = {"a" if first else "b": lambda: stream(broken)}
    if not first:
        bench.upstreams["a"] = failure("401")
    response = await bench.run(stream=True)
    assert await response.__anext__()
    with pytest.raises(ProviderError) as raised:
        await response.__anext__()
    assert raised.value is broken
    assert bench.asked == (["a"] if first else ["a", "b"])


@pytest.mark.parametrize("earlier", [False, True])
async def test_a_request_that_is_wrong_everywhere_is_not_sent_everywhere(earlier):
    wrong = ProviderError("bad temperature", status_code=400, code="invalid_request", elsewhere=False)
    bench = Bench(A, B, C)
    bench.upstreams = {"a": failure("401"), "b": wrong} if earlier else {"a": wrong}
    assert await bench.fail() is wrong
    assert bench.asked == (["a", "b"] if earlier else ["a"])


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), asyncio.CancelledError(), RuntimeError("bug")])
async def test_only_upstream_failures_lead_elsewhere(error):
    bench = Bench(A, B)
    bench.upstreams = {"a": error}
    with pytest.raises(type(error)):
        await bench.run()
    assert bench.asked == ["a"]


async def test_a_sole_targets_error_is_passed_on_unchanged():
    bench = Bench(A)
    bench.upstreams = {"a": failure("401")}
    assert await bench.fail() is bench.upstreams["a"]


async def test_all_rate_limited_says_when_the_first_recovers():
    bench = Bench(A, B)
    bench.upstreams = {
        "a": ProviderError("slow down", status_code=429, code="rate_limit_exceeded", retry_after=7.2),
        "b": ProviderError("busy", status_code=429, code="rate_limit_exceeded", retry_after=30),
    }
    error = await bench.fail()
    assert (error.code, error.status_code, error.retry_after) == ("rate_limit_exceeded", 429, 7.2)
    bench.clock.now += 5
    error = await bench.fail()
    assert error.code == "rate_limit_exceeded"
    assert error.retry_after == pytest.approx(2.2)
    assert bench.asked == ["a", "b"]


@pytest.mark.parametrize("targets", [(A,), (A, B)])
async def test_a_rate_limit_without_retry_after_still_says_when_to_come_back(targets):
    bench = Bench(*targets)
    bench.upstreams = {"a": failure("429"), "b": failure("429")}
    error = await bench.fail(deadline=101.0)
    assert (error.code, error.retry_after) == ("rate_limit_exceeded", 1.0)


@pytest.mark.parametrize(
    ("a", "b", "code", "status"),
    [
        ("503", "401", "upstream_auth", 401),
        ("401", "503", "upstream_error", 503),
        ("503", "429", "upstream_error", 503),
        ("404", "429", "model_not_found", 404),
        ("404", "404", "model_not_found", 404),
        ("503", "404", "upstream_error", 503),
        ("429", "upstream_timeout", "upstream_timeout", None),
    ],
)
async def test_of_different_errors_the_most_telling_one_is_raised_and_all_are_named(a, b, code, status):
    bench = Bench(A, B)
    bench.upstreams = {"a": failure(a), "b": failure(b)}
    error = await bench.fail()
    assert (error.code, error.status_code) == (code, status)
    for part in ("fast", "a/m", "b/m", bench.upstreams["a"].message, bench.upstreams["b"].message):
        assert part in error.message


async def test_the_sum_names_each_provider_once():
    bench = Bench(A, B)
    bench.upstreams = {
        "a": ProviderError("provider a (127.0.0.1:9): cannot connect: Connection refused", code="upstream_connect"),
        "b": ProviderError("The model `m` does not exist.", code="model_not_found", status_code=404),
    }
    error = await bench.fail()
    assert error.message == (
        "no target of 'fast' answered: a/m (127.0.0.1:9): cannot connect: Connection refused; "
        "b/m: The model `m` does not exist."
    )


async def test_no_other_target_is_tried_when_the_time_is_over():
    bench = Bench(A, B)

    async def slow(request):
        bench.clock.now += 5
        raise failure("upstream_timeout")

    bench.upstreams = {"a": slow}
    error = await bench.fail(deadline=105.0)
    assert error.code == "upstream_timeout"
    assert bench.asked == ["a"]


async def test_a_dead_target_is_stepped_over_and_taken_back_when_it_recovers():
    bench = Bench(A, B)
    bench.upstreams = {"a": failure("upstream_connect")}
    for _ in range(50):
        await bench.run()
    assert Counter(bench.asked) == {"a": 3, "b": 50}
    bench.upstreams = {}
    bench.clock.now += 10
    bench.asked.clear()
    await bench.run()
    await bench.run()
    assert bench.asked == ["a", "a"]


async def test_when_all_circuits_are_open_the_soonest_is_probed():
    bench = Bench(A, B)
    await bench.open("b")
    bench.clock.now += 1
    await bench.open("a")
    await bench.run()
    assert bench.asked == ["b"]


async def test_when_all_are_dead_each_request_probes_one_and_says_why():
    bench = Bench(A, B)
    bench.upstreams = {"a": failure("upstream_connect"), "b": failure("upstream_dns")}
    await bench.open("a")
    await bench.open("b")
    for _ in range(4):
        bench.clock.now += 0.1
        error = await bench.fail()
        assert error.code in ("upstream_connect", "upstream_dns")
    assert bench.asked == ["a", "b", "a", "b"]


async def test_while_a_probe_is_on_its_way_others_fail_fast_and_say_when_to_come_back():
    bench = Bench(A)
    await bench.open("a")
    release = asyncio.Event()

    async def slow(request):
        await release.wait()
        return answer()

    bench.upstreams = {"a": slow}
    probe = asyncio.get_running_loop().create_task(bench.run())
    await asyncio.sleep(0)
    error = await bench.fail()
    assert (error.code, error.retry_after) == ("upstream_connect", 1.0)
    release.set()
    await probe
    await bench.run()
    assert bench.asked == ["a", "a"]


async def test_weights_spread_the_first_tries():
    bench = Bench(Target("a", "m", weight=4), B, Target("c", "m", weight=0), strategy="weighted")
    for _ in range(1000):
        await bench.run()
    asked = Counter(bench.asked)
    assert asked["c"] == 0
    assert 740 < asked["a"] < 860


async def test_one_of_two_dead_fails_nobody():
    bench = Bench(A, B, strategy="weighted")
    bench.upstreams = {"a": failure("upstream_connect")}
    for _ in range(20_000):
        bench.clock.now += 0.01
        await bench.run()
    assert Counter(bench.asked)["b"] == 20_000
    assert Counter(bench.asked)["a"] < 20
