"""What keeps an answer for those who will ask the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.abc import StoredAnswer
from penstock.caching.at_rest import cost_pusd, write_answer
from penstock.caching.entries import Entry
from penstock.caching.freshness import lifetime_s
from penstock.caching.key import cache_key
from penstock.core.call import CASCADE
from penstock.core.events import BETWEEN, Batch
from penstock.core.request import Request
from penstock.core.response import Response

if TYPE_CHECKING:
    from penstock.caching.answer_cache import AnswerCache


class Keeper(msgspec.Struct, eq=False):
    """Collects an answer on its way to the client, and stores it when it is complete.

    Attributes:
        answers: Where it is stored.
        request: What was asked.
        seen: The entry there was then.
        clears: How often the cache had been cleared then.
        room: Bytes of events there is still room for.
        events: What came so far, unless it is too large.
        stored: It was stored.
    """

    answers: AnswerCache
    request: Request
    seen: Entry | None
    clears: int
    room: int
    events: Batch = []
    stored: bool = False

    def on_events(self, batch: Batch, /) -> None:
        """Collect them."""
        room = self.room
        if room >= 0:
            for event in batch:
                room -= len(event.data) - (event.chunks - 1) * len(BETWEEN)
            self.room = room
            self.events += batch
            if room < 0:
                self.events = []

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        """Store a complete answer."""
        if error is None:
            self.stored = self.keep(response)

    def keep(self, response: Response) -> bool:
        """Store a complete answer if it may be; False when it may not, or somebody else did since it was asked for."""
        request, answers = self.request, self.answers
        call, route = request.call, request.route
        # A guess about these words, which nobody has verified; or not the answer that the next one may get.
        if call.cache == "semantic" or CASCADE in call.degraded:
            return False
        key = call.key or cache_key(request)
        known = answers.find(key)
        if self.clears != answers.clears or (known is not None and known is not self.seen):
            return False
        ttl = lifetime_s(request.cache, None if route is None else route.cache_ttl_s, answers.ttl_s)
        written = write_answer(response, self.events, answers.limits) if ttl > 0 else None
        if written is None:
            return False
        form, data = written
        usage = response.usage or call.usage
        tokens_in, tokens_out = (0, 0) if usage is None else (usage.input_tokens, usage.output_tokens)
        now, reason = answers.clock.wall(), response.finish_reason
        # One after the other, for names would take as long as all the rest.
        answer = StoredAnswer(
            key, request.tenant, form, data, now, now + ttl, cost_pusd(call), tokens_in, tokens_out, reason,
            request.model, request.tags,
        )  # fmt: skip
        body = response.body
        events = (response.events or self.events) if body is None else None
        call.answer_bytes = size = len(data)
        answers.store.put(answer)
        answers.take_in(Entry.of(answer, usage), body, events, now, size)
        answers.stats.stored += 1
        return True
