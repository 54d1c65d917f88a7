import asyncio
import itertools
import threading
from decimal import Decimal

import pytest

from penstock import (
    AsyncClient,
    CacheDirectives,
    Client,
    ConfigError,
    DeadlineExceeded,
    InvalidRequest,
    NotCached,
    ProviderError,
    Usage,
)
from penstock.config.loader import load_mapping
from penstock.testing import FakeClock, Reply, ScriptedProvider

MEMORY = {"store": {"url": "memory:"}, "retry": {"attempts": 1}}
SCRIPTED = {
    **MEMORY,
    "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [{"name": "fast", "targets": [{"provider": "near", "model": "m"}]}],
}
SIMULATED = {**MEMORY, "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}]}


def scripted(script="Hello.", **more):
    provider = ScriptedProvider("near", script)
    return provider, AsyncClient(SCRIPTED, providers={"near": provider}, **more)


def settings(**changes):
    return load_mapping({**SCRIPTED, **changes})


async def test_chat_and_its_repetition():
    provider, client = scripted(Reply(text="Because.", usage=Usage(7, 2)))
    async with client:
        first = await client.chat("Why?", model="fast", temperature=0)
        second = await client.chat([{"role": "user", "content": "Why?"}], model="fast", temperature=0)
    assert (first.text, first.finish_reason, first.provider, first.usage) == ("Because.", "stop", "near", Usage(7, 2))
    assert (first.cached, first.cost_usd, first.cost_source) == (False, None, "unknown")
    assert (second.text, second.cached, second.cost_usd, second.provider) == ("Because.", True, Decimal(0), None)
    assert provider.calls == 1
    assert provider.requests[0].payload == {"messages": [{"role": "user", "content": "Why?"}], "temperature": 0}
    assert first.id != second.id


async def test_a_stream_comes_in_pieces_and_is_cached_whole():
    provider, client = scripted("one two three")
    async with client:
        pieces = [piece async for piece in await client.chat("Count.", model="fast", stream=True)]
        again = await client.chat("Count.", model="fast")
    assert "".join(piece.text for piece in pieces) == "one two three"
    assert len([piece for piece in pieces if piece.text]) == 3
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["stop"]
    assert pieces[-1].usage is not None
    assert (again.cached, again.text) == (True, "one two three")
    assert provider.calls == 1


async def test_stream_options_reach_the_provider():
    provider, client = scripted()
    async with client:
        options = {"include_usage": True, "chunk_size": 5}
        async for _ in await client.chat("Go.", model="fast", stream=True, stream_options=options):
            pass
    assert provider.requests[0].stream_options == {"chunk_size": 5}


async def test_closing_a_stream_early_closes_the_upstream():
    provider, client = scripted(Reply(text="one two three", gates={2: asyncio.Event()}))
    async with client:
        pieces = await client.chat("Count.", model="fast", stream=True)
        assert (await anext(pieces)).json["choices"][0]["delta"]["role"] == "assistant"
        await pieces.aclose()
        async with asyncio.timeout(5):
            await provider.wait_for_endings(1)
        assert provider.endings == ["closed"]
        await asyncio.wait_for(client.pipeline.idle(), 5)


async def test_embeddings_are_in_the_order_of_the_texts():
    async with AsyncClient(SIMULATED) as client:
        both = await client.embeddings(["one", "two"], model="any")
        one = await client.embeddings("one", model="any")
        assert len(both.vectors) == 2
        assert both.vectors[0] == one.vectors[0] != both.vectors[1]
        with pytest.raises(InvalidRequest, match="cannot be streamed"):
            await client.embeddings("one", model="any", stream=True)


async def test_models():
    _, client = scripted()
    assert [model.id for model in await client.models()] == ["fast", "near/scripted"]
    await client.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_providers_error_is_raised_before_anything_is_returned(stream):
    _, client = scripted(ProviderError("no such thing", status_code=400, code="invalid_value", elsewhere=False))
    async with client:
        with pytest.raises(ProviderError) as caught:
            await client.chat("Hello?", model="fast", stream=stream)
    assert (caught.value.code, caught.value.status_code) == ("invalid_value", 400)


async def test_a_stream_that_breaks_raises_after_its_pieces():
    broken = Reply(text="one two three", error=ProviderError("gone", code="upstream_incomplete"), fail_after=2)
    _, client = scripted(broken)
    async with client:
        pieces = await client.chat("Count.", model="fast", stream=True)
        assert [(await anext(pieces)).text for _ in range(2)] == ["", "one "]
        with pytest.raises(ProviderError):
            await anext(pieces)


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"temperature": object()}, "invalid_type", None),
        ({"user": "\ud800"}, "invalid_type", None),
        ({"cache": {"ttl": 5}}, "invalid_type", "cache"),
        ({"store": True}, "invalid_value", "store"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
    ],
)
async def test_options_that_cannot_be_sent_are_the_callers_fault(options, code, param):
    provider, client = scripted()
    async with client:
        with pytest.raises(InvalidRequest) as caught:
            await client.chat("Hello?", model="fast", **options)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert provider.calls == 0


async def test_unknown_models_and_empty_conversations():
    _, client = scripted()
    async with client:
        with pytest.raises(InvalidRequest, match="Did you mean 'fast'"):
            await client.chat("Hello?", model="fats")
        with pytest.raises(InvalidRequest, match="empty"):
            await client.chat([], model="fast")


async def test_penstocks_own_options():
    provider, client = scripted()
    async with client:
        with pytest.raises(NotCached):
            await client.chat("Hello?", model="fast", cache=CacheDirectives(only_if_cached=True))
        for _ in range(2):
            fresh = await client.chat("Hello?", model="fast", cache=CacheDirectives(no_store=True), tags=["a", "b"])
            assert not fresh.cached
    assert provider.calls == 2
    assert provider.requests[0].tags == ("a", "b")
    assert "tags" not in provider.requests[0].payload


async def test_a_request_that_takes_too_long():
    provider, client = scripted(Reply(gate=asyncio.Event()))
    async with client:
        with pytest.raises(DeadlineExceeded):
            await client.chat("Hello?", model="fast", timeout_s=0.05)
    assert provider.endings == ["closed"]


async def test_tenants_share_nothing():
    provider, client = scripted(tenant="a")
    async with client:
        cached = [(await client.chat("Hi", model="fast", tenant=tenant)).cached for tenant in (None, "b", "a", "b")]
    assert cached == [False, False, True, True]
    assert [request.tenant for request in provider.requests] == ["a", "b"]


async def test_reload_lets_running_requests_end_with_the_old_configuration():
    gate = asyncio.Event()
    provider, client = scripted([Reply(text="old", gates={1: gate}), "new"])
    async with client:
        old = client.pipeline
        pieces = await client.chat("Run.", model="fast", stream=True)
        await client.reload(settings(models=[{"name": "quick", "targets": [{"provider": "near", "model": "n"}]}]))
        assert client.pipeline is not old
        assert client.settings.models[0].name == "quick"
        assert (await client.chat("Hello?", model="quick")).text == "new"
        with pytest.raises(InvalidRequest):
            await client.chat("Hello?", model="fast")
        assert old.running == 1
        gate.set()
        assert "".join([piece.text async for piece in pieces]) == "old"
        await asyncio.wait_for(old.idle(), 5)
        assert not provider.closed, "the new configuration still uses it"
    assert provider.closed


async def test_a_reload_keeps_the_cache():
    provider, client = scripted()
    async with client:
        await client.chat("Hello?", model="fast")
        await client.reload(settings(timeout_s=5))
        assert (await client.chat("Hello?", model="fast")).cached
    assert provider.calls == 1


async def test_a_reload_that_cannot_be_used_changes_nothing(tmp_path):
    provider, client = scripted()
    async with client:
        before = client.pipeline
        with pytest.raises(ConfigError, match="restart"):
            await client.reload(settings(store={"url": f"sqlite:///{tmp_path}/other.db"}))
        missing = {"name": "far", "kind": "openai-compatible", "base_url": "https://127.0.0.1:9/v1"}
        rules = {"rules": [{"name": "slow", "metric": "response_s", "threshold": 2}], "built_in": False}
        with pytest.raises(ConfigError):
            await client.reload(
                settings(
                    providers=[*SCRIPTED["providers"], {**missing, "ca_file": str(tmp_path / "none.pem")}],
                    alerts=rules,
                )
            )
        assert "slow" not in {alert.rule for alert in client.monitor.alerts()}
        assert client.pipeline is before
        await client.reload(settings(alerts=rules))
        assert [alert.rule for alert in client.monitor.alerts()] == ["slow"]
        before = client.pipeline
        with pytest.raises(ConfigError, match="lasts"):
            await client.reload(settings(reports=[{"name": "daily", "every": "day", "sinks": ["log"]}],
                                         sinks=[{"name": "log", "kind": "log"}]))  # fmt: skip
        assert client.pipeline is before
        unreadable = {"mode": "on", "embedder": {"kind": "onnx", "path": str(tmp_path)}}
        with pytest.raises(ConfigError):
            await client.reload(settings(cache={"exact": {"ttl_s": 0}, "semantic": unreadable}))
        assert [(await client.chat("Still?", model="fast")).cached for _ in range(2)] == [False, True]
        assert not provider.closed
        assert (await client.chat("Hello?", model="fast")).text == "Hello."


async def test_closing_ends_an_old_configuration_that_is_still_busy():
    provider, client = scripted(Reply(text="one two", gates={1: asyncio.Event()}))
    await client.open()
    pieces = await client.chat("Run.", model="fast", stream=True)
    await client.reload(settings(timeout_s=5))
    await asyncio.wait_for(client.aclose(), 5)
    assert provider.closed
    await pieces.aclose()


async def test_the_first_request_opens_the_client_once():
    provider, client = scripted()
    with pytest.raises(RuntimeError, match="not open"):
        _ = client.pipeline
    answers = await asyncio.gather(*(client.chat("Hello?", model="fast") for _ in range(5)))
    assert {answer.text for answer in answers} == {"Hello."}
    assert provider.calls == 1
    assert await client.open() is client
    await client.aclose()
    await client.aclose()


async def test_what_was_recorded_is_on_disk_after_closing(tmp_path):
    config = {**SIMULATED, "store": {"url": f"sqlite:///{tmp_path}/penstock.db"}}
    async with AsyncClient(config) as client:
        assert not (await client.chat("Hello?", model="any")).cached
    async with AsyncClient(config) as client:
        assert (await client.chat("Hello?", model="any")).cached


async def test_poll_waits_at_the_configured_intervals():
    clock = FakeClock()
    client = AsyncClient({**SIMULATED, "polling": {"min_s": 1, "max_s": 4, "backoff": 2}}, clock=clock)
    seen = []

    async def fetch():
        seen.append(clock.monotonic())
        return len(seen)

    async with client:
        polling = asyncio.create_task(client.poll(fetch, lambda count: count == 4))
        for _ in range(40):
            await clock.run(0.5)
        assert await polling == 4
        waits = [later - earlier for earlier, later in itertools.pairwise(seen)]
        assert all(wait <= 4.5 for wait in waits)
        late = asyncio.create_task(client.poll(fetch, lambda _: False, timeout_s=10))
        for _ in range(40):
            await clock.run(0.5)
        with pytest.raises(DeadlineExceeded):
            await late


def test_the_blocking_face():
    with Client(SIMULATED) as client:
        first, second = (client.chat("Why?", model="any") for _ in range(2))
        assert (first.text, first.cached, second.cached) == (second.text, False, True)
        pieces = list(client.chat("Tell me.", model="any", stream=True))
        assert "".join(piece.text for piece in pieces)
        assert len(client.embeddings(["one", "two"], model="any").vectors) == 2
        assert client.models()
        counted = iter(range(9))
        with pytest.raises(InvalidRequest):
            client.chat("Why?", model="")
    with Client({**SIMULATED, "polling": {"min_s": 0.01, "max_s": 0.02}}) as client:
        assert client.poll(lambda: next(counted), lambda count: count == 3) == 3
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.chat("Why?", model="any")
    client.close()


def test_the_blocking_face_closes_streams_early():
    provider = ScriptedProvider("near", Reply(text="one two three", gates={2: asyncio.Event()}))
    with Client(SCRIPTED, providers={"near": provider}) as client:
        pieces = client.chat("Count.", model="fast", stream=True)
        assert next(pieces).text == ""
        pieces.close()
        assert provider.endings == ["closed"]


def test_the_blocking_face_serves_threads():
    with Client(SIMULATED) as client:
        texts = []
        threads = [
            threading.Thread(target=lambda n=number: texts.append(client.chat(f"Question {n}", model="any").text))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(texts) == 8


def clients():
    """The threads of blocking clients; those that load price lists end when they are done."""
    return [thread for thread in threading.enumerate() if thread.name == "penstock"]


@pytest.mark.parametrize("make", [AsyncClient, Client])
def test_a_configuration_that_cannot_be_used_starts_nothing(make):
    with pytest.raises(ConfigError, match="did you mean 'models'"):
        make({"modles": []})
    assert clients() == []


def test_a_store_that_cannot_be_opened_leaves_no_thread(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(Exception, match="taken"):
        Client({**SIMULATED, "store": {"url": f"sqlite:///{tmp_path}/taken"}})
    assert clients() == []


async def test_priority_in_the_queue_of_a_provider():
    held = asyncio.Event()
    provider = ScriptedProvider("near", [Reply(gate=held), "Hello."])
    near = {**SCRIPTED["providers"][0], "limits": {"max_concurrency": 1}}
    async with AsyncClient({**SCRIPTED, "providers": [near]}, providers={"near": provider}) as client:
        tasks = [asyncio.create_task(client.chat("first", model="fast"))]
        await provider.wait_for_calls(1)
        for queued, priority in enumerate(("low", "normal", "high"), 1):
            tasks.append(asyncio.create_task(client.chat(priority, model="fast", priority=priority)))
            for _ in range(1000):
                if next(client.shared.doors.states()).queued == queued:
                    break
                await asyncio.sleep(0)
        held.set()
        await asyncio.gather(*tasks)
    assert [each.payload["messages"][0]["content"] for each in provider.requests] == ["first", "high", "normal", "low"]


async def test_statistics_count_calls_and_looks():
    clock = FakeClock()
    async with AsyncClient(SIMULATED, clock=clock) as client:
        for _ in range(2):
            asking = asyncio.create_task(client.chat("Why?", model="fast"))
            while not asking.done():
                await clock.run(1)
        looks = iter([False, False, True])

        async def fetch():
            return next(looks)

        waiting = asyncio.create_task(client.poll(fetch, bool))
        while not waiting.done():
            await clock.run(1)
        found = await client.reset_statistics()
        assert (found.since_start.calls, found.since_start.hits, found.since_start.calls_saved) == (2, 1, 1)
        assert (found.polling.waits, found.polling.looks) == (1, 3)
        assert found.polling.looks_saved > 10
        assert 0.9 < found.polling.efficiency < 1
        again = await client.statistics()
        assert (again.since_start.calls, again.since_reset.calls, again.polling.looks) == (2, 0, 0)


async def test_frequent_questions_are_taken_in_at_the_start(tmp_path, caplog):
    (tmp_path / "faq.jsonl").write_text(
        '{"question": "Where?", "model": "fast", "answer": "Here."}\n\n{"question": "When?", "model": "fast"}\nnonsense'
    )
    config = {
        "models": [{"name": "fast", "targets": [{"provider": "simulated", "model": "sim"}]}],
        "store": {"url": "memory:"},
        "cache": {"warm": [{"file": str(tmp_path / "faq.jsonl"), "tenant": "acme/shop"}]},
    }
    caplog.set_level("INFO", "penstock.cache")
    async with AsyncClient(config) as client:
        for _ in range(1000):
            if "1 seeded" in caplog.text:
                break
            await asyncio.sleep(0.01)
        assert "1 asked, 1 failed, 1 seeded" in caplog.text
        assert "question 3 is not taken in" in caplog.text
        assert "Here." not in caplog.text
        found = await client.chat("Where?", model="fast", tenant="acme/shop")
        assert (found.text, found.call.cache) == ("Here.", "hit")
        assert (await client.chat("When?", model="fast", tenant="acme/shop")).call.cache == "hit"
        assert (await client.chat("Where?", model="fast")).call.cache == "miss"


async def test_a_list_of_questions_that_cannot_be_read_is_an_error():
    config = {
        "models": [{"name": "fast", "targets": [{"provider": "simulated", "model": "sim"}]}],
        "store": {"url": "memory:"},
        "cache": {"warm": [{"file": "/nowhere/faq.jsonl"}]},
    }
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        await AsyncClient(config).open()
    assert caught.value.key == "cache.warm[0].file"
