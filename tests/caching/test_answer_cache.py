"""What the semantic cache needs of the exact one: answers by the key of another question, and word of those that go."""

import asyncio
import json
from decimal import Decimal

import pytest

from penstock.config.caches import ExactCacheSettings
from penstock.core.call import Attempt, Call
from penstock.core.canonical import make_event
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
MEMBER = "Penstock-Semantic; hit"
HELLO, HI = "hello", "hi"


def question(text, *, stream=False, tenant="t", tags=(), **directives):
    return Request(
        operation="chat",
        model="m",
        payload={"messages": [{"role": "user", "content": text}]},
        call=Call(text),
        stream=stream,
        tenant=tenant,
        tags=tags,
        cache=CacheDirectives(**directives),
        route=ROUTE,
    )


def text_of(request):
    return request.payload["messages"][-1]["content"]


def body(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    answer = {"id": "a", "object": "chat.completion", "model": "model", "choices": [choice], "usage": usage}
    return json.dumps(answer).encode()


async def said(response):
    return json.loads(await response.read())["choices"][0]["message"]["content"]


class Desk:
    """An exact cache over a real store, and inside it one that answers `HI` with what is known of `HELLO`."""

    def __init__(self, store, clock, **settings):
        self.store, self.clock, self.tasks = store, clock, TaskGroup()
        self.cache = ExactCache(ExactCacheSettings(**settings), store, clock, self.tasks)
        self.answers = self.cache.answers
        self.asked = []
        self.known = None
        self.kept, self.gone = [], []
        self.answers.on_keep["desk"] = self.kept.append
        self.answers.on_leave["desk"] = self.gone.append

    async def ask(self, text, *, through=None, **fields):
        request = question(text, **fields)
        inner = self.guess if through is None else lambda each: through(each, self.guess)
        response = await self.cache(request, inner)
        return await said(response), request.call

    async def guess(self, request):
        if text_of(request) == HI and self.known is not None and request.semantic != "off":
            response = await self.answers.serve_known(request, self.known, MEMBER)
            if response is not None:
                return response
        return await self.provider(request)

    async def provider(self, request):
        await asyncio.sleep(0)
        self.asked.append(text_of(request))
        request.call.attempts.append(Attempt("p", "model", 0.0, cost_usd=Decimal("0.0025"), usage=Usage(7, 2)))
        answer = f"to {text_of(request)}"
        if request.stream:
            return Response(source=self.stream(answer))
        return Response(body=body(answer), usage=Usage(7, 2), finish_reason="stop")

    async def stream(self, answer):
        for delta, reason in (({"role": "assistant", "content": answer}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            yield [make_event({"object": "chat.completion.chunk", "model": "model", "choices": [choice]})]

    def key(self, text, **fields):
        request = question(text, **fields)
        self.cache.at_hand(request)
        return request.call.key

    def look_up(self, text):
        return self.answers.lookup(self.key(text), self.clock.wall())


@pytest.fixture
async def stores(tmp_path):
    stores = open_store(f"sqlite:///{tmp_path / 'cache.db'}", FakeClock())
    await stores.start()
    yield stores
    await stores.aclose()


@pytest.fixture
def make(stores):
    return lambda **settings: Desk(stores.cache, FakeClock(), **settings)


async def knowing(desk, **fields):
    await desk.ask(HELLO, **fields)
    desk.known = desk.look_up(HELLO)
    assert desk.known is not None
    return desk


@pytest.mark.parametrize("was_stream", [False, True])
@pytest.mark.parametrize("wants_stream", [False, True])
@pytest.mark.parametrize("max_memory_bytes", [0, 10**6])
async def test_one_questions_answer_is_given_to_another(make, was_stream, wants_stream, max_memory_bytes):
    desk = await knowing(make(max_memory_bytes=max_memory_bytes), stream=was_stream)
    desk.clock.advance(60)
    answer, call = await desk.ask(HI, stream=wants_stream)
    assert answer == f"to {HELLO}"
    assert desk.asked == [HELLO]
    assert (call.cache, call.age_s, call.saved_usd, call.attempts) == ("semantic", 60.0, Decimal("0.0025"), [])
    assert call.cache_status == [MEMBER, "Penstock-Exact; fwd=miss"]
    assert call.served is None
    assert desk.cache.stats().hits == 0


@pytest.mark.parametrize("company", [1, 3])
async def test_an_answer_to_another_question_is_not_stored_for_this_one(make, company):
    desk = await knowing(make())
    coalesce = Coalesce(desk.clock, desk.tasks)
    calls = [call for _, call in await asyncio.gather(*[desk.ask(HI, through=coalesce) for _ in range(company)])]
    assert {call.cache for call in calls} == {"semantic"}
    assert {call.saved_usd for call in calls} == {Decimal("0.0025")}
    assert desk.look_up(HI) is None
    assert desk.kept == [desk.key(HELLO)]
    assert len(await desk.store.index()) <= 1
    desk.known = None
    answer, call = await desk.ask(HI, through=coalesce)
    assert (answer, call.cache) == (f"to {HI}", "miss")


async def test_a_renewal_takes_no_other_questions_answer(make):
    desk = make(ttl_s=100, stale_while_revalidate_s=100)
    await desk.ask(HI)
    desk.clock.advance(50)
    await knowing(desk)
    desk.clock.advance(60)
    _, call = await desk.ask(HI)
    assert call.cache == "stale"
    await desk.tasks.drain()
    answer, call = await desk.ask(HI)
    assert (answer, call.cache) == (f"to {HI}", "hit")
    assert desk.asked == [HI, HELLO, HI]


async def test_another_tenant_is_not_given_it(make):
    desk = await knowing(make())
    answer, call = await desk.ask(HI, tenant="u")
    assert (answer, call.cache) == (f"to {HI}", "miss")


@pytest.mark.parametrize(("age_s", "directives", "given"), [
    (0, {}, True), (99, {}, True), (100, {}, False), (50, {"max_age": 60}, True), (50, {"max_age": 40}, False),
])  # fmt: skip
async def test_it_is_as_fresh_as_was_asked_for(make, age_s, directives, given):
    desk = await knowing(make(ttl_s=100))
    desk.clock.advance(age_s)
    assert (desk.look_up(HELLO) is None) == (age_s >= 100)
    answer, _ = await desk.ask(HI, **directives)
    assert answer == f"to {HELLO if given else HI}"


@pytest.mark.parametrize("max_memory_bytes", [0, 10**6])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_alias_is_an_exact_hit_and_no_fresher(make, stores, max_memory_bytes, stream):
    desk = await knowing(make(ttl_s=100, max_memory_bytes=max_memory_bytes), stream=stream)
    desk.clock.advance(60)
    assert await desk.answers.alias(desk.key(HI), desk.known)
    desk.known = None
    answer, call = await desk.ask(HI)
    assert (answer, call.cache, call.age_s, call.saved_usd) == (f"to {HELLO}", "hit", 60.0, Decimal("0.0025"))
    assert call.cache_status == ["Penstock-Exact; hit; ttl=40"]
    assert desk.kept == [desk.key(HELLO), desk.key(HI)]
    assert not await desk.answers.alias(desk.key(HI), desk.look_up(HELLO))
    await stores.flush()
    again = Desk(stores.cache, desk.clock)
    await again.cache.start()
    assert {row.model for row in await stores.cache.index()} == {"m"}
    answer, call = await again.ask(HI)
    assert (answer, call.cache) == (f"to {HELLO}", "hit")


async def test_an_alias_does_not_outlive_a_clear(make, stores):
    desk = await knowing(make(max_memory_bytes=0))
    await stores.flush()
    waiting = asyncio.ensure_future(desk.answers.alias(desk.key(HI), desk.known))
    await asyncio.sleep(0)
    desk.cache.clear()
    assert not await waiting
    assert desk.look_up(HI) is None


async def test_whoever_wants_to_know_is_told_of_every_answer_that_goes(make, stores):
    desk = make(max_entries=4, ttl_s=100, max_memory_bytes=0)
    keys = [desk.key(f"{number}") for number in range(6)]
    for number in range(6):
        await desk.ask(f"{number}")
    assert desk.kept == keys
    assert desk.gone == keys[:2]
    desk.cache.clear("somebody else")
    assert len(desk.gone) == 2
    desk.store.delete([keys[2]])
    await stores.flush()
    assert await desk.answers.body(desk.answers.find(keys[2])) is None
    assert desk.gone == keys[:3]
    desk.clock.advance(90_000)
    await desk.ask("later")
    assert desk.gone == keys
    desk.cache.clear("t")
    assert desk.gone == [*keys, desk.key("later")]


async def test_a_newer_answer_to_the_same_question_is_no_farewell(make):
    desk = await knowing(make(), stream=True)
    await desk.ask(HELLO, no_cache=True)
    assert desk.asked == [HELLO, HELLO]
    assert desk.gone == []
    assert await desk.answers.body(desk.look_up(HELLO)) == body(f"to {HELLO}")


async def test_being_of_use_to_others_keeps_an_answer(make):
    desk = await knowing(make(max_entries=3))
    for number in range(20):
        desk.known = desk.look_up(HELLO)
        answer, _ = await desk.ask(HI)
        assert answer == f"to {HELLO}"
        await desk.ask(f"{number}")


async def test_answers_are_cleared_by_what_is_known_of_them(make, stores):
    desk = make(ttl_s=100)
    await desk.ask("a", tags=("faq", "prompt:help@2"))
    await desk.ask("b", tags=("faq",))
    await desk.ask("c")
    await stores.flush()
    again = Desk(stores.cache, desk.clock)
    await again.cache.start()
    for known in (desk, again):
        assert known.answers.clear(lambda entry: "prompt:help@2" in entry.tags) == 1
        assert known.gone == [desk.key("a")]
        assert known.answers.clear(lambda entry: entry.model == "another") == 0
        assert [entry.tags for entry in known.answers] == [("faq",), ()]


async def test_what_is_too_old_for_anybody_goes(make):
    desk = make(ttl_s=100)
    await desk.ask("long", ttl=1000)
    await desk.ask("short")
    desk.clock.advance(86_400 + 150)
    assert desk.answers.tidy() == 1
    assert desk.gone == [desk.key("short")]
    assert await desk.answers.known(desk.key("long"))
    assert not await desk.answers.known(desk.key("short"))


async def test_an_answer_another_process_left_is_known(make, stores):
    desk, other = make(), make()
    await other.ask("elsewhere")
    assert await desk.answers.known(desk.key("elsewhere"))


@pytest.mark.parametrize("max_memory_bytes", [0, 10**6])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_copy_is_the_same_answer_elsewhere(make, tmp_path, max_memory_bytes, stream):
    desk = await knowing(make(ttl_s=100, max_memory_bytes=max_memory_bytes), stream=stream, tags=("faq",))
    copied = await desk.answers.copy(desk.known)
    elsewhere = open_store(f"sqlite:///{tmp_path / 'elsewhere.db'}", desk.clock)
    await elsewhere.start()
    there = Desk(elsewhere.cache, desk.clock, max_memory_bytes=max_memory_bytes)
    assert there.answers.restore(copied)
    assert not there.answers.restore(copied)
    answer, call = await there.ask(HELLO)
    assert (answer, call.cache, call.saved_usd) == (f"to {HELLO}", "hit", Decimal("0.0025"))
    assert (await elsewhere.cache.get(desk.key(HELLO))).tags == ("faq",)
    desk.clock.advance(90_000)
    assert not Desk(elsewhere.cache, desk.clock).answers.restore(copied)
    await elsewhere.aclose()


async def test_many_answers_are_dropped_while_others_go_on(make):
    desk = await knowing(make())
    for number in range(120):
        await desk.ask(f"{number}")
    begun = asyncio.Event()
    desk.answers.on_leave["test"] = lambda _key: begun.set()
    clearing = asyncio.ensure_future(desk.answers.clear_gently(lambda entry: entry.key != desk.known.key))
    await begun.wait()
    assert len(desk.gone) < 120
    await desk.ask("meanwhile")
    assert await clearing == 120
    assert len(desk.gone) == 120
    assert [entry.key for entry in desk.answers] == [desk.key(HELLO), desk.key("meanwhile")]


async def test_what_was_cleared_does_not_come_back_from_a_process_that_has_not_been_yet(make):
    other, desk = await knowing(make()), make()
    copy = other.answers.at_rest(other.known)
    await desk.answers.clear_gently(lambda entry: True)
    assert desk.answers.adopt(copy, desk.answers.clears) is None
    desk.clock.advance(31)  # by now the other one has been, so what it has is of another's clearing
    assert desk.answers.adopt(copy, desk.answers.clears) is not None


async def test_what_is_newer_than_the_clearing_is_taken_from_another_process(make):
    desk, other = make(), make()
    desk.answers.clear()
    other.clock.advance(1)
    await knowing(other)
    assert desk.answers.adopt(other.answers.at_rest(other.known), desk.answers.clears) is not None
