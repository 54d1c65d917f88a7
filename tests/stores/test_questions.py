import msgspec

from penstock.abc import Question
from penstock.core.clock import SystemClock
from penstock.stores.opening import open_store


def question(number, partition=1, **fields):
    values = {
        "id": number, "tenant": "acme", "partition": partition.to_bytes(32), "text": f"Why {number}?",
        "key": number.to_bytes(32), "group": number.to_bytes(32), "model": "fast", "embedder": "lexical-1",
        "vector": b"", "asked_at": 1000.125, "right": 1.5, "wrong": 0.0, "tags": ("a", "ö"),
    }  # fmt: skip
    return Question(**{**values, **fields})


async def test_questions_and_what_was_learnt_survive_closing(stores, path):
    first, second, other = question(1), question(2, vector=b"\1\2", tags=()), question(3, partition=2)
    for each in (second, first, other):
        stores.questions.put(each)
    stores.questions.keep("acme", b"old")
    stores.questions.keep("acme", b"new")
    await stores.aclose()
    again = open_store(f"sqlite:///{path}", SystemClock())
    await again.start()
    assert await again.questions.partitions() == {first.partition: 2, other.partition: 1}
    assert list(await again.questions.load(first.partition)) == [first, second]
    assert await again.questions.learnt() == {"acme": b"new"}
    await again.aclose()


async def test_questions_can_be_read_page_by_page(stores):
    for number, tenant in ((1, "acme"), (2, "acme/web"), (3, "acme_"), (4, "acme")):
        stores.questions.put(question(number, tenant=tenant, vector=b"1234"))
    await stores.flush()

    async def numbers(*arguments, **options):
        return [each.id for each in await stores.questions.page(*arguments, **options)]

    assert await numbers() == [1, 2, 3, 4]
    assert await numbers(after=1, limit=2) == [2, 3]
    assert await numbers("acme") == [1, 2, 4]
    assert await numbers("acme/web") == [2]
    assert await numbers("acme", after=2) == [4]
    (only,) = await stores.questions.page("acme/web")
    assert only == question(2, tenant="acme/web")


async def test_the_last_of_several_changes_to_a_question_wins(stores):
    one = question(1)
    changed = msgspec.structs.replace(one, wrong=2.0)
    stores.questions.put(one)
    stores.questions.put(changed)
    stores.questions.put(question(2))
    stores.questions.delete([2, 99])
    await stores.flush()
    assert list(await stores.questions.load(one.partition)) == [changed]
    stores.questions.judge(1, 3.0, 4.0)
    stores.questions.judge(99, 1.0, 1.0)
    await stores.flush()
    assert list(await stores.questions.load(one.partition)) == [msgspec.structs.replace(one, right=3.0, wrong=4.0)]
    stores.questions.delete([1])
    await stores.flush()
    assert list(await stores.questions.load(one.partition)) == []
    assert await stores.questions.partitions() == {}
