"""Answers to questions asked before in other words, through the whole pipeline."""

import asyncio

import msgspec
import pytest

from penstock.caching.key import cache_key
from penstock.client import AsyncClient
from penstock.core.call import Call
from penstock.core.errors import ConfigError, InvalidRequest, NotCached, ProviderError, RateLimited
from penstock.core.request import CacheDirectives, Request
from penstock.core.response import Response
from penstock.testing import FakeClock, answer
from penstock.testing.answers import chunks

TALL = "How tall is the Eiffel Tower in Paris?"
TALL_TOO = "how tall is the eiffel tower in paris"
ANSWERS = {"tall": "330 metres.", "open": "At nine.", "old": "It was built in 1889."}


class Oracle:
    """Answers by the first word of `ANSWERS` in the question, and remembers what it was asked.

    Audits, which are made of the first answers at least, are apart, and fail unless told otherwise.
    """

    name = "near"

    def __init__(self, answers=None):
        self.answers = ANSWERS if answers is None else answers
        self.asked = []
        self.audited = []
        self.auditable = False
        self.error = None

    async def send(self, request, target):
        if request.operation == "embeddings":
            raise ProviderError("no vectors today", code="upstream_timeout")
        question = request.payload["messages"][-1]["content"]
        audit = request.call.id.endswith("-audit")
        (self.audited if audit else self.asked).append(question)
        if audit and not self.auditable:
            raise ProviderError("not now", code="upstream_status", status_code=400)
        if self.error is not None:
            raise self.error
        text = next((said for word, said in self.answers.items() if word in question.lower()), "I do not know.")
        if request.stream:
            return Response(source=_live(chunks(text)))
        return Response(body=answer(text), finish_reason="stop")

    async def models(self):
        return []

    async def aclose(self):
        pass


async def _live(events):
    for event in events:
        yield [event]


def config(store="memory:", model=None, **semantic):
    return {
        "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [{"name": "fast", "targets": [{"provider": "near", "model": "m"}], **(model or {})}],
        "store": {"url": store},
        "cache": {"semantic": {"mode": "on", "max_error": 0.45, "audit": 0.000001, **semantic}},
        "alerts": {"built_in": False},
    }


@pytest.fixture
def oracle():
    return Oracle()


@pytest.fixture
async def client(oracle):
    async with AsyncClient(config(), providers={"near": oracle}) as opened:
        yield opened


async def ask(client, question=TALL, **options):
    found = await client.chat(question, model="fast", **options)
    await settle(client)
    return found


async def settle(client):
    """Wait until what was learnt is learnt; tasks that live as long as the client do not end."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_a_question_in_other_words_gets_the_known_answer(client, oracle):
    first = await ask(client)
    again = await ask(client, TALL_TOO)
    assert (first.text, again.text) == ("330 metres.", "330 metres.")
    assert oracle.asked == [TALL]
    assert (first.call.cache, again.call.cache) == ("miss", "semantic")
    assert again.call.cache_status[0].startswith('Penstock-Semantic; hit; detail="p=0.')
    assert again.call.attempts == []
    stats = client.shared.memory.stats
    assert (stats.asked, stats.proposed, stats.served) == (2, 1, 1)


async def test_another_question_does_not(client, oracle):
    await ask(client)
    other = await ask(client, "How tall is the Eiffel Tower in Tokyo?")
    assert other.call.cache == "miss"
    negated = await ask(client, "How tall is not the Eiffel Tower in Paris?")
    assert negated.call.cache == "miss"
    assert "veto=" in " ".join(negated.call.cache_status)


async def test_a_guess_is_not_stored_as_if_it_were_asked(client, oracle):
    await ask(client)
    for _ in range(2):
        assert (await ask(client, TALL_TOO)).call.cache == "semantic"
    assert client.pipeline.parts.cache.stats().entries == 1


async def test_streams_and_whole_answers_answer_each_other(client, oracle):
    await ask(client)
    pieces = [chunk.text async for chunk in await client.chat(TALL_TOO, model="fast", stream=True)]
    assert "".join(pieces) == "330 metres."
    async for _ in await client.chat("When does it open?", model="fast", stream=True):
        pass
    await settle(client)
    assert (await ask(client, "when does it open")).text == "At nine."
    assert len(oracle.asked) == 2


async def test_tenants_never_see_each_others_answers(client, oracle):
    await ask(client, tenant="acme")
    assert (await ask(client, TALL_TOO, tenant="other")).call.cache == "miss"
    assert (await ask(client, TALL_TOO.upper(), tenant="acme")).call.cache == "semantic"


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.5}, {"tools": [{"type": "function", "function": {"name": "f"}}]},
                {"cache": CacheDirectives(namespace="x")}], ids=str,
)  # fmt: skip
async def test_what_else_decides_the_answer_must_be_the_same(client, changes):
    await ask(client)
    assert (await ask(client, TALL_TOO, **changes)).call.cache == "miss"
    system = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": TALL_TOO}]
    assert (await ask(client, system)).call.cache == "miss"


async def test_clients_may_ask_for_a_fresh_answer(client, oracle):
    await ask(client)
    assert (await ask(client, TALL_TOO, cache=CacheDirectives(no_store=True))).call.cache == "bypass"
    fresh = await ask(client, TALL_TOO, cache=CacheDirectives(no_cache=True))
    assert fresh.call.cache == "miss"
    assert (await ask(client, TALL_TOO)).call.cache == "hit"
    assert len(oracle.asked) == 3
    old = await ask(client, "So how tall is the Eiffel Tower in Paris?", cache=CacheDirectives(max_age=0))
    assert old.call.cache == "miss"


async def test_who_wants_no_old_answers_takes_them_from_nobody_else(client, oracle):
    await ask(client)
    old = await ask(client, "So how tall is the Eiffel Tower in Paris?", cache=CacheDirectives(max_age=0))
    assert old.call.cache == "miss"
    assert TALL in {each.text for each in client.shared.memory.questions}


async def test_a_look_up_does_not_clean_up_everything(oracle):
    clock = FakeClock()
    async with AsyncClient(config(), providers={"near": oracle}, clock=clock) as client:
        for number in range(30):
            question = f"How tall is tower number {number} in Paris?"
            await ask(client, question, semantic="shadow", cache=CacheDirectives(ttl=100))
        assert len(client.shared.memory.questions) == 30
        clock.advance(200)
        await ask(client, "How tall is tower number 99 in Paris?")
        assert len(client.shared.memory.questions) == 30 - 8 + 1


async def test_shadow_decides_and_learns_and_serves_nothing(oracle):
    async with AsyncClient(config(mode="shadow"), providers={"near": oracle}) as client:
        await ask(client)
        seen = await ask(client, TALL_TOO)
        stats = client.shared.memory.stats
        assert (seen.call.cache, len(oracle.asked)) == ("miss", 2)
        assert (stats.shadow, stats.served, stats.right) == (1, 0, 1)
        assert "shadow" in " ".join(seen.call.cache_status)


async def test_requests_and_models_say_what_is_done_with_them(oracle):
    modes = config(mode="off", model={"semantic": "on"})
    async with AsyncClient(modes, providers={"near": oracle}) as client:
        await ask(client)
        assert (await ask(client, TALL_TOO, semantic="off")).call.cache == "miss"
        assert (await ask(client, TALL_TOO.upper(), semantic="shadow")).call.cache == "miss"
        assert (await ask(client, TALL_TOO.title())).call.cache == "semantic"


async def test_what_is_asked_with_a_wish_is_learnt_from(oracle):
    async with AsyncClient(config(mode="shadow"), providers={"near": oracle}) as client:
        await ask(client, semantic="on")
        assert (await ask(client, TALL_TOO, semantic="on")).call.cache == "semantic"


@pytest.mark.parametrize(("mode", "note"), [("shadow", "shadow"), ("on", "hit")])
async def test_each_call_notes_what_was_found(oracle, mode, note):
    async with AsyncClient(config(mode=mode), providers={"near": oracle}) as client:
        first, again = await ask(client), await ask(client, TALL_TOO)
        exact, off = await ask(client), await ask(client, TALL_TOO.upper(), semantic="off")
    notes = [(each.call.semantic, each.call.semantic_key) for each in (first, again, exact, off)]
    assert notes == [("miss", None), (note, first.call.key), ("", None), ("", None)]
    assert first.call.semantic_audit is None
    assert again.call.semantic_audit == 1.0  # the first answers by meaning are all checked


async def test_asking_for_what_is_not_there_is_refused(oracle):
    async with AsyncClient(config(mode="off"), providers={"near": oracle}) as client:
        await ask(client, semantic="off")
        with pytest.raises(InvalidRequest, match=r"cache\.semantic\.mode") as caught:
            await ask(client, semantic="on")
        assert caught.value.code == "semantic_cache_off"


async def test_without_the_exact_cache_there_are_no_answers_to_give(oracle):
    settings = config()
    settings["cache"]["exact"] = {"enabled": False}
    with pytest.raises(ConfigError, match="exact cache"):
        await AsyncClient(settings, providers={"near": oracle}).open()


@pytest.mark.parametrize("semantic", [{"embedder": {"kind": "provider", "model": "nowhere"}},
                                      {"labels": ["judge"], "judge": {"model": "nowhere"}}], ids=str)  # fmt: skip
async def test_models_that_matching_asks_must_exist(oracle, semantic):
    with pytest.raises(ConfigError, match="nowhere"):
        await AsyncClient(config(**semantic), providers={"near": oracle}).open()


async def test_what_is_audited_is_asked_again_and_is_exact_from_then_on(oracle):
    oracle.auditable = True
    async with AsyncClient(config(audit=1.0), providers={"near": oracle}) as client:
        await ask(client)
        assert (await ask(client, TALL_TOO)).call.cache == "semantic"
        assert client.shared.memory.stats.right == 1
        assert (oracle.asked, oracle.audited) == ([TALL], [TALL_TOO])
        assert (await ask(client, TALL_TOO)).call.cache == "hit"
        kept = [each for each in client.shared.stores.ledger.recent if (each.metadata or {}).get("operation")]
        assert [each.metadata["operation"] for each in kept] == ["penstock-audit"]
        groups = {each.group for each in client.shared.memory.questions}
        assert len(groups) == 1


async def test_a_wrong_answer_that_was_audited_counts_against_its_question(oracle):
    oracle.auditable = True
    async with AsyncClient(config(audit=1.0), providers={"near": oracle}) as client:
        await ask(client)
        oracle.answers = {"tall": "12 feet."}
        assert (await ask(client, TALL_TOO)).text == "330 metres."
        assert client.shared.memory.stats.wrong_served == 1
        assert (await ask(client, TALL_TOO)).text == "12 feet."
        assert [each.wrong for each in client.shared.memory.questions] == [1.0, 0.0]


async def test_a_person_says_that_an_answer_fits_or_not(client, oracle):
    await ask(client)
    learner = client.pipeline.learner
    served = await ask(client, TALL_TOO)
    assert not await learner.told("other", served.call.id, right=True)
    assert await learner.told("default", served.call.id, right=True)
    assert not await learner.told("default", served.call.id, right=False)
    assert (await ask(client, TALL_TOO)).call.cache == "hit"
    wrong = await ask(client, TALL_TOO.upper())
    assert await learner.told("default", wrong.call.id, right=False)
    assert client.shared.memory.stats.wrong_served == 1


async def test_questions_leave_with_their_answers(client, oracle):
    await ask(client)
    assert client.pipeline.parts.cache.clear("default") == 1
    assert len(client.shared.memory.questions) == 0
    assert (await ask(client, TALL_TOO)).call.cache == "miss"


async def test_questions_are_known_after_a_restart(tmp_path, oracle):
    where = config(store=f"sqlite:///{tmp_path}/a.db")
    async with AsyncClient(where, providers={"near": oracle}) as client:
        await ask(client)
        await ask(client, TALL_TOO)
    async with AsyncClient(where, providers={"near": oracle}) as client:
        assert (await ask(client, TALL_TOO.upper())).call.cache == "semantic"
    assert oracle.asked == [TALL]


async def test_questions_are_known_after_a_reload(client, oracle):
    await ask(client)
    loaded = AsyncClient(config(max_question_chars=50), providers={"near": oracle}).loaded
    await client.reload(loaded)
    assert (await ask(client, TALL_TOO)).call.cache == "semantic"
    assert (await ask(client, TALL_TOO + " " * 50)).call.cache == "miss"


async def test_without_vectors_questions_are_answered_afresh(oracle):
    embedder = {"kind": "provider", "model": "near/embed"}
    async with AsyncClient(config(embedder=embedder), providers={"near": oracle}) as client:
        found = await ask(client)
        assert found.text == "330 metres."
        assert client.shared.memory.stats.failed == 1
        assert "fwd=bypass" in " ".join(found.call.cache_status)


async def test_the_same_words_at_the_same_time_are_looked_up_once(client, oracle):
    await ask(client)
    found = await asyncio.gather(*(client.chat(TALL_TOO, model="fast") for _ in range(20)))
    assert {each.text for each in found} == {"330 metres."}
    assert client.shared.memory.stats.asked == 2
    assert {each.call.cache for each in found} == {"semantic"}


async def test_failures_teach_nothing(client, oracle):
    oracle.error = ProviderError("down", code="upstream_status", status_code=400)
    with pytest.raises(ProviderError):
        await ask(client)
    assert len(client.shared.memory.questions) == 0


def at_once(client, question=TALL_TOO, **changes):
    """Ask the pipeline for what it has at hand, as the server does."""
    payload = {"messages": [{"role": "user", "content": question}]}
    asked = Request(operation="chat", model="fast", payload=payload, call=Call("req-1"), **changes)
    asked = client.pipeline.prepare(asked)
    return asked, client.pipeline.at_once(asked)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_known_in_other_words_is_given_without_a_wait(client, oracle, stream):
    await ask(client)
    asked, response = at_once(client, stream=stream)
    assert b"330 metres." in (b"".join(e.data for e in response.events) if stream else response.body)
    waited_for = await ask(client, TALL_TOO)
    for told in (waited_for.call, asked.call):
        assert (told.cache, told.semantic, told.attempts) == ("semantic", "hit", [])
        assert (told.semantic_key, told.usage) == (waited_for.call.semantic_key, waited_for.call.usage)
    assert asked.call.cache_status == waited_for.call.cache_status
    stats = client.shared.memory.stats
    assert (stats.asked, stats.proposed, stats.served) == (3, 2, 2)
    assert await client.pipeline.learner.told("default", "req-1", right=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "How old is the Eiffel Tower in Paris?"},
        {"tenant": "another"},
        {"semantic": "shadow"},
        {"semantic": "off"},
        {"cache": CacheDirectives(no_cache=True)},
        {"cache": CacheDirectives(no_store=True)},
        {"cache": CacheDirectives(max_age=0)},
    ],
)
async def test_what_is_not_given_without_a_wait_is_asked_for(client, changes):
    await ask(client)
    asked, response = at_once(client, **changes)
    assert response is None
    assert (await client.handle(asked)).body is not None
    assert asked.call.cache != "semantic"


async def test_who_wants_cached_answers_only_gets_those_by_meaning_too(client, oracle):
    await ask(client)
    only = CacheDirectives(only_if_cached=True)
    asked, response = at_once(client, cache=only)
    waited_for = await ask(client, TALL_TOO, cache=only)
    assert response.body
    assert asked.call.cache == waited_for.call.cache == "semantic"
    assert asked.call.cache_status == waited_for.call.cache_status


@pytest.mark.parametrize(
    "changes", [{}, {"semantic": "off"}, {"semantic": "shadow"}, {"cache": CacheDirectives(no_cache=True)}]
)
async def test_who_wants_cached_answers_only_has_nobody_asked(client, oracle, changes):
    await ask(client)
    asked = len(oracle.asked)
    only = msgspec.structs.replace(changes.get("cache", CacheDirectives()), only_if_cached=True)
    question = TALL_TOO if changes else "How old is the Eiffel Tower in Paris?"
    with pytest.raises(NotCached):
        await ask(client, question, **{**changes, "cache": only})
    assert len(oracle.asked) == asked


async def test_who_has_no_tokens_left_gets_answers_by_meaning_whichever_way_it_asks(oracle):
    settings = {**config(), "limits": {"per_tenant": {"tokens_per_minute": 20}}}
    async with AsyncClient(settings, providers={"near": oracle}) as client:
        await ask(client)
        with pytest.raises(RateLimited):
            await ask(client, "Is it open?")
        assert (await ask(client, TALL_TOO)).call.cache == "semantic"
        asked, _ = at_once(client)
        assert asked.call.cache == "semantic"
    assert len(oracle.asked) == 1


async def test_what_was_looked_up_is_not_looked_up_again(client, oracle):
    await ask(client)
    embedder, texts = client.shared.memory.embedder, []
    asked, response = at_once(client, "How old is the Eiffel Tower in Paris?")
    embedder.embed_one, embedder.embed = texts.append, texts.append
    assert response is None
    assert (await client.handle(asked)).body is not None
    assert texts == []
    assert client.shared.memory.stats.asked == 2


async def test_who_can_join_a_flight_is_not_answered_by_meaning(client, oracle):
    await ask(client)
    flying = asyncio.create_task(client.chat("How old is the Eiffel Tower in Paris?", model="fast"))
    await asyncio.sleep(0)
    asked, response = at_once(client, "How old is the Eiffel Tower in Paris?")
    assert (response, asked.call.lookup) == (None, None)
    await flying


async def test_answers_that_are_not_in_memory_are_waited_for(tmp_path, oracle):
    settings = config(f"sqlite:///{tmp_path}/p.db")
    async with AsyncClient(settings, providers={"near": oracle}) as client:
        await ask(client)
    async with AsyncClient(settings, providers={"near": oracle}) as client:
        assert at_once(client)[1] is None
        assert (await ask(client, TALL_TOO)).call.cache == "semantic"
        assert at_once(client)[1] is not None


async def test_an_answer_by_meaning_counts_for_limits(oracle):
    settings = config() | {"limits": {"per_tenant": {"requests_per_minute": 2}}}
    async with AsyncClient(settings, providers={"near": oracle}) as client:
        await ask(client)
        assert at_once(client)[1] is not None
        with pytest.raises(RateLimited):
            at_once(client)


def test_keys_and_partitions_are_apart():
    client = AsyncClient(config())
    one, other = (client.request("chat", "fast", {"messages": [{"role": "user", "content": each}]})
                  for each in (TALL, TALL_TOO))  # fmt: skip
    assert cache_key(one) != cache_key(other)
