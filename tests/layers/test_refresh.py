"""What recurs is renewed before it goes stale, through the whole pipeline."""

import asyncio

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import ProviderError
from penstock.core.request import CacheDirectives
from penstock.core.response import Response
from penstock.testing import FakeClock, answer

TTL_S = 600


class Provider:
    """Answers with the number of the call; knows what was renewed."""

    name = "near"

    def __init__(self):
        self.asked = []
        self.renewed = []
        self.broken = False

    async def send(self, request, target):
        question = request.payload["messages"][-1]["content"]
        if request.call.id.partition("-")[2].startswith("refresh"):
            self.renewed.append((request.tenant, question))
            if self.broken:
                raise ProviderError("no", code="upstream_status", status_code=400)
        else:
            self.asked.append(question)
        return Response(body=answer(str(len(self.asked) + len(self.renewed))), finish_reason="stop")

    async def models(self):
        return []

    async def aclose(self):
        pass


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def provider():
    return Provider()


def config(refresh=True):
    return {
        "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [{"name": "fast", "targets": [{"provider": "near", "model": "m"}]}],
        "store": {"url": "memory:"},
        "cache": {"exact": {"ttl_s": TTL_S}, "refresh": refresh},
        "alerts": {"built_in": False},
    }


@pytest.fixture
async def make(provider, clock):
    opened = []

    async def make(**terms):
        client = await AsyncClient(config(**terms), providers={"near": provider}, clock=clock).open()
        opened.append(client)
        return client

    yield make
    for client in opened:
        await client.aclose()


async def ask(client, clock, question="again", times=1, every_s=280, **options):
    """Ask again and again; return the answers' cache states."""
    seen = []
    for _ in range(times):
        seen.append((await client.chat(question, model="fast", **options)).call.cache)
        await clock.run(every_s)
    return seen


async def test_what_recurs_is_never_missed_once_that_is_known(make, clock, provider):
    client = await make()
    await ask(client, clock, times=60, tenant="acme")
    seen = await ask(client, clock, times=20, tenant="acme")
    assert set(seen) == {"hit"}
    assert set(provider.renewed) == {("acme", "again")}
    recorded = [each for each in client.shared.stores.ledger.recent if (each.metadata or {}).get("operation")]
    assert {(each.tenant, each.metadata["operation"], each.outcome) for each in recorded} == {
        ("acme", "penstock-refresh", "ok")
    }
    assert len({each.call.id for each in recorded}) == len(recorded) == len(provider.renewed)
    page = client.shared.metrics.exposition()[0].decode()
    assert f'penstock_refresh{{what="renewed"}} {len(recorded)}.0' in page
    assert 'penstock_refresh{what="watched"} 1.0' in page


async def test_the_answer_is_the_new_one(make, clock, provider):
    client = await make()
    await ask(client, clock, times=60)
    count = len(provider.renewed)
    while len(provider.renewed) == count:
        await ask(client, clock)
    found = await client.chat("again", model="fast")
    assert (found.call.cache, found.text) == ("hit", str(len(provider.asked) + len(provider.renewed)))


async def test_what_nobody_asks_for_any_more_is_left(make, clock, provider):
    client = await make()
    await ask(client, clock, times=60)
    await clock.run(TTL_S * 5)
    count = len(provider.renewed)
    await clock.run(TTL_S * 20)
    assert len(provider.renewed) == count


async def test_what_comes_once_is_not_renewed(make, clock, provider):
    client = await make()
    for number in range(40):
        await ask(client, clock, f"only {number}")
    assert provider.renewed == []


@pytest.mark.parametrize(
    "directives", [CacheDirectives(no_cache=True), CacheDirectives(no_store=True), CacheDirectives(ttl=0)], ids=str
)
async def test_who_wants_fresh_answers_is_no_reason(make, clock, provider, directives):
    client = await make()
    await ask(client, clock, times=30, cache=directives)
    assert provider.renewed == []


async def test_a_renewal_that_fails_leaves_what_is_there(make, clock, provider):
    client = await make()
    await ask(client, clock, times=60)
    provider.broken = True
    asked, renewed = len(provider.asked), len(provider.renewed)
    seen = await ask(client, clock, times=10)
    assert len(provider.renewed) > renewed
    assert seen.count("miss") == len(provider.asked) - asked > 0
    assert seen.count("hit") > 0


async def test_no_more_than_allowed_in_a_minute(make, clock, provider):
    client = await make(refresh={"per_minute": 1, "least": 0.25})
    for _ in range(60):
        await asyncio.gather(*(client.chat(f"again {number}", model="fast") for number in range(4)))
        await clock.run(250)
    renewed = len(provider.renewed)
    await clock.run(60)
    assert len(provider.renewed) - renewed <= 1
    assert renewed > 0


async def test_large_requests_are_not_kept(make, clock, provider):
    client = await make()
    await ask(client, clock, "x" * 40_000, times=10)
    assert provider.renewed == []
    assert len(client.shared.recurrence) == 0


async def test_a_reload_keeps_what_is_known_and_can_end_it(make, clock, provider):
    client = await make()
    await ask(client, clock, times=60)
    known = client.shared.recurrence
    await client.reload(AsyncClient(config(), providers={"near": provider}).loaded)
    assert client.shared.recurrence is known
    count = len(provider.renewed)
    await ask(client, clock, times=10)
    assert len(provider.renewed) > count
    await client.reload(AsyncClient(config(refresh=None), providers={"near": provider}).loaded)
    await clock.run(1)
    count = len(provider.renewed)
    seen = await ask(client, clock, times=10)
    assert len(provider.renewed) == count
    assert "miss" in seen
    assert client.shared.recurrence is None


async def test_off_there_is_nothing_to_note_anything(make):
    client = await make(refresh=None)
    assert "refresh" not in client.pipeline._layers
    assert client.shared.recurrence is None


async def test_what_is_cleared_is_forgotten(make, clock, provider):
    client = await make()
    await ask(client, clock, times=60)
    assert len(client.shared.recurrence) == 1
    await client.cache.clear()
    assert len(client.shared.recurrence) == 0
    count = len(provider.renewed)
    await clock.run(TTL_S)
    assert len(provider.renewed) == count
