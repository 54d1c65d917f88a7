"""Requests on the short way end as they do with a task: each is counted once, paid once, and leaves nothing behind."""

import asyncio

import msgspec
import pytest
from tests.lane.asking import asking, at_rest, config, settled, warm
from tests.lane.conftest import WHOLE

from penstock.client import AsyncClient
from penstock.core.errors import DeadlineExceeded, ProviderError
from penstock.testing import UpstreamServer, json_reply
from penstock.testing.faultd import faults

SLOW = msgspec.structs.replace(WHOLE, delay_s=0.3)
NEVER = msgspec.structs.replace(WHOLE, delay_s=600.0)


class Asked:
    """A request on the short way, and what became of it."""

    def __init__(self, client: AsyncClient, text: str, **fields):
        request = asking(client, text, **fields)
        self.call = request.call
        self.ended = asyncio.Event()
        self.response = self.error = None
        self.passage = client.pipeline.passage(request, self.done)
        self.passage.run()

    def done(self, response, error):
        assert not self.ended.is_set()
        self.response, self.error = response, error
        self.ended.set()

    async def body(self) -> bytes:
        await asyncio.wait_for(self.ended.wait(), 10)
        if self.error is not None:
            raise self.error
        return self.response.body


async def test_an_answer_is_counted_recorded_and_kept(client, upstream):
    asked = Asked(client, "one")
    assert b"Hello there." in await asked.body()
    assert [attempt.outcome for attempt in asked.call.attempts] == ["ok"]
    assert asked.call.cache == "miss"
    assert "stored" in asked.call.cache_status[0]
    again = Asked(client, "one")
    await again.body()
    assert again.call.cache == "hit"
    assert len(upstream.requests) == 2
    assert at_rest(client)


async def test_who_leaves_before_anything_was_done_leaves_nothing_behind(cold):
    asked = Asked(cold, "cold")  # there is no connection yet, so it waits
    asked.passage.cancel(asyncio.CancelledError())
    await settled(cold)
    assert not asked.ended.is_set()
    assert b"Hello there." in await Asked(cold, "cold").body()


async def test_who_leaves_in_the_middle_closes_the_call_and_pays_for_what_was_sent(client, upstream):
    upstream.says = lambda: NEVER
    asked = Asked(client, "left")
    await upstream.wait_for_requests(2)
    asked.passage.cancel(asyncio.CancelledError())
    assert at_rest(client)
    assert asked.call.attempts[0].outcome == "client_closed"
    assert asked.call.attempts[0].usage.input_tokens > 0
    await upstream.wait_for_close(0)
    upstream.says = lambda: WHOLE
    await Asked(client, "left").body()


async def test_others_who_wait_for_the_same_answer_get_it_when_the_first_leaves(client, upstream):
    upstream.says = lambda: SLOW
    first = Asked(client, "shared")
    others = [Asked(client, "shared") for _ in range(3)]
    await upstream.wait_for_requests(2)
    first.passage.cancel(asyncio.CancelledError())
    assert {await other.body() for other in others} == {WHOLE.body}
    await settled(client)
    assert len(upstream.requests) == 2
    assert first.call.attempts == []
    assert sorted(len(other.call.attempts) for other in others) == [0, 0, 1]


async def test_the_call_ends_when_all_have_left(client, upstream):
    upstream.says = lambda: NEVER
    asked = [Asked(client, "shared") for _ in range(3)]
    await upstream.wait_for_requests(2)
    for each in asked:
        each.passage.cancel(asyncio.CancelledError())
    await upstream.wait_for_close(0)
    await settled(client)


async def test_a_client_that_stays_hears_why_it_is_cut_off(client, upstream):
    upstream.says = lambda: NEVER
    asked = Asked(client, "cut off")
    asked.passage.cancel(asyncio.CancelledError("why"), tell=True)
    with pytest.raises(asyncio.CancelledError, match="why"):
        await asked.body()
    await settled(client)


async def test_a_failed_first_try_is_tried_again(client, upstream):
    replies = [json_reply({"error": {"message": "broken"}}, status=500), WHOLE]
    upstream.says = lambda: replies.pop(0)
    asked = Asked(client, "again")
    await asked.body()
    assert [attempt.outcome for attempt in asked.call.attempts] == ["upstream_error", "ok"]
    assert at_rest(client)


async def test_an_error_that_stays_is_the_answer(client, upstream):
    upstream.says = lambda: json_reply({"error": {"message": "broken"}}, status=500)
    asked = Asked(client, "broken")
    with pytest.raises(ProviderError, match="broken"):
        await asked.body()
    assert len(asked.call.attempts) > 1
    await settled(client)


async def test_the_next_target_answers_when_the_first_does_not(upstream):
    async with (
        UpstreamServer(lambda request: WHOLE) as second,
        AsyncClient(config(upstream.origin, second.origin)) as client,
    ):
        await warm(client)
        upstream.says = lambda: json_reply({"error": {"message": "no"}}, status=503)
        asked = Asked(client, "elsewhere")
        await asked.body()
        assert asked.call.served.provider == "p1"
        await settled(client)


async def test_a_late_answer_is_not_waited_for(client, upstream):
    upstream.says = lambda: NEVER
    asked = Asked(client, "late", timeout_s=0.2)
    with pytest.raises(DeadlineExceeded):
        await asked.body()
    assert [attempt.outcome for attempt in asked.call.attempts] == ["upstream_timeout"]
    assert asked.call.attempts[0].usage.input_tokens > 0
    assert at_rest(client)


async def test_a_compressed_answer_is_the_answer(client, upstream):
    upstream.says = lambda: faults.gzipped(WHOLE)
    assert await Asked(client, "gzip").body() == WHOLE.body


async def test_what_is_no_answer_is_an_error(client, upstream):
    upstream.says = lambda: faults.html()
    with pytest.raises(ProviderError, match="where JSON was expected"):
        await Asked(client, "html").body()
    await settled(client)
