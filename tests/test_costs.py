"""What calls cost, from the configuration to the answer."""

import asyncio
import json
from decimal import Decimal

from penstock import AsyncClient
from penstock.core.usage import Usage
from penstock.testing import FakeClock, ScriptedProvider, answer
from penstock.testing.provider import Reply

TEXT = "word " * 120


def config(*prices):
    return {
        "store": {"url": "memory:"},
        "cache": {"coalesce": False, "exact": {"enabled": False}},
        "providers": [{"name": "near", "kind": "vllm"}],
        "models": [{"name": "m", "targets": [{"provider": "near", "model": "llama"}]}],
        "prices": list(prices),
    }


def silent():
    """An answer that does not say how many tokens it took."""
    body = json.loads(answer(TEXT))
    del body["usage"]
    return Reply(body=json.dumps(body).encode())


async def test_calls_at_the_same_time_share_the_machine():
    clock, gate = FakeClock(), asyncio.Event()
    provider = ScriptedProvider("near", Reply(gate=gate))
    async with AsyncClient(
        config({"provider": "near", "usd_per_hour": 3600}), providers={"near": provider}, clock=clock
    ) as client:
        running = [asyncio.ensure_future(client.chat(text, model="m")) for text in ("one", "two")]
        await provider.wait_for_calls(2)
        clock.advance(3.0)
        gate.set()
        answers = await asyncio.gather(*running)
        assert [(each.cost_usd, each.cost_source) for each in answers] == [(Decimal("1.5"), "time")] * 2


async def test_a_price_of_ones_own_is_charged():
    provider = ScriptedProvider("near", Reply(usage=Usage(1000, 100, cached_input_tokens=400)))
    price = {"model": "lla*", "usd_per_million": {"input": 2, "cached_input": 1, "output": 10}}
    async with AsyncClient(config(price), providers={"near": provider}) as client:
        found = await client.chat("Hello", model="m")
        assert (found.cost_usd, found.cost_source) == (Decimal("0.0026"), "provider")


async def test_what_a_provider_reports_corrects_the_estimate_of_what_it_does_not():
    steps = [Reply(text=TEXT, usage=Usage(500, 150)) for _ in range(6)]
    provider = ScriptedProvider("near", [silent(), *steps, silent()])
    async with AsyncClient(config(), providers={"near": provider}) as client:
        found = [await client.chat("the same question", model="m") for _ in range(8)]
        first, last = found[0].call.usage, found[-1].call.usage
        assert (first.source, last.source) == ("estimate", "calibrated")
        assert abs(last.input_tokens - 500) <= 10
        assert abs(last.output_tokens - 150) <= 5
