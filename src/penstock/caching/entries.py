"""The exact cache's memory: an index of all entries, and the answers themselves as far as they fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import msgspec

from penstock.abc import StoredAnswer
from penstock.caching.eviction import GreedyDual, Slot, regeneration_cost
from penstock.core.events import Batch, lines
from penstock.core.money import to_usd
from penstock.core.usage import Usage

_BODY_OVERHEAD, _EVENT_OVERHEAD = 100, 150
"""Bytes of the objects around a body and around each chunk."""
_KEPT_STALE_S = 86_400.0
"""How long past its freshness an entry is kept in case a client asks for `stale-if-error`."""


class Entry(msgspec.Struct, eq=False, gc=False):
    """What is known of one cached answer.

    Attributes:
        key: SHA-256 of what was asked.
        tenant: Whose it is.
        stored_at: Seconds since the epoch.
        fresh_until: Seconds since the epoch.
        cost: Regeneration cost, see `eviction`.
        saved_usd: What a hit saves; None when the price is unknown.
        usage: Tokens the answer took.
        finish_reason: Why it ended.
        model: The model name it was asked of.
        tags: Labels of the request it answered.
        body: The answer as JSON, if it is in memory in this form.
        events: Its chunks, if they are in memory; treat as immutable.
        listed: Its place in the index, while it is there.
        held: Its place in memory, while the answer is there.
    """

    key: bytes
    tenant: str
    stored_at: float
    fresh_until: float
    cost: int
    saved_usd: Decimal | None
    usage: Usage | None
    finish_reason: str | None
    model: str
    tags: tuple[str, ...]
    body: bytes | None = None
    events: Batch | None = None
    listed: Slot | None = None
    held: Slot | None = None

    @classmethod
    def of(cls, answer: StoredAnswer, usage: Usage | None = None) -> Entry:
        """Make that of `answer`, without its data; `usage` is given when more is known of it than `answer` can say."""
        cost_pusd, tokens_in, tokens_out = answer.cost_pusd, answer.input_tokens, answer.output_tokens
        if usage is None and (tokens_in or tokens_out):
            usage = Usage(tokens_in, tokens_out)
        return cls(
            answer.key,
            answer.tenant,
            answer.stored_at,
            answer.fresh_until,
            cost_pusd or regeneration_cost(0, tokens_in, tokens_out),
            to_usd(cost_pusd) if cost_pusd else None,
            usage,
            answer.finish_reason,
            answer.model,
            answer.tags,
        )

    def touch(self) -> None:
        """It was asked for."""
        if self.listed is not None:
            self.listed.touch()
        if self.held is not None:
            self.held.touch()


class Entries:
    """Bounded by number of entries, and by the bytes of the answers held in memory; each has its own `GreedyDual`.

    Attributes:
        kept_stale_s: How long stale entries can be of use; they are kept for a day at least.
    """

    def __init__(self, max_entries: int, max_memory_bytes: int, *, kept_stale_s: float = 0.0) -> None:
        # A dict looks for its first entry among the places of those that have left.
        self._by_key: OrderedDict[bytes, Entry] = OrderedDict()
        self._list = GreedyDual(max_entries, max_entries)
        self._memory = GreedyDual(max_entries, max_memory_bytes)
        self._max_memory_bytes = max_memory_bytes
        self.kept_stale_s = kept_stale_s
        self.find = self._by_key.get

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_key.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of the answers in memory."""
        return self._memory.size

    def put(self, entry: Entry) -> Sequence[bytes]:
        """List `entry`, replacing one of the same key; returns the keys that had to leave."""
        key = entry.key
        if key in self._by_key:
            self.remove(key)
        gone = self._list.make_room(1)
        for other in gone:
            self._forget(self._by_key.pop(other))
        entry.listed = self._list.add(key, 1, entry.cost)
        self._by_key[key] = entry
        return gone

    def hold(self, entry: Entry, body: bytes | None, events: Batch | None, lines_bytes: int | None = None) -> None:
        """Keep `entry`'s answer in memory, in one form or both, unless it is too large or no longer listed.

        `lines_bytes` is what its chunks take, one a line, if that is known.
        """
        size = len(body) + _BODY_OVERHEAD if body is not None else 0
        if events is not None:
            if lines_bytes is None:
                lines_bytes = len(lines(events))
            size += lines_bytes + 1 + len(events) * (_EVENT_OVERHEAD - 1)
        if entry.listed is None or size > self._max_memory_bytes:
            return
        memory = self._memory
        if entry.held is not None:
            memory.remove(entry.held)
        for key in memory.make_room(size):
            loser = self._by_key[key]
            loser.held = loser.body = loser.events = None
        if body is not entry.body:
            entry.body = body
        if events is not entry.events:
            entry.events = events
        entry.held = memory.add(entry.key, size, entry.cost)

    def remove(self, key: bytes) -> bool:
        """Forget an entry; False when there is none."""
        entry = self._by_key.pop(key, None)
        if entry is None:
            return False
        if entry.listed is not None:
            self._list.remove(entry.listed)
        self._forget(entry)
        return True

    def clear(self, where: Callable[[Entry], bool] | None = None) -> list[bytes]:
        """Forget all entries, or those of which `where` says so; returns their keys."""
        keys = [entry.key for entry in self if where is None or where(entry)]
        for key in keys:
            self.remove(key)
        return keys

    def outdated(self, entry: Entry, now: float) -> bool:
        """Nobody can be given `entry` any more."""
        return now >= entry.fresh_until + max(self.kept_stale_s, _KEPT_STALE_S)

    def expire(self, now: float) -> list[bytes]:
        """Forget outdated entries at the old end; returns their keys. Costs nothing when there are none."""
        gone: list[bytes] = []
        for oldest in self._by_key.values():
            if now < oldest.fresh_until + _KEPT_STALE_S or not self.outdated(oldest, now):
                break
            gone.append(oldest.key)
        for key in gone:
            self.remove(key)
        return gone

    def _forget(self, entry: Entry) -> None:
        entry.listed = None
        if entry.held is not None:
            self._memory.remove(entry.held)
            entry.held = entry.body = entry.events = None
