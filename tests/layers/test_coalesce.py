import asyncio
import json
from collections import Counter
from decimal import Decimal
from random import Random

import msgspec
import pytest

from penstock.caching import flight as flights
from penstock.caching.key import cache_key
from penstock.core.call import Attempt, Call
from penstock.core.canonical import assemble, make_event, split
from penstock.core.errors import DeadlineExceeded, InvalidRequest, ProviderError, Refused
from penstock.core.request import CacheDirectives, Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.layers.coalesce import Coalesce
from penstock.testing.clock import FakeClock

ROUTE = Route("m", (Target("p", "model"),), b"identity")
TEXTS = ["one ", "two ", "three ", "four"]


def event(delta, reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return make_event({"id": "a", "object": "chat.completion.chunk", "choices": [choice]})


EVENTS = [event({"role": "assistant", "content": TEXTS[0]}), *[event({"content": text}) for text in TEXTS[1:]]]
EVENTS.append(event({}, "stop"))
EVENTS.append(make_event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}))
BODY = assemble(EVENTS)


class Upstream:
    """Says what a test tells it to, when it tells it to; notes its attempts and how each call ended."""

    def __init__(self):
        self.requests = []
        self.ends = []
        self.errors = []
        self.whole = False
        self.steps = asyncio.Semaphore(0)
        self.free = False

    async def step(self):
        if not self.free:
            await self.steps.acquire()

    def go(self, steps=1):
        for _ in range(steps):
            self.steps.release()

    async def __call__(self, request):
        self.requests.append(request)
        attempt = Attempt("p", "model", 0.0)
        request.call.attempts.append(attempt)
        try:
            await self.step()
            if self.errors and (error := self.errors.pop(0)) is not None:
                raise error
        except BaseException as error:
            self.end(attempt, error)
            raise
        if self.whole or not request.stream:
            self.end(attempt, None)
            return Response(body=BODY, usage=Usage(3, 4), finish_reason="stop")
        response = Response(source=self.stream())
        response.observe(Watch(self, attempt))
        return response

    async def stream(self):
        yield [EVENTS[0]]
        for item in EVENTS[1:]:
            await self.step()
            if self.errors:
                raise self.errors.pop(0)
            yield [item]

    def end(self, attempt, error):
        attempt.outcome = "ok" if error is None else type(error).__name__
        attempt.cost_usd = Decimal("0.01")
        self.ends.append(attempt.outcome)


class Watch:
    def __init__(self, upstream, attempt):
        self.upstream = upstream
        self.attempt = attempt

    def on_events(self, batch):
        pass

    def on_end(self, response, error):
        self.upstream.end(self.attempt, error)


def make_request(text="hi", *, stream=False, deadline=None, tenant="t", route=ROUTE, **directives):
    return Request(
        "chat",
        "m",
        {"messages": [{"role": "user", "content": text}]},
        Call("id"),
        stream=stream,
        deadline=deadline,
        tenant=tenant,
        route=route,
        cache=CacheDirectives(**directives),
    )


class Bench:
    def __init__(self):
        self.clock = FakeClock()
        self.tasks = TaskGroup()
        self.coalesce = Coalesce(self.clock, self.tasks)
        self.upstream = Upstream()
        self.calls = []

    def ask(self, *, at_event=None, **fields):
        """Start a client; its task gives the text it got. `at_event` is called with the number of each event."""
        request = make_request(**fields)
        self.calls.append(request.call)
        return asyncio.create_task(self._client(request, at_event))

    async def _client(self, request, at_event):
        response = await self.coalesce(request, self.upstream)
        if not request.stream:
            return text_of(await response.read())
        events = []
        try:
            async for batch in response:
                events += batch
                if at_event is not None:
                    await at_event(len(events))
        finally:
            await response.aclose()
        return text_of(assemble(events))

    async def settle(self):
        await self.clock.settle()

    def attempts(self):
        return [len(call.attempts) for call in self.calls]

    def is_idle(self):
        return len(self.coalesce) == 0 and len(self.tasks) == 0


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    await bench.settle()
    assert bench.is_idle()


def text_of(body):
    answer = json.loads(body)
    return answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"], answer["usage"]


EXPECTED = text_of(BODY)


@pytest.mark.parametrize("leader_streams", [True, False])
async def test_a_thousand_identical_requests_half_of_them_streams_make_one_call(bench, leader_streams):
    tasks = [bench.ask(stream=(number % 2 == 0) == leader_streams) for number in range(1000)]
    await bench.settle()
    bench.upstream.free = True
    bench.upstream.go(1)
    answers = await asyncio.gather(*tasks)
    assert answers == [EXPECTED] * 1000
    assert len(bench.upstream.requests) == 1
    assert bench.attempts() == [1] + [0] * 999
    assert Counter(call.cache for call in bench.calls) == {"": 1, "collapsed": 999}
    assert {call.saved_usd for call in bench.calls[1:]} == {Decimal("0.01")}
    assert bench.calls[0].saved_usd is None


async def test_others_are_not_joined(bench):
    bench.upstream.free = True
    off = Route("m", ROUTE.targets, b"identity", cache_ttl_s=0)
    kinds = [
        {},
        {"text": "another question"},
        {"tenant": "another tenant"},
        {"namespace": "n"},
        {"no_cache": True},
        {"no_store": True},
        {"route": off},
    ]
    tasks = [bench.ask(**kind) for kind in kinds for _ in range(2)]
    await asyncio.gather(*tasks)
    assert len(bench.upstream.requests) == 4 + 3 * 2
    assert Counter(request.tenant for request in bench.upstream.requests)["another tenant"] == 1


async def test_a_late_follower_hears_what_was_said_and_then_the_rest(bench):
    leader = bench.ask(stream=True)
    await bench.settle()
    bench.upstream.go(3)
    await bench.settle()
    heard = []

    async def hear(count):
        heard.append(count)

    late = [bench.ask(stream=True, at_event=hear), bench.ask()]
    await bench.settle()
    assert heard == [3]
    bench.upstream.go(1)
    await bench.settle()
    assert heard == [3, 4]
    bench.upstream.free = True
    bench.upstream.go(1)
    assert await asyncio.gather(leader, *late) == [EXPECTED] * 3
    assert len(bench.upstream.requests) == 1


async def test_a_whole_answer_is_split_for_followers_that_stream(bench):
    leader, follower = bench.ask(), bench.ask(stream=True)
    await bench.settle()
    bench.upstream.go()
    assert await leader == await follower == EXPECTED
    assert [event.finish_reason for event in split(BODY)] == [None, "stop", None]


async def test_after_the_answer_the_next_request_asks_again(bench):
    bench.upstream.free = True
    for stream in (False, True, False):
        await bench.ask(stream=stream)
    assert len(bench.upstream.requests) == 3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("said", [0, 3])
async def test_a_cancelled_leader_does_not_hurt_its_hundred_followers(bench, stream, said):
    leader = bench.ask(stream=stream)
    followers = [bench.ask(stream=number % 2 == 0) for number in range(100)]
    await bench.settle()
    bench.upstream.go(said)
    await bench.settle()
    if leader.done():
        return
    leader.cancel()
    await bench.settle()
    assert leader.cancelled()
    assert bench.upstream.ends == []
    bench.upstream.free = True
    bench.upstream.go(1)
    assert await asyncio.gather(*followers) == [EXPECTED] * 100
    assert len(bench.upstream.requests) == 1
    assert bench.upstream.ends == ["ok"]
    assert sum(bench.attempts()) == 1
    assert bench.attempts()[0] == 0


@pytest.mark.parametrize("said", [0, 1, 3])
async def test_when_all_leave_the_upstream_is_closed(bench, said):
    tasks = [bench.ask(stream=True) for _ in range(20)]
    await bench.settle()
    bench.upstream.go(said)
    await bench.settle()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=0.25)
    assert all(task.cancelled() for task in tasks)
    assert bench.upstream.ends == ["CancelledError"]
    assert sum(bench.attempts()) == 1
    [payer] = [call for call in bench.calls if call.attempts]
    assert payer.attempts[0].outcome == "CancelledError"
    assert bench.is_idle()


async def test_a_response_that_is_closed_unread_leaves(bench):
    bench.upstream.go()
    response = await bench.coalesce(make_request(stream=True), bench.upstream)
    await response.aclose()
    await response.aclose()
    assert bench.upstream.ends == ["CancelledError"]


async def test_a_request_that_comes_after_all_left_makes_its_own_call(bench):
    first = bench.ask()
    await bench.settle()
    first.cancel()
    second = bench.ask()
    bench.upstream.free = True
    assert await second == EXPECTED
    assert len(bench.upstream.requests) == 2


async def test_a_failure_of_the_upstream_is_the_leaders_and_one_new_call_is_everybodys(bench):
    bench.upstream.errors = [ProviderError("down", status_code=503, retryable=True)]
    leader = bench.ask()
    followers = [bench.ask(stream=number % 2 == 0) for number in range(100)]
    await bench.settle()
    bench.upstream.free = True
    bench.upstream.go(1)
    with pytest.raises(ProviderError):
        await leader
    assert await asyncio.gather(*followers) == [EXPECTED] * 100
    assert len(bench.upstream.requests) == 2
    assert bench.attempts()[:2] == [1, 1]
    assert sum(bench.attempts()) == 2


async def test_if_the_new_call_fails_too_everybody_gets_the_error(bench):
    bench.upstream.errors = [ProviderError("down", status_code=503), ProviderError("still down", status_code=503)]
    tasks = [bench.ask(stream=number % 2 == 0) for number in range(50)]
    await bench.settle()
    bench.upstream.free = True
    bench.upstream.go(1)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error.message for error in errors] == ["down"] + ["still down"] * 49
    assert len({id(error) for error in errors}) == 50
    assert len(bench.upstream.requests) == 2


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("bad", status_code=400, elsewhere=False),
        InvalidRequest("bad"),
        Refused("no"),
        DeadlineExceeded("nobody has a deadline"),
    ],
)
async def test_other_errors_are_shared(bench, error):
    bench.upstream.errors = [error]
    tasks = [bench.ask() for _ in range(20)]
    await bench.settle()
    bench.upstream.go(1)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {(type(each), each.message) for each in errors} == {(type(error), error.message)}
    assert len(bench.upstream.requests) == 1


async def test_a_bug_reaches_everybody_and_the_log(bench, caplog):
    bench.upstream.errors = [ZeroDivisionError("a bug")]
    tasks = [bench.ask() for _ in range(3)]
    await bench.settle()
    bench.upstream.go(1)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 3
    assert "a bug" in caplog.text


async def test_who_has_more_time_than_the_leader_goes_on(bench):
    now = bench.clock.monotonic()
    bench.upstream.errors = [DeadlineExceeded("the leader's time is over")]
    leader = bench.ask(deadline=now + 1)
    same = bench.ask(deadline=now + 1)
    longer = bench.ask(deadline=now + 10)
    longest = bench.ask()
    await bench.settle()
    await bench.clock.run(1)
    bench.upstream.free = True
    bench.upstream.go(1)
    for task in (leader, same):
        with pytest.raises(DeadlineExceeded):
            await task
    assert await longer == await longest == EXPECTED
    assert [request.deadline for request in bench.upstream.requests] == [now + 1, None]
    assert bench.attempts() == [1, 0, 0, 1]


async def test_a_break_in_the_middle_is_the_same_for_everybody(bench):
    bench.upstream.errors = [None]
    heard = Counter()
    tasks = []
    for number in range(10):

        async def hear(count, number=number):
            heard[number] = count

        tasks.append(bench.ask(stream=True, at_event=hear))
    tasks.append(bench.ask())
    await bench.settle()
    bench.upstream.go(3)
    await bench.settle()
    bench.upstream.errors = [ProviderError("broken", code="upstream_incomplete")]
    bench.upstream.go(1)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {error.code for error in errors} == {"upstream_incomplete"}
    assert set(heard.values()) == {3}
    assert len(bench.upstream.requests) == 1


async def test_followers_learn_what_was_noted_inside(bench):
    async def inner(request):
        response = await bench.upstream(request)
        request.call.degraded.append("fallback")
        request.call.cache_status.append("Penstock-Semantic; fwd=miss")
        request.call.usage = Usage(3, 4)
        return response

    requests = [make_request(), make_request(stream=True)]
    tasks = [asyncio.create_task(bench.coalesce(request, inner)) for request in requests]
    await bench.settle()
    bench.upstream.go(1)
    await asyncio.gather(*tasks)
    for request in requests:
        assert request.call.degraded == ["fallback"]
        assert request.call.cache_status == ["Penstock-Semantic; fwd=miss"]
        assert request.call.usage == Usage(3, 4)


class Torrent:
    """An upstream that says as much as it is let, as fast as it can."""

    def __init__(self, batches, size):
        self.batches = batches
        self.item = event({"content": "x" * size})
        self.said = 0
        self.calls = 0

    async def __call__(self, request):
        self.calls += 1
        return Response(source=self.stream())

    async def stream(self):
        for _ in range(self.batches):
            self.said += 1
            yield [self.item]
        yield EVENTS[-2:]


async def test_a_slow_client_alone_holds_up_the_upstream(bench):
    torrent = Torrent(batches=200, size=50_000)
    response = await bench.coalesce(make_request(stream=True), torrent)
    await bench.settle()
    held = torrent.said
    assert held * 50_000 < 2 * flights.MAX_AHEAD_BYTES
    await anext(response)
    await bench.settle()
    assert held < torrent.said < 200
    assert len(json.loads(await response.read())["choices"][0]["message"]["content"]) > 9_000_000


async def test_a_slow_client_does_not_hold_up_the_others(bench):
    torrent = Torrent(batches=100, size=50_000)
    slow = await bench.coalesce(make_request(stream=True), torrent)
    quick = await bench.coalesce(make_request(stream=True), torrent)
    gathering = asyncio.create_task(bench.coalesce(make_request(), torrent))
    await asyncio.sleep(0)
    sizes = [sum([len(item.data) async for batch in quick for item in batch]), len(await (await gathering).read())]
    assert min(sizes) > 5_000_000
    assert sum([len(item.data) async for batch in slow for item in batch]) == sizes[0]
    assert torrent.calls == 1


async def test_a_very_long_answer_takes_no_newcomers_and_leaves_the_slowest_behind(bench):
    torrent = Torrent(batches=400, size=50_000)
    slow = await bench.coalesce(make_request(stream=True), torrent)
    quick = await bench.coalesce(make_request(stream=True), torrent)
    heard = 0
    while heard < flights.MAX_KEPT_BYTES:
        heard += sum([len(item.data) for item in await anext(quick)])
    assert len(bench.coalesce) == 0
    newcomer = await bench.coalesce(make_request(stream=True), torrent)
    assert torrent.calls == 2
    await newcomer.aclose()
    async for batch in quick:
        heard += sum([len(item.data) for item in batch])
    assert heard > 20_000_000
    with pytest.raises(Refused) as caught:
        await slow.read()
    assert caught.value.code == "client_too_slow"


async def test_shutting_down_ends_the_wait(bench):
    task = bench.ask()
    await bench.settle()
    await bench.tasks.aclose()
    with pytest.raises(Refused) as caught:
        await task
    assert caught.value.code == "shutting_down"


@pytest.mark.parametrize("seed", range(40))
async def test_random_comings_and_goings(bench, seed):
    """Whoever stays gets the whole answer, every upstream call is on exactly one call's notes, none is left open."""
    random = Random(seed)
    bench.upstream.errors = [random.choice([None, None, ProviderError("down", status_code=503)]) for _ in range(2)]
    bench.upstream.errors = [] if bench.upstream.errors == [None, None] else bench.upstream.errors[:1]
    tasks, cancelled = [], set()
    for _ in range(60):
        match random.randrange(4):
            case 0 | 1:
                tasks.append(bench.ask(text=random.choice("ab"), stream=random.random() < 0.5))
            case 2 if tasks:
                victim = random.choice(tasks)
                if victim.cancel():
                    cancelled.add(victim)
            case _:
                bench.upstream.go(1)
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
    bench.upstream.free = True
    bench.upstream.go(1000)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for task, result in zip(tasks, results, strict=True):
        if isinstance(result, asyncio.CancelledError):
            assert task in cancelled
        else:
            assert result == EXPECTED or isinstance(result, ProviderError)
    assert sum(isinstance(result, ProviderError) for result in results) <= 1
    assert sum(bench.attempts()) == len(bench.upstream.requests) == len(bench.upstream.ends)


async def test_a_flight_whose_last_passenger_left_before_hearing_its_end_takes_no_newcomers():
    bench = Bench()
    bench.upstream.free = True
    slow = await bench.coalesce(make_request(stream=True), bench.upstream)
    await anext(aiter(slow))
    await bench.settle()
    assert bench.upstream.ends == ["ok"]
    await slow.aclose()
    assert bench.is_idle()
    await bench.ask(stream=True)
    assert len(bench.upstream.requests) == 2


@pytest.mark.parametrize("by_meaning", [False, True])
async def test_only_who_accepts_the_same_shares_where_answers_may_be_by_meaning(bench, by_meaning):
    bench.coalesce = Coalesce(bench.clock, bench.tasks, by_meaning=by_meaning)
    shadow = msgspec.structs.replace(ROUTE, semantic="shadow")
    tasks = [bench.ask(**fields) for fields in ({}, {}, {"max_age": 1.0}, {"route": shadow})]
    await bench.settle()
    assert len(bench.upstream.requests) == (3 if by_meaning else 1)
    assert len({cache_key(request) for request in bench.upstream.requests}) == 1
    bench.upstream.free = True
    bench.upstream.go(3)
    assert await asyncio.gather(*tasks) == [EXPECTED] * 4
