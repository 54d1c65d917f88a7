import asyncio

import msgspec
import pytest

from penstock.answers import Chunk
from penstock.core.call import Call
from penstock.core.canonical import assemble
from penstock.core.errors import ProviderError
from penstock.core.request import Request
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.testing import Reply, ScriptedProvider, answer, check_provider, chunks

TARGET = Target("p", "m")
DOWN = ProviderError("down", status_code=503, retryable=True)


def ask(*, stream=False):
    return Request("chat", "m", {"messages": []}, Call("x"), stream=stream)


def text_of(body):
    return msgspec.json.decode(body)["choices"][0]["message"]["content"]


def test_chunks_make_the_same_answer():
    whole = msgspec.json.decode(answer("Good day to you.", usage=Usage(3, 4), model="m"))
    events = chunks("Good day to you.", usage=Usage(3, 4), model="m")
    assert msgspec.json.decode(assemble(events)) == whole
    assert len([event for event in events if Chunk(event).text]) >= 4
    assert events[-1].bare_usage


def test_chunks_are_cut_as_asked():
    events = chunks("Good day", ["Go", "od day"], finish_reason=None, bare_usage=False)
    assert len(events) == 3
    assert text_of(assemble(events)) == "Good day"
    with pytest.raises(ValueError, match="the pieces make"):
        chunks("Good day", ["Good"])


async def test_the_script_is_followed_and_its_last_step_repeated():
    provider = ScriptedProvider("p", ["One.", DOWN, Reply(text="Three.", finish_reason="length")])
    assert text_of(await (await provider.send(ask(), TARGET)).read()) == "One."
    with pytest.raises(ProviderError, match="down"):
        await provider.send(ask(stream=True), TARGET)
    for _ in range(2):
        response = await provider.send(ask(stream=True), TARGET)
        assert text_of(await response.read()) == "Three."
        assert response.finish_reason == "length"
    assert provider.calls == 4
    assert provider.targets == [TARGET] * 4
    assert [request.stream for request in provider.requests] == [False, True, True, True]
    assert provider.endings == ["finished", "failed", "finished", "finished"]


async def test_it_keeps_the_promises_of_a_provider():
    provider = ScriptedProvider("p", "Danube, Rhine and Elbe.")
    await check_provider(provider, "scripted")
    assert provider.closed


async def test_how_a_stream_ended_is_noted():
    provider = ScriptedProvider("p", [Reply(), Reply(), Reply(error=DOWN, fail_after=2)])
    for read in (0, 1):
        response = await provider.send(ask(stream=True), TARGET)
        for _ in range(read):
            await anext(response)
        assert provider.endings[-1] is None
        await response.aclose()
        assert provider.endings[-1] == "closed"
    response = await provider.send(ask(stream=True), TARGET)
    assert len([await anext(response) for _ in range(2)]) == 2
    with pytest.raises(ProviderError):
        await anext(response)
    assert provider.endings[-1] == "failed"


async def test_gates_hold_an_answer_back():
    start, middle = asyncio.Event(), asyncio.Event()
    provider = ScriptedProvider("p", Reply(text="a b", gate=start, gates={2: middle}))
    sending = asyncio.create_task(provider.send(ask(stream=True), TARGET))
    await provider.wait_for_calls(1)
    assert not sending.done()
    start.set()
    response = await sending
    seen = []

    async def read():
        async for batch in response:
            seen.append(batch)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    assert len(seen) == 2
    middle.set()
    await provider.wait_for_endings(1)
    await reading
    assert len(seen) == 5


async def test_a_cancelled_request_is_closed():
    provider = ScriptedProvider("p", Reply(gate=asyncio.Event()))
    sending = asyncio.create_task(provider.send(ask(), TARGET))
    await provider.wait_for_calls(1)
    sending.cancel()
    await provider.wait_for_endings(1)
    assert provider.endings == ["closed"]
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_stream_can_be_whole_and_an_answer_be_given_as_bytes():
    provider = ScriptedProvider("p", [Reply(whole=True), Reply(body=b'{"object":"list","data":[]}')])
    response = await provider.send(ask(stream=True), TARGET)
    assert response.whole
    assert text_of(await response.read()) == "Hello."
    assert await (await provider.send(ask(), TARGET)).read() == b'{"object":"list","data":[]}'


def test_a_script_is_not_empty():
    with pytest.raises(ValueError, match="at least one step"):
        ScriptedProvider("p", [])
