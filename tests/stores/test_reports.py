from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.call import Attempt, Call, Shaping
from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigError, StoreError
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store
from penstock.stores.sql.reports import GROUPS, usage_report
from penstock.testing.clock import FakeClock

NOON = 1_700_049_600
MONDAY = 1_696_204_800


async def test_sums_rates_costs_and_percentiles(stores, path, record, attempt):
    for number in range(100):
        record(stores.ledger, attempt(), cache="miss", usage=Usage(100, 200), duration_s=(number + 1) / 100)
    for number in range(50):
        cache = "semantic" if number % 5 == 0 else "hit"
        record(stores.ledger, cache=cache, usage=Usage(100, 200), saved_usd=Decimal("0.000135"), duration_s=0.001)
    record(stores.ledger, attempt("0.5", "estimate"), model="slow", outcome="upstream_timeout", tenant="acme")
    record(stores.ledger, attempt(None, "unknown"), model="slow", outcome="client_closed")
    await stores.flush()
    report = usage_report(f"sqlite:///{path}", days=1, by=["model"], recent=2)
    total = report.total
    assert (total.calls, total.errors, total.hits) == (152, 1, 50)
    assert total.hit_rate == pytest.approx(50 / 152)
    assert (total.input_tokens, total.output_tokens) == (15_000, 30_000)
    assert (total.cost_usd, total.saved_usd) == (Decimal("0.5135"), Decimal("0.00675"))
    assert (total.priced, total.estimated, total.unpriced) == (100, 1, 1)
    fast, slow = report.lines
    assert (fast.group, fast.calls, slow.group, slow.calls) == ({"model": "fast"}, 150, {"model": "slow"}, 2)
    assert (fast.p50_s, fast.p95_s, fast.first_token_s) == pytest.approx((0.25, 0.93, 0.375), rel=0.025)
    assert (total.broken_off, total.attempts, total.saved_tokens) == (1, 102, 15_000)
    assert (total.success_rate, total.error_rate) == (150 / 152, 1 / 152)
    assert (total.estimated_usd, total.cost_per_call_usd) == (Decimal("0.5"), Decimal("0.003400662252"))
    assert [call.outcome for call in report.recent] == ["client_closed", "upstream_timeout"]
    assert (report.recent[0].cost_usd, report.recent[1].cost_usd) == (None, Decimal("0.5"))


async def test_tokens_that_were_not_sent_are_counted_once(stores, path, record, attempt):
    cut = Shaping(before=9000, after=2100, left_out=30, kept=12)
    record(stores.ledger, attempt(), shaping=cut)
    record(stores.ledger, cache="collapsed", shaping=cut)  # it joined the other
    record(stores.ledger, attempt(), model="slow")
    await stores.flush()
    report = usage_report(f"sqlite:///{path}", days=1, by=["model"])
    assert (report.total.cut_tokens, [line.cut_tokens for line in report.lines]) == (6900, [6900, 0])


async def test_every_split_and_two_at_once(stores, path, record, attempt):
    record(stores.ledger, attempt(), tags=("a", "b"), metadata={"k": "v", "operation": "summarise"}, key_id="key_7")
    record(stores.ledger, tags=("a",), cache="hit", tenant="acme/web")
    record(stores.ledger, outcome="upstream_error")
    await stores.flush()

    def split(*by):
        found = usage_report(f"sqlite:///{path}", days=1, by=by)
        return {tuple(line.group.values()): line.calls for line in found.lines}

    assert split("tag") == {("a",): 2, ("b",): 1, (None,): 1}
    assert split("provider") == {("openai",): 1, (None,): 2}
    assert split("cache") == {("hit",): 1, (None,): 2}
    assert split("outcome") == {("ok",): 2, ("upstream_error",): 1}
    assert split("tenant", "model") == {("default", "fast"): 2, ("acme/web", "fast"): 1}
    assert split("organisation") == {("default",): 2, ("acme",): 1}
    assert split("key") == {("key_7",): 1, (None,): 2}
    assert split("name") == {("summarise",): 1, (None,): 2}
    assert split("model", "tenant", "provider", "cache", "tag", "outcome").keys() == {
        ("fast", "default", "openai", None, "a", "ok"), ("fast", "default", "openai", None, "b", "ok"),
        ("fast", "acme/web", None, "hit", "a", "ok"), ("fast", "default", None, None, None, "upstream_error"),
    }  # fmt: skip
    assert sum(split(*GROUPS).values()) == 4
    assert split() == {}


async def test_only_the_period_counts_from_its_first_hour_on(stores, path, record):
    clock = FakeClock(wall=NOON)
    for age in (0.5, 23.5, 24.5, 26.0, 40 * 24.0):
        record(stores.ledger, started_at=NOON - age * 3600)
    await stores.flush()
    url = f"sqlite:///{path}"
    day = usage_report(url, days=1, clock=clock)
    assert (day.total.calls, day.since, day.until, day.slot_s) == (2, NOON - 86_400, NOON, 3600)
    assert [slot.calls for slot in day.slots] == [1, 1]
    assert (day.previous.calls, usage_report(url, days=2, clock=clock).total.calls) == (2, 4)
    month = usage_report(url, days=41, recent=9, clock=clock)
    assert (month.total.calls, month.since, month.slot_s) == (5, MONDAY, 86_400)
    assert len(month.recent) == 5
    assert usage_report(url, days=1, until=NOON - 7200, clock=clock).total.calls == 3


async def test_one_tenant_or_the_whole_of_an_organisation(stores, path, record):
    for tenant in ("acme/web", "acme/app", "acme", "acmeria", "acme%"):
        record(stores.ledger, tenant=tenant)
    await stores.flush()

    def calls(tenant):
        report = usage_report(f"sqlite:///{path}", days=1, tenant=tenant, recent=9)
        assert len(report.recent) == report.total.calls == sum(slot.calls for slot in report.slots)
        return report.total.calls

    assert [calls(tenant) for tenant in ("acme", "acme/web", "acme%", "other", None)] == [3, 1, 1, 0, 5]


async def test_failures_are_counted_by_pattern(stores, path, record, attempt):
    for _ in range(3):
        record(stores.ledger, attempt(outcome="upstream_timeout"), outcome="upstream_timeout", started_at=NOON)
    record(stores.ledger, outcome="rate_limited", started_at=NOON - 7200)
    record(stores.ledger, outcome="client_closed", started_at=NOON)
    await stores.flush()
    report = usage_report(f"sqlite:///{path}", days=1, clock=FakeClock(wall=NOON + 1))
    timeouts, refused = report.errors
    assert (timeouts.outcome, timeouts.provider, timeouts.calls, timeouts.share) == (
        "upstream_timeout",
        "openai",
        3,
        0.75,
    )
    assert (refused.outcome, refused.provider, refused.first_at) == ("rate_limited", None, NOON - 7200)


async def test_figures_are_rated_and_compared_with_the_period_before(stores, path, record):
    for hit in (True, True, True, False):
        record(stores.ledger, cache="hit" if hit else "miss", started_at=NOON - 60, duration_s=1.5)
    for _ in range(2):
        record(stores.ledger, cache="miss", started_at=NOON - 100_000, duration_s=1.0)
    await stores.flush()
    report = usage_report(f"sqlite:///{path}", days=1, clock=FakeClock(wall=NOON))
    rated = {rating.name: rating.category for rating in report.ratings}
    assert (rated["hit rate"], rated["mean latency, s"], rated["error rate"]) == ("good", "good", "excellent")
    trends = {trend.name: trend for trend in report.trends}
    assert (trends["calls a day"].change, trends["calls a day"].better) == (1.0, None)
    assert (trends["hit rate"].now, trends["hit rate"].before, trends["hit rate"].change) == (0.75, 0.0, None)
    assert (trends["mean latency, s"].change, trends["mean latency, s"].better) == (0.5, False)


async def test_an_empty_ledger_is_a_report_of_nothing(stores, path):
    report = usage_report(f"sqlite:///{path}", days=1, by=["model"], recent=3)
    assert (report.total.calls, report.total.cost_usd, report.total.p50_s) == (0, Decimal(0), None)
    assert (report.lines, report.recent, report.slots, report.errors) == ([], [], [], [])
    assert {rating.category for rating in report.ratings} == {"unknown"}
    assert {trend.change for trend in report.trends} == {None}


@settings(max_examples=15)
@given(st.lists(st.decimals(min_value=0, max_value=1000, places=12), min_size=1, max_size=30))
async def test_the_sum_in_the_report_is_the_sum_of_the_dollars(tmp_path_factory, costs):
    url = f"sqlite:///{tmp_path_factory.mktemp('sum')}/s.db"
    stores = open_store(url, SystemClock())
    await stores.start()
    for cost in costs:
        call = Call("r", attempts=[Attempt("p", "m", 0.0, usage=Usage(1, 1), cost_usd=cost, cost_source="provider")])
        stores.ledger.record(Request("chat", "m", {}, call), call, duration_s=1.0, outcome="ok")
    await stores.aclose()
    assert usage_report(url, days=1).total.cost_usd == sum(costs)


@pytest.mark.parametrize(
    ("url", "by", "said"),
    [("memory:", [], "keeps no record"), ("mysql://h", [], "sqlite:///FILE"), ("memory:", ["colour"], "tenant")],
)
def test_what_cannot_be_reported_is_explained(url, by, said):
    with pytest.raises(ConfigError) as caught:
        usage_report(url, days=1, by=by)
    assert said in str(caught.value)


def test_a_missing_file_is_not_made(path):
    with pytest.raises(ConfigError, match="penstock serve"):
        usage_report(f"sqlite:///{path}", days=1)
    assert not path.exists()


def test_an_empty_or_foreign_file_is_explained(path):
    path.touch()
    with pytest.raises(StoreError, match="penstock serve"):
        usage_report(f"sqlite:///{path}", days=1)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="damaged"):
        usage_report(f"sqlite:///{path}", days=1)
