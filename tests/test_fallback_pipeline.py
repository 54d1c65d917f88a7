"""Fallbacks through the whole pipeline: with the caches, joining, failover, deadlines and the record."""

import asyncio
import json
from decimal import Decimal

import pytest

from penstock import AsyncClient, CacheDirectives, ProviderError
from penstock.core.clock import SystemClock
from penstock.testing import Reply, ScriptedProvider
from penstock.usage import usage_report

TOO_LONG = ProviderError("the prompt is too long", status_code=400, code="context_length_exceeded")
DOWN = ProviderError("down", status_code=503, retryable=True)
NAMES = ("near", "spare", "far")
PLAN = {"context_window": ["big"], "content_policy": ["big"], "errors": ["big"]}
TEMPLATES = [{"when": {"operation": "ask"}, "answer": "Ask again later."}]
ASKED = {"operation": "ask"}


def opened(near="near", spare="spare", far="far", *, plan=None, clock=None, **settings):
    """A client whose model `small` has the targets near and spare, and whose model `big` has far."""
    providers = {name: ScriptedProvider(name, script) for name, script in zip(NAMES, (near, spare, far), strict=True)}
    small = {"name": "small", "targets": [{"provider": "near", "model": "n"}, {"provider": "spare", "model": "s"}]}
    big = {"name": "big", "targets": [{"provider": "far", "model": "f"}]}
    rows = [{"name": name, "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"} for name in NAMES]
    config = {
        "store": {"url": "memory:"},
        "retry": {"attempts": 1},
        "providers": rows,
        "models": [{**small, "fallbacks": PLAN if plan is None else plan}, big],
        **settings,
    }
    return AsyncClient(config, providers=providers, clock=clock), list(providers.values())


class Ahead(SystemClock):
    """The machine's clocks, but the time of day is ahead."""

    ahead_s = 0.0

    def wall(self):
        return super().wall() + self.ahead_s


def calls(providers):
    return [provider.calls for provider in providers]


def outcomes(client):
    return [row.outcome for row in client.shared.stores.ledger.recent]


async def test_failover_goes_first_and_the_answer_is_marked():
    client, providers = opened(DOWN, DOWN)
    async with client:
        answer = await client.chat("Hello?", model="small")
        assert (answer.text, answer.degraded, answer.provider) == ("far", ("fallback-errors",), "far")
        assert [attempt.provider for attempt in answer.call.attempts] == ["near", "spare", "far"]
        own = await client.chat("Hello?", model="big")
        assert (own.degraded, own.cached) == ((), False)
        assert calls(providers) == [1, 1, 2]
        assert outcomes(client) == ["ok", "ok"]


async def test_the_next_one_asks_the_model_again_which_heals():
    client, providers = opened([DOWN, "near again"], DOWN)
    async with client:
        first = await client.chat("Hello?", model="small")
        second = await client.chat("Hello?", model="small")
        third = await client.chat("Hello?", model="small")
    assert [answer.text for answer in (first, second, third)] == ["far", "near again", "near again"]
    assert (second.degraded, second.cached, third.cached) == ((), False, True)
    assert calls(providers) == [2, 1, 1]


async def test_nothing_is_stored_for_either_model_nor_from_streams():
    client, providers = opened(TOO_LONG, TOO_LONG)
    async with client:
        for number in range(3):
            pieces = [piece async for piece in await client.chat("Hello?", model="small", stream=True)]
            assert "".join(piece.text for piece in pieces) == "far"
            assert providers[2].calls == number + 1
        assert client.pipeline.parts.cache.stats().stored == 0
        assert client.pipeline.parts.cache.stats().entries == 0


async def test_what_the_other_model_said_to_others_may_be_said_again():
    client, providers = opened(TOO_LONG, TOO_LONG)
    async with client:
        await client.chat("Hello?", model="big")
        answer = await client.chat("Hello?", model="small")
        assert (answer.text, answer.cached, answer.provider) == ("far", True, None)
        assert answer.degraded == ("fallback-context-window",)
        assert answer.call.cache_status[0].startswith("Penstock-Exact; hit; ttl=")
        assert answer.call.cache_status[0].endswith('; detail="fallback-context-window"')
        assert len(answer.call.cache_status) == 1
        assert calls(providers) == [1, 1, 1]


async def test_with_the_caches_off():
    client, providers = opened(DOWN, DOWN, cache={"exact": {"enabled": False}, "coalesce": False})
    async with client:
        answer = await client.chat("Hello?", model="small")
    assert (answer.text, answer.degraded, answer.call.cache_status) == ("far", ("fallback-errors",), [])
    assert calls(providers) == [1, 1, 1]


@pytest.mark.parametrize("stream", [False, True])
async def test_identical_requests_share_the_other_models_answer(stream):
    gate = asyncio.Event()
    far = Reply(text="one answer", gate=gate)
    client, providers = opened(TOO_LONG, TOO_LONG, far)
    async with client:

        async def ask():
            if not stream:
                answer = await client.chat("Hello?", model="small")
                assert answer.degraded == ("fallback-context-window",)
                return answer.text
            return "".join([piece.text async for piece in await client.chat("Hello?", model="small", stream=True)])

        asking = [asyncio.ensure_future(ask()) for _ in range(20)]
        await providers[2].wait_for_calls(1)
        await asyncio.sleep(0.02)
        gate.set()
        assert await asyncio.gather(*asking) == ["one answer"] * 20
    assert providers[2].calls == 1
    assert providers[0].calls <= 2


async def test_a_filtered_answer_is_paid_for_and_replaced():
    client, providers = opened(Reply(text="", finish_reason="content_filter"))
    async with client:
        answer = await client.chat("Hello?", model="small")
        assert (answer.text, answer.finish_reason) == ("far", "stop")
        assert answer.degraded == ("fallback-content-policy",)
        assert [attempt.outcome for attempt in answer.call.attempts] == ["ok", "ok"]
        assert calls(providers) == [1, 0, 1]


async def test_a_stream_that_has_begun_is_not_replaced():
    broken = Reply(text="one two", error=DOWN, fail_after=2)
    client, providers = opened(broken, broken)
    async with client:
        pieces = await client.chat("Hello?", model="small", stream=True)
        with pytest.raises(ProviderError):
            _ = [piece async for piece in pieces]
        assert calls(providers) == [1, 0, 0]


async def test_who_wants_none_gets_none():
    client, providers = opened(DOWN, DOWN)
    async with client:
        with pytest.raises(ProviderError):
            await client.chat("Hello?", model="small", fallback=False)
        with pytest.raises(ProviderError):
            await client.embeddings("Hello?", model="small")
        assert providers[2].calls == 0


async def test_a_template_is_recorded_as_the_failure_it_is():
    client, _ = opened(DOWN, DOWN, DOWN, plan={"errors": ["big"], "templates": TEMPLATES})
    async with client:
        answer = await client.chat("Hello?", model="small", metadata=ASKED)
        assert (answer.text, answer.finish_reason) == ("Ask again later.", "stop")
        assert answer.json["system_fingerprint"] == "penstock-template"
        assert (answer.degraded, answer.cached, answer.provider) == (("template",), False, None)
        assert (answer.usage.total_tokens, answer.cost_usd) == (0, Decimal(0))
        (row,) = client.shared.stores.ledger.recent
        assert row.outcome == "template"
        assert [attempt.outcome for attempt in row.call.attempts] == ["upstream_error"] * 3
        page, _ = client.shared.metrics.exposition()
        assert b'outcome="template"' in page
        assert client.pipeline.parts.cache.stats().entries == 0


async def test_reports_count_a_template_as_an_error_and_another_model_as_an_answer(tmp_path):
    url = f"sqlite:///{tmp_path}/penstock.db"
    plan = {"errors": ["big"], "templates": TEMPLATES}
    client, _ = opened(DOWN, DOWN, [DOWN, "far"], plan=plan, store={"url": url})
    async with client:
        await client.chat("Hello?", model="small", metadata=ASKED)
        assert (await client.chat("Hello?", model="small", metadata=ASKED)).text == "far"
    report = usage_report(url, days=1, recent=5)
    assert (report.total.calls, report.total.errors) == (2, 1)
    assert [(call.outcome, call.attempts, call.provider) for call in report.recent] == [
        ("ok", 3, "far"),
        ("template", 3, "far"),
    ]


async def test_a_stream_gets_a_template_as_a_stream():
    client, _ = opened(DOWN, DOWN, plan={}, fallbacks={"templates": TEMPLATES})
    async with client:
        pieces = [piece async for piece in await client.chat("?", model="small", stream=True, metadata=ASKED)]
        assert "".join(piece.text for piece in pieces) == "Ask again later."
        assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["stop"]
        assert [row.outcome for row in client.shared.stores.ledger.recent] == ["template"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("hanging", [False, True])
async def test_a_stale_answer_comes_before_a_template(stream, hanging):
    clock = Ahead()
    trouble = Reply(gate=asyncio.Event()) if hanging else DOWN
    client, _ = opened(
        ["fresh", trouble],
        trouble,
        plan={"templates": TEMPLATES, "timeout_s": 0.05},
        clock=clock,
        cache={"exact": {"ttl_s": 10, "stale_if_error_s": 100}},
    )
    async with client:

        async def ask():
            request = client.request(
                "chat", "small", {"messages": [{"role": "user", "content": "?"}], "metadata": ASKED}, stream=stream
            )
            response = await client.handle(request)
            return json.loads(await response.read())["choices"][0]["message"]["content"], request.call

        await ask()
        clock.ahead_s = 20
        text, call = await asyncio.wait_for(ask(), 5)
        assert (text, call.degraded) == ("fresh", ["stale-if-error"])


async def test_a_model_that_hangs_is_given_up_and_its_attempt_says_so():
    hang = Reply(gate=asyncio.Event())
    client, providers = opened(hang, hang, plan={"errors": ["big"], "timeout_s": 0.05})
    async with client:
        answer = await asyncio.wait_for(client.chat("Hello?", model="small"), 5)
        assert (answer.text, answer.degraded) == ("far", ("fallback-errors",))
        assert [attempt.outcome for attempt in answer.call.attempts] == ["upstream_timeout", "ok"]
        assert providers[0].endings == ["closed"]


async def test_the_whole_time_being_over_ends_in_a_template_with_joining_too():
    hang = Reply(gate=asyncio.Event())
    client, _ = opened(hang, hang, hang, plan={**PLAN, "templates": TEMPLATES}, timeout_s=0.1)
    async with client:
        asking = [client.chat("Hello?", model="small", metadata=ASKED) for _ in range(3)]
        answers = await asyncio.wait_for(asyncio.gather(*asking), 5)
        assert {answer.text for answer in answers} == {"Ask again later."}
        assert outcomes(client) == ["template"] * 3


async def test_a_hit_at_hand_needs_no_task_even_with_a_time_limit():
    client, providers = opened(plan={"errors": ["big"], "timeout_s": 5})
    async with client:
        await client.chat("Hello?", model="small")
        asked = client.pipeline.route(
            client.request("chat", "small", {"messages": [{"role": "user", "content": "Hello?"}]})
        )
        assert client.pipeline.at_hand(asked)
        running = client.pipeline(asked)
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def outside():
            try:
                running.send(None)
            except StopIteration as stop:
                done.set_result(stop.value)
            except BaseException as error:  # noqa: BLE001 handed on
                done.set_exception(error)

        loop.call_soon(outside)
        response = await asyncio.wait_for(done, 5)
        assert response.whole
        assert providers[0].calls == 1


async def test_without_no_store_is_respected():
    client, providers = opened(DOWN, DOWN)
    async with client:
        for _ in range(2):
            answer = await client.chat("Hello?", model="small", cache=CacheDirectives(no_store=True))
            assert answer.text == "far"
            assert answer.call.cache_status == ['Penstock-Exact; fwd=bypass; detail="fallback-errors"']
    assert providers[2].calls == 2


async def test_what_another_model_was_asked_in_other_words_is_not_its_answer():
    models = [
        # What this one said may only be compared.
        {"name": "small", "targets": [{"provider": "near", "model": "n"}], "fallbacks": PLAN, "semantic": "shadow"},
        {"name": "big", "targets": [{"provider": "far", "model": "f"}]},
    ]
    cache = {"semantic": {"mode": "on", "max_error": 0.45, "audit": 0.000001}, "coalesce": False}
    client, _ = opened(["It is 330 metres high.", DOWN], cache=cache, models=models)
    async with client:
        await client.chat("How tall is the Eiffel Tower in Paris?", model="small")
        for _ in range(100):  # until it is known
            await asyncio.sleep(0)
        answer = await client.chat("how tall is the eiffel tower in paris", model="small")
        assert (answer.text, answer.provider, answer.call.semantic) == ("far", "far", "miss")
