"""Budgets from the configuration to the answer."""

import asyncio
import contextlib
from decimal import Decimal

import msgspec
import pytest
from benchmarks.budget_races import overshoot

from penstock.client import AsyncClient
from penstock.core.budget import Budget
from penstock.core.errors import BudgetExceeded, InvalidRequest
from penstock.core.usage import Usage
from penstock.testing import FakeClock, Reply, ScriptedProvider

PRICES = [{"model": "m", "usd_per_million": {"input": 1, "output": 10}}]


def usd(amount):
    return round(Decimal(str(amount)).scaleb(12))


def config(*budgets, url="memory:", **more):
    return {
        "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [{"name": "fast", "targets": [{"provider": "near", "model": "m"}]}],
        "prices": PRICES,
        "store": {"url": url},
        "budgets": [{"scope": "team", "subject": "default", "period": "day", **each} for each in budgets],
        **more,
    }


class Meter(ScriptedProvider):
    """Says as much as it may, up to `most` tokens, and reports that."""

    def __init__(self, most=100, given=10):
        super().__init__("near")
        self.most, self.given = most, given

    async def send(self, request, target):
        payload = request.payload
        cap = payload.get("max_completion_tokens", payload.get("max_tokens", self.most))
        self._replies = [Reply(usage=Usage(self.given, min(cap, self.most)))]
        return await super().send(request, target)


def open_client(provider, *budgets, clock=None, **more):
    return AsyncClient(config(*budgets, **more), providers={"near": provider}, clock=clock)


async def use_up(client, **options):
    """Ask until it is refused; return the refusal."""
    for number in range(300):
        try:
            await client.chat(f"Why {number}, at {client.clock.wall()}?", model="fast", **options)
        except BudgetExceeded as error:
            return error
    raise AssertionError("nothing was refused")


async def state(client, period="day"):
    (budget,) = client.shared.budgets.index.budgets.values()
    await client.shared.stores.flush()
    start = 0 if period == "total" else int(client.clock.wall() // 86400 * 86400)
    return await client.shared.stores.budgets.state(budget.id, start)


@pytest.fixture(params=["memory", "sqlite"])
def url(request, tmp_path):
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/a.db"


async def test_what_a_call_costs_is_spent_and_the_rest_given_back(url):
    provider = Meter(most=100)
    async with open_client(provider, {"amount": 1}, url=url) as client:
        answer = await client.chat("Why?", model="fast", max_tokens=500)
        assert answer.cost_usd == Decimal("0.00101")
        client.shared.budgets.close()
        found = await state(client)
        assert (found.spent, found.held, found.unpriced) == (usd("0.00101"), 0, 0)
        assert provider.requests[0].payload["max_tokens"] == 500


async def test_caps_are_lowered_near_the_limit_and_nobody_passes_it(url):
    provider = Meter(most=10_000)
    async with open_client(provider, {"amount": "0.1"}, url=url) as client:
        capped, refused = 0, None
        for number in range(200):
            try:
                answer = await client.chat(f"Why {number}?", model="fast")
                capped += "max_tokens" in provider.requests[-1].payload
            except BudgetExceeded as error:
                refused = error
                break
        assert answer.cost_usd is not None
        assert capped
        found = await state(client)
        assert usd("0.09") < found.spent <= usd("0.1")
        assert refused is not None
        assert "daily budget of team 'default'" in refused.message
        assert 0 < refused.retry_after <= 86400
        assert refused.code == "insufficient_quota"


async def test_nobody_is_refused_for_what_a_request_might_cost(url):
    provider = Meter(most=10)
    async with open_client(provider, {"amount": 10_000, "unit": "tokens"}, url=url) as client:
        asked = (client.chat(f"Why {number}?", model="fast", max_tokens=9_000) for number in range(12))
        for each in asked:
            await each
        many = [client.chat(f"And why {number}?", model="fast", max_tokens=9_000) for number in range(30)]
        await asyncio.gather(*many)
        assert provider.calls == 42
        assert 10 <= provider.requests[-1].payload["max_tokens"] < 9_000


async def test_hits_and_followers_cost_nothing(url):
    gate = asyncio.Event()
    provider = ScriptedProvider("near", Reply(usage=Usage(10, 100), gate=gate))
    async with open_client(provider, {"amount": 1}, url=url) as client:
        both = [asyncio.create_task(client.chat("Why?", model="fast")) for _ in range(3)]
        await provider.wait_for_calls(1)
        gate.set()
        await asyncio.gather(*both)
        await client.chat("Why?", model="fast")
        assert provider.calls == 1
        assert (await state(client)).spent == usd("0.00101")


async def test_a_stream_the_client_breaks_off_is_settled_with_what_it_used(url):
    provider = ScriptedProvider("near", Reply(text="word " * 400, gates={9: asyncio.Event()}))
    async with open_client(provider, {"amount": 1}, url=url) as client:
        stream = await client.chat("Why?", model="fast", stream=True)
        await anext(stream)
        await stream.aclose()
        client.shared.budgets.close()
        found = await state(client)
        assert provider.endings == ["closed"]
        assert found.spent > 0
        assert found.held == 0


async def test_unpriced_models_are_refused_unless_allowed(url):
    provider = Meter()
    strict = {"amount": 1}
    async with open_client(provider, strict, url=url, prices=[]) as client:
        with pytest.raises(InvalidRequest) as refused:
            await client.chat("Why?", model="fast")
        assert (refused.value.code, refused.value.status_code) == ("unpriced_model", 403)
        assert provider.calls == 0
    async with open_client(provider, {**strict, "allow_unpriced": True}, url=url, prices=[]) as client:
        await client.chat("Why?", model="fast")
        assert (await state(client))[1:] == (0, (await state(client)).held, 1)


async def test_token_budgets_need_no_prices(url):
    provider = Meter(most=100)
    async with open_client(provider, {"amount": 1000, "unit": "tokens"}, url=url, prices=[]) as client:
        await use_up(client)
        assert 700 < (await state(client)).spent <= 1000


async def test_all_budgets_must_allow(url):
    provider = Meter(most=100)
    small = {"amount": "0.002", "scope": "organisation", "period": "total"}
    clock = FakeClock()
    async with open_client(provider, {"amount": 100}, small, url=url, clock=clock) as client:
        for _ in range(2):
            refused = await use_up(client)
            await client.shared.stores.flush()
            clock.advance(1)
        assert refused.retry_after is None
        assert "organisation 'default'" in refused.message


async def test_a_new_day_is_a_new_budget_but_a_jump_of_the_clock_is_not(url):
    clock = FakeClock(wall=1_800_000_000.0 // 86400 * 86400 + 80_000)
    provider = Meter(most=10_000)
    async with open_client(provider, {"amount": "0.01"}, clock=clock, url=url, timeout_s=1e6) as client:
        await use_up(client, max_tokens=500)
        clock.jump(7200)
        clock.advance(1)
        calls = provider.calls
        await use_up(client, max_tokens=500)
        assert provider.calls == calls
        clock.jump(-7200)
        clock.advance(7000)
        await use_up(client, max_tokens=500)
        assert provider.calls > calls


async def test_soft_thresholds_are_told_once(url, caplog):
    provider = Meter(most=100)
    told = []
    async with open_client(provider, {"amount": "0.01", "soft": [0.5, 0.8, 1.0]}, url=url) as client:
        client.shared.budgets.on_event(lambda event: told.append(event.share))
        for number in range(30):
            with contextlib.suppress(BudgetExceeded):
                await client.chat(f"Why {number}?", model="fast", max_tokens=100)
            await client.shared.stores.flush()
            await asyncio.sleep(0)
        await client.shared.stores.flush()
        rules = [(event.severity, event.threshold) for event in await client.monitor.history()]
    assert told == [0.5, 0.8, 1.0]
    assert rules == [("critical", 0.01), ("warning", 0.008), ("warning", 0.005)]
    assert caplog.text.count("is spent, more than 50%") == 1


async def test_budgets_made_while_running_hold_at_once_and_until_they_are_gone(url):
    provider = Meter(most=100)
    async with open_client(provider, url=url) as client:
        await client.chat("One?", model="fast")
        budgets = client.shared.budgets
        tiny = Budget("bud_1", "team", "default", "total", "usd", usd("0.000001"))
        await budgets.store.put(tiny)
        await budgets.refresh()
        with pytest.raises(BudgetExceeded):
            await client.chat("Two?", model="fast")
        await budgets.store.put(msgspec.structs.replace(tiny, amount=usd(1)))
        await budgets.refresh()
        await asyncio.sleep(0.25)
        await client.chat("Two?", model="fast")
        await budgets.store.delete("bud_1")
        await budgets.refresh()
        await client.chat("Three?", model="fast")
        assert provider.calls == 3


def test_two_processes_with_200_requests_each_share_a_budget_for_ten():
    found = overshoot(1, requests=200)
    assert found["overshoot"] == 0
    assert found["answered"] >= 1
    assert found["answered"] + found["refused"] == 400
