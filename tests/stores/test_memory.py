from penstock.abc import StoredAnswer
from penstock.core.clock import SystemClock
from penstock.stores.memory import RECENT
from penstock.stores.opening import open_store


async def test_memory_keeps_no_answers_and_the_newest_calls(record):
    stores = open_store("memory:", SystemClock())
    await stores.start()
    stores.cache.put(StoredAnswer(b"k" * 32, "t", "json", b"{}", 0.0, 1.0))
    stores.cache.delete([b"k" * 32])
    assert await stores.cache.get(b"k" * 32) is None
    assert list(await stores.cache.index()) == []
    for number in range(RECENT + 5):
        record(stores.ledger, id=f"req_{number}", tenant="acme")
    await stores.ledger.flush()
    await stores.flush()
    assert [stores.ledger.recent[0].call.id, len(stores.ledger.recent)] == ["req_5", RECENT]
    assert stores.ledger.recent[-1].tenant == "acme"
    assert stores.state == (0, 0, 0, "")
    await stores.aclose()
