"""Two workers of one gateway, each with all it has in a process of its own, over a bus of real sockets."""

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass

import pytest

from penstock.config.loader import load_mapping
from penstock.core.call import Call
from penstock.core.errors import NotCached, ProviderError, RateLimited
from penstock.core.request import CacheDirectives, Request
from penstock.pipeline import Pipeline
from penstock.shared import Shared
from penstock.testing import Reply, ScriptedProvider
from penstock.workers.bus import WorkerBus

NEAR = {"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}
MODELS = [{"name": "fast", "targets": [{"provider": "near", "model": "m"}]}]
PRICES = [{"provider": "near", "model": "m", "usd_per_million": {"input": 1, "output": 2}}]


def request(text="Hello?", **fields):
    return Request("chat", "fast", {"messages": [{"role": "user", "content": text}]}, Call("id"), **fields)


@dataclass
class Worker:
    bus: WorkerBus
    shared: Shared
    pipeline: Pipeline
    near: ScriptedProvider

    async def ask(self, asked=None):
        asked = asked or request()
        response = await self.pipeline(asked)
        said = json.loads(await response.read())["choices"][0]["message"]["content"]
        return said, asked.call


@pytest.fixture
async def start(tmp_path):
    """Start two workers that both ask one provider with this script."""
    folder = tmp_path / "bus"
    folder.mkdir(mode=0o700)
    async with AsyncExitStack() as running:

        async def begin(script="Hello.", **changes):
            settings = load_mapping(
                {"providers": [NEAR], "models": MODELS, "prices": PRICES,
                 "store": {"url": f"sqlite:///{tmp_path}/penstock.db"}, **changes},
                environ={}, probe=False,
            ).settings  # fmt: skip
            near = ScriptedProvider("near", script)
            workers = []
            for number in (1, 2):
                bus = WorkerBus(str(folder), number, 2)
                await bus.open()
                running.push_async_callback(bus.aclose)
                shared = await Shared.open(settings, bus=bus)
                running.push_async_callback(shared.aclose)
                pipeline = await Pipeline.open(settings, shared, providers={"near": near})
                running.push_async_callback(pipeline.aclose)
                workers.append(Worker(bus, shared, pipeline, near))
            assert all(await asyncio.gather(*(each.bus.meet() for each in workers)))
            return workers

        yield begin


async def events_of(response, least=None):
    """Read so many events, or the rest."""
    found = []
    async for batch in response:
        found += batch
        if least is not None and len(found) >= least:
            break
    return found


async def until(check):
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.002)


async def test_what_one_has_in_memory_is_a_hit_at_the_other(start):
    one, other = await start()
    said, first = await one.ask()
    assert (first.cache, first.cache_status) == ("miss", ["Penstock-Exact; fwd=miss; stored"])
    again, call = await other.ask()
    assert (again, call.cache, call.attempts, one.near.calls) == (said, "hit", [], 1)
    assert call.cache_status == ["Penstock-Exact; hit; ttl=7199"]
    assert call.age_s == pytest.approx(0, abs=60)
    assert call.saved_usd == first.attempts[0].cost_usd
    assert call.usage == first.attempts[0].usage
    stats = other.pipeline.parts.cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (1, 0, 1)
    assert other.pipeline.at_hand(other.pipeline.route(request()))  # it is here now, too
    streamed = request(stream=True)
    response = await one.pipeline(streamed)
    assert (streamed.call.cache, response.whole) == ("hit", True)


async def test_streams_are_hits_elsewhere_as_well(start):
    one, other = await start("a b c")
    async for _ in await one.pipeline(request(stream=True)):
        pass
    said, call = await other.ask(request(stream=True))
    assert (said, call.cache, one.near.calls) == ("a b c", "hit", 1)


async def test_identical_requests_at_both_make_one_call_and_one_bill(start):
    gate = asyncio.Event()
    workers = one, other = await start(Reply(text="Hello.", gate=gate))
    asked = [request() for _ in range(8)]
    waiting = [asyncio.create_task(workers[n % 2].ask(each)) for n, each in enumerate(asked)]
    await until(lambda: sum(len(flight.seats) for flight in one.shared.neighbourhood.flights.values()) == 5
                or sum(len(flight.seats) for flight in other.shared.neighbourhood.flights.values()) == 5)  # fmt: skip
    gate.set()
    assert [said for said, _ in await asyncio.gather(*waiting)] == ["Hello."] * 8
    assert one.near.calls == 1
    calls = [each.call for each in asked]
    paying = [call for call in calls if call.attempts]
    assert [(call.cache, len(call.attempts)) for call in paying] == [("miss", 1)]
    rest = [call for call in calls if not call.attempts]
    assert {call.cache for call in rest} == {"collapsed"}
    assert {call.saved_usd for call in rest} == {paying[0].attempts[0].cost_usd}
    assert all("collapsed" in call.cache_status[-1] for call in rest)
    assert not one.shared.neighbourhood.flights
    assert not other.shared.neighbourhood.flights


async def test_who_joins_a_stream_elsewhere_hears_what_was_said_and_then_the_live_rest(start):
    gates = {2: asyncio.Event(), 4: asyncio.Event()}
    one, other = await start(Reply(text="a b c d e", gates=gates))
    leading, following = request(stream=True), request(stream=True)
    first = await one.pipeline(leading)
    heard = await events_of(first, 2)
    second = await other.pipeline(following)
    assert not second.whole
    assert following.call.cache == "collapsed"
    late = await events_of(second, 2)
    for gate in gates.values():
        gate.set()
    heard += await events_of(first)
    late += await events_of(second)
    assert late == heard
    assert len(heard) > 4
    assert one.near.calls == 1
    assert (following.call.attempts, following.call.saved_usd) == ([], leading.call.attempts[0].cost_usd)
    assert following.call.usage == leading.call.attempts[0].usage
    said, call = await other.ask()
    assert (said, call.cache) == ("a b c d e", "hit")


async def test_an_error_is_the_leaders_and_the_other_worker_is_served_by_another_try(start):
    gate = asyncio.Event()
    failing = Reply(error=ProviderError("broken", status_code=500, retryable=True), gate=gate)
    one, other = await start([failing, "Hello."], retry={"attempts": 1})
    leading = asyncio.create_task(one.ask())
    await until(lambda: one.near.calls == 1)
    following = asyncio.create_task(other.ask())
    await until(lambda: any(len(flight.seats) == 2 for flight in one.shared.neighbourhood.flights.values()))
    gate.set()
    with pytest.raises(ProviderError, match="broken"):
        await leading
    said, call = await following
    assert (said, call.cache, one.near.calls) == ("Hello.", "collapsed", 2)
    await until(lambda: not one.shared.neighbourhood.flights)


async def test_an_error_that_is_everybodys_is_told_as_it_was(start):
    gate = asyncio.Event()
    wrong = ProviderError("too long", status_code=400, code="context_length_exceeded", elsewhere=False, provider="near")
    one, other = await start(Reply(error=wrong, gate=gate))
    leading = asyncio.create_task(one.ask())
    await until(lambda: one.near.calls == 1)
    following = asyncio.create_task(other.ask())
    await until(lambda: any(len(flight.seats) == 2 for flight in one.shared.neighbourhood.flights.values()))
    gate.set()
    with pytest.raises(ProviderError):
        await leading
    with pytest.raises(ProviderError) as caught:
        await following
    told = caught.value
    assert (told.message, told.status_code, told.code, told.elsewhere, told.provider) == (
        "too long", 400, "context_length_exceeded", False, "near",
    )  # fmt: skip
    assert one.near.calls == 1


async def test_a_flight_goes_on_for_the_other_worker_when_its_own_client_leaves_and_its_cost_is_written_down(
    start, tmp_path
):
    gate = asyncio.Event()
    one, other = await start(Reply(text="Hello.", gate=gate))
    leading = asyncio.create_task(one.ask())
    await until(lambda: one.near.calls == 1)
    following = asyncio.create_task(other.ask())
    await until(lambda: any(len(flight.seats) == 2 for flight in one.shared.neighbourhood.flights.values()))
    leading.cancel()
    await asyncio.wait([leading])
    gate.set()
    said, call = await following
    assert (said, call.cache, call.attempts, one.near.calls) == ("Hello.", "collapsed", [], 1)
    await one.shared.stores.ledger.flush()
    with closing(sqlite3.connect(tmp_path / "penstock.db")) as connection:
        paid = connection.execute("SELECT outcome, cost_pusd FROM attempts").fetchall()
    assert paid == [("ok", 14_000_000)]


async def test_when_the_one_that_asks_is_gone_exactly_one_asks_anew(start):
    gate = asyncio.Event()
    one, other = await start([Reply(text="Lost.", gate=gate), "Hello."])
    leading = asyncio.create_task(one.ask())
    await until(lambda: one.near.calls == 1)
    following = [asyncio.create_task(other.ask()) for _ in range(3)]
    await until(lambda: any(len(flight.seats) == 2 for flight in one.shared.neighbourhood.flights.values()))
    await one.bus.aclose()  # as a killed process does, it ends its connections
    assert [said for said, _ in await asyncio.gather(*following)] == ["Hello."] * 3
    assert one.near.calls == 2
    gate.set()
    await leading


async def test_what_was_cleared_meanwhile_is_not_kept(start):
    one, other = await start()
    await one.ask()
    one.pipeline.parts.cache.clear()
    _, call = await other.ask()
    assert (call.cache, one.near.calls) == ("miss", 2)

    gate = asyncio.Event()
    taking = one.shared.neighbourhood._bus._handlers
    give = taking.reply["answer"]

    async def later(worker, key):
        said = give(worker, key)
        gate.set()
        await asyncio.sleep(0)
        return said

    taking.reply["answer"] = later
    await one.ask(request("Another?"))
    asking = asyncio.create_task(other.ask(request("Another?")))
    await gate.wait()
    other.pipeline.parts.cache.clear()
    await asking
    assert not other.pipeline.at_hand(other.pipeline.route(request("Another?")))


async def test_tenants_share_nothing_across_workers(start):
    one, other = await start()
    await one.ask(request(tenant="a"))
    _, call = await other.ask(request(tenant="b"))
    assert (call.cache, one.near.calls) == ("miss", 2)


@pytest.mark.parametrize("directives", [CacheDirectives(no_cache=True), CacheDirectives(no_store=True)])
async def test_who_wants_an_answer_of_its_own_gets_it(start, directives):
    one, other = await start()
    await one.ask()
    _, call = await other.ask(request(cache=directives))
    assert (call.cache in ("miss", "bypass"), one.near.calls) == (True, 2)


async def test_models_that_are_not_cached_share_nothing(start):
    gate = asyncio.Event()
    one, other = await start(Reply(text="Hello.", gate=gate), models=[{**MODELS[0], "cache_ttl_s": 0}])
    asking = [asyncio.create_task(each.ask()) for each in (one, other)]
    await until(lambda: one.near.calls == 2)
    gate.set()
    await asyncio.gather(*asking)


async def test_only_if_cached_is_answered_from_any_workers_memory_and_never_by_a_provider(start):
    one, other = await start()
    only = CacheDirectives(only_if_cached=True)
    with pytest.raises(NotCached):
        await other.ask(request(cache=only))
    await one.ask()
    _, call = await other.ask(request(cache=only))
    assert (call.cache, one.near.calls) == ("hit", 1)


async def test_an_answer_that_is_too_old_for_a_client_is_asked_for_again(start):
    one, other = await start()
    await one.ask()
    _, call = await other.ask(request(cache=CacheDirectives(max_age=0)))
    assert (call.cache, one.near.calls) == ("miss", 2)


async def test_what_is_not_kept_is_asked_for_again(start):
    one, other = await start(Reply(text="cut off", finish_reason="length"))
    await one.ask()
    await asyncio.sleep(0)
    _, call = await other.ask()
    assert (call.cache, one.near.calls) == ("miss", 2)


async def test_tenants_limits_are_of_all_workers_together(start):
    workers = await start(limits={"per_tenant": {"requests_per_minute": 5}})
    asked = [workers[number % 2].ask(request(str(number))) for number in range(12)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [each for each in answers if isinstance(each, RateLimited)]
    assert len(answers) - len(refused) == workers[0].near.calls == 5
    assert {each.quota.requests_remaining for each in refused} == {0}


async def test_a_provider_gets_no_more_at_once_from_two_workers_and_who_waits_is_woken(start):
    gates = [asyncio.Event() for _ in range(6)]
    script = [Reply(text=str(number), gate=gate) for number, gate in enumerate(gates)]
    workers = await start(script, providers=[{**NEAR, "limits": {"max_concurrency": 2}}])
    near = workers[0].near
    asked = [asyncio.create_task(workers[number % 2].ask(request(str(number)))) for number in range(6)]
    for ended, gate in enumerate(gates):
        await until(lambda ended=ended: near.calls == min(ended + 2, 6))
        assert sum(ending is None for ending in near.endings) <= 2
        gate.set()
    assert sorted(said for said, _ in await asyncio.gather(*asked)) == list("012345")


async def test_with_one_worker_none_of_it_is_there(tmp_path):
    settings = load_mapping({"providers": [NEAR], "models": MODELS, "store": {"url": "memory:"}}, environ={},
                            probe=False).settings  # fmt: skip
    shared = await Shared.open(settings)
    pipeline = await Pipeline.open(settings, shared, providers={"near": ScriptedProvider("near")})
    assert shared.neighbourhood is None
    assert "neighbours" not in pipeline._layers
    await pipeline.aclose()
    await shared.aclose()
