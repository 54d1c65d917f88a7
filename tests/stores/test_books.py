from decimal import Decimal

import pytest

from penstock.core.usage import Usage
from penstock.stores.opening import open_store
from penstock.testing.clock import FakeClock


@pytest.fixture(params=["sql", "memory"])
async def stores(request, path):
    clock = FakeClock(wall=1_700_049_600.0)
    opened = open_store("memory:" if request.param == "memory" else f"sqlite:///{path}", clock)
    opened.clock = clock
    await opened.start()
    yield opened
    await opened.aclose()


async def test_counts_since_the_start_and_since_a_reset(stores, record, attempt):
    record(stores.ledger, attempt(), attempt(), cache="miss", usage=Usage(100, 200), tenant="acme/web", duration_s=0.25)
    record(stores.ledger, cache="hit", usage=Usage(100, 200), saved_usd=Decimal("0.5"), duration_s=0.75)
    first = await stores.books.statistics()
    assert first.since_start == first.since_reset
    stores.clock.advance(60)
    assert await stores.books.reset_statistics(by="somebody") == first
    record(stores.ledger, cache="collapsed", outcome="upstream_error", tenant="acme/app")
    found = await stores.books.statistics()
    total, new = found.since_start, found.since_reset
    assert (total.calls, total.errors, total.hits, total.calls_saved, total.attempts) == (3, 1, 1, 2, 2)
    assert (total.input_tokens, total.tokens_saved, total.saved_usd) == (200, 300, Decimal("0.5"))
    assert (total.cost_usd, total.mean_s) == (2 * Decimal("0.000135"), 0.5)
    assert (new.calls, new.hits, new.calls_saved, new.cost_usd) == (1, 0, 1, 0)
    assert new.since == 1_700_049_660.0


@pytest.mark.parametrize("cache", ["hit", "stale", "semantic"])
async def test_an_answer_from_any_cache_is_a_hit(stores, record, cache):
    record(stores.ledger, cache=cache, usage=Usage(100, 200), saved_usd=Decimal("0.5"))
    found = (await stores.books.statistics()).since_start
    assert (found.hits, found.hit_rate, found.tokens_saved, found.saved_usd) == (1, 1.0, 300, Decimal("0.5"))


async def test_each_organisation_has_its_own_reset(stores, record):
    for tenant in ("acme/web", "acme/app", "other"):
        record(stores.ledger, tenant=tenant)
    await stores.books.reset_statistics("acme")
    record(stores.ledger, tenant="acme/web")
    assert (await stores.books.statistics("acme")).since_reset.calls == 1
    assert (await stores.books.statistics("acme")).since_start.calls == 3
    assert (await stores.books.statistics()).since_reset.calls == 4


async def test_what_is_due_is_claimed_once(stores):
    assert await stores.books.claimed("report") is None
    assert [await stores.books.claim("report", due) for due in (10, 10, 5, 11)] == [True, False, False, True]
    assert await stores.books.claimed("report") == 11


async def test_nothing_was_counted_yet(stores):
    found = (await stores.books.statistics()).since_start
    assert (found.calls, found.hit_rate, found.mean_s) == (0, None, None)
