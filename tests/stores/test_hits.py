"""Of many hits only some have rows; what is added up is exact, whatever the rows."""

import asyncio
import os
import random
import sqlite3
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store
from penstock.stores.sql import upkeep
from penstock.usage import record_files, usage_import, usage_records, usage_report

NOW = SystemClock.wall() // 3600 * 3600 - 7200
"""An hour that is over, which reports of the last days have."""
ALL = ("tenant", "key", "model", "operation", "name", "tag", "cache", "outcome")


def ask(ledger, number=0, *, at=0.0, cache="hit", saved="0.25", outcome="ok", duration_s=0.0001, **fields):
    mine = {name: fields.pop(name) for name in list(fields) if name in Call.__struct_fields__}
    call = Call(
        f"req_{number}", started=1000.0 + at, started_at=NOW + at, cache=cache, usage=Usage(10, 20),
        saved_usd=None if saved is None else Decimal(saved), **mine,
    )  # fmt: skip
    request = Request("chat", fields.pop("model", "fast"), {}, call, **{"tenant": "acme", **fields})
    ledger.record(request, call, duration_s=duration_s, outcome=outcome)


def pay(ledger, number=0, *, at=0.0):
    attempt = Attempt("openai", "m", 1000.0 + at, running=True)
    call = Call(f"paid_{number}", started=1000.0 + at, started_at=NOW + at, cache="miss", usage=Usage(10, 20))
    request = Request("chat", "fast", {}, call, tenant="acme")
    ledger.reserve(request, attempt, Usage(10))
    call.attempts.append(attempt)
    attempt.outcome, attempt.usage, attempt.cost_usd, attempt.cost_source = "ok", call.usage, Decimal("0.5"), "provider"
    attempt.end()
    ledger.record(request, call, duration_s=0.5, outcome="ok")


def rows(path, query):
    with sqlite3.connect(path) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def listed(path):
    return rows(path, "SELECT count(*) FROM calls")[0][0]


def report(path):
    return usage_report(f"sqlite:///{path}", days=1, by=ALL)


@pytest.fixture
async def opened(path):
    """Open the store with so many rows a second."""
    open_now = []

    async def opened(rows_per_s):
        stores = open_store(f"sqlite:///{path}", SystemClock(), None, rows_per_s)
        await stores.start()
        open_now.append(stores)
        return stores

    yield opened
    for stores in open_now:
        await stores.aclose()


call = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["hit", "hit", "hit", "paid", "flush"]),
        "at": st.floats(0, 7200),
        "duration_s": st.floats(0, 0.01),
        "saved": st.sampled_from([None, "0.000000000001", "0.25", "1234.000135"]),
        "model": st.sampled_from(["fast", "large"]),
        "key_id": st.sampled_from(["", "key_1"]),
        "tags": st.sampled_from([(), ("a", "b,c")]),
        "metadata": st.sampled_from([None, {"operation": "sum", "x": "y"}]),
    }
)


@given(calls=st.lists(call, max_size=40), rate=st.sampled_from([0.0, 0.5, 3.0, None]))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_are_those_of_all_calls_for_any_number_of_rows_also_after_export_and_import(calls, rate, tmp_path):
    path = tmp_path / f"{len(os.listdir(tmp_path))}.db"
    asyncio.run(_play(path, rate, calls))
    made, copy = report(path), f"sqlite:///{path.with_suffix('.copy')}"
    for _ in range(2):
        usage_import(copy, usage_records(f"sqlite:///{path}"))
    copied = usage_report(copy, days=1, by=ALL)
    assert (copied.total, copied.lines, copied.slots) == (made.total, made.lines, made.slots)

    hits = [each for each in calls if each["kind"] == "hit"]
    paid = sum(each["kind"] == "paid" for each in calls)
    total = made.total
    assert (total.calls, total.hits, total.attempts) == (len(hits) + paid, len(hits), paid)
    assert (total.input_tokens, total.output_tokens) == (10 * total.calls, 20 * total.calls)
    assert (total.cost_usd, total.priced) == (Decimal("0.5") * paid, paid)
    assert total.saved_usd == sum(Decimal(hit["saved"] or 0) for hit in hits)
    by = Counter((hit["model"], hit["key_id"] or None) for hit in hits)
    lines = usage_report(f"sqlite:///{path}", days=1, by=("model", "key")).lines
    assert by == {(each.group["model"], each.group["key"]): each.hits for each in lines if each.hits}
    (counted,) = rows(path, "SELECT (SELECT count(*) FROM calls) + (SELECT ifnull(sum(calls), 0) FROM hit_sums)")
    assert counted == (total.calls,)


async def _play(path, rate, calls):
    stores = open_store(f"sqlite:///{path}", SystemClock(), None, rate)
    stores._backend.writer._gather_s = 0.0
    await stores.start()
    for number, fields in enumerate(calls):
        kind, rest = fields["kind"], {name: value for name, value in fields.items() if name != "kind"}
        if kind == "hit":
            ask(stores.ledger, number, **rest)
        elif kind == "paid":
            pay(stores.ledger, number, at=fields["at"])
        else:
            await stores.flush()
    await stores.aclose()


@pytest.mark.parametrize(("rate", "least", "most"), [(0, 0, 0), (1, 1, 11), (5, 5, 55), (None, 2000, 2000)])
async def test_rows_are_as_many_as_a_second_may_have(opened, path, rate, least, most):
    stores = await opened(rate)
    for number in range(2000):
        ask(stores.ledger, number, at=number / 200)
        if number % 20 == 0:
            await stores.flush()
    await stores.flush()
    assert least <= listed(path) <= most
    assert report(path).total.calls == 2000


async def test_below_the_rate_each_hit_has_a_row(opened, path):
    stores = await opened(100)
    for number in range(90):
        ask(stores.ledger, number, at=5.0 + number // 30)  # three moments of thirty
    await stores.flush()
    assert listed(path) == 90


async def test_rows_are_chosen_evenly_of_what_waits_together(opened, path):
    stores = await opened(2)
    random.seed(7)
    for moment in range(150):
        for number in range(20):
            ask(stores.ledger, number, at=float(moment * 2))
        await stores.flush()
    found = Counter(name for (name,) in rows(path, "SELECT request_id FROM calls"))
    assert sum(found.values()) == 300
    assert len(found) == 20
    assert 4 <= min(found.values()) <= max(found.values()) <= 30  # 15 each, give or take 4 deviations


@pytest.mark.parametrize(
    "fields",
    [
        {"cache": "stale"},
        {"cache": "semantic", "semantic": "hit"},
        {"cache": "collapsed"},
        {"semantic": "shadow"},
        {"arms": {"prompts": "b"}},
        {"degraded": ["template"]},
        {"outcome": "client_closed"},
        {"cache": "", "saved": None, "outcome": "rate_limit_exceeded"},
    ],
)
async def test_what_is_particular_always_has_a_row(opened, path, fields):
    stores = await opened(0)
    for number in range(10):
        ask(stores.ledger, number, **fields)
        pay(stores.ledger, number)
    await stores.flush()
    assert listed(path) == 20
    assert report(path).total.calls == 20


async def test_while_the_database_is_locked_hits_are_added_up_and_take_no_room(opened, path):
    stores = await opened(10)
    await stores.flush()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(5000):
        ask(stores.ledger, number)
    assert stores.state.pending <= 2
    other.execute("ROLLBACK")
    other.close()
    await stores.flush()
    assert report(path).total.calls == 5000
    assert listed(path) <= 20


async def test_hits_in_files_of_every_form(opened, path, tmp_path):
    stores = await opened(1)
    for number in range(50):
        ask(stores.ledger, number, tags=("=1", "ü"), metadata={"operation": "sum"}, duration_s=number / 1000)
    await stores.flush()
    for form in record_files.FORMATS:
        file, copy = tmp_path / f"calls.{form}", f"sqlite:///{tmp_path / form}.db"
        with file.open("wb") as target:
            record_files.write(target, form, usage_records(f"sqlite:///{path}"))
        with file.open("rb") as source:
            added = await asyncio.to_thread(usage_import, copy, record_files.read(source, form, "calls"))
        assert (added.added, added.known) == (50, 0)
        assert usage_report(copy, days=1, by=ALL).lines == report(path).lines


async def test_what_has_grown_since_it_was_imported_is_added(opened, path, tmp_path):
    stores, copy = await opened(0), f"sqlite:///{tmp_path / 'copy.db'}"
    for count, known in ((3, 0), (4, 3), (0, 7)):
        for number in range(count):
            ask(stores.ledger, number)
        await stores.flush()
        added = await asyncio.to_thread(usage_import, copy, usage_records(f"sqlite:///{path}"))
        assert (added.added, added.known) == (count, known)
    assert usage_report(copy, days=1, by=ALL).lines == report(path).lines


async def test_old_sums_go_with_old_rows_and_do_not_come_back(opened, path, tmp_path):
    stores = await opened(0)
    ask(stores.ledger)
    await stores.flush()
    records = list(usage_records(f"sqlite:///{path}"))
    assert [(each.calls, each.request_id) for each in records] == [(1, "")]
    await upkeep.Upkeep(stores._backend, SystemClock(), 0.001).once()
    assert list(usage_records(f"sqlite:///{path}")) == []
    added = await asyncio.to_thread(usage_import, f"sqlite:///{path}", records)
    assert (added.added, added.too_old) == (0, 1)
    assert report(path).total.calls == 1


class Failing:
    """A job whose items cannot be written."""

    lasting = False

    def write(self, connection, items):
        raise ValueError("not to be written")

    def settled(self, items, error):
        pass


async def test_a_transaction_that_is_undone_counts_nothing_twice(opened, path):
    stores = await opened(0)
    for _ in range(2):
        ask(stores.ledger, cache="", saved=None, outcome="rate_limit_exceeded")
        for number in range(10):
            ask(stores.ledger, number)
        stores._backend.writer.put(Failing(), 1)
        await stores.flush()
    assert rows(path, "SELECT sum(calls) FROM hit_sums") == [(20,)]
    assert report(path).total.calls == 22
