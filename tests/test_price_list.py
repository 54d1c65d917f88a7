"""While the price list is loaded, who needs a price waits; nobody else does."""

import asyncio

from penstock import AsyncClient
from penstock.testing import ScriptedProvider

CONFIG = {
    "store": {"url": "memory:"},
    "providers": [{"name": "near", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-0123456789"}],
    "models": [{"name": "m", "targets": [{"provider": "near", "model": "gpt-4o-mini"}]}],
}


async def test_requests_wait_for_the_price_list_without_holding_up_hits():
    provider = ScriptedProvider("near", "Hello.")
    async with AsyncClient(CONFIG, providers={"near": provider}) as client:
        await client.chat("known", model="m")
        loaded = client.shared.loading
        client.shared.loading = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(client.chat("new", model="m"))
        hit = await client.chat("known", model="m")
        assert (hit.call.cache, provider.calls, waiting.done()) == ("hit", 1, False)
        client.shared.loading.set_result(None)
        answer = await waiting
        assert (provider.calls, answer.call.attempts[0].cost_usd > 0) == (2, True)
        client.shared.loading = loaded


async def test_a_request_given_up_meanwhile_was_not_sent():
    provider = ScriptedProvider("near", "Hello.")
    async with AsyncClient(CONFIG, providers={"near": provider}) as client:
        loaded = client.shared.loading
        client.shared.loading = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(client.chat("new", model="m"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert (waiting.cancelled(), client.shared.loading.cancelled(), provider.calls) == (True, False, 0)
        assert client.shared.stores.ledger.recent[-1].call.attempts == []
        client.shared.loading = loaded
