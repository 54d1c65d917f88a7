import asyncio
import json

import pytest

from penstock.core.errors import DeadlineExceeded, ProviderError
from penstock.core.response import Response
from penstock.core.usage import Usage
from penstock.testing import answer, chunks

EVENTS = chunks("one two three", usage=Usage(4, 5))
BODY = answer("one two three", usage=Usage(4, 5))


class Source:
    """A provider's stream: batches, then perhaps an error; knows that it was closed."""

    def __init__(self, batches, error=None, pause=None):
        self.batches = list(batches)
        self.error = error
        self.pause = pause
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.batches:
            return self.batches.pop(0)
        if self.pause is not None:
            await self.pause.wait()
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self):
        self.closed += 1


class Watching:
    def __init__(self, name, log):
        self.name = name
        self.log = log

    def on_events(self, batch, /):
        self.log.append((self.name, len(batch)))

    def on_end(self, response, error, /):
        self.log.append((self.name, error))


def live(*batches, **more):
    source = Source(batches, **more)
    return Response(source=source), source


def watched(response):
    log = []
    for name in ("inner", "outer"):
        response.observe(Watching(name, log))
    return log


async def test_a_stream_is_passed_on_and_its_end_is_told_innermost_first():
    response, source = live(EVENTS[:2], EVENTS[2:])
    log = watched(response)
    assert [batch async for batch in response] == [EVENTS[:2], EVENTS[2:]]
    rest = len(EVENTS) - 2
    assert log == [("inner", 2), ("outer", 2), ("inner", rest), ("outer", rest), ("inner", None), ("outer", None)]
    assert (response.usage, response.finish_reason) == (Usage(4, 5), "stop")
    await response.aclose()
    assert [batch async for batch in response] == []
    assert len(log) == 6
    assert source.closed == 0, "a source that ended closed itself"


async def test_usage_and_reason_are_known_before_observers_hear_of_the_end():
    response, _ = live(EVENTS)
    known = []

    class Curious(Watching):
        def on_end(self, response, error, /):
            known.append((response.usage, response.finish_reason))

    response.observe(Curious("c", []))
    await response.read()
    assert known == [(Usage(4, 5), "stop")]


async def test_closing_early_closes_the_source_first_and_tells_once():
    response, source = live(EVENTS[:1], EVENTS[1:])
    log = watched(response)
    await anext(aiter(response))
    await response.aclose()
    await response.aclose()
    assert source.closed == 1
    ends = log[2:]
    assert [name for name, _ in ends] == ["inner", "outer"]
    assert all(isinstance(error, asyncio.CancelledError) for _, error in ends)


async def test_closing_before_the_first_batch():
    response, source = live(EVENTS)
    log = watched(response)
    await response.aclose()
    assert source.closed == 1
    assert len(log) == 2
    with pytest.raises(StopAsyncIteration):
        await anext(response)


async def test_observers_are_told_even_if_closing_fails():
    class Stuck(Source):
        async def aclose(self):
            raise OSError("will not close")

    response = Response(source=Stuck([EVENTS]))
    log = watched(response)
    with pytest.raises(OSError, match="will not close"):
        await response.aclose()
    assert len(log) == 2


async def test_an_error_ends_the_stream_after_the_observers_saw_it():
    broken = ProviderError("broke", code="upstream_incomplete")
    response, source = live(EVENTS[:1], error=broken)
    log = watched(response)
    assert await anext(response) == EVENTS[:1]
    with pytest.raises(ProviderError) as caught:
        await anext(response)
    assert caught.value is broken
    assert log[2:] == [("inner", broken), ("outer", broken)]
    assert source.closed == 1


async def test_reading_a_stream_that_breaks_raises():
    response, _ = live(EVENTS[:3], error=ProviderError("broke"))
    with pytest.raises(ProviderError):
        await response.read()


async def test_cancelling_the_reader_closes_the_source():
    response, source = live(EVENTS[:1], pause=asyncio.Event())
    log = watched(response)
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert source.closed == 1
    assert [type(error) for _, error in log[2:]] == [asyncio.CancelledError] * 2


async def test_async_generators_are_closed_too():
    ended = []

    async def generate():
        try:
            for event in EVENTS:
                yield [event]
        finally:
            ended.append(True)

    response = Response(source=generate())
    await anext(response)
    await response.aclose()
    assert ended == [True]


async def test_a_deadline_ends_a_silent_stream():
    response, source = live(EVENTS[:1], pause=asyncio.Event())
    log = watched(response)
    response.expire_at(asyncio.get_running_loop().time() + 0.05)
    assert await anext(response) == EVENTS[:1]
    with pytest.raises(DeadlineExceeded):
        await anext(response)
    assert source.closed == 1
    assert [type(error) for _, error in log[2:]] == [DeadlineExceeded] * 2
    assert asyncio.current_task().cancelling() == 0


async def test_a_deadline_ends_a_stream_that_is_never_silent():
    async def forever():
        while True:
            await asyncio.sleep(0.001)
            yield EVENTS[:1]

    response = Response(source=forever())
    response.expire_at(asyncio.get_running_loop().time() + 0.05)
    with pytest.raises(DeadlineExceeded):
        async for _ in response:
            pass


async def test_a_deadline_that_passed_while_nobody_read():
    response, _ = live(EVENTS[:1], EVENTS[1:])
    response.expire_at(asyncio.get_running_loop().time() + 0.01)
    await anext(response)
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceeded):
        await anext(response)


async def test_a_deadline_does_not_disturb_a_stream_in_time_or_its_reader_afterwards():
    response, _ = live(EVENTS[:1], EVENTS[1:])
    response.expire_at(asyncio.get_running_loop().time() + 0.05)
    assert json.loads(await response.read())["choices"][0]["message"]["content"] == "one two three"
    await asyncio.sleep(0.1)


async def test_cancellation_is_not_taken_for_the_deadline():
    response, _ = live(EVENTS[:1], pause=asyncio.Event())
    response.expire_at(asyncio.get_running_loop().time() + 60)
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_whole_answers_end_at_once_and_can_be_read_again_and_again():
    response = Response(body=BODY, usage=Usage(4, 5), finish_reason="stop")
    log = watched(response)
    assert log == [("inner", None), ("outer", None)]
    assert response.whole
    assert await response.read() == await response.read() == BODY
    assert [batch async for batch in response] == [batch async for batch in response] == [response.all_events()]
    response.expire_at(0.0)
    await response.aclose()
    assert await response.read() == BODY
    assert len(log) == 2


async def test_whole_events_are_read_as_an_answer():
    response = Response(events=EVENTS)
    assert response.whole
    assert json.loads(await response.read()) == json.loads(BODY)


async def test_a_live_stream_has_no_events_to_show():
    response, _ = live(EVENTS)
    assert not response.whole
    with pytest.raises(RuntimeError, match="live stream"):
        response.all_events()
    await response.aclose()
