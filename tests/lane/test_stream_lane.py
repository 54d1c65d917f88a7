"""Streams on the short way end as they do with a task, and a client that is behind is waited for, but not by others."""

import asyncio

import msgspec
import pytest
from tests.lane.asking import asking, config, settled, warm
from tests.lane.conftest import WHOLE

from penstock.caching.flight import MAX_KEPT_BYTES
from penstock.client import AsyncClient
from penstock.core.errors import DeadlineExceeded, ProviderError, Refused
from penstock.core.events import lines
from penstock.testing import answer, chunks, json_reply, sse_reply
from penstock.testing.faultd import faults
from penstock.testing.faultd.script import sse_frames

TEXT = "Seven words are enough for this answer."
STREAM = sse_reply(chunks(TEXT))
SLOW = sse_reply(chunks(TEXT), gap_s=0.05)
STALLED = faults.stalled(STREAM, after=400)


class Asked:
    """A stream on the short way, and what its client got of it."""

    def __init__(self, client: AsyncClient, text: str, *, reads: bool = True, **fields):
        request = asking(client, text, stream=True, **fields)
        self.call = request.call
        self.reads = reads
        self.behind = 0
        self.events = []
        self.heard, self.ended = asyncio.Event(), asyncio.Event()
        self.error = None
        self.passage = client.pipeline.stream_passage(request, self)
        self.passage.run()

    def say(self, batch) -> bool:
        assert not self.ended.is_set()
        self.events += batch
        self.heard.set()
        return self.reads

    def end(self, error) -> None:
        assert not self.ended.is_set()
        self.error = error
        self.ended.set()

    async def text(self) -> str:
        await asyncio.wait_for(self.ended.wait(), 10)
        if self.error is not None:
            raise self.error
        return "".join(event.data.decode() for event in self.events)


@pytest.fixture(autouse=True)
def streaming(client, upstream):
    """Those of a client that has had an answer already."""
    upstream.says = lambda: STREAM


async def test_a_stream_is_passed_on_counted_and_kept(client, upstream):
    asked = Asked(client, "one")
    await asked.text()
    assert lines(asked.events) == lines(chunks(TEXT))
    assert [attempt.outcome for attempt in asked.call.attempts] == ["ok"]
    assert asked.call.usage is not None
    await settled(client)
    again = Asked(client, "one")
    await again.text()
    assert again.call.cache == "hit"
    assert len(upstream.requests) == 2


async def test_a_first_stream_has_to_wait_for_its_connection_and_is_the_same(upstream, client):
    upstream.says = lambda: SLOW
    both = [Asked(client, "first"), Asked(client, "second")]  # there is one connection
    texts = [await asked.text() for asked in both]
    assert texts[0] == texts[1]
    await settled(client)


async def test_who_leaves_in_the_middle_closes_the_call_and_pays_for_what_came(client, upstream):
    upstream.says = lambda: STALLED
    asked = Asked(client, "left")
    await asked.heard.wait()
    asked.passage.cancel(asyncio.CancelledError())
    await settled(client)
    assert asked.call.attempts[0].outcome == "client_closed"
    assert asked.call.attempts[0].usage.output_tokens > 0
    await upstream.wait_for_close(0)


async def test_others_who_hear_the_same_stream_hear_its_end_when_the_first_leaves(client, upstream):
    upstream.says = lambda: SLOW
    first = Asked(client, "shared")
    others = [Asked(client, "shared") for _ in range(3)]
    await first.heard.wait()
    others.append(Asked(client, "shared"))  # hears from the beginning what was said before it came
    first.passage.cancel(asyncio.CancelledError())
    texts = {await other.text() for other in others}
    assert len(texts) == 1
    await settled(client)
    assert len(upstream.requests) == 2
    assert first.call.attempts == []
    assert sorted(len(other.call.attempts) for other in others) == [0, 0, 0, 1]


async def test_a_client_that_is_behind_is_waited_for(client, upstream):
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % (b"x" * 1000)
    upstream.says = lambda: faults.flood(event)
    asked = Asked(client, "slow", reads=False)
    await asked.heard.wait()
    await asyncio.sleep(0.2)
    came = len(asked.events)
    await asyncio.sleep(0.2)
    assert len(asked.events) == came
    asked.passage.resume()
    asked.heard.clear()
    await asyncio.wait_for(asked.heard.wait(), 10)
    asked.passage.cancel(asyncio.CancelledError())
    await settled(client)


async def test_a_client_that_is_behind_does_not_hold_up_others(client, upstream):
    upstream.says = lambda: sse_reply(chunks(TEXT), gap_s=0.02)
    slow = Asked(client, "shared", reads=False)
    await slow.heard.wait()
    quick = Asked(client, "shared")
    assert await quick.text() == await slow.text()
    await settled(client)


async def test_a_broken_stream_ends_with_its_error(client, upstream):
    upstream.says = lambda: sse_reply(chunks(TEXT)[:2], done=False)
    asked = Asked(client, "broken")
    with pytest.raises(ProviderError):
        await asked.text()
    assert asked.events
    assert asked.call.attempts[0].outcome == "upstream_incomplete"
    await settled(client)
    upstream.says = lambda: STREAM
    assert await Asked(client, "broken").text()


async def test_what_fails_before_the_first_event_is_tried_again(client, upstream):
    replies = [json_reply({"error": {"message": "broken"}}, status=500), json_reply(answer("whole")), STREAM]
    upstream.says = lambda: replies.pop(0)
    asked = Asked(client, "again")
    with pytest.raises(ProviderError, match="JSON where a stream was asked for"):
        await asked.text()
    asked = Asked(client, "again")
    await asked.text()
    await settled(client)


async def test_a_stream_that_is_late_ends(client, upstream):
    upstream.says = lambda: STALLED
    asked = Asked(client, "late", timeout_s=0.3)
    with pytest.raises(DeadlineExceeded):
        await asked.text()
    assert asked.events
    await settled(client)


async def test_a_compressed_stream_is_the_stream(client, upstream):
    upstream.says = lambda: faults.gzipped(STREAM)
    asked = Asked(client, "gzip")
    await asked.text()
    assert lines(asked.events) == lines(chunks(TEXT))


async def test_the_end_is_passed_on_when_the_connection_is_not_ended_with_it(client, upstream):
    upstream.says = lambda: faults.comments(0.05, before=sse_frames(chunks(TEXT)))
    assert await Asked(client, "tail").text()
    await upstream.wait_for_close(0)
    await settled(client)


async def test_what_the_provider_says_of_its_limits_with_a_stream_is_heeded(upstream):
    said = msgspec.structs.replace(STREAM, headers={**STREAM.headers, "x-ratelimit-remaining-requests": "0"})
    async with AsyncClient(config(upstream.origin, limits={"requests_per_minute": 600})) as client:
        upstream.says = lambda: WHOLE
        await warm(client)
        upstream.says = lambda: said
        await Asked(client, "one").text()
        assert not client.shared.doors.room("p0")


async def test_who_is_too_slow_for_the_others_is_cut_off_and_recorded_so(client, upstream):
    upstream.says = lambda: SLOW
    slow, quick = Asked(client, "shared", reads=False), Asked(client, "shared")
    slow.behind = MAX_KEPT_BYTES + 1
    with pytest.raises(Refused, match="too slowly"):
        await slow.text()
    assert await quick.text()
    await settled(client)
    page, _ = client.shared.metrics.exposition()
    assert (
        page.count(b'penstock_requests_total{cache="miss",model="m",operation="chat",outcome="client_too_slow"} 1.0')
        == 1
    )
