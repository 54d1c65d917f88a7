import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.abc import StoredAnswer
from penstock.core.clock import SystemClock
from penstock.core.errors import StoreError
from penstock.stores.opening import open_store
from penstock.stores.sql import cache as module
from penstock.stores.sql.database import Database


def answer(number, data=b'{"x":1}', **fields):
    values = {
        "key": number.to_bytes(32), "tenant": "acme", "form": "json", "data": data, "stored_at": 1000.125 + number,
        "fresh_until": 2000.5, "cost_pusd": 7, "input_tokens": 1, "output_tokens": 2, "finish_reason": "stop",
        "model": "fast",
    }  # fmt: skip
    return StoredAnswer(**{**values, **fields})


async def test_answers_survive_closing_and_the_index_has_them_without_data(stores, path):
    first, second = answer(2, tags=("faq", "ö, x")), answer(1, finish_reason=None)
    stores.cache.put(first)
    stores.cache.put(second)
    await stores.aclose()
    again = open_store(f"sqlite:///{path}", SystemClock())
    await again.start()
    assert list(await again.cache.index()) == [msgspec.structs.replace(each, data=b"") for each in (second, first)]
    assert await again.cache.get(first.key) == first
    assert await again.cache.get(second.key) == second
    assert await again.cache.get(b"?" * 32) is None
    await again.aclose()


async def test_an_answer_can_be_read_before_and_after_it_is_written(stores):
    one = answer(1)
    stores.cache.put(one)
    assert await stores.cache.get(one.key) is one
    await stores.flush()
    assert await stores.cache.get(one.key) == one
    assert not any(one in waiting.values() for waiting in (stores.cache._newer, stores.cache._older))


async def test_what_is_written_makes_room_though_there_is_always_more_to_write(path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 100)
    database = Database(f"sqlite:///{path}", SystemClock())  # its writer is not started: the test says what is written
    cache = module.SqlCacheStore(database)
    waiting = []
    for number in range(1, 50):
        waiting.append(answer(number, data=b"d" * 30))
        cache.put(waiting[-1])
        assert [await cache.get(each.key) for each in waiting] == waiting
        if number > 1:
            cache.settled([waiting.pop(0)], None)
            await asyncio.sleep(0)
    assert database.state.dropped == 0
    cache.put(answer(50, data=b"d" * 80))
    assert database.state.dropped == 1


async def test_the_last_of_several_changes_to_a_key_wins(stores):
    old, new = answer(1), answer(1, data=b"new")
    stores.cache.put(old)
    stores.cache.delete([old.key, b"unknown"])
    assert await stores.cache.get(old.key) is None
    stores.cache.put(new)
    await stores.flush()
    assert await stores.cache.get(old.key) == new
    stores.cache.put(old)
    stores.cache.delete([old.key])
    await stores.flush()
    assert await stores.cache.get(old.key) is None
    assert list(await stores.cache.index()) == []


async def test_when_too_much_waits_answers_are_dropped_and_ledger_rows_are_not(stores, record, monkeypatch, caplog):
    old = answer(1)
    stores.cache.put(old)
    await stores.flush()
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 100)
    new = answer(1, data=b"n" * 101)
    stores.cache.put(new)
    record(stores.ledger)
    assert stores.state[1] == 1
    await stores.flush()
    assert await stores.cache.get(old.key) is None
    assert "1 dropped" in caplog.text

    monkeypatch.setattr(stores._backend.writer, "limit", 4)
    record(stores.ledger)
    record(stores.ledger)
    stores.cache.put(answer(2))
    record(stores.ledger)
    assert stores.state[1] == 2
    monkeypatch.undo()
    await stores.flush()
    assert await stores.cache.get(answer(2).key) is None


async def test_a_closed_store_is_an_error_and_not_a_miss(stores):
    await stores.aclose()
    with pytest.raises(StoreError):
        await stores.cache.get(b"k" * 32)


changes = st.lists(st.tuples(st.integers(0, 3), st.booleans() | st.none()), max_size=12)


@settings(max_examples=25)
@given(changes=changes)
async def test_it_behaves_as_a_dictionary(tmp_path_factory, changes):
    stores = open_store(f"sqlite:///{tmp_path_factory.mktemp('cache')}/c.db", SystemClock())
    await stores.start()
    model = {}
    for step, (number, change) in enumerate(changes):
        one = answer(number, data=str(step).encode())
        if change is None:
            await stores.flush()
        elif change:
            stores.cache.put(one)
            model[one.key] = one
        else:
            stores.cache.delete([one.key])
            model.pop(one.key, None)
        assert await stores.cache.get(one.key) == model.get(one.key)
    await stores.flush()
    assert {each.key for each in await stores.cache.index()} == set(model)
    await stores.aclose()
