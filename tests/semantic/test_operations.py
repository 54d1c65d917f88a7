"""What those who operate the caches can do, through the library."""

import asyncio
import json
import re

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.request import CacheDirectives
from penstock.core.response import Response
from penstock.semantic.operations import CacheOperations
from penstock.semantic.whose import Whose
from penstock.sync import BlockingCache, Client
from penstock.testing import FakeClock, answer

TALL = "How tall is the Eiffel Tower in Paris?"
TALL_TOO = "how tall is the eiffel tower in paris"
OPEN = "When does the museum open?"


class Provider:
    """Answers with the length of the question, and remembers what it was asked; audits fail."""

    name = "near"

    def __init__(self):
        self.asked = []
        self.most_at_once = self._now = 0
        self.broken = ()

    async def send(self, request, target):
        question = request.payload["messages"][-1]["content"]
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if question in self.broken or request.call.id.endswith("-audit"):
            raise ProviderError("no", code="upstream_status", status_code=400)
        self.asked.append(question)
        return Response(body=answer(f"{len(question)} letters."), finish_reason="stop")

    async def models(self):
        return []

    async def aclose(self):
        pass


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def make(tmp_path, provider, clock):
    opened = []

    async def make(store=f"sqlite:///{tmp_path}/penstock.db", *, exact=None, limits=None, **semantic):
        config = {
            "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
            "models": [
                {"name": "fast", "targets": [{"provider": "near", "model": "m"}]},
                {"name": "slow", "targets": [{"provider": "near", "model": "n"}]},
                {"name": "live", "targets": [{"provider": "near", "model": "l"}], "cache_ttl_s": 0},
                {"name": "plain", "targets": [{"provider": "near", "model": "p"}], "semantic": "off"},
            ],
            "store": {"url": store},
            "cache": {
                "exact": exact or {"ttl_s": 100},
                "semantic": {"mode": "on", "max_error": 0.45, "audit": 0.000001, **semantic},
            },
            "alerts": {"built_in": False},
            "limits": limits or {},
        }
        client = await AsyncClient(config, providers={"near": provider}, clock=clock).open()
        opened.append(client)
        return client

    yield make
    for client in opened:
        await client.aclose()


@pytest.fixture
async def client(make):
    return await make()


async def settle():
    for _ in range(100):
        await asyncio.sleep(0)


async def ask(client, question=TALL, model="fast", **options):
    found = await client.chat(question, model=model, **options)
    await settle()
    return found


async def warm(client, *items, **options):
    return [each async for each in client.cache.warm(items, **options)]


async def lines_of(client, tenant="default"):
    return [line async for line in client.cache.export(tenant)]


async def test_statistics_are_by_tenant_and_model(client):
    await ask(client)
    await ask(client, OPEN, "slow", tenant="acme/web")
    await ask(client, TALL, tenant="acme/app")
    await ask(client, TALL, tenant="acmeous")
    everything = await client.cache.stats()
    assert [(row.tenant, row.model, row.answers, row.questions) for row in everything.models] == [
        ("acme/app", "fast", 1, 1), ("acme/web", "slow", 1, 1), ("acmeous", "fast", 1, 1), ("default", "fast", 1, 1),
    ]  # fmt: skip
    assert (everything.answers, everything.questions, everything.exact.misses) == (4, 4, 4)
    assert (everything.semantic.asked, everything.semantic.questions, everything.semantic.partitions) == (4, 4, 4)
    certificate = everything.models[0].certificate
    assert certificate["delta"] == 0.45
    assert {"bound", "labels", "serving", "reason"} <= certificate.keys()
    acme = await client.cache.stats(Whose("acme"))
    assert [row.tenant for row in acme.models] == ["acme/app", "acme/web"]
    assert (acme.answers, acme.exact, acme.semantic) == (2, None, None)
    assert acme.memory_bytes < everything.memory_bytes
    assert (await client.cache.stats(Whose("acme", alone=True))).models == []


async def test_what_was_learnt_in_earlier_runs_is_shown(make):
    first = await make()
    await ask(first)
    seen = await ask(first, TALL_TOO)
    await first.cache.label(seen.call.id, right=True, tenant="default")
    await first.aclose()
    (row,) = (await (await make()).cache.stats()).models
    assert (row.model, row.certificate["labels"]) == ("fast", 1)


async def test_answers_are_listed_with_the_questions_they_answer(client, clock):
    await ask(client, tags=("faq", "a"))
    clock.advance(1)
    await ask(client, OPEN)
    clock.advance(1)
    await ask(client, "Which way?", "plain", tenant="acme")
    listed = await client.cache.inspect()
    assert [each.model for each in listed] == ["plain", "fast", "fast"]
    newest, second, first = listed
    assert newest.questions == []
    assert [each.text for each in second.questions] == [OPEN]
    assert first.tags == ("faq", "a")
    assert (first.fresh_until - first.stored_at, second.stored_at - first.stored_at) == (100, 1)
    assert first.bytes > 0
    assert len(bytes.fromhex(first.key)) == 32
    for options, found in (
        ({"model": "plain"}, [newest]), ({"tag": "faq"}, [first]), ({"contains": "MUSEUM"}, [second]),
        ({"contains": "%"}, []), ({"limit": 1}, [newest]), ({"whose": Whose("default")}, [second, first]),
        ({"whose": Whose("acme"), "model": "fast"}, []),
    ):  # fmt: skip
        assert await client.cache.inspect(**options) == found


async def test_questions_of_earlier_runs_are_listed_too(make):
    first = await make()
    await ask(first)
    await first.aclose()
    (found,) = await (await make()).cache.inspect(contains="eiffel")
    assert [each.text for each in found.questions] == [TALL]


async def test_a_decision_is_explained_and_not_taken(client, provider):
    await ask(client)
    await ask(client, "How tall is the Eiffel Tower in Tokyo?")
    before = client.shared.memory.figures()
    said = await client.cache.explain({"question": TALL_TOO, "model": "fast"})
    assert (said.exact, said.mode, said.serves, said.question) == ("miss", "on", True, TALL_TOO)
    assert [each.text for each in said.nearest] == [TALL, "How tall is the Eiffel Tower in Tokyo?"]
    near, far = said.nearest
    assert (near.veto, near.fresh) == (None, True)
    assert far.veto is not None
    assert near.probability > far.probability
    assert near.features["similarity"] > far.features["similarity"] > 0
    assert said.certificate["serving"]
    known = await client.cache.explain({"messages": [{"role": "user", "content": TALL}], "model": "fast"})
    assert known.exact == "hit"
    assert client.shared.memory.figures() == before
    assert len(provider.asked) == 2
    assert (await ask(client, TALL_TOO)).call.cache == "semantic"


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"question": "How tall is the Eiffel Tower not in Paris?", "model": "fast"}, "forbids"),
        ({"question": "Something else entirely", "model": "fast"}, "no question like it"),
        ({"question": TALL_TOO, "model": "slow"}, "no question like it"),
        ({"question": TALL_TOO, "model": "fast", "temperature": 0.5}, "no question like it"),
        ({"question": "x" * 3000, "model": "fast"}, "2000 characters"),
        ({"messages": [{"role": "assistant", "content": TALL_TOO}], "model": "fast"}, "the user's"),
        ({"question": TALL_TOO, "model": "plain"}, "off"),
        ({"question": TALL_TOO, "model": "live"}, "nothing of this request or model is cached"),
        ({"question": TALL_TOO, "model": "fast", "cache": {"no-store": True}}, "nothing of this request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_why_not_is_said(client, item, reason):
    await ask(client)
    said = await client.cache.explain(item)
    assert not said.serves
    assert reason in said.reason


async def test_modes_and_labels_explain_too(make):
    client = await make(mode="shadow", max_error=0.4)
    await ask(client)
    assert "shadow" in (await client.cache.explain({"question": TALL_TOO, "model": "fast"})).reason


async def test_what_is_cleared_is_gone_with_its_questions(make, clock):
    client = await make()
    await ask(client, tags=("faq", "prompt:help@2"))
    await ask(client, OPEN, tags=("faq",))
    await ask(client, OPEN, "slow")
    await ask(client, OPEN, tenant="acme/web", tags=("faq",))

    async def left(client):
        return sorted((each.tenant, each.model, each.questions[0].text) for each in await client.cache.inspect())

    assert (await client.cache.clear(Whose("acme", alone=True))).answers == 0
    assert (await client.cache.clear(tag="prompt:help@2")).answers == 1
    assert (await client.cache.clear(Whose("default"), model="slow")).answers == 1
    rest = [("acme/web", "fast", OPEN), ("default", "fast", OPEN)]
    assert await left(client) == rest
    assert (await client.cache.clear(model="slow")).answers == 0
    await client.aclose()
    again = await make()
    assert await left(again) == rest
    removed = await again.cache.clear(Whose("acme"))
    assert (removed.answers, removed.questions) == (1, 1)
    await again.aclose()
    last = await make()
    assert await left(last) == rest[1:]
    assert [each.text async for each in last.shared.memory.known()] == [OPEN]
    assert (await ask(last, OPEN)).call.cache == "hit"
    assert (await ask(last, OPEN.upper(), tenant="acme/web")).call.cache == "miss"


async def test_what_was_learnt_can_be_forgotten_of_one_model(make):
    client = await make()
    for model in ("fast", "slow"):
        await ask(client, model=model)
        seen = await ask(client, TALL_TOO, model)
        await client.cache.label(seen.call.id, right=True, tenant="default")
    removed = await client.cache.clear(model="fast", learnt=True)
    assert (removed.answers, removed.learnt) == (2, 1)
    with pytest.raises(InvalidRequest, match="tag"):
        await client.cache.clear(tag="faq", learnt=True)
    await client.aclose()
    report = await (await make()).cache.stats()
    assert [(row.model, row.certificate["labels"]) for row in report.models] == [("slow", 1)]


async def test_cleaning_up_removes_what_nobody_can_get_any_more(make, clock):
    client = await make()
    await ask(client)
    await ask(client, OPEN, cache=CacheDirectives(ttl=1_000_000.0))
    assert (await client.cache.cleanup()).answers == 0
    await client.aclose()
    again = await make()
    clock.advance(90_000)
    removed = await again.cache.cleanup()
    assert (removed.answers, removed.questions) == (1, 1)
    await again.shared.stores.flush()
    assert [each.text async for each in again.shared.memory.known()] == [OPEN]


async def test_putting_in_order_loses_nothing(client):
    await ask(client)
    await ask(client, OPEN)
    done = await client.cache.optimize()
    assert (done.partitions, done.free_bytes) == (1, 0)
    assert len(client.shared.memory.questions) == 0
    assert len(await client.cache.inspect(contains="eiffel")) == 1
    assert (await ask(client, TALL_TOO)).call.cache == "semantic"
    assert len(client.shared.memory.questions) == 2


async def test_without_a_file_there_is_nothing_to_put_in_order(make):
    client = await make("memory:")
    await ask(client)
    done = await client.cache.optimize()
    assert (done.partitions, done.free_bytes) == (0, None)
    assert (await ask(client, TALL_TOO)).call.cache == "semantic"


async def test_answers_at_hand_are_given_from_then_on(client, provider):
    done = await warm(
        client,
        {"question": TALL, "model": "fast", "answer": "330 metres.", "tags": ["faq"]},
        {"question": "What is the height of that tower?", "model": "fast", "answer": "330 metres."},
        {"question": "Who built it?", "model": "plain", "answer": json.loads(answer("Eiffel."))},
    )
    assert [(each.line, each.outcome) for each in done] == [(1, "seeded"), (2, "seeded"), (3, "seeded")]
    exact = await ask(client)
    assert (exact.text, exact.call.cache, exact.call.saved_usd) == ("330 metres.", "hit", None)
    assert (await ask(client, TALL_TOO)).text == "330 metres."
    assert (await ask(client, "Who built it?", "plain")).text == "Eiffel."
    assert provider.asked == []
    questions = list(client.shared.memory.questions)
    assert len(questions) == 2
    assert len({each.group for each in questions}) == 1
    assert [each.tags for each in await client.cache.inspect(contains=TALL)] == [("faq",)]


async def test_a_seed_may_be_put_right(client):
    await warm(client, {"question": TALL, "model": "fast", "answer": "300 metres."})
    await warm(client, {"question": TALL, "model": "fast", "answer": "330 metres."})
    assert (await ask(client, TALL_TOO)).text == "330 metres."
    assert len(client.shared.memory.questions) == 1


async def test_what_is_not_at_hand_is_asked_for(client, provider):
    provider.broken = ("Broken?",)
    await ask(client, OPEN)
    done = await warm(
        client,
        *(json.dumps({"question": each, "model": "fast"}).encode() for each in (TALL, OPEN, "Broken?")),
        b"{",
        {"model": "fast"},
        {"question": TALL},
        {"question": TALL, "model": "fast", "tags": "faq"},
        {"question": TALL, "model": "live", "answer": "x"},
        {"question": TALL, "model": "fast", "answer": ""},
        {"question": TALL, "model": "fast", "answer": 7},
        {"question": TALL, "model": "unknown"},
        concurrency=2,
    )
    outcomes = {each.line: (each.outcome, each.code) for each in done}
    assert outcomes == {
        1: ("asked", None), 2: ("known", None), 3: ("failed", "upstream_status"), 4: ("failed", "invalid_json"),
        5: ("failed", "invalid_value"), 6: ("failed", "missing_required_parameter"), 7: ("failed", "invalid_type"),
        8: ("failed", "not_cacheable"), 9: ("failed", "not_cacheable"), 10: ("failed", "invalid_type"),
        11: ("failed", "model_not_found"),
    }  # fmt: skip
    assert all(each.message for each in done if each.outcome == "failed")
    assert provider.asked == [OPEN, TALL]
    await settle()
    assert (await ask(client)).call.cache == "hit"
    (known,) = await client.cache.inspect(contains="eiffel")
    assert [each.text for each in known.questions] == [TALL]


async def test_warming_is_recorded_as_such_and_asks_some_at_a_time(make, provider):
    client = await make("memory:")
    done = await warm(client, *({"question": f"Why {n}?", "model": "fast"} for n in range(9)), concurrency=3)
    assert [each.outcome for each in done] == ["asked"] * 9
    assert provider.most_at_once == 3
    assert {each.metadata["operation"] for each in client.shared.stores.ledger.recent} == {"penstock-warm"}


async def test_limits_put_questions_off(make, provider, clock):
    client = await make("memory:", limits={"per_tenant": {"requests_per_minute": 3}})
    items = [{"question": f"Why {number}?", "model": "fast"} for number in range(7)]
    warming = asyncio.ensure_future(warm(client, *items))
    await clock.run(1)
    assert len(provider.asked) == 3
    await clock.run(300)
    assert [each.outcome for each in await warming] == ["asked"] * 7


async def test_who_stops_listening_stops_the_asking(client, provider):
    warming = client.cache.warm(({"question": f"Why {n}?", "model": "fast"} for n in range(100)), concurrency=1)
    await anext(warming)
    await warming.aclose()
    await settle()
    assert len(provider.asked) < 5


async def test_a_cache_is_carried_to_another_place(make, tmp_path, provider):
    client = await make()
    await ask(client, tags=("faq",))
    await ask(client, OPEN, "plain")
    await ask(client, TALL, tenant="acme")
    await client.aclose()
    lines = await lines_of(await make())
    assert len(lines) == 3
    assert json.loads(lines[0])["tenant"] == "default"
    elsewhere = await make(f"sqlite:///{tmp_path}/elsewhere.db")
    done = await elsewhere.cache.load(lines, "default")
    assert (done.answers, done.questions, done.skipped) == (2, 1, 0)
    again = await elsewhere.cache.load(lines, "default")
    assert (again.answers, again.questions, again.skipped) == (0, 0, 2)
    asked = len(provider.asked)
    assert (await ask(elsewhere)).call.cache == "hit"
    assert (await ask(elsewhere, TALL_TOO)).call.cache == "semantic"
    assert (await ask(elsewhere, OPEN, "plain")).call.cache == "hit"
    assert len(provider.asked) == asked
    assert (await ask(elsewhere, TALL, tenant="acme")).call.cache == "miss"
    assert [each.tags for each in await elsewhere.cache.inspect(Whose("default"), contains=TALL)] == [("faq",)]


async def test_what_is_too_old_is_not_taken_in(make, clock, tmp_path):
    lines = await lines_of(await make())
    client = await make()
    await ask(client)
    lines = await lines_of(client)
    clock.advance(100_000)
    done = await (await make(f"sqlite:///{tmp_path}/elsewhere.db")).cache.load(lines, "default")
    assert (done.answers, done.questions, done.skipped) == (0, 0, 1)


async def test_a_file_that_is_something_else_is_refused(client):
    await ask(client)
    head, line = await lines_of(client)
    wrong = json.loads(line)
    for lines, message in (
        ([], "first line"), ([b"{}"], "first line"),
        ([head.replace(b'"version":1', b'"version":9'), line], "version 9"),
        ([head, b"{}"], "Line 2"), ([head, json.dumps({**wrong, "key": "00"}).encode()], "64 hexadecimal"),
        ([head, json.dumps({**wrong, "form": "xml"}).encode()], "form must be"),
        ([head, json.dumps({**wrong, "key": "00" * 32, "data": "{"}).encode()], "damaged"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest, match=message):
            await client.cache.load(lines, "default")
    with pytest.raises(InvalidRequest, match="not of 'acme'"):
        await client.cache.load([head, line], "acme")


async def test_a_tenant_cannot_take_the_place_of_anothers_answer(client):
    await ask(client)
    await ask(client, OPEN, tenant="acme")
    head, line = await lines_of(client, "acme")
    (victim,) = await client.cache.inspect(Whose("default"))
    forged = json.dumps({**json.loads(line), "key": victim.key}).encode()
    with pytest.raises(InvalidRequest, match="another tenant's"):
        await client.cache.load([head, forged], "acme")


async def test_labels_are_learnt_once_and_only_of_ones_own(client):
    await ask(client)
    seen = await ask(client, TALL_TOO)
    for tenant, request_id in (("acme", seen.call.id), ("default", "req_unknown")):
        with pytest.raises(InvalidRequest, match="no request") as caught:
            await client.cache.label(request_id, right=True, tenant=tenant)
        assert caught.value.status_code == 404
    await client.cache.label(seen.call.id, right=True, tenant="default")
    assert (await ask(client, TALL_TOO)).call.cache == "hit"
    with pytest.raises(InvalidRequest):
        await client.cache.label(seen.call.id, right=True, tenant="default")


async def test_with_the_exact_cache_alone(make):
    client = await make("memory:", mode="off")
    await warm(client, {"question": TALL, "model": "fast", "answer": "330 metres."})
    report = await client.cache.stats()
    assert (report.answers, report.questions, report.semantic) == (1, 0, None)
    assert "off" in (await client.cache.explain({"question": TALL, "model": "fast"})).reason
    assert len(await lines_of(client)) == 2
    assert (await client.cache.cleanup()).questions == 0
    with pytest.raises(InvalidRequest):
        await client.cache.label("req", right=True, tenant="default")
    assert (await client.cache.clear()).answers == 1


async def test_without_any_cache_that_is_said(make):
    client = await make("memory:", mode="off", exact={"enabled": False})
    with pytest.raises(InvalidRequest, match=r"cache\.exact\.enabled"):
        await client.cache.stats()


async def test_metrics_show_what_is_answered_by_meaning(client):
    await ask(client)
    await ask(client, TALL_TOO)
    page = client.shared.metrics.exposition()[0].decode()
    for line in (
        'penstock_semantic{what="served"} 1.0',
        'penstock_semantic{what="questions"} 1.0',
        'penstock_semantic_policies{state="serving"} 1.0',
        'penstock_semantic_policies{state="learning"} 0.0',
    ):
        assert line in page
    assert re.search(r'penstock_requests_total\{cache="semantic",.*\} 1\.0', page)


def test_without_an_event_loop(tmp_path):
    config = {
        "models": [{"name": "fast", "targets": [{"provider": "simulated", "model": "sim"}]}],
        "store": {"url": f"sqlite:///{tmp_path}/penstock.db"},
        "cache": {"semantic": {"mode": "on", "max_error": 0.45}},
    }
    with Client(config) as client:
        items = [{"question": TALL, "model": "fast", "answer": "330 metres.", "tags": ["faq"]}]
        assert [each.outcome for each in client.cache.warm(items)] == ["seeded"]
        assert client.cache.explain({"question": TALL_TOO, "model": "fast"}).serves
        found = client.chat(TALL_TOO, model="fast")
        assert found.text == "330 metres."
        client.cache.label(found.id, right=True, tenant="default")
        assert client.cache.stats().models[0].certificate["labels"] >= 1
        assert {each.tags for each in client.cache.inspect(tag="faq")} == {("faq",)}
        lines = list(client.cache.export("default"))
        assert client.cache.optimize().partitions == 1
        assert client.cache.cleanup().answers == 0
        assert client.cache.clear().answers == len(lines) - 1
        assert client.cache.load(lines, "default").answers == len(lines) - 1


def test_both_faces_can_do_the_same():
    def named(face):
        return {name for name in vars(face) if not name.startswith("_")}

    assert named(BlockingCache) == named(CacheOperations)
