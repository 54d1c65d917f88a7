"""What leaves a full cache first: SIEVE, with passes weighted by what an answer is worth.

SIEVE (Zhang et al., NSDI 2024) keeps entries in the order they came. A hand moves from the oldest to the newest: an
entry that was asked for since the hand last came by stays where it is and loses its mark, one that was not leaves. New
entries have no mark, so a scan of things nobody asks for twice passes through without pushing out what is used.

Here the mark is a number of passes. Being asked for adds the entry's *worth* to it, up to four times the worth. The
worth is 1 for an ordinary entry and one more for each doubling of its cost per unit of size, up to 4 at 8 times the
ordinary; an entry worth 3 or 4 is new with 1 or 2 passes, since losing it before it is asked for again costs as much as
several others. So what stays is what has the largest regeneration cost × reuse ÷ size, each counted roughly. "Ordinary"
is the mean of the logarithm over recent entries, so no unit has to be chosen. All operations take constant time on
average: the hand takes at most as many steps as passes were given.
"""

from __future__ import annotations

from math import log2

_MAX_WORTH = 4
_MAX_REUSE = 4
_MEMORY = 1 / 64
"""Share of the newest entry in the running mean, so about the last 64 count."""

_INPUT_TOKEN_PUSD = 1_000_000
_OUTPUT_TOKEN_PUSD = 4_000_000


def regeneration_cost(cost_pusd: int, input_tokens: int, output_tokens: int) -> int:
    """What asking again would cost, in picodollars.

    An answer without a price is compared by its tokens at 1 and 4 USD per million, the usual ratio of hosted models;
    one of a free local model so still has the worth of the time it took.
    """
    return cost_pusd or input_tokens * _INPUT_TOKEN_PUSD + output_tokens * _OUTPUT_TOKEN_PUSD


class Slot:
    """An entry's place in a `Sieve`.

    Attributes:
        key: The entry's key.
        size: What it takes of the sieve's `max_size`.
        worth: Passes of the hand that being asked for once is good for.
        credit: Passes left.
    """

    __slots__ = ("credit", "key", "newer", "older", "size", "worth")

    def __init__(self, key: bytes, size: int, worth: int) -> None:
        self.key = key
        self.size = size
        self.worth = worth
        self.credit = max(worth - 2, 0)
        self.newer: Slot = self
        self.older: Slot = self

    def touch(self) -> None:
        """It was asked for."""
        self.credit = min(self.credit + self.worth, self.worth * _MAX_REUSE)


class Sieve:
    """Slots in the order they came, bounded in number and in total size.

    Attributes:
        size: Total size of all slots.
    """

    def __init__(self, max_count: int, max_size: int) -> None:
        self.size = 0
        self._max_count = max_count
        self._max_size = max_size
        self._count = 0
        self._mean: float | None = None
        # A ring: `_end` stands between the newest (its `older`) and the oldest (its `newer`).
        self._end = Slot(b"", 0, 0)
        self._hand = self._end

    def __len__(self) -> int:
        return self._count

    def make_room(self, size: int) -> list[bytes]:
        """Evict until one more of `size` fits; returns the keys that left.

        Call it before `add`, so that the new entry is not weighed against those it replaces. A `size` above the
        sieve's maximum can never fit: do not ask for it.
        """
        gone: list[bytes] = []
        while self._count and (self._count >= self._max_count or self.size + size > self._max_size):
            victim = self._next_victim()
            self.remove(victim)
            gone.append(victim.key)
        return gone

    def add(self, key: bytes, size: int, cost: float) -> Slot:
        """Give `key` a slot as the newest; `cost` is what losing it would cost, in any unit."""
        slot = Slot(key, size, self._worth(cost / max(size, 1)))
        end, newest = self._end, self._end.older
        slot.older, slot.newer = newest, end
        newest.newer = end.older = slot
        self._count += 1
        self.size += size
        return slot

    def remove(self, slot: Slot) -> None:
        """Take `slot` out; it must be in."""
        if self._hand is slot:
            self._hand = slot.newer
        slot.older.newer = slot.newer
        slot.newer.older = slot.older
        self._count -= 1
        self.size -= slot.size

    def _next_victim(self) -> Slot:
        hand = self._hand
        while True:
            if hand is self._end:
                hand = hand.newer
            elif hand.credit:
                hand.credit -= 1
                hand = hand.newer
            else:
                self._hand = hand
                return hand

    def _worth(self, density: float) -> int:
        level = log2(density) if density > 0 else 0.0
        if self._mean is None:
            self._mean = level
        above = level - self._mean
        self._mean += above * _MEMORY
        return 1 + min(max(int(above), 0), _MAX_WORTH - 1)
