import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidRequest
from penstock.stores import memory
from penstock.stores.opening import open_store

ALL = {"after": None, "limit": 100, "order": "asc", "model": None, "metadata": {}}


@pytest.fixture(params=["sqlite", "memory"])
async def store(request, path):
    stores = open_store("memory:" if request.param == "memory" else f"sqlite:///{path}", SystemClock())
    await stores.start()
    yield stores.completions
    await stores.aclose()


def completion(number, **fields):
    return {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1000 + number // 2, "model": "fast",
            "choices": [{"message": {"content": "ü"}}], "metadata": {"n": str(number)}, **fields}  # fmt: skip


async def test_a_completion_is_kept_as_it_was_with_its_messages_numbered(store):
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": [{"type": "text", "text": "x"}], "id": "?"},
    ]
    await store.create("a", completion(1), messages)
    assert await store.retrieve("a", "chatcmpl-1") == completion(1)
    assert await store.messages("a", "chatcmpl-1") == [
        {**message, "id": f"chatcmpl-1-{index}"} for index, message in enumerate(messages)
    ]


async def test_creating_one_again_replaces_it(store):
    await store.create("a", completion(1), [])
    await store.create("a", completion(1, model="slow"), [{"role": "user", "content": "x"}])
    assert (await store.retrieve("a", "chatcmpl-1"))["model"] == "slow"
    assert len(await store.messages("a", "chatcmpl-1")) == 1


async def test_one_without_metadata_has_empty_metadata(store):
    await store.create("a", {"id": "x", "created": 1, "model": "m"}, [])
    assert (await store.retrieve("a", "x"))["metadata"] == {}


async def test_another_tenant_sees_and_changes_nothing(store):
    await store.create("a", completion(1), [])
    assert await store.retrieve("b", "chatcmpl-1") is None
    assert await store.messages("b", "chatcmpl-1") is None
    assert await store.update("b", "chatcmpl-1", {"x": "y"}) is None
    assert await store.delete("b", "chatcmpl-1") is False
    assert await store.list("b", **ALL) == ([], False)
    with pytest.raises(InvalidRequest):
        await store.list("b", **{**ALL, "after": "chatcmpl-1"})
    assert await store.retrieve("a", "chatcmpl-1") == completion(1)


async def test_updating_replaces_the_metadata_and_deleting_deletes_once(store):
    await store.create("a", completion(1), [])
    assert await store.update("a", "chatcmpl-1", {"k": "v"}) == completion(1, metadata={"k": "v"})
    assert await store.retrieve("a", "chatcmpl-1") == completion(1, metadata={"k": "v"})
    assert await store.delete("a", "chatcmpl-1") is True
    assert await store.delete("a", "chatcmpl-1") is False
    assert await store.messages("a", "chatcmpl-1") is None


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
async def test_pages_have_everything_once_in_order(store, order, limit):
    for number in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7):
        await store.create("a", completion(number), [])
    found, after, more = [], None, True
    while more:
        page, more = await store.list("a", **{**ALL, "after": after, "limit": limit, "order": order})
        assert len(page) == limit or not more
        found += page
        after = page[-1]["id"]
    assert found == [completion(number) for number in (range(10) if order == "asc" else reversed(range(10)))]


async def test_filters_by_model_and_by_all_of_the_metadata(store):
    odd = {'we"ird.$key': "1", "v": "x"}
    await store.create("a", completion(1, metadata=odd), [])
    await store.create("a", completion(2, metadata={"v": "x", "n": "1"}, model="slow"), [])

    async def ids(**fields):
        page, _ = await store.list("a", **{**ALL, **fields})
        return [each["id"][-1] for each in page]

    assert await ids(metadata={"v": "x"}) == ["1", "2"]
    assert await ids(metadata=odd) == ["1"]
    assert await ids(metadata={"n": "1"}) == ["2"]
    assert await ids(metadata={"v": "X"}) == []
    assert await ids(model="slow") == ["2"]
    assert await ids(model="slow", metadata=odd) == []


async def test_an_unknown_place_to_continue_from_is_an_error_of_the_client(store):
    with pytest.raises(InvalidRequest) as caught:
        await store.list("a", **{**ALL, "after": "gone"})
    assert caught.value.param == "after"


async def test_memory_forgets_the_oldest_beyond_its_limit(monkeypatch):
    monkeypatch.setattr(memory, "COMPLETIONS", 2)
    store = memory.MemoryCompletionStore()
    for number in range(3):
        await store.create("a", completion(number), [])
    assert [each["id"] for each in (await store.list("a", **ALL))[0]] == ["chatcmpl-1", "chatcmpl-2"]


async def test_memory_forgets_the_oldest_beyond_its_bytes(monkeypatch):
    monkeypatch.setattr(memory, "COMPLETION_BYTES", 1000)
    store = memory.MemoryCompletionStore()

    async def kept():
        return [row["id"] for row in (await store.list("a", **ALL))[0]]

    question = [{"role": "user", "content": "x" * 300}]
    for number in range(4):
        await store.create("a", completion(number), question)
    assert await kept() == ["chatcmpl-2", "chatcmpl-3"]
    await store.create("a", completion(5), [{"role": "user", "content": "x" * 1000}])
    assert await kept() == ["chatcmpl-2", "chatcmpl-3"], "one that never fits takes no other's place"
    for _ in range(5):
        await store.create("a", completion(3), question)
    assert await kept() == ["chatcmpl-2", "chatcmpl-3"], "one that is replaced takes its place once"
    await store.delete("a", "chatcmpl-2")
    await store.create("a", completion(6), question)
    assert await kept() == ["chatcmpl-3", "chatcmpl-6"]
