import asyncio
import json
import re
from pathlib import Path

import pytest

from penstock.config.loader import load_mapping
from penstock.core.call import Call
from penstock.core.errors import ConfigError, InvalidRequest, NotCached, ProviderError
from penstock.core.request import CacheDirectives, Request
from penstock.pipeline import CALL, TARGET, Pipeline
from penstock.providers import registry
from penstock.shared import Parts, Shared
from penstock.testing import Reply, ScriptedProvider

ROOT = Path(__file__).parents[1]
ORDER = re.compile(r"^    (record › .*(?:\n    .*)*)$", re.MULTILINE)
OPT_IN = {
    "budget", "cascade", "concurrency", "fallback", "hedge", "limit", "load", "neighbours", "refresh", "semantic_cache",
    "shape_context",
}  # fmt: skip
NEAR = {"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}
MODELS = [{"name": "fast", "targets": [{"provider": "near", "model": "m"}]}]


def settings(**changes):
    return load_mapping(
        {"providers": [NEAR], "models": MODELS, "store": {"url": "memory:"}, **changes}, environ={}, probe=False
    ).settings


def request(model="fast", text="Hello?", **fields):
    return Request("chat", model, {"messages": [{"role": "user", "content": text}]}, Call("id"), **fields)


@pytest.fixture
async def shared():
    opened = await Shared.open(settings())
    yield opened
    await opened.aclose()


@pytest.fixture
def near():
    return ScriptedProvider("near")


@pytest.fixture
async def pipeline(shared, near):
    opened = await Pipeline.open(settings(), shared, providers={"near": near})
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("page", ["docs/adr/0001-order-of-layers.md", "docs/index.md", "src/penstock/pipeline.py"])
def test_the_order_is_the_documented_one(page):
    outside = " › ".join(name for name, _ in CALL)
    inside = " › ".join(name for name, _ in TARGET)
    found = [" ".join(order.split()) for order in ORDER.findall((ROOT / page).read_text())]
    assert found == [f"{outside} {{ per target: {inside} › provider }}"]


def layers(parts):
    return [name for name, build in (*CALL, *TARGET) if build(parts) is not None]


async def test_layers_that_are_switched_off_are_not_in_the_stack(pipeline, shared, near):
    assert layers(pipeline.parts) == [name for name, _ in (*CALL, *TARGET) if name not in OPT_IN]
    off = settings(cache={"exact": {"enabled": False}, "coalesce": False})
    bare = await Pipeline.open(off, shared, providers={"near": near})
    assert bare.parts.cache is None
    missing = {name for name, _ in (*CALL, *TARGET)} - set(layers(bare.parts))
    assert missing == {"coalesce"} | OPT_IN  # in the place of the exact cache is what refuses `only-if-cached`
    asked = request()
    await asyncio.gather(*(bare(request()) for _ in range(3)), bare(asked))
    assert near.calls == 4
    assert asked.call.cache_status == []
    await bare.aclose()


async def test_a_call_goes_through_all_of_them(pipeline, near):
    asked = request()
    response = await pipeline(asked)
    assert json.loads(await response.read())["choices"][0]["message"]["content"] == "Hello."
    assert [attempt.outcome for attempt in asked.call.attempts] == ["ok"]
    again = request()
    await pipeline(again)
    assert (again.call.cache, again.call.attempts, near.calls) == ("hit", [], 1)


async def test_running_counts_calls_until_their_answers_end(shared):
    near = ScriptedProvider("near", ["Hello.", Reply(text="one two", gates={2: asyncio.Event()})])
    pipeline = await Pipeline.open(settings(), shared, providers={"near": near})
    assert (await pipeline(request())).whole
    assert pipeline.running == 0
    live = await pipeline(request(text="Another.", stream=True))
    assert pipeline.running == 1
    waiting = asyncio.create_task(pipeline.idle())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await live.aclose()
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(InvalidRequest):
        await pipeline(request("unknown"))
    assert pipeline.running == 0
    await pipeline.aclose()


async def test_a_call_that_fails_or_is_cancelled_does_not_run_any_more(shared):
    script = [ProviderError("no", status_code=400, elsewhere=False), Reply(gate=asyncio.Event())]
    near = ScriptedProvider("near", script)
    pipeline = await Pipeline.open(settings(), shared, providers={"near": near})
    with pytest.raises(ProviderError):
        await pipeline(request())
    assert pipeline.running == 0
    hanging = asyncio.create_task(pipeline(request()))
    await near.wait_for_calls(2)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await asyncio.wait_for(near.wait_for_endings(2), 5)
    assert pipeline.running == 0
    await pipeline.aclose()


class Closing(ScriptedProvider):
    """Stands in for a built provider."""


async def test_a_provider_that_cannot_be_built_closes_those_that_were(shared, monkeypatch):
    built = []

    def build(provider, *, clock):
        if provider.name == "broken":
            raise ConfigError("cannot be built")
        built.append(Closing(provider.name))
        return built[-1]

    monkeypatch.setattr(registry, "build", build)
    names = ("near", "given", "far", "broken")
    given = ScriptedProvider("given")
    with pytest.raises(ConfigError, match="cannot be built"):
        await Pipeline.open(
            settings(providers=[{**NEAR, "name": name} for name in names]), shared, providers={"given": given}
        )
    assert [(provider.name, provider.closed) for provider in built] == [("near", True), ("far", True)]
    assert not given.closed, "it is its owner's"


async def test_closing_closes_what_was_built_here(shared, monkeypatch):
    made = Closing("near")
    monkeypatch.setattr(registry, "build", lambda provider, *, clock: made)
    pipeline = await Pipeline.open(settings(), shared)
    assert not made.closed
    await pipeline.aclose()
    assert made.closed
    await pipeline.aclose()


async def test_nobody_is_asked_for_what_is_to_come_from_a_cache_where_there_is_none(shared, near):
    bare = await Pipeline.open(settings(cache={"exact": {"enabled": False}}), shared, providers={"near": near})
    asked = request(cache=CacheDirectives(only_if_cached=True))
    with pytest.raises(NotCached):
        await bare(asked)
    assert asked.call.cache_status == ['Penstock-Exact; detail="only-if-cached"']
    assert near.calls == 0
    await bare.aclose()


async def test_health_and_cache_outlive_a_configuration_unless_their_settings_change(pipeline, shared, near):
    async def next_one(**changes):
        opened = await Pipeline.open(settings(**changes), shared, providers={"near": near}, previous=pipeline)
        await opened.aclose()
        return opened.parts

    old: Parts = pipeline.parts
    same = await next_one(timeout_s=5)
    assert (same.health, same.cache.answers) == (old.health, old.cache.answers)
    briefer = await next_one(cache={"exact": {"ttl_s": 5}})
    assert briefer.cache.answers is old.cache.answers
    other = await next_one(breaker={"failures": 2}, cache={"exact": {"max_entries": 5}})
    assert other.health is not old.health
    assert other.cache.answers is not old.cache.answers


async def test_models_are_the_configured_ones_and_what_providers_offer(shared):
    class Silent(ScriptedProvider):
        async def models(self):
            raise ProviderError("cannot be asked")

    config = settings(
        providers=[NEAR, {**NEAR, "name": "far"}], models=[*MODELS, {"name": "*", "targets": [{"provider": "near"}]}]
    )
    providers = {"near": ScriptedProvider("near"), "far": Silent("far")}
    pipeline = await Pipeline.open(config, shared, providers=providers)
    assert [(model.id, model.owned_by) for model in await pipeline.models()] == [
        ("fast", "penstock"),
        ("scripted", "near"),
    ]
    await pipeline.aclose()


async def test_what_changes_answers_changes_the_key_and_nothing_else(shared, near):
    async def identity(**changes):
        opened = await Pipeline.open(settings(providers=[{**NEAR, **changes}]), shared, providers={"near": near})
        await opened.aclose()
        return opened.routes.resolve("fast").identity

    same = await identity()
    assert await identity(api_key="sk-other", timeouts={"total_s": 5}, max_connections=3, proxy="none") == same
    for change in ({"base_url": "http://127.0.0.1:10/v1"}, {"headers": {"x-beta": "1"}}, {"query": {"v": "2"}}):
        assert await identity(**change) != same


async def test_the_metrics_show_targets_store_and_cache(pipeline, shared):
    await pipeline(request())
    page = shared.metrics.exposition()[0].decode()
    assert 'penstock_target_available{model="m",provider="near"} 1.0' in page
    assert 'penstock_cache{what="entries"} 1.0' in page
    assert 'penstock_store_rows{state="pending"}' in page
    assert 'outcome="ok"' in page


async def test_what_was_learned_of_replicas_outlives_a_reload(shared):
    chosen = [{"provider": name, "model": "m"} for name in ("near", "far")]
    balanced = settings(
        providers=[{"name": name, "kind": "simulated"} for name in ("near", "far")],
        models=[{"name": "fast", "strategy": "balanced", "targets": chosen}],
    )
    providers = {name: ScriptedProvider(name) for name in ("near", "far")}
    first = await Pipeline.open(balanced, shared, providers=providers)
    assert "load" in layers(first.parts)
    await first(request())
    second = await Pipeline.open(balanced, shared, providers=providers, previous=first)
    assert sorted(each.provider for each in shared.balancer.states()) == ["far", "near"]
    assert 'penstock_replica_slowness{model="m",provider="far"}' in shared.metrics.exposition()[0].decode()
    await second.aclose()
    await first.aclose()
