"""What cascades cost: no budget is overrun, and what is spent is the sum of all attempts."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.layers.test_cascade import SURE, UNSURE, taught

from penstock.client import AsyncClient
from penstock.core.errors import BudgetExceeded, InvalidRequest, ProviderError
from penstock.core.usage import Usage
from penstock.testing import Reply, ScriptedProvider

KIND = {"kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}


class Meter(ScriptedProvider):
    """Uses as many tokens as it may, and fails now and then."""

    def __init__(self, name, texts, most, failing=()):
        super().__init__(name)
        self.texts, self.most, self.failing = texts, most, failing

    async def send(self, request, target):
        cap = request.payload.get("max_tokens", self.most)
        number = self.calls
        if number in self.failing:
            self._replies = [Reply(error=ProviderError("broken", status_code=503))]
        else:
            text = self.texts[number % len(self.texts)]
            self._replies = [Reply(text=text, usage=Usage(50, min(cap, self.most)))]
        return await super().send(request, target)


def config(budget, near, far, **more):
    def per_token(usd):
        return {"usd_per_million": {"input": usd, "output": usd}}

    return {
        "providers": [{"name": "near", **KIND}, {"name": "far", **KIND}],
        "models": [
            {"name": "small", "targets": [{"provider": "near", "model": "s"}]},
            {"name": "large", "targets": [{"provider": "far", "model": "l"}]},
            {"name": "smart", "cascade": {"stages": ["small", "large"], "audits": 0}},
        ],
        "prices": [{"provider": "near", **per_token(near)}, {"provider": "far", **per_token(far)}],
        "budgets": [{"scope": "team", "subject": "default", "period": "total", **budget}],
        "retry": {"attempts": 1},
        "breaker": {"failures": 1000},
        "store": {"url": "memory:"},
        **more,
    }


async def spent(client):
    (budget,) = client.shared.budgets.index.budgets.values()
    client.shared.budgets.close()
    await client.shared.stores.flush()
    return (await client.shared.stores.budgets.state(budget.id, 0)).spent


@pytest.mark.parametrize("unit", ["usd", "tokens"])
@settings(max_examples=15)
@given(
    near=st.integers(0, 20),
    far=st.integers(10, 50),
    near_most=st.integers(100, 3000),
    far_most=st.integers(100, 3000),
    texts=st.lists(st.sampled_from([UNSURE, SURE]), min_size=1, max_size=4),
    failing=st.sets(st.integers(0, 10)),
    stream=st.booleans(),
    tokens=st.integers(200, 3000),
)
async def test_no_budget_is_overrun_and_all_attempts_are_paid(
    unit, near, far, near_most, far_most, texts, failing, stream, tokens
):
    value = str(Decimal(tokens * (near + far)).scaleb(-6)) if unit == "usd" else 2 * tokens
    providers = {"near": Meter("near", texts, near_most, failing), "far": Meter("far", ["Four."], far_most, failing)}
    async with AsyncClient(config({"amount": value, "unit": unit}, near, far), providers=providers) as client:
        client.shared.cascades.known["smart"].learners["small"].load(taught())
        paid = 0
        for number in range(12):
            payload = {"messages": [{"role": "user", "content": f"What is {number} + 2?"}]}
            request = client.request("chat", "smart", payload, stream=stream)
            with contextlib.suppress(BudgetExceeded, ProviderError):
                await (await client.handle(request)).read()
            for attempt in request.call.attempts:
                if unit == "usd":
                    paid += round((attempt.cost_usd or Decimal(0)).scaleb(12))
                elif attempt.usage is not None:
                    paid += attempt.usage.total_tokens
        assert await spent(client) == paid
        assert paid <= (round(Decimal(value).scaleb(12)) if unit == "usd" else value)


@pytest.mark.parametrize(("near", "enough"), [(0, True), (10, False)])
async def test_what_all_models_cost_is_held(near, enough):
    wanted = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": 16}
    providers = {"near": Meter("near", [SURE], 9), "far": Meter("far", ["Four."], 9)}
    async with AsyncClient(config({"amount": "0.001"}, near, 10), providers=providers) as client:
        if enough:
            assert (await client.handle(client.request("chat", "smart", wanted))).whole
        else:
            with pytest.raises(BudgetExceeded):
                await client.handle(client.request("chat", "smart", wanted))
            assert (await client.handle(client.request("chat", "large", wanted))).whole


async def test_a_cascade_with_a_model_without_a_price_is_refused_under_a_budget_in_dollars():
    cheap = {**config({"amount": 1}, 1, 1), "prices": [{"provider": "near", "usd_per_request": 0}]}
    providers = {"near": Meter("near", [SURE], 9), "far": Meter("far", ["Four."], 9)}
    async with AsyncClient(cheap, providers=providers) as client:
        with pytest.raises(InvalidRequest, match="The price of 'far/l' is unknown"):
            await client.chat("What is 2 + 2?", model="smart")
