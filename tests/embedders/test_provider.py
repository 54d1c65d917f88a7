import asyncio
import json
import struct
from base64 import b64encode
from decimal import Decimal

import pytest

from penstock import AsyncClient
from penstock.core.errors import BudgetExceeded, NotCached, ProviderError
from penstock.core.request import CacheDirectives
from penstock.core.response import Response
from penstock.embedders.provider import AT_ONCE, ProviderEmbedder
from penstock.testing import Reply, ScriptedProvider, check_embedder
from penstock.usage import usage_records

SIMULATED = {
    "providers": [{"name": "sim", "kind": "simulated", "latency": {"first_token_s": 0}}],
    "models": [{"name": "small", "targets": [{"provider": "sim", "model": "e"}]}],
    "store": {"url": "memory:"},
}
SCRIPTED = {
    "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [{"name": "small", "targets": [{"provider": "near", "model": "e"}]}],
    "prices": [{"model": "e", "usd_per_million": {"input": 2}}],
    "store": {"url": "memory:"},
}


def body(*vectors, indexes=None):
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in zip(indexes or range(len(vectors)), vectors, strict=True)
    ]
    return json.dumps({"object": "list", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}}).encode()


def answering(given):
    async def ask(request):
        return Response(body=given)

    return ProviderEmbedder("small", ask)


def chat(client, **options):
    """A request as the layers see it when they have a question embedded."""
    return client.request("chat", "small", {"messages": [{"role": "user", "content": "Why?"}]}, **options)


async def test_a_simulated_model_keeps_the_promises():
    async with AsyncClient(SIMULATED) as client:
        await check_embedder(ProviderEmbedder("small", client.handle))


async def test_the_tenant_pays_and_a_repeated_text_costs_nothing(tmp_path):
    url = f"sqlite:///{tmp_path}/penstock.db"
    provider = ScriptedProvider("near", Reply(body=body([3.0, 4.0])))
    async with AsyncClient({**SCRIPTED, "store": {"url": url}}, providers={"near": provider}) as client:
        embedder = ProviderEmbedder("small", client.handle)
        behalf = chat(client, tenant="acme/search", tags=["web"], stream=True)
        for _ in range(2):
            assert await embedder.embed(["How?"], behalf) == [struct.pack("<2f", 0.6, 0.8)]
        assert (len(provider.requests), embedder.dimensions) == (1, 2)
        assert behalf.call.attempts == []
        sent = provider.requests[0]
        assert (sent.operation, sent.payload, sent.stream) == ("embeddings", {"input": ["How?"]}, False)
    rows = list(usage_records(url))
    assert [(row.tenant, row.operation, row.model, row.cache, row.tags) for row in rows] == [
        ("acme/search", "embeddings", "small", "miss", ["web"]),
        ("acme/search", "embeddings", "small", "hit", ["web"]),
    ]
    assert [row.cost_usd and Decimal(row.cost_usd) for row in rows] == [Decimal("0.00001"), Decimal(0)]
    assert {row.metadata["operation"] for row in rows} == {"penstock-embedding"}
    assert {row.request_id for row in rows} == {f"{behalf.call.id}-embedding"}


async def test_what_is_empty_is_not_sent():
    provider = ScriptedProvider("near", Reply(body=body([1.0, 0.0], [0.0, 2.0])))
    async with AsyncClient(SCRIPTED, providers={"near": provider}) as client:
        embedder = ProviderEmbedder("small", client.handle)
        assert await embedder.embed(["", " \n"]) == [b"", b""]
        found = await embedder.embed(["a", "", "b"])
        assert found == [struct.pack("<2f", 1, 0), b"", struct.pack("<2f", 0, 1)]
        assert [sent.payload["input"] for sent in provider.requests] == [["a", "b"]]


async def test_many_texts_are_sent_in_several_calls():
    texts = [f"text {number}" for number in range(AT_ONCE + 1)]
    async with AsyncClient(SIMULATED) as client:
        embedder = ProviderEmbedder("small", client.handle)
        found = await embedder.embed(texts)
        assert len(set(found)) == len(texts)
        assert [found[0], found[-1]] == await embedder.embed([texts[0], texts[-1]])


async def test_numbers_may_come_as_base64_and_in_any_order():
    packed = b64encode(struct.pack("<2f", 0.0, 5.0)).decode()
    assert await answering(body(packed, [2, 0], indexes=[1, 0])).embed(["a", "b"]) == [
        struct.pack("<2f", 1, 0),
        struct.pack("<2f", 0, 1),
    ]
    unnumbered = {"data": [{"embedding": [1.0, 0.0]}, {"embedding": [0.0, 1.0]}]}
    assert await answering(json.dumps(unnumbered).encode()).embed(["a", "b"]) == [
        struct.pack("<2f", 1, 0),
        struct.pack("<2f", 0, 1),
    ]


@pytest.mark.parametrize(
    "given",
    [
        b"no json",
        b'{"data": "x"}',
        body([1.0, 0.0]),
        body([1.0, 0.0], [1.0, 0.0], [1.0, 0.0]),
        body([1.0, 0.0], [0.0, 1.0], indexes=[0, 0]),
        body([1.0, 0.0], [0.0, 0.0]),
        body([1.0, 0.0], [1.0]),
        body([1.0, 0.0], []),
        body([1.0, 0.0], "####"),
        body([1.0, 0.0], b64encode(b"12345").decode()),
        body([1.0, 0.0], b64encode(struct.pack("<2f", float("inf"), 1.0)).decode()),
        body([1.0, 0.0], [1e308, 1e308]),
        body([1.0, 0.0], [1e200, 1e200]),
    ],
)
async def test_an_answer_without_usable_vectors_is_an_error_of_the_upstream(given):
    with pytest.raises(ProviderError, match="small gave no usable vectors") as failed:
        await answering(given).embed(["a", "b"])
    assert failed.value.code == "upstream_invalid"


async def test_vectors_of_another_model_are_refused():
    provider = ScriptedProvider("near", [Reply(body=body([1.0, 0.0])), Reply(body=body([1.0, 0.0, 0.0]))])
    async with AsyncClient(SCRIPTED, providers={"near": provider}) as client:
        embedder = ProviderEmbedder("small", client.handle)
        await embedder.embed(["a"])
        with pytest.raises(ProviderError, match="a vector of 3 numbers, where there were 2 before"):
            await embedder.embed(["b"])


async def test_what_the_pipeline_refuses_is_refused():
    provider = ScriptedProvider("near", Reply(body=body([1.0, 0.0])))
    budget = {"scope": "team", "subject": "default", "period": "day", "unit": "usd", "amount": 0.000001}
    async with AsyncClient({**SCRIPTED, "budgets": [budget]}, providers={"near": provider}) as client:
        with pytest.raises(BudgetExceeded):
            await ProviderEmbedder("small", client.handle).embed(["a question of some length"], chat(client))
        assert provider.requests == []


async def test_what_the_client_says_of_caching_is_heeded_where_it_means_the_vector():
    provider = ScriptedProvider("near", Reply(body=body([1.0, 0.0])))
    async with AsyncClient(SCRIPTED, providers={"near": provider}) as client:
        embedder = ProviderEmbedder("small", client.handle)
        with pytest.raises(NotCached):
            await embedder.embed(["a"], chat(client, cache=CacheDirectives(only_if_cached=True)))
        for directives in (CacheDirectives(no_store=True), CacheDirectives(), CacheDirectives(no_cache=True)):
            await embedder.embed(["a"], chat(client, cache=directives))
        assert len(provider.requests) == 2


async def test_a_caller_who_leaves_ends_the_call():
    gate = asyncio.Event()
    provider = ScriptedProvider("near", Reply(body=body([1.0, 0.0]), gate=gate))
    async with AsyncClient(SCRIPTED, providers={"near": provider}) as client:
        call = asyncio.create_task(ProviderEmbedder("small", client.handle).embed(["a"], chat(client)))
        await provider.wait_for_calls(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.pipeline.idle()
