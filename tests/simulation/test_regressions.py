"""What simulations found, in as few steps as show it, in virtual time."""

import asyncio
from random import Random

import pytest

from penstock.config.settings import Settings
from penstock.core.call import Call
from penstock.core.errors import RateLimited
from penstock.core.request import Request
from penstock.pipeline import Pipeline
from penstock.shared import Shared
from penstock.testing.simulation import FAIR, FaultyProvider, SimulatedClock, SimulatedLoop, Weather
from penstock.testing.simulation.short import ShortWay

SPARE = {"name": "b", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}


class Gateway:
    """A pipeline over two providers that always answer at once."""

    def __init__(self, loop, **settings):
        self.clock = SimulatedClock(loop)
        self.journal = []
        self.providers = {
            name: FaultyProvider(name, self.clock, Random(name), FAIR, self.journal) for name in ("a", "b")
        }
        document = {
            "store": {"url": "memory:"},
            "cache": {"exact": {"enabled": False}, "coalesce": False},
            "models": [{"name": "m", "targets": [{"provider": "a"}]}],
            **settings,
        }
        first = {**SPARE, "name": "a", "limits": document.pop("limited", {}), "timeouts": document.pop("timeouts", {})}
        document["providers"] = [first, SPARE]
        self.settings = Settings.model_validate(document)

    async def __aenter__(self):
        self.shared = await Shared.open(self.settings, self.clock)
        self.pipeline = await Pipeline.open(self.settings, self.shared, providers=self.providers)
        return self

    async def __aexit__(self, *_):
        await self.pipeline.aclose()
        await self.shared.aclose()

    async def reload(self, settings):
        self.pipeline = await Pipeline.open(settings, self.shared, providers=self.providers, previous=self.pipeline)

    async def ask(self, question="q", **fields):
        payload = {"messages": [{"role": "user", "content": question}]}
        call = Call("id", started=self.clock.monotonic(), started_at=self.clock.wall())
        request = Request("chat", "m", payload, call, **fields)
        return request.call, await self.pipeline(request)

    async def ask_shortly(self, question="q", **fields):
        """As a server does."""
        payload = {"messages": [{"role": "user", "content": question}]}
        call = Call("id", started=self.clock.monotonic(), started_at=self.clock.wall())
        way = ShortWay(Random(1), pytest.fail)
        answer, request = way.ask(self.pipeline, Request("chat", "m", payload, call, **fields))
        return call, answer or await self.pipeline(request)


def simulated(main):
    loop = SimulatedLoop(1)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()


def test_a_model_that_another_stands_in_for_is_not_waited_for_in_vain():
    async def main(loop):
        models = [
            {"name": "m", "targets": [{"provider": "a"}], "fallbacks": {"errors": ["spare"], "timeout_s": 5}},
            {"name": "spare", "targets": [{"provider": "b"}]},
        ]
        async with Gateway(loop, models=models, limited={"requests_per_minute": 1}) as gateway:
            await gateway.ask()
            began = gateway.clock.monotonic()
            call, response = await gateway.ask()  # the minute is not over for long
            await response.read()
            return call.degraded, gateway.clock.monotonic() - began

    degraded, waited_s = simulated(main)
    assert degraded == ["fallback-errors"]
    assert waited_s < 1


def test_whoever_waits_in_vain_to_the_end_is_told_when_to_come_back():
    async def main(loop):
        async with Gateway(loop, limited={"max_concurrency": 1}, timeout_s=10) as gateway:
            _, response = await gateway.ask(stream=True)
            await anext(aiter(response))  # and reads no further
            with pytest.raises(RateLimited) as refused:
                await gateway.ask()
            await response.aclose()
            return refused.value.retry_after

    assert simulated(main) >= 1


def test_a_provider_without_a_connection_at_hand_has_no_more_time_than_another():
    async def main(loop):
        models = [{"name": "m", "targets": [{"provider": "a"}, {"provider": "b", "order": 1}]}]
        async with Gateway(loop, models=models, timeouts={"total_s": 2}) as gateway:
            gateway.providers["a"].weather = Weather(hangs=1.0, cold=1.0)
            call, response = await gateway.ask_shortly()
            await response.read()
            return [attempt.outcome for attempt in call.attempts]

    assert simulated(main) == ["upstream_timeout", "ok"]


BY_MEANING = {
    "limited": {},
    "cache": {
        "semantic": {
            "mode": "on",
            "max_error": 0.3,
            "audit": 1e-6,
            "embedder": {"kind": "provider", "model": "vectors"},
        }
    },
    "models": [
        {"name": "m", "targets": [{"provider": "a"}]},
        {"name": "vectors", "targets": [{"provider": "b"}]},
    ],
}


def test_a_model_for_vectors_that_hangs_holds_up_no_call_for_long():
    async def main(loop):
        async with Gateway(loop, **BY_MEANING) as gateway:
            gateway.providers["b"].weather = Weather(hangs=1.0)
            began = gateway.clock.monotonic()
            call, response = await gateway.ask()
            await response.read()
            return call.cache_status[0], gateway.clock.monotonic() - began

    status, waited_s = simulated(main)
    assert status == 'Penstock-Semantic; fwd=bypass; detail="upstream_timeout"'
    assert waited_s < 3


def test_who_wants_no_answer_by_meaning_is_not_given_one_that_another_waits_for():
    async def main(loop):
        async with Gateway(loop, **BY_MEANING) as gateway:
            await gateway.ask("q 3")
            await gateway.shared.tasks.drain()
            gateway.providers["b"].weather = Weather(slow=1.0)
            asked = [gateway.ask("Q 3?"), gateway.ask("Q 3?", semantic="off")]
            return [call.cache for call, _ in await asyncio.gather(*asked)]

    assert simulated(main) == ["semantic", "miss"]


def test_a_question_whose_answer_left_while_it_was_compared_is_not_remembered():
    async def main(loop):
        cache = {"exact": {"max_entries": 1}, "semantic": {"mode": "on", "max_error": 0.3}}
        async with Gateway(loop, **{**BY_MEANING, "cache": cache}) as gateway:
            await asyncio.gather(*(gateway.ask(f"q {number}") for number in range(5)))
            await gateway.shared.tasks.drain()
            return len(gateway.shared.memory.questions)

    assert simulated(main) == 1


def test_a_reload_that_needs_another_memory_forgets_neither_decisions_nor_counts():
    async def main(loop):
        cache = {"semantic": {"mode": "on", "max_error": 0.3}}
        async with Gateway(loop, **{**BY_MEANING, "cache": cache}) as gateway:
            await gateway.ask("q 3")
            await gateway.shared.tasks.drain()
            call, _ = await gateway.ask("Q 3?")
            await gateway.shared.tasks.drain()
            labels = next(policy for _, policy in gateway.shared.memory.policies).certificate().labels
            settings = gateway.settings.model_dump(exclude_unset=True)
            settings["cache"]["semantic"]["max_questions"] = 2
            await gateway.reload(Settings.model_validate(settings))
            told = await gateway.pipeline.learner.told("default", call.id, right=True)
            learnt = next(policy for _, policy in gateway.shared.memory.policies).certificate().labels
            return call.cache, gateway.shared.memory.stats.served, told, learnt - labels

    assert simulated(main) == ("semantic", 1, True, 1)
