import asyncio

import pytest

from penstock.config.settings import LimitSettings, TenantLimitSettings
from penstock.core.call import Attempt, Call
from penstock.core.errors import NotCached, ProviderError, RateLimited
from penstock.core.events import Event
from penstock.core.request import CacheDirectives, Request
from penstock.core.response import Response
from penstock.core.usage import Usage
from penstock.layers.limit import Limit, TenantAccounts
from penstock.limiting.tenants import TenantLimits
from penstock.testing import FakeClock


class Bench:
    def __init__(self, *, cached=True, **limits):
        self.clock = FakeClock()
        self.tenants = TenantAccounts()
        self.tenants.configure(LimitSettings(per_tenant=TenantLimitSettings(**limits)))
        self.limit = Limit(self.tenants, lambda request: 100, self.clock, cached=cached)
        self.asked = []

    async def run(self, inner=None, *, tenant="a", **fields):
        request = Request("chat", "m", {"max_tokens": 100}, Call("req"), tenant=tenant, **fields)

        async def answer(request):
            self.asked.append(request)
            if inner is not None:
                return await inner(request)
            return self.used(request, 60, 40)

        return request, await self.limit(request, answer)

    def used(self, request, given, made):
        request.call.attempts.append(Attempt("p", "m", 0.0, outcome="ok", usage=Usage(given, made)))
        return Response(body=b"{}", usage=Usage(given, made))

    def left(self, tenant="a"):
        return self.tenants.account(tenant).quota(self.clock.monotonic())


async def hit(request):
    return Response(body=b"{}")


async def test_requests_over_the_limit_are_refused_until_there_are_new_ones():
    bench = Bench(requests_per_minute=60)
    for _ in range(60):
        await bench.run()
    with pytest.raises(RateLimited) as refused:
        await bench.run()
    assert refused.value.retry_after == 1.0
    assert refused.value.quota.requests_remaining == 0
    assert len(bench.asked) == 60
    await bench.run(tenant="b")
    bench.clock.advance(1.0)
    await bench.run()
    assert bench.tenants.refused == 1


async def test_tokens_are_reserved_and_settled():
    bench = Bench(tokens_per_minute=1000)
    during = []

    async def answer(request):
        during.append(bench.left().tokens_remaining)
        return bench.used(request, 60, 40)

    request, _ = await bench.run(answer)
    assert during == [800]
    assert request.call.quota.tokens_remaining == 800
    assert bench.left().tokens_remaining == 900


async def test_a_streams_tokens_are_settled_at_its_end():
    bench = Bench(tokens_per_minute=1000)

    async def source():
        yield [Event(b"{}", finish_reason="stop")]

    async def answer(request):
        bench.used(request, 10, 10)
        return Response(source=source())

    _, response = await bench.run(answer, stream=True)
    assert bench.left().tokens_remaining == 800
    await response.read()
    assert bench.left().tokens_remaining == 980


@pytest.mark.parametrize("error", [ProviderError("down"), asyncio.CancelledError()])
async def test_what_was_not_used_is_given_back_after_a_failure(error):
    bench = Bench(tokens_per_minute=1000)

    async def fail(request):
        raise error

    with pytest.raises(type(error)):
        await bench.run(fail)
    assert bench.left().tokens_remaining == 1000


async def test_hits_cost_no_tokens_and_are_given_to_whoever_has_none():
    bench = Bench(tokens_per_minute=1000)
    await bench.run(hit)
    assert bench.left().tokens_remaining == 1000
    await bench.run(lambda request: asyncio.sleep(0, bench.used(request, 900, 90)))
    _, response = await bench.run(hit)
    assert response.body == b"{}"
    assert bench.asked[-1].cache.only_if_cached


async def test_who_has_no_tokens_is_refused_when_there_is_no_hit():
    bench = Bench(tokens_per_minute=1000)
    await bench.run(lambda request: asyncio.sleep(0, bench.used(request, 900, 90)))

    async def miss(request):
        raise NotCached("no")

    with pytest.raises(RateLimited) as refused:
        await bench.run(miss)
    assert refused.value.quota.tokens_remaining == 10
    asked = len(bench.asked)
    with pytest.raises(RateLimited):
        await bench.run(cache=CacheDirectives(no_cache=True))
    assert len(bench.asked) == asked


async def test_without_a_cache_nobody_is_sent_to_look_there():
    bench = Bench(tokens_per_minute=100, cached=False)
    await bench.run()
    with pytest.raises(RateLimited):
        await bench.run()
    assert len(bench.asked) == 1


async def test_tenants_without_limits_pass():
    bench = Bench()
    request, _ = await bench.run()
    assert request.call.quota is None


async def test_a_request_is_charged_to_its_key_and_its_team_or_to_neither():
    bench = Bench()
    bench.tenants.own({"k1": TenantLimits(2, 1000), "k2": TenantLimits(60)}, {"acme": TenantLimits(3, 5000)})

    def left():
        now = bench.clock.monotonic()
        quotas = [account.quota(now) for account in bench.tenants.accounts("acme/search", "k1")]
        return [(quota.requests_remaining, quota.tokens_remaining) for quota in quotas]

    for _ in range(2):
        request, _ = await bench.run(tenant="acme/search", key_id="k1")
    assert left() == [(0, 800), (1, 4800)]
    assert (request.call.quota.requests_limit, request.call.quota.requests_remaining) == (2, 0)
    with pytest.raises(RateLimited, match="Limit of 2 requests"):
        await bench.run(tenant="acme/search", key_id="k1")
    assert left() == [(0, 800), (1, 4800)]
    await bench.run(tenant="acme/other", key_id="k2")
    with pytest.raises(RateLimited, match="Limit of 3 requests"):
        await bench.run(tenant="acme/other", key_id="k2")
    await bench.run(tenant="foreign", key_id="k3")
    assert len(bench.asked) == 4


async def test_tokens_of_the_key_or_the_team_whichever_are_gone_first():
    bench = Bench(cached=False)
    bench.tenants.own({"k1": TenantLimits(None, 10_000)}, {"acme": TenantLimits(None, 250)})
    for _ in range(2):
        await bench.run(tenant="acme", key_id="k1")
    with pytest.raises(RateLimited, match="Limit of 250 tokens"):
        await bench.run(tenant="acme", key_id="k1")


def test_an_answer_in_memory_counts_as_a_request_and_takes_no_tokens():
    bench = Bench(requests_per_minute=2, tokens_per_minute=10)
    for left in (1, 0):
        asked = Request("chat", "m", {"max_tokens": 100}, Call("req"), tenant="a")
        assert bench.limit.enter_known(asked, hit) == (asked, None)
        assert (asked.call.quota.requests_remaining, asked.call.quota.tokens_remaining) == (left, 10)
    with pytest.raises(RateLimited, match="2 requests a minute"):
        bench.limit.enter_known(asked, hit)
    nobody = Request("chat", "m", {}, Call("req"), tenant="a")
    assert Bench().limit.enter_known(nobody, hit) == (nobody, None)
    assert nobody.call.quota is None
