"""Conversations that are cut, through the whole pipeline."""

import asyncio
import copy

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import ConfigError, InvalidRequest, ProviderError
from penstock.core.request import CacheDirectives
from penstock.core.response import Response
from penstock.pricing.estimate import estimate_message
from penstock.testing import FakeClock, answer

SUMMARY = "They planned a trip to Lisbon in May with a budget of 900 euros."


class Provider:
    """Remembers what it was asked, and writes summaries unless told otherwise."""

    name = "near"

    def __init__(self, window=None):
        self.asked = []
        self.summaries = []
        self.error = None
        self.hang = False

    async def send(self, request, target):
        if target.model != "small":
            self.asked.append(request)
            return Response(body=answer("Yes."), finish_reason="stop")
        self.summaries.append(request)
        if self.hang:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return Response(body=answer(SUMMARY), finish_reason="stop")

    async def models(self):
        return []

    async def aclose(self):
        pass

    @property
    def messages(self):
        return self.asked[-1].payload["messages"]


def config(model=None, **context):
    return {
        "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [
            {"name": "big", "targets": [{"provider": "near", "model": "m"}], **(model or {})},
            {"name": "small", "targets": [{"provider": "near", "model": "small"}]},
        ],
        "context": context,
        "store": {"url": "memory:"},
        "retry": {"attempts": 1},
        "alerts": {"built_in": False},
    }


def call(number):
    function = {"name": "weather", "arguments": f'{{"day":{number}}}'}
    return {"id": f"call_{number}", "type": "function", "function": function}


def conversation(exchanges=30, words=40):
    messages = [{"role": "system", "content": "You are a travel agent."}]
    for number in range(exchanges):
        said = f"On day {number} we go to place number {number}. " + "It is a long way there. " * (words // 6)
        messages += [
            {"role": "user", "content": said},
            {"role": "assistant", "content": None, "tool_calls": [call(number)]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": f"day {number}: dry"},
            {"role": "assistant", "content": f"Place {number} is dry on day {number}."},
        ]
    return [*messages, {"role": "user", "content": "Where do we go on day 3?"}]


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
async def client(provider):
    async with AsyncClient(config(mode="budget", tokens=800), providers={"near": provider}) as opened:
        yield opened


def opened(provider, **settings):
    return AsyncClient(config(**settings), providers={"near": provider})


def size(messages):
    return sum(map(estimate_message, messages))


def assert_valid(messages):
    """Every result of a tool follows the call it answers, and every call has its results."""
    pending = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in pending
            pending.remove(message["tool_call_id"])
        else:
            assert not pending
            pending = [each["id"] for each in message.get("tool_calls") or ()]
    assert not pending


async def test_a_long_conversation_is_cut_to_its_budget(client, provider):
    given = conversation()
    found = await client.chat(copy.deepcopy(given), model="big")
    sent = provider.messages
    assert size(given) > 800 >= size(sent)
    assert_valid(sent)
    assert sent[0] == given[0]
    assert given[-1]["content"] in sent[-1]["content"]
    shaping = found.call.shaping
    assert (shaping.before, shaping.after) == (size(given), size(sent))
    assert shaping.left_out > 0
    assert shaping.how == "extractive"
    counts = client.shared.shaping.counts
    assert (counts.cut, counts.untouched, counts.tokens_before) == (1, 0, shaping.before)


async def test_what_fits_is_sent_as_it_came(client, provider):
    given = conversation(exchanges=2)
    found = await client.chat(given, model="big")
    assert provider.messages == given
    assert found.call.shaping is None
    assert client.shared.shaping.counts.untouched == 1


@pytest.mark.parametrize("exchanges", [30, 300])
async def test_the_next_turn_begins_like_the_last_one(client, provider, exchanges):
    given = conversation(exchanges)
    await client.chat(given, model="big")
    first = provider.messages
    await client.chat([*given, {"role": "assistant", "content": "To place 3."}, {"role": "user", "content": "Thanks."}],
                      model="big")  # fmt: skip
    second = provider.messages
    assert second[:-3] == first[:-1]
    points = provider.asked[0].prefix.points
    assert points
    assert all(point < len(first) - 1 for point in points)


async def test_a_request_can_ask_for_it_where_nothing_is_configured(provider):
    async with opened(provider) as client:
        await client.chat(conversation(), model="big")
        assert "shape_context" not in client.pipeline._layers
        assert provider.asked[0].prefix is None
        await client.chat(conversation(), model="big", context="off", context_tokens=800)
        assert "shape_context" not in client.pipeline._layers
        found = await client.chat(conversation(), model="big", context_tokens=800)
        assert found.call.shaping.after <= 800
        await client.chat(conversation(), model="big", context="aggressive", context_tokens=1600)
        assert size(provider.messages) <= 1600
        assert len(provider.asked) == 3


async def test_a_request_says_it_before_the_model_and_the_model_before_the_section(provider):
    model = {"context": {"tokens": 1200}}
    async with opened(provider, mode="budget", tokens=800, model=model) as client:
        assert 800 < (await client.chat(conversation(), model="big")).call.shaping.after <= 1200
        assert (await client.chat(conversation(), model="small")).call.shaping.after <= 800
        assert (await client.chat(conversation(), model="near/m")).call.shaping.after <= 800
        assert (await client.chat(conversation(), model="big", context="off")).call.shaping is None


async def test_cut_and_whole_conversations_do_not_share_answers(client, provider):
    for options in ({}, {"context": "off"}, {"context_tokens": 900}, {"context": "aggressive"}):
        assert (await client.chat(conversation(), model="big", **options)).call.cache == "miss"
        again = await client.chat(conversation(), model="big", **options)
        assert (again.call.cache, again.call.shaping) == ("hit", None)
    assert len(provider.asked) == 4


async def test_what_cannot_fit_is_refused_with_the_numbers(client):
    messages = [*conversation(), {"role": "user", "content": "Why? " * 4000}]
    with pytest.raises(InvalidRequest, match="800 tokens") as refused:
        await client.chat(messages, model="big")
    assert refused.value.code == "context_too_small"


async def test_what_would_take_too_long_to_cut_is_refused(client):
    message = {"role": "user", "content": "word " * 900_000}
    with pytest.raises(InvalidRequest, match="more than 1000000") as refused:
        await client.chat([message, message], model="big")
    assert refused.value.code == "context_too_long"


@pytest.mark.parametrize(
    ("kind", "excerpts", "cut"),
    [
        ("openai-compatible", 2000, True),  # nothing is cached, so every token of every turn is paid
        ("anthropic", 0, True),
        ("anthropic", 8000, False),  # excerpts at the full price cost more than the whole history at a tenth
        ("vllm", 0, False),  # what one's own machine has computed before costs nothing
    ],
)
async def test_an_aggressive_cut_is_made_where_the_bill_is_lower_for_it(provider, kind, excerpts, cut):
    targets = [{"provider": "near", "model": "claude-sonnet-4-5"}]
    settings = config(mode="aggressive", tokens=100_000, excerpt_tokens=excerpts, model={"targets": targets})
    settings["providers"][0] |= {"kind": kind, "api_key": "k"}
    async with AsyncClient(settings, providers={"near": provider}) as client:
        shaping = (await client.chat(conversation(120, words=200), model="big")).call.shaping
    assert (shaping is not None) == cut


# Summaries


@pytest.fixture
async def summarising(provider):
    summary = {"model": "small", "timeout_s": 30.0}
    async with opened(provider, mode="budget", tokens=1200, summary=summary) as client:
        yield client


async def test_a_small_model_writes_the_summary_on_the_tenants_account(summarising, provider):
    found = await summarising.chat(conversation(), model="big", tenant="red", tags=("trip",))
    assert found.call.shaping.how == "model"
    assert any(SUMMARY in str(message["content"]) for message in provider.messages)
    asked = provider.summaries[0]
    assert (asked.tenant, asked.tags, asked.context) == ("red", ("trip",), "off")
    assert asked.metadata == {"operation": "penstock-summary"}
    assert asked.payload["max_tokens"] <= 2 * 1200
    assert asked.call.attempts[0].outcome == "ok"


async def test_a_summary_is_asked_for_once(summarising, provider):
    for question in ("Where do we go on day 3?", "And on day 4?"):
        await summarising.chat([*conversation()[:-1], {"role": "user", "content": question}], model="big")
    asked = [each.payload for each in provider.summaries]
    assert len(asked) == len(set(map(str, asked))) > 0
    counts = summarising.shared.shaping.counts
    assert (counts.summaries, counts.summaries_failed) == (2 * len(asked), 0)


async def test_a_summary_stays_fresh_for_longer_than_an_answer(provider):
    clock = FakeClock()
    settings = config(mode="budget", tokens=1200, summary={"model": "small"})
    async with AsyncClient(settings, providers={"near": provider}, clock=clock) as client:
        await client.chat(conversation(), model="big")
        asked = len(provider.summaries)
        clock.advance(3 * 86_400)
        again = await client.chat(conversation(), model="big")
        assert (again.call.cache, again.call.shaping.how) == ("miss", "model")
        assert len(provider.summaries) == asked > 0


async def test_nothing_of_what_must_not_be_stored_is(summarising, provider):
    for _ in range(2):
        await summarising.chat(conversation(), model="big", cache=CacheDirectives(no_store=True))
    asked = [str(each.payload) for each in provider.summaries]
    assert len(asked) == 2 * len(set(asked)) > 0


async def test_when_the_model_fails_sentences_are_taken(summarising, provider):
    provider.error = ProviderError("down", code="upstream_status", status_code=500)
    found = await summarising.chat(conversation(), model="big")
    assert found.call.shaping.how == "extractive"
    assert found.text == "Yes."
    assert summarising.shared.shaping.counts.summaries_failed == len(provider.summaries) > 0


async def test_a_summary_that_takes_too_long_is_given_up(provider):
    provider.hang = True
    summary = {"model": "small", "timeout_s": 0.01}
    async with opened(provider, mode="budget", tokens=1200, summary=summary) as client:
        assert (await client.chat(conversation(), model="big")).call.shaping.how == "extractive"


async def test_a_summary_may_take_half_of_the_time_there_is(summarising, provider):
    await summarising.chat(conversation(), model="big", timeout_s=20.0)
    assert 0 < provider.summaries[0].timeout_s <= 10.0
    await summarising.chat(conversation(), model="big", context_tokens=1300)
    assert provider.summaries[-1].timeout_s == 30.0


async def test_a_summary_of_a_long_summary_is_never_asked_for(provider):
    summary = {"model": "small"}
    async with opened(provider, mode="budget", tokens=1200, summary=summary) as client:
        found = await client.chat(conversation(200), model="small")
        assert found.call.shaping.how == "model"
        assert [each.context for each in provider.summaries].count(None) == 1


async def test_the_model_for_summaries_must_exist(provider):
    with pytest.raises(ConfigError, match=r"context\.summary\.model"):
        async with opened(provider, summary={"model": "smal"}):
            pass


# The tokens there are


class Windowed(Provider):
    def __init__(self, window):
        super().__init__()
        self.window = window
        self.looked = 0

    async def context_window(self, model):
        self.looked += 1
        if isinstance(self.window, Exception):
            raise self.window
        return self.window


async def test_the_window_of_the_model_is_the_budget():
    provider = Windowed(2000)
    async with opened(provider, mode="budget") as client:
        found = await client.chat(conversation(), model="big")
        assert found.call.shaping.after <= (2000 - 500) * 0.75
        assert (await client.chat(conversation(), model="big", max_tokens=1000)).call.shaping.after <= 750
        assert (await client.chat(conversation(), model="big", options={"num_ctx": 8192})).call.shaping is None
        assert provider.looked == 1
        provider.window = 100_000
        assert (await client.chat(conversation(), model="near/other")).call.shaping is None


async def test_a_budget_nobody_can_derive_is_an_error_where_it_is_asked_for(provider):
    with pytest.raises(ConfigError, match=r"models\[0\]\.context\.tokens"):
        async with opened(provider, mode="budget"):
            pass
    async with opened(provider) as client:
        with pytest.raises(InvalidRequest, match="x-penstock-context-tokens") as refused:
            await client.chat(conversation(), model="big", context="budget")
        assert refused.value.code == "context_tokens_unknown"
        assert (await client.chat(conversation(), model="big", context="aggressive")).text == "Yes."


async def test_a_window_that_is_not_known_now_cuts_nothing():
    provider = Windowed(ProviderError("down", code="upstream_connect"))
    async with opened(provider, mode="budget") as client:
        assert (await client.chat(conversation(), model="big")).call.shaping is None
        provider.window = 2000
        assert (await client.chat(conversation(), model="big", seed=1)).call.shaping.after <= 1125


async def test_published_windows_are_known(provider):
    settings = config(mode="budget")
    settings["providers"] = [{"name": "near", "kind": "openai", "api_key": "k"}]
    settings["models"] = [{"name": "*", "targets": [{"provider": "near"}]}]
    async with AsyncClient(settings, providers={"near": provider}) as client:
        assert (await client.chat(conversation(1500), model="gpt-4")).call.shaping.after <= (8192 - 2048) * 0.75
        assert (await client.chat(conversation(300), model="gpt-4o")).call.shaping is None


# What providers are told


async def test_providers_are_told_what_will_come_again(client, provider):
    await client.chat(conversation(1), model="big")
    await client.chat(conversation(2), model="big")
    await client.chat(conversation(2), model="big", tenant="blue")
    one, two, blue = (each.prefix for each in provider.asked)
    assert one.points
    assert one.key == two.key != blue.key
    await client.chat([{"role": "user", "content": "Hello!"}], model="big")
    assert provider.asked[-1].prefix.points == ()


async def test_they_need_not_be_told(provider):
    async with opened(provider, mode="budget", tokens=800, prompt_caching=False) as client:
        await client.chat(conversation(), model="big")
        assert provider.asked[0].prefix is None


async def test_metrics_count_what_was_cut(client):
    assert b"penstock_context_total{" not in client.shared.metrics.exposition()[0]
    await client.chat(conversation(), model="big")
    page = client.shared.metrics.exposition()[0]
    assert b'penstock_context_total{what="cut"} 1.0' in page
    assert b'penstock_context_total{what="tokens_after"}' in page
