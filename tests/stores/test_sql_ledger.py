import gc
import sqlite3
import weakref
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.call import Shaping
from penstock.core.money import to_picodollars, to_usd
from penstock.core.usage import Usage
from penstock.testing.conformance import check_ledger


@pytest.fixture
def rows(stores, path):
    async def rows(table="calls"):
        await stores.ledger.flush()
        connection = sqlite3.connect(path)
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
        connection.close()
        return found

    return rows


async def test_a_call_and_its_attempts_become_rows(stores, record, attempt, rows):
    failed = attempt(
        None, "none", usage=None, outcome="upstream_timeout", status_code=None, first_token_s=None, started=100
    )
    record(
        stores.ledger,
        failed,
        attempt(),
        id="req_7",
        started_at=1_700_000_000.25,
        cache="miss",
        usage=Usage(100, 200, reasoning_tokens=10),
        finish_reason="stop",
        tenant="acme",
        stream=True,
        tags=("a", "ü"),
        metadata={"user": "7"},
        key_id="key_1",
        key=bytes(range(32)),
        answer_bytes=512,
        semantic="shadow",
        semantic_key=bytes(range(32, 64)),
        semantic_audit=0.05,
        prompt="greet@3",
        arms={"tone": "kind"},
        shaping=Shaping(9000, 800, 12, 10, "extractive"),
        stage="small",
        unit="1f",
    )
    (call,) = await rows()
    ident = call.pop("id")
    assert call == {
        "request_id": "req_7", "started_at": 1_700_000_000_250_000, "tenant": "acme", "operation": "chat",
        "model": "fast", "provider": "openai", "provider_model": "gpt-4o-mini", "stream": 1, "outcome": "ok",
        "cache": "miss", "finish_reason": "stop", "input_tokens": 100, "output_tokens": 200, "cached_tokens": 0,
        "cache_write_tokens": 0, "reasoning_tokens": 10, "usage_source": "provider", "cost_pusd": 135_000_000,
        "cost_source": "provider", "saved_pusd": None, "first_token_us": 375_000, "duration_us": 500_000,
        "attempts": 2, "tags": '["a","ü"]', "metadata": '{"user":"7"}', "key_id": "key_1",
        "cache_key": bytes(range(16)), "answer_bytes": 512,
        "semantic": "shadow", "semantic_key": bytes(range(32, 48)), "semantic_audit": 0.05,
        "prompt": "greet@3", "arms": '{"tone":"kind"}', "context_before": 9000, "context_after": 800, "stage": "small",
        "unit": "1f",
    }  # fmt: skip
    first, second = await rows("attempts")
    assert (first["call_id"], first["position"], first["outcome"], first["cost_pusd"]) == (
        ident,
        0,
        "upstream_timeout",
        0,
    )
    assert second == {
        "call_id": ident, "position": 1, "provider": "openai", "model": "gpt-4o-mini", "outcome": "ok",
        "status_code": 200, "input_tokens": 100, "output_tokens": 200, "cached_tokens": 30, "cache_write_tokens": 20,
        "reasoning_tokens": 10, "usage_source": "provider", "cost_pusd": 135_000_000, "cost_source": "provider",
        "started_us": 250_000, "first_token_us": 125_000, "duration_us": 500_000,
    }  # fmt: skip


async def test_it_keeps_the_promises_of_a_ledger(stores, rows):
    async def count():
        return len(await rows())

    await check_ledger(stores.ledger, count)
    assert len(await rows("attempts")) == 3


async def test_a_hit_costs_nothing_and_carries_what_it_saved(stores, record, rows):
    record(stores.ledger, cache="hit", saved_usd=Decimal("0.000135"), usage=Usage(100, 200))
    (call,) = await rows()
    assert (call["cost_pusd"], call["cost_source"], call["saved_pusd"]) == (0, "none", 135_000_000)
    assert (call["attempts"], call["provider"]) == (0, None)
    assert await rows("attempts") == []


@pytest.mark.parametrize(
    ("tries", "expected"),
    [
        ([("1", "provider"), ("2", "provider")], (3 * 10**12, "provider")),
        ([("1", "provider"), ("2", "estimate")], (3 * 10**12, "estimate")),
        ([("1", "provider"), (None, "unknown")], (1 * 10**12, "unknown")),
        ([(None, "none"), (None, "unknown")], (None, "unknown")),
        ([(None, "unknown")], (None, "unknown")),
        ([(None, "none"), ("1", "provider")], (1 * 10**12, "provider")),
        ([("0", "none"), ("0", "none")], (0, "none")),
    ],
)
async def test_a_calls_cost_is_its_tries_and_is_as_certain_as_the_least_certain(
    stores, record, attempt, rows, tries, expected
):
    record(stores.ledger, *(attempt(cost, source) for cost, source in tries))
    (call,) = await rows()
    assert (call["cost_pusd"], call["cost_source"]) == expected


async def test_many_calls_at_one_moment_and_repeated_request_ids_are_all_kept(stores, record, attempt, rows):
    for _ in range(5000):
        record(stores.ledger, attempt(), attempt(), id="same", started_at=1_700_000_000.0)
    assert len(await rows()) == 5000
    assert len(await rows("attempts")) == 10_000


async def test_a_call_the_database_cannot_take_is_counted_and_the_others_are_kept(stores, record, rows, caplog):
    record(stores.ledger, id="before")
    record(stores.ledger, id="bad", tenant="\ud800")
    record(stores.ledger, id="after")
    assert [call["request_id"] for call in await rows()] == ["before", "after"]
    assert stores.state[2] == 1
    assert "1 lost" in caplog.text


async def test_recording_keeps_no_request_body_in_memory(stores, record):
    class Body(dict):
        pass

    body = Body()
    watch = weakref.ref(body)
    stores._backend.writer._gather_s = 10.0
    record(stores.ledger, payload=body)
    del body
    gc.collect()
    assert watch() is None


usd = st.decimals(min_value=0, max_value=1_000_000, places=12)


@given(st.lists(usd))
def test_sums_of_picodollars_are_sums_of_dollars(amounts):
    assert to_usd(sum(map(to_picodollars, amounts))) == sum(amounts, Decimal(0))


@given(usd)
def test_picodollars_and_back_is_exact(amount):
    assert to_usd(to_picodollars(amount)) == amount
