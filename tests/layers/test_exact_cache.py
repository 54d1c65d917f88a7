import asyncio
import contextlib
import json
import time
from decimal import Decimal

import pytest

from penstock.config.caches import ExactCacheSettings
from penstock.core.call import Attempt, Call
from penstock.core.canonical import make_event
from penstock.core.errors import NotCached, ProviderError, StoreError
from penstock.core.request import CacheDirectives, Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.layers.coalesce import Coalesce
from penstock.layers.exact_cache import ExactCache
from penstock.stores.opening import open_store
from penstock.testing.clock import FakeClock

ROUTE = Route("m", (Target("p", "model"),), b"identity")
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def body(text="hello world", reason="stop", **message):
    message = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps(
        {"id": "a", "object": "chat.completion", "model": "model", "choices": [choice], "usage": USAGE}
    ).encode()


def chunks(*texts, reason="stop"):
    def chunk(delta, reason=None):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return make_event({"id": "a", "object": "chat.completion.chunk", "model": "model", "choices": [choice]})

    first = chunk({"role": "assistant", "reasoning_content": "hm"})
    usage = make_event({"id": "a", "object": "chat.completion.chunk", "model": "model", "choices": [], "usage": USAGE})
    return [first, *[chunk({"content": text}) for text in texts], chunk({}, reason), usage]


class Store:
    """A cache store in a dict, which can be told to fail."""

    def __init__(self):
        self.rows = {}
        self.reads = 0
        self.fails = False

    async def index(self):
        if self.fails:
            raise StoreError("no")
        return list(self.rows.values())

    async def get(self, key):
        self.reads += 1
        await asyncio.sleep(0)
        if self.fails:
            raise StoreError("no")
        return self.rows.get(key)

    def put(self, answer):
        self.rows[answer.key] = answer

    def delete(self, keys):
        for key in keys:
            self.rows.pop(key, None)


class Upstream:
    """What is inside the cache: answers, streams if asked to, and counts."""

    def __init__(self):
        self.calls = 0
        self.answer = body()
        self.events = chunks("hello", " world")
        self.error = None
        self.cost_usd = Decimal("0.0025")
        self.gate = None

    async def __call__(self, request):
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        attempt = Attempt("p", "model", 0.0, cost_usd=self.cost_usd, usage=Usage(7, 2))
        request.call.attempts.append(attempt)
        if self.error is not None:
            raise self.error
        if request.stream:
            return Response(source=self._stream(list(self.events)))
        return Response(body=self.answer, usage=Usage(7, 2), finish_reason="stop")

    async def _stream(self, events):
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield [event]


class Records:
    def __init__(self):
        self.rows = []

    def record(self, request, call, *, duration_s, outcome):
        self.rows.append((call, outcome))

    async def flush(self):
        pass


class Bench:
    """A cache over an upstream, and what a client does with it."""

    def __init__(self, store=None, clock=None, **settings):
        self.store = Store() if store is None else store
        self.clock = clock or FakeClock()
        self.tasks = TaskGroup()
        self.upstream = Upstream()
        self.records = Records()
        self.cache = ExactCache(ExactCacheSettings(**settings), self.store, self.clock, self.tasks, self.records)

    async def ask(self, text="hi", **fields):
        """Ask and take in the answer; returns it as JSON and the call's notes."""
        request = make_request(text, **fields)
        response = await self.cache(request, self.upstream)
        return json.loads(await response.read()), request.call

    async def stream(self, text="hi", **fields):
        """Ask for a stream and take it in; returns its events and the call's notes."""
        request = make_request(text, stream=True, **fields)
        response = await self.cache(request, self.upstream)
        return [event async for batch in response for event in batch], request.call


def make_request(text="hi", **fields):
    directives = {name: fields.pop(name) for name in list(fields) if name in CacheDirectives.__struct_fields__}
    fields = {"route": ROUTE, "model": "m", "operation": "chat", "cache": CacheDirectives(**directives), **fields}
    return Request(payload={"messages": [{"role": "user", "content": text}]}, call=Call("id"), **fields)


def content(answer):
    return answer["choices"][0]["message"]["content"]


async def test_the_second_time_is_a_hit():
    bench = Bench(ttl_s=3600)
    first, miss = await bench.ask()
    bench.clock.advance(288.5)
    second, hit = await bench.ask()
    assert second == first
    assert bench.upstream.calls == 1
    assert (miss.cache, miss.cache_status) == ("miss", ["Penstock-Exact; fwd=miss; stored"])
    assert (hit.cache, hit.cache_status) == ("hit", ["Penstock-Exact; hit; ttl=3311"])
    assert hit.age_s == 288.5
    assert hit.saved_usd == Decimal("0.0025")
    assert hit.usage == Usage(7, 2)
    assert hit.finish_reason == "stop"
    assert hit.attempts == []


async def test_another_question_is_a_miss_without_io():
    bench = Bench()
    await bench.ask("one")
    await bench.ask("two")
    assert bench.upstream.calls == 2
    assert bench.store.reads == 0


async def test_a_stream_is_replayed_as_it_was():
    bench = Bench()
    first, miss = await bench.stream()
    second, hit = await bench.stream()
    assert second == first
    assert bench.upstream.calls == 1
    assert miss.cache_status == ["Penstock-Exact; fwd=miss"]
    assert hit.cache == "hit"
    assert hit.usage == Usage(7, 2)


async def test_streams_answer_whole_requests_and_the_other_way_round():
    streamed, whole = Bench(), Bench()
    await streamed.stream()
    answer, hit = await streamed.ask()
    assert content(answer) == "hello world"
    assert answer["choices"][0]["message"]["reasoning_content"] == "hm"
    assert answer["usage"] == USAGE
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert hit.cache == "hit"
    await whole.ask()
    events, hit = await whole.stream()
    text = [json.loads(event.data)["choices"] for event in events]
    assert "".join(choice["delta"].get("content", "") for choices in text for choice in choices) == "hello world"
    assert [event.finish_reason for event in events if event.finish_reason] == ["stop"]
    assert hit.cache == "hit"
    assert streamed.upstream.calls == whole.upstream.calls == 1


async def test_the_second_conversion_is_free_and_counted():
    bench = Bench()
    await bench.stream()
    before = bench.cache.stats().memory_bytes
    await bench.ask()
    one = await bench.cache(make_request(), bench.upstream)
    two = await bench.cache(make_request(), bench.upstream)
    assert one.body is two.body
    assert bench.cache.stats().memory_bytes > before


async def test_an_answer_ends_being_fresh():
    bench = Bench(ttl_s=100)
    await bench.ask()
    bench.clock.advance(100)
    _, call = await bench.ask()
    assert bench.upstream.calls == 2
    assert call.cache_status == ["Penstock-Exact; fwd=stale; stored"]
    await bench.ask()
    assert bench.upstream.calls == 2


@pytest.mark.parametrize(
    ("client", "route", "expected"), [(None, None, 100), (None, 50.0, 50), (20.0, 50.0, 20), (500.0, 50.0, 500)]
)
async def test_whose_word_on_the_lifetime_counts(client, route, expected):
    bench = Bench(ttl_s=100)
    fields = {"ttl": client, "route": Route("m", ROUTE.targets, b"identity", cache_ttl_s=route)}
    await bench.ask(**fields)
    bench.clock.advance(expected - 1)
    await bench.ask(**fields)
    assert bench.upstream.calls == 1
    bench.clock.advance(1)
    await bench.ask(**fields)
    assert bench.upstream.calls == 2


async def test_no_lifetime_means_not_stored():
    bench = Bench()
    _, call = await bench.ask(ttl=0)
    assert call.cache_status == ["Penstock-Exact; fwd=miss"]
    await bench.ask()
    assert bench.upstream.calls == 2
    off = Route("m", ROUTE.targets, b"identity", cache_ttl_s=0)
    for _ in range(2):
        _, call = await bench.ask(route=off, ttl=100)
        assert call.cache == "bypass"
    assert bench.upstream.calls == 4


async def test_no_store_neither_reads_nor_stores():
    bench = Bench()
    await bench.ask("known")
    for text in ("known", "unknown"):
        _, call = await bench.ask(text, no_store=True)
        assert (call.cache, call.cache_status) == ("bypass", ["Penstock-Exact; fwd=bypass"])
    assert bench.upstream.calls == 3
    assert len(bench.store.rows) == 1


async def test_no_cache_asks_again_and_stores():
    bench = Bench()
    await bench.ask()
    bench.upstream.answer = body("new")
    answer, call = await bench.ask(no_cache=True)
    assert content(answer) == "new"
    assert call.cache_status == ["Penstock-Exact; fwd=request; stored"]
    answer, _ = await bench.ask()
    assert content(answer) == "new"
    assert bench.upstream.calls == 2


async def test_max_age():
    bench = Bench()
    await bench.ask()
    bench.clock.advance(30)
    await bench.ask(max_age=30)
    assert bench.upstream.calls == 1
    _, call = await bench.ask(max_age=29)
    assert call.cache_status == ["Penstock-Exact; fwd=request; stored"]


async def test_only_if_cached():
    bench = Bench()
    with pytest.raises(NotCached):
        await bench.ask(only_if_cached=True)
    assert bench.upstream.calls == 0
    await bench.ask()
    _, call = await bench.ask(only_if_cached=True)
    assert call.cache == "hit"


@pytest.mark.parametrize(
    "answer",
    [
        body(reason="length"),
        body(reason="content_filter"),
        body(reason=None),
        body(refusal="No."),
        body(text=""),
        body(tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]),
        b'{"error": {"message": "overloaded"}}',
    ],
)
async def test_what_must_not_be_stored_is_not(answer):
    bench = Bench()
    bench.upstream.answer = answer
    for _ in range(2):
        response = await bench.cache(make_request(), bench.upstream)
        assert await response.read() == answer
    assert bench.upstream.calls == 2
    assert bench.store.rows == {}


async def test_tool_calls_are_stored_if_the_settings_say_so():
    bench = Bench(tool_calls=True)
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    bench.upstream.answer = body(text=None, reason="tool_calls", tool_calls=[call])
    first, _ = await bench.ask()
    second, hit = await bench.ask()
    assert hit.cache == "hit"
    assert second == first
    events, _ = await bench.stream()
    [streamed] = [
        call
        for event in events
        for choice in json.loads(event.data)["choices"]
        for call in choice["delta"].get("tool_calls", [])
    ]
    assert streamed["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    "events",
    [
        [*chunks("cut")[:-2], ProviderError("broken", code="upstream_incomplete")],
        chunks("cut", reason="length"),
        chunks(),
    ],
)
async def test_streams_that_did_not_end_well_are_not_stored(events):
    bench = Bench()
    bench.upstream.events = events
    for _ in range(2):
        with contextlib.suppress(ProviderError):
            await bench.stream()
    assert bench.upstream.calls == 2
    assert bench.store.rows == {}


async def test_a_stream_that_was_closed_early_is_not_stored():
    bench = Bench()
    response = await bench.cache(make_request(stream=True), bench.upstream)
    await anext(response)
    await response.aclose()
    assert bench.store.rows == {}


async def test_answers_that_are_too_large_are_not_stored():
    bench = Bench(max_entry_bytes=400)
    bench.upstream.answer = body("x" * 400)
    bench.upstream.events = chunks(*["x" * 50] * 8)
    await bench.ask()
    await bench.stream()
    assert bench.store.rows == {}
    assert bench.cache.stats().entries == 0


async def test_nothing_is_shared_between_tenants_namespaces_and_models():
    bench = Bench()
    other = Route("m", (Target("p", "model-2"),), b"other identity")
    for fields in ({"tenant": "a"}, {"tenant": "b"}, {"namespace": "n"}, {"route": other}):
        for expected in ("miss", "hit"):
            _, call = await bench.ask(**fields)
            assert call.cache == expected, fields
    assert bench.upstream.calls == 4


async def test_embeddings_are_cached():
    bench = Bench()
    bench.upstream.answer = json.dumps({"object": "list", "data": [{"index": 0, "embedding": [0.5]}]}).encode()
    for expected in ("miss", "hit"):
        answer, call = await bench.ask(operation="embeddings")
        assert answer["data"][0]["embedding"] == [0.5]
        assert call.cache == expected


async def test_stale_while_revalidate():
    bench = Bench(ttl_s=100, stale_while_revalidate_s=60)
    await bench.ask()
    bench.clock.advance(110)
    bench.upstream.answer = body("new")
    bench.upstream.gate = asyncio.Event()
    for _ in range(5):
        answer, call = await bench.ask()
        assert content(answer) == "hello world"
        assert (call.cache, call.cache_status) == ("stale", ["Penstock-Exact; hit; ttl=-10"])
        assert call.age_s == 110
        await asyncio.sleep(0)
    assert bench.upstream.calls == 2
    bench.upstream.gate.set()
    await bench.clock.settle()
    answer, call = await bench.ask()
    assert content(answer) == "new"
    assert call.cache == "hit"
    assert bench.upstream.calls == 2
    [(renewal, outcome)] = bench.records.rows
    assert outcome == "ok"
    assert renewal.attempts[0].cost_usd == Decimal("0.0025")
    assert len(bench.tasks) == 0


async def test_a_renewal_that_fails_leaves_the_stale_answer():
    bench = Bench(ttl_s=100, stale_while_revalidate_s=60)
    await bench.stream()
    bench.clock.advance(110)
    bench.upstream.error = ProviderError("down", status_code=503, retryable=True)
    for calls in (2, 3):
        _, call = await bench.stream()
        assert call.cache == "stale"
        await bench.clock.settle()
        assert bench.upstream.calls == calls
    assert [outcome for _, outcome in bench.records.rows] == ["upstream_error"] * 2
    bench.upstream.error = None
    await bench.stream()
    await bench.clock.settle()
    _, call = await bench.stream()
    assert call.cache == "hit"


async def test_a_renewal_has_as_much_time_as_the_request_had():
    bench = Bench(ttl_s=100, stale_while_revalidate_s=60)
    await bench.ask()
    bench.clock.advance(110)
    bench.upstream.gate = asyncio.Event()
    await bench.ask(deadline=time.monotonic() + 0.05)
    await bench.tasks.drain()
    assert [outcome for _, outcome in bench.records.rows] == ["upstream_timeout"]


async def test_a_renewal_that_is_cut_off_is_recorded():
    bench = Bench(ttl_s=100, stale_while_revalidate_s=60)
    await bench.ask()
    bench.clock.advance(110)
    bench.upstream.gate = asyncio.Event()
    await bench.ask()
    await asyncio.sleep(0)
    await bench.tasks.aclose()
    assert [outcome for _, outcome in bench.records.rows] == ["client_closed"]


async def test_only_if_cached_renews_nothing():
    bench = Bench(ttl_s=100, stale_while_revalidate_s=60)
    await bench.ask()
    bench.clock.advance(110)
    _, call = await bench.ask(only_if_cached=True)
    assert call.cache == "stale"
    assert len(bench.tasks) == 0


async def test_stale_if_error():
    bench = Bench(ttl_s=100, stale_if_error_s=60)
    await bench.ask()
    bench.clock.advance(110)
    bench.upstream.error = ProviderError("down", status_code=503)
    answer, call = await bench.ask()
    assert content(answer) == "hello world"
    assert call.cache == "stale"
    assert call.degraded == ["stale-if-error"]
    assert call.cache_status == ['Penstock-Exact; fwd=stale; fwd-status=503; detail="stale-if-error"']
    bench.clock.advance(60)
    with pytest.raises(ProviderError):
        await bench.ask()
    await bench.ask(stale_if_error=600)
    with pytest.raises(ProviderError):
        await bench.ask(stale_if_error=600, no_store=True)


async def test_the_requests_own_fault_is_not_hidden():
    bench = Bench(ttl_s=100, stale_if_error_s=600)
    await bench.ask()
    bench.clock.advance(110)
    bench.upstream.error = ProviderError("bad", status_code=400, elsewhere=False)
    with pytest.raises(ProviderError):
        await bench.ask()


async def test_the_store_is_read_when_memory_is_full():
    bench = Bench(max_memory_bytes=1000)
    bench.upstream.answer = body("x" * 300)
    texts = [f"question {number}" for number in range(10)]
    for text in texts:
        await bench.ask(text)
    assert bench.store.reads == 0
    assert bench.cache.stats().memory_bytes <= 1000
    for text in texts:
        answer, call = await bench.ask(text)
        assert call.cache == "hit"
        assert content(answer) == "x" * 300
    assert bench.upstream.calls == 10
    assert bench.store.reads > 0
    assert bench.cache.stats().memory_bytes <= 1000


@pytest.mark.parametrize("way", ["gone", "failing", "damaged"])
async def test_a_store_that_cannot_answer_is_a_miss(way):
    bench = Bench(max_memory_bytes=0)
    await bench.ask()
    [(key, row)] = bench.store.rows.items()
    if way == "gone":
        bench.store.rows.clear()
    elif way == "damaged":
        bench.store.rows[key] = type(row)(**{**{n: getattr(row, n) for n in row.__struct_fields__}, "data": b"{"})
    else:
        bench.store.fails = True
    answer, call = await bench.ask()
    assert content(answer) == "hello world"
    assert call.cache == "miss"
    bench.store.fails = False
    _, call = await bench.ask()
    assert call.cache == "hit"


async def test_a_store_that_cannot_be_read_at_the_start_means_an_empty_cache(caplog):
    bench = Bench()
    bench.store.fails = True
    await bench.cache.start()
    assert "starts empty" in caplog.text
    _, call = await bench.ask()
    assert call.cache == "miss"


async def test_the_number_of_entries_is_bounded_in_the_store_too():
    bench = Bench(max_entries=10)
    for number in range(40):
        await bench.ask(f"question {number}")
    stats = bench.cache.stats()
    assert stats.entries == len(bench.store.rows) == 10
    assert stats.evicted == 30


async def test_what_nobody_can_use_leaves_the_store():
    bench = Bench(ttl_s=100)
    await bench.ask("old")
    bench.clock.advance(2 * 86_400)
    await bench.ask("new")
    assert len(bench.store.rows) == 1


async def test_clear():
    bench = Bench()
    for tenant in ("a", "b"):
        await bench.ask(tenant=tenant)
        await bench.ask("more", tenant=tenant)
    assert bench.cache.clear("a") == 2
    assert len(bench.store.rows) == 2
    assert (await bench.ask(tenant="a"))[1].cache == "miss"
    assert (await bench.ask(tenant="b"))[1].cache == "hit"
    assert bench.cache.clear() == 3
    assert bench.store.rows == {}


async def test_an_answer_on_its_way_does_not_survive_a_clear():
    bench = Bench()
    response = await bench.cache(make_request(stream=True), bench.upstream)
    await anext(response)
    bench.cache.clear()
    await response.read()
    assert bench.store.rows == {}


async def test_stats():
    bench = Bench()
    await bench.ask()
    await bench.ask()
    await bench.ask(no_store=True)
    stats = bench.cache.stats()
    assert (stats.entries, stats.hits, stats.misses, stats.stale, stats.bypassed, stats.stored) == (1, 1, 1, 0, 1, 1)


async def test_a_clock_set_back_neither_serves_for_ever_nor_counts_below_zero():
    bench = Bench(ttl_s=600)
    await bench.ask()
    bench.clock.jump(-0.5)
    _, call = await bench.ask()
    assert (call.cache, call.age_s) == ("hit", 0.0)
    bench.clock.jump(-3600)
    _, call = await bench.ask()
    assert call.cache_status == ["Penstock-Exact; fwd=stale; stored"]


async def test_a_restart_keeps_what_was_paid_for(tmp_path):
    url = f"sqlite:///{tmp_path / 'cache.db'}"
    clock = FakeClock()
    stores = open_store(url, clock)
    await stores.start()
    bench = Bench(stores.cache, clock)
    await bench.cache.start()
    whole, _ = await bench.ask("whole")
    streamed, _ = await bench.stream("streamed")
    await stores.flush()
    await stores.aclose()

    stores = open_store(url, clock)
    await stores.start()
    clock.advance(60)
    bench = Bench(stores.cache, clock)
    await bench.cache.start()
    assert bench.cache.stats().entries == 2
    answer, call = await bench.ask("whole")
    assert answer == whole
    assert (call.cache, call.age_s, call.saved_usd, call.usage) == ("hit", 60.0, Decimal("0.0025"), Usage(7, 2))
    events, call = await bench.stream("streamed")
    assert events == streamed
    assert call.usage == Usage(7, 2)
    assert content((await bench.ask("streamed"))[0]) == "hello world"
    assert bench.upstream.calls == 0
    assert bench.cache.clear() == 2
    await stores.aclose()

    stores = open_store(url, clock)
    await stores.start()
    assert list(await stores.cache.index()) == []
    await stores.aclose()


async def test_with_coalescing_there_is_no_gap_in_which_a_newcomer_asks_again():
    bench = Bench()
    coalesce = Coalesce(bench.clock, bench.tasks)

    def inner(request):
        return coalesce(request, bench.upstream)

    calls = []

    async def ask(number):
        request = make_request(stream=number % 2 == 0)
        for _ in range(number):
            await asyncio.sleep(0)
        response = await bench.cache(request, inner)
        await response.read()
        calls.append(request.call)

    await asyncio.gather(*[ask(number) for number in range(60)])
    assert bench.upstream.calls == 1
    assert len(bench.store.rows) == 1
    assert {call.cache for call in calls} == {"miss", "collapsed", "hit"}
    assert sum(len(call.attempts) for call in calls) == 1
    collapsed = [call for call in calls if call.cache == "collapsed"]
    assert {call.saved_usd for call in collapsed} == {Decimal("0.0025")}
    assert {tuple(call.cache_status) for call in collapsed} == {("Penstock-Exact; fwd=miss; collapsed",)}
    [row] = bench.store.rows.values()
    assert row.cost_pusd == 2_500_000_000


async def test_one_call_for_a_thousand_requests_at_the_moment_of_expiry():
    bench = Bench(ttl_s=100)
    coalesce = Coalesce(bench.clock, bench.tasks)

    def inner(request):
        return coalesce(request, bench.upstream)

    await bench.ask()
    bench.clock.advance(100)
    responses = await asyncio.gather(*[bench.cache(make_request(), inner) for _ in range(1000)])
    assert len({await response.read() for response in responses}) == 1
    assert bench.upstream.calls == 2


async def test_who_is_cancelled_at_the_deadline_may_get_a_stale_answer():
    bench = Bench(ttl_s=100, stale_if_error_s=600)
    await bench.ask()
    bench.clock.advance(110)
    bench.upstream.gate = asyncio.Event()
    task = asyncio.create_task(bench.cache(make_request(deadline=bench.clock.monotonic() + 5), bench.upstream))
    await bench.clock.run(5)
    task.cancel()
    assert (await task).body == body()
    impatient = asyncio.create_task(bench.cache(make_request(deadline=bench.clock.monotonic() + 5), bench.upstream))
    await bench.clock.run(1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_store_that_hangs_does_not_keep_those_waiting_whose_time_is_over():
    class Hanging(Store):
        async def get(self, key):
            await asyncio.Event().wait()

    bench = Bench(Hanging(), ttl_s=100, stale_if_error_s=600, max_memory_bytes=0)
    await bench.ask()
    bench.clock.advance(110)
    bench.upstream.gate = asyncio.Event()
    task = asyncio.create_task(bench.cache(make_request(deadline=bench.clock.monotonic() + 5), bench.upstream))
    await bench.clock.run(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.upstream.error, bench.upstream.gate = ProviderError("down", status_code=503), None
    with pytest.raises(ProviderError, match="down"):
        await bench.ask()
