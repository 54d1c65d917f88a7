import asyncio
import threading
from decimal import Decimal

import pytest

from penstock import (
    AsyncClient,
    BudgetExceeded,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    ProviderError,
    Usage,
    gather,
)
from penstock.testing import FakeClock, Reply, ScriptedProvider

PRICED = {
    "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [{"name": "fast", "targets": [{"provider": "near", "model": "m"}]}],
    "prices": [{"provider": "near", "usd_per_million": {"input": 0, "output": 1000}}],
    "store": {"url": "memory:"},
    "retry": {"attempts": 1},
}
"""A token of answer costs a tenth of a cent."""
ANSWER = Reply(text="Hello.", usage=Usage(5, 10))
ANSWER_USD = Decimal("0.01")


def client_with(script=ANSWER, **changes):
    provider = ScriptedProvider("near", script)
    return provider, AsyncClient({**PRICED, **changes}, providers={"near": provider})


async def after(clock, seconds, result="done"):
    await clock.sleep(seconds)
    if isinstance(result, Exception):
        raise result
    return result


async def run(clock, work):
    task = asyncio.ensure_future(work)
    while not task.done():
        await clock.run(1)
    return await task


@pytest.fixture
def timed():
    clock = FakeClock()
    return clock, AsyncClient(PRICED, clock=clock)


async def test_a_turn_takes_as_long_as_its_slowest_operation(timed):
    clock, client = timed
    found = await run(clock, gather(client, answer=after(clock, 3), products=after(clock, 4), replies=after(clock, 2)))
    assert dict(found) == {"answer": "done", "products": "done", "replies": "done"}
    assert (found.seconds, found.cost_usd, found.errors) == (4, 0, {})


async def test_an_operation_that_fails_has_its_error_in_its_place(timed):
    clock, client = timed
    broken = ValueError("no products")
    found = await run(clock, gather(client, answer=after(clock, 3), products=after(clock, 1, broken)))
    assert found["products"] is broken
    assert found.errors == {"products": broken}
    assert (found.value("answer"), found.value("products", otherwise=[])) == ("done", [])
    assert set(found) == {"answer", "products"}


async def test_what_is_late_is_cancelled(timed):
    clock, client = timed
    ended = []

    async def slow():
        try:
            await clock.sleep(60)
        except asyncio.CancelledError:
            ended.append(clock.monotonic() - began)
            raise

    began = clock.monotonic()
    found = await run(clock, gather(client, timeout_s=5, answer=after(clock, 3), products=slow()))
    assert (found["answer"], found.seconds, ended) == ("done", 5, [5])
    assert isinstance(found["products"], DeadlineExceeded)
    assert "'products' was not done" in str(found["products"])


async def test_the_others_are_cancelled_when_a_required_one_fails(timed):
    clock, client = timed
    ended = []

    async def slow():
        try:
            await clock.sleep(60)
        finally:
            ended.append(clock.monotonic())

    began = clock.monotonic()
    broken = ProviderError("the model is down")
    work = gather(client, required=["answer"], answer=after(clock, 3, broken), products=slow())
    with pytest.raises(ProviderError, match="the model is down"):
        await run(clock, work)
    assert ended == [began + 3]


async def test_whoever_cancels_it_cancels_all(timed):
    clock, client = timed
    ended = []

    async def slow():
        try:
            await clock.sleep(60)
        finally:
            ended.append(True)

    task = asyncio.create_task(gather(client, one=slow(), two=slow()))
    await clock.run(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True, True]


async def test_calls_get_no_more_time_than_the_turn():
    clock = FakeClock()
    provider = ScriptedProvider("near", Reply(gate=asyncio.Event()))
    async with AsyncClient(PRICED, providers={"near": provider}, clock=clock) as client:
        asking = client.chat("Why?", model="fast", timeout_s=60)
        turn = asyncio.create_task(gather(client, timeout_s=5, answer=asking))
        await provider.wait_for_calls(1)
        found = await run(clock, turn)
    assert isinstance(found["answer"], DeadlineExceeded)
    assert provider.endings == ["closed"]


async def test_the_cost_of_all_calls_is_counted():
    _, client = client_with()
    async with client:

        async def twice():
            await client.chat("One?", model="fast")
            return await client.chat("Two?", model="fast")

        found = await gather(client, twice=twice(), once=client.chat("Three?", model="fast"))
        assert found.cost_usd == 3 * ANSWER_USD
        again = await gather(client, once=client.chat("Three?", model="fast"))
        assert (again.cost_usd, again["once"].cached) == (0, True)
        assert (await client.chat("Three?", model="fast")).cached


async def test_a_call_that_does_not_fit_the_budget_is_not_begun():
    provider, client = client_with()
    async with client:
        asking = {f"q{number}": client.chat(f"{number}?", model="fast", max_tokens=20) for number in range(4)}
        found = await gather(client, budget_usd="0.045", **asking)
        # Each may cost 2 cents, so two are begun; that they come to 1 cent each is known too late for the others.
        assert [isinstance(each, Exception) for each in found.values()].count(True) == 2
        assert found.cost_usd == 2 * ANSWER_USD
        error = next(iter(found.errors.values()))
        assert isinstance(error, BudgetExceeded)
        assert "the budget of $0.045" in str(error)
        assert "calls under way are expected to cost $0.04" in str(error)
        assert "expected to cost $0.02" in str(error)
        assert provider.calls == 2


async def test_what_calls_did_not_need_is_there_for_later_ones():
    _, client = client_with()
    async with client:

        async def in_turn():
            return [await client.chat(f"{number}?", model="fast", max_tokens=20) for number in range(3)]

        found = await gather(client, budget_usd="0.045", all=in_turn())
    assert len(found["all"]) == 3


async def test_without_money_there_is_still_the_cache():
    provider, client = client_with()
    async with client:
        await client.chat("Known?", model="fast")
        found = await gather(
            client, budget_usd=0, known=client.chat("Known?", model="fast"), new=client.chat("New?", model="fast")
        )
    assert found["known"].cached
    assert isinstance(found["new"], BudgetExceeded)
    assert provider.calls == 1


async def test_a_turn_inside_a_turn_has_both_budgets():
    _, client = client_with()
    async with client:

        async def inner():
            asking = {name: client.chat(name, model="fast", max_tokens=20) for name in ("a", "b")}
            return await gather(client, budget_usd=5, **asking)

        found = await gather(client, budget_usd="0.03", inner=inner())
    (error,) = found["inner"].errors.values()
    assert "the budget of $0.03" in str(error)
    assert found.cost_usd == found["inner"].cost_usd == ANSWER_USD


async def test_targets_without_a_price_are_stepped_over():
    far = {"name": "far", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}
    both = [{"provider": "far", "model": "m"}, {"provider": "near", "model": "m"}]
    near, unpriced = ScriptedProvider("near", ANSWER), ScriptedProvider("far", ANSWER)
    config = {**PRICED, "providers": [*PRICED["providers"], far], "models": [{"name": "fast", "targets": both}]}
    async with AsyncClient(config, providers={"near": near, "far": unpriced}) as client:
        found = await gather(client, budget_usd=5, answer=client.chat("Why?", model="fast"))
    assert (found.cost_usd, near.calls, unpriced.calls) == (ANSWER_USD, 1, 0)


async def test_all_models_of_a_cascade_are_expected_to_be_paid():
    near, far = ScriptedProvider("near", ANSWER), ScriptedProvider("far", ANSWER)
    config = {
        **PRICED,
        "providers": [*PRICED["providers"], {**PRICED["providers"][0], "name": "far"}],
        "models": [{"name": "smart", "cascade": {"stages": ["near/m", "far/m"], "audits": 0}}],
        "prices": [{"usd_per_million": {"input": 0, "output": 1000}}],
    }
    async with AsyncClient(config, providers={"near": near, "far": far}) as client:
        short = await gather(client, budget_usd="0.03", a=client.chat("A?", model="smart", max_tokens=20))
        found = await gather(client, budget_usd="0.04", a=client.chat("A?", model="smart", max_tokens=20))
    assert "it is expected to cost $0.04" in str(short["a"])
    assert found["a"].text == "Hello."
    assert found.cost_usd == found["a"].cost_usd


async def test_embeddings_cost_their_prompt_only():
    config = {**PRICED, "prices": [{"provider": "near", "usd_per_million": {"input": 1, "output": 1000}}]}
    simulated = {**config, "providers": [{"name": "near", "kind": "simulated"}]}
    async with AsyncClient(simulated) as client:
        found = await gather(client, budget_usd="0.0001", vectors=client.embeddings("a few words", model="fast"))
    assert len(found["vectors"].vectors) == 1


async def test_a_stream_is_paid_when_it_has_ended():
    _, client = client_with()
    async with client:

        async def read():
            return "".join([piece.text async for piece in await client.chat("Why?", model="fast", stream=True)])

        found = await gather(client, answer=read())
    assert (found["answer"], found.cost_usd) == ("Hello.", ANSWER_USD)


async def test_a_model_without_a_price_is_no_way_around_a_budget():
    provider, client = client_with(prices=[])
    async with client:
        found = await gather(client, budget_usd=1, answer=client.chat("Why?", model="fast"))
        assert isinstance(found["answer"], InvalidRequest)
        assert found["answer"].code == "unpriced_model"
        assert provider.calls == 0
        free = await gather(client, answer=client.chat("Why?", model="fast"))
        assert (free["answer"].text, free.cost_usd) == ("Hello.", None)


async def test_what_the_client_does_for_itself_does_not_count(tmp_path, caplog):
    (tmp_path / "faq.jsonl").write_text('{"question": "When?", "model": "fast"}')
    caplog.set_level("INFO", "penstock.cache")
    provider, client = client_with(cache={"warm": [{"file": str(tmp_path / "faq.jsonl")}]})
    found = await gather(client, budget_usd=0, answer=client.chat("Why?", model="fast"))  # opens the client
    assert isinstance(found["answer"], BudgetExceeded)
    await provider.wait_for_calls(1)
    assert provider.requests[0].payload["messages"][0]["content"] == "When?"
    await client.aclose()


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"required": ["anwser"]}, "there is no operation 'anwser', only answer"),
        ({"timeout_s": 0}, "timeout_s: expected more than 0"),
        ({"budget_usd": -1}, "budget_usd: expected 0 or more"),
        ({"budget_usd": "much"}, "budget_usd: expected 0 or more"),
    ],
)
async def test_arguments_that_make_no_sense(terms, said):
    with pytest.raises(ValueError, match=said):
        await gather(answer=asyncio.sleep(0), **terms)


def test_blocking_operations_run_at_once():
    together = threading.Barrier(2, timeout=20)
    config = {**PRICED, "providers": [{"name": "near", "kind": "simulated"}]}
    with Client(config) as client:

        def answer():
            together.wait()
            return client.chat("Why?", model="fast")

        found = client.gather(answer=answer, products=together.wait, broken=lambda: 1 // 0, timeout_s=30)
    assert found["answer"].text
    assert found["products"] in (0, 1)
    assert isinstance(found["broken"], ZeroDivisionError)
    assert found.cost_usd is not None
