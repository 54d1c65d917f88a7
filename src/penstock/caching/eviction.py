"""What leaves a full cache first: what is worth the least per unit of the room it takes.

An entry's worth is its regeneration cost × uses^1.25 ÷ size, and it ages by the rule of GreedyDual (Young, Algorithmica
1994; with sizes Cao and Irani, USITS 1997; with uses Cherkasova, HP Labs 1998): it is good until the *level* it came at
plus its worth; the one that is good for the shortest leaves, and the level rises to what that one was good until. So
the level is the going rate for room, what nobody asks for is overtaken by it however dear it was, and no unit has to be
chosen.

Three things make that constant time, and safe from scans. Worths are rounded to powers of two, each with a queue; since
the level only rises, a queue's head is what leaves it first, and there are some twenty heads (as in CAMP,
Ghandeharizadeh et al., Middleware 2014). Being asked for only counts a use; an entry at the head that was asked for
since it was queued is queued anew, then. And the uses of what has left are kept in a table of one byte each, found by a
checksum of the key and halved every so often, so that what comes back again and again is known for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from zlib import crc32

_EXPONENT = 1.25
"""Of uses. 1 is best where what is asked for changes quickly, 2 where it never does; see decision 21."""
_MOST_USES = 255
_ROOM = 16
"""Bytes of the table for each entry."""
_MEMORY = 5
"""The uses of what has left are halved each time so many times the number of entries has left."""
_NOTHING = 1e-9

_INPUT_TOKEN_PUSD = 1_000_000
_OUTPUT_TOKEN_PUSD = 4_000_000

_BY_USES = [0.0, *(_EXPONENT * log2(uses) for uses in range(1, _MOST_USES + 1))]
_HALVES = bytes(uses >> 1 for uses in range(256))


def regeneration_cost(cost_pusd: int, input_tokens: int, output_tokens: int) -> int:
    """What asking again would cost, in picodollars.

    An answer without a price is compared by its tokens at 1 and 4 USD per million, the usual ratio of hosted models;
    one of a free local model so still has the worth of the time it took.
    """
    return cost_pusd or input_tokens * _INPUT_TOKEN_PUSD + output_tokens * _OUTPUT_TOKEN_PUSD


class Slot:
    """An entry's place in a `GreedyDual`, which makes it.

    Attributes:
        key: The entry's key.
        size: What it takes of the cache's `max_size`.
        density: Logarithm to base 2 of its cost per unit of size.
        uses: How often it was asked for, the first time included, 255 at most.
    """

    __slots__ = ("density", "good_until", "key", "newer", "older", "queue", "queued_uses", "size", "uses")

    # Without a constructor, which would take longer than all the rest of `GreedyDual.add`.
    key: bytes
    size: int
    density: float
    uses: int
    queued_uses: int
    good_until: float
    queue: int
    newer: Slot
    older: Slot

    def touch(self) -> None:
        """It was asked for."""
        if self.uses < _MOST_USES:
            self.uses += 1


class GreedyDual:
    """Slots, bounded in number and in total size.

    Attributes:
        size: Total size of all slots.
    """

    def __init__(self, max_count: int, max_size: int) -> None:
        self.size = 0
        self._max_count = max_count
        self._max_size = max_size
        self._count = 0
        self._level = 0.0
        # By rounded worth, a ring: what is filed here stands between the newest (its `older`) and the oldest. Its
        # `good_until` is that worth.
        self._queues: dict[int, Slot] = {}
        self._left = bytearray(64)
        self._left_room = 64 // _ROOM
        self._left_since = 0

    def __len__(self) -> int:
        return self._count

    def make_room(self, size: int) -> Sequence[bytes]:
        """Evict until one more of `size` fits; returns the keys that left.

        Call it before `add`, so that the new entry is not weighed against those it replaces. A `size` above the
        maximum can never fit: do not ask for it.
        """
        if self._count < self._max_count and self.size + size <= self._max_size:
            return ()
        gone: list[bytes] = []
        while self._count and (self._count >= self._max_count or self.size + size > self._max_size):
            victim = self._next_victim()
            self.remove(victim)
            gone.append(victim.key)
        return gone

    def add(self, key: bytes, size: int, cost: float) -> Slot:
        """Give `key` a slot; `cost` is what losing it would cost, in any unit."""
        left = self._left
        known = left[crc32(key) % len(left)]
        worth = cost / size if size > 1 else cost
        slot = Slot()
        slot.key = key
        slot.size = size
        slot.density = log2(worth if worth > _NOTHING else _NOTHING)
        slot.uses = known + 1 if known < _MOST_USES else known
        self._enqueue(slot)
        self._count = count = self._count + 1
        self.size += size
        if count > self._left_room:
            self._left *= 2  # either half says the same
            self._left_room *= 2
        return slot

    def remove(self, slot: Slot) -> None:
        """Take `slot` out; it must be in. Its uses are known should its key come back."""
        self._dequeue(slot)
        left = self._left
        left[crc32(slot.key) % len(left)] = slot.uses
        self._left_since = since = self._left_since + 1
        if since > _MEMORY * self._count:
            self._left_since = 0
            self._left = left.translate(_HALVES)
        self._count -= 1
        self.size -= slot.size

    def _next_victim(self) -> Slot:
        while True:
            slot: Slot | None = None
            for end in self._queues.values():
                oldest = end.newer
                if slot is None or oldest.good_until < slot.good_until:
                    slot = oldest
            if slot is None:
                raise AssertionError("there is nothing to evict")
            if slot.uses == slot.queued_uses:
                self._level = slot.good_until
                return slot
            self._dequeue(slot)
            self._enqueue(slot)

    def _enqueue(self, slot: Slot) -> None:
        slot.queued_uses = uses = slot.uses
        slot.queue = queue = round(slot.density + _BY_USES[uses])
        end = self._queues.get(queue)
        if end is None:
            end = self._queues[queue] = Slot()
            end.older = end.newer = end
            end.good_until = 2.0**queue
        slot.good_until = self._level + end.good_until
        slot.older = newest = end.older
        slot.newer = end
        newest.newer = end.older = slot

    def _dequeue(self, slot: Slot) -> None:
        older, newer = slot.older, slot.newer
        older.newer = newer
        newer.older = older
        if newer is older:
            del self._queues[slot.queue]
